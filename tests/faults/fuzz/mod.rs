//! Damaged files of every format that the program reads: whatever their content, the result is a value or an error that names
//! the file, never a panic, an abort, or memory use out of proportion to the file.
//!
//! Two thousand cases per format in `cargo test`; `KERNELVIEW_FUZZ_CASES=100000 cargo test --test faults fuzz` is the full run
//! (docs/robustness.md). Case n of a format is the same in every run. `formats.rs` is the table of formats.

mod formats;
mod memory;
mod mutate;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use formats::{Format, Outcome};
use kernelview::files::named_seed;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Default number of cases per format.
const FEW: u64 = 2000;

/// Memory that reading a file may take in addition to a multiple of its size: tables of tokenizers, names of a thousand layers.
const SLACK: usize = 8 << 20;

/// That multiple: a byte may become a value of a few tens of bytes, and copies of it. The matcher of many added tokens in the
/// tokenizers library, of version 0.22, takes 82 times its file beside the slack.
const FACTOR: usize = 96;

/// Limit on the whole process's memory, libtorch's included.
const PROCESS: usize = 1 << 30;

fn cases() -> u64 {
    std::env::var("KERNELVIEW_FUZZ_CASES").ok().map_or(FEW, |n| n.parse().expect("KERNELVIEW_FUZZ_CASES is a number"))
}

/// Directory of a format's files; the last file remains there if the process is killed.
fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(name);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).expect("a directory under target/");
    place
}

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Panics of a reader are findings of this test, reported with their case; others are printed as usual.
fn quiet_while_reading() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !READING.get() {
                usual(info);
            }
        }));
    });
}

/// Runs every case of a format.
pub fn run(format: &Format) {
    crate::common::one_thread();
    quiet_while_reading();
    let place = place(format.name);
    let file = (format.prepare)(&place);
    let seeds = (format.seeds)();
    for seed in &seeds {
        let outcome = answer(format, &file, seed);
        assert!(matches!(outcome, Ok(Outcome::Read)), "{}: an undamaged file gives {outcome:?}", format.name);
    }
    let (mut read, mut refused, mut failures) = (0u64, 0u64, Vec::new());
    for case in 0..cases() {
        let mut random = ChaCha8Rng::seed_from_u64(named_seed(case, format.name));
        let bytes = mutate::case(&mut random, format.form, &seeds);
        match answer(format, &file, &bytes) {
            Ok(Outcome::Read) => read += 1,
            Ok(Outcome::Refused(_)) => refused += 1,
            Err(problem) => {
                let kept = place.with_file_name(format!("{}-{case}.bin", format.name));
                fs::write(&kept, &bytes).expect("a file under target/");
                failures.push(format!("case {case}: {problem}; its bytes are in {}", kept.display()));
                if failures.len() == 5 {
                    break;
                }
            }
        }
    }
    // Straight to stderr: the test harness would swallow what a passing test prints.
    let _ = writeln!(io::stderr(), "{}: {read} read, {refused} refused, {} failed", format.name, failures.len());
    assert!(failures.is_empty(), "{}:\n{}", format.name, failures.join("\n"));
    let peak = memory::process_peak();
    assert!(peak <= PROCESS, "{}: the process took {peak} bytes", format.name);
}

/// Overwrites the file in place and truncates it: file systems flush a file that is emptied first, which takes longer than
/// everything else here.
fn overwrite(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut open = File::options().create(true).write(true).truncate(false).open(file)?;
    open.write_all(bytes)?;
    open.set_len(bytes.len() as u64)
}

/// The program's result for these bytes; an error is a forbidden outcome.
fn answer(format: &Format, file: &Path, bytes: &[u8]) -> Result<Outcome, String> {
    overwrite(file, bytes).expect("a file under target/");
    READING.set(true);
    let (outcome, peak) = memory::peak_of(|| panic::catch_unwind(AssertUnwindSafe(|| (format.read)(file, bytes))));
    READING.set(false);
    let outcome = outcome.map_err(|payload| format!("panic: {}", kernelview::error::panic_text(&*payload)))?;
    if let Outcome::Refused(error) = &outcome {
        let text = error.to_string();
        let place = file.parent().expect("a directory").display().to_string();
        if format.names_file && !text.contains(&place) {
            return Err(format!("an error that does not name the file: {text}"));
        }
        if error.exit_code() != 2 {
            return Err(format!("bad input with exit code {}: {text}", error.exit_code()));
        }
    }
    let allowed = FACTOR * bytes.len() + SLACK;
    if peak > allowed {
        return Err(format!("{peak} bytes of memory for a file of {}", bytes.len()));
    }
    Ok(outcome)
}
