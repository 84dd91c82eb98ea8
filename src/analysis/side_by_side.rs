//! Independent runs of one study: small networks run in parallel with one libtorch thread each, large ones one after another
//! with all threads.
//!
//! Threads that share every small operation of one run wait for one another at each of them, and wait long if another process
//! has taken a core; independent runs never wait. A run gives the same numbers either way only if it has one thread either way;
//! so the choice depends on the network and the number of the study's runs, not on the number of threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tch::{Device, Tensor};

use crate::device::threads;
use crate::error::{Error, Result};
use crate::jacobian::Parameters;
use crate::progress::Monitor;
use crate::threads::in_threads;

/// Largest number of parameters of a small network. A run holds about six copies, its measures ten more: 2 GB per thread at
/// this size.
const SMALL: usize = 1 << 25;

/// The same if the study has a single run, which leaves all other threads idle: in a larger network they gain more than they
/// wait.
const SMALL_ALONE: usize = 1 << 23;

/// Whether so many runs of a network go one after another, with all threads.
pub(super) fn in_turn(parameters: &Parameters, planned: usize) -> bool {
    let most = if planned == 1 { SMALL_ALONE } else { SMALL };
    parameters.device() != Device::Cpu || parameters.numel() as usize > most
}

/// A run as passed to `work`: its own handles on the initial parameters, its index, its monitor.
pub(super) type Job<'a> = (&'a Parameters, usize, &'a dyn Monitor);

/// Runs `work` for each of the `runs`, given by stage and length, and returns the results in order. They are those of the
/// `planned` runs of the study that are not stored.
///
/// # Errors
/// That of the failed run with the smallest index; no run starts after a failure.
pub(super) fn side_by_side<T: Send>(
    parameters: &Parameters,
    planned: usize,
    runs: &[(String, u64)],
    monitor: &dyn Monitor,
    work: impl Fn(Job<'_>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if in_turn(parameters, planned) {
        let one = |(index, (stage, units)): (usize, &(String, u64))| {
            monitor.begin(stage, *units);
            let result = work((parameters, index, monitor));
            monitor.end();
            result
        };
        return runs.iter().enumerate().map(one).collect();
    }
    let workers = threads().min(runs.len());
    match runs {
        [] => return Ok(Vec::new()),
        [(stage, units)] => monitor.begin(stage, *units),
        _ => monitor
            .begin(&format!("{} and {} more", runs[0].0, runs.len() - 1), runs.iter().map(|(_, units)| units).sum()),
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let heard = Heard::default();
    let worker = |own: Parameters| {
        let mut found = Vec::new();
        while !failed.load(Ordering::Acquire) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= runs.len() {
                break;
            }
            let result = work((&own, index, &heard));
            failed.fetch_or(result.is_err(), Ordering::Release);
            found.push((index, result));
        }
        found
    };
    let shares = (0..workers).map(|_| parameters.map(Tensor::shallow_clone)).collect();
    let mut found: Vec<(usize, Result<T>)> =
        in_threads(shares, 1, worker, || heard.pass_on(monitor)).into_iter().flatten().collect();
    heard.pass_on(monitor);
    monitor.end();
    found.sort_by_key(|(index, _)| *index);
    // A cancellation ends all runs; which one noticed it first is irrelevant.
    if found.iter().any(|(_, result)| matches!(result, Err(Error::Interrupted))) {
        return Err(Error::Interrupted);
    }
    found.into_iter().map(|(_, result)| result).collect()
}

/// Progress of runs in other threads, kept until the caller's thread asks for it.
#[derive(Default)]
struct Heard {
    units: AtomicU64,
    notes: Mutex<Vec<String>>,
}

impl Heard {
    fn pass_on(&self, monitor: &dyn Monitor) {
        monitor.advance(self.units.swap(0, Ordering::Relaxed));
        let notes = self.notes.lock().map(|mut notes| std::mem::take(&mut *notes)).unwrap_or_default();
        for note in &notes {
            monitor.note(note);
        }
    }
}

impl Monitor for Heard {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, units: u64) {
        self.units.fetch_add(units, Ordering::Relaxed);
    }
    fn end(&self) {}
    fn note(&self, message: &str) {
        if let Ok(mut notes) = self.notes.lock() {
            notes.push(message.to_owned());
        }
    }
}
