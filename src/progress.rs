//! How long computations report progress and learn that they should stop. Knows no terminal: `cli` draws the bars.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

static STOP: AtomicBool = AtomicBool::new(false);

/// Asks every running computation to stop at its next safe point.
pub fn request_stop() {
    STOP.store(true, Ordering::SeqCst);
}

/// Fails with [`Error::Interrupted`] once a stop was requested.
pub fn check_stop() -> Result<()> {
    if STOP.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}

/// How often a request to stop is looked for during one call.
const PATIENCE: Duration = Duration::from_millis(50);

/// Runs a long call that cannot itself ask, as into a library, in a thread of its own, and returns before it has ended where
/// a stop is requested. What is given up goes on until the process ends.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn interruptible<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    check_stop()?;
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        // Nobody receives what was given up.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) => check_stop()?,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread sends its result or its panic"),
        }
    }
}

/// Receives progress. Computations call it between units of work, where stopping loses nothing that was finished.
pub trait Monitor {
    /// A stage of `total` units begins.
    fn begin(&self, stage: &str, total: u64);
    /// `units` more are done.
    fn advance(&self, units: u64);
    /// The stage is over.
    fn end(&self);
    /// Something the user should know.
    fn note(&self, message: &str);
}

/// Reports to nobody.
pub struct Silent;

impl Monitor for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}
