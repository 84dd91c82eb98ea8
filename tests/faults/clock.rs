//! A wall clock that jumps while the program runs, and files from other years: nothing depends on either.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use super::common::command::Scratch;
use super::{ANALYZE, command, results, same};

/// The library that replaces the clock, if there is a C compiler.
fn jumping_clock(scratch: &Scratch) -> Option<PathBuf> {
    let library = scratch.path("clock.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library);
    compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock.c"));
    compiler.status().is_ok_and(|s| s.success()).then_some(library)
}

/// Gives files times in the distant past and future, in turn.
fn scatter_times(directory: &Path) {
    let times = [0, 4_000_000_000].map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
    for (i, entry) in fs::read_dir(directory).expect("a directory").enumerate() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            scatter_times(&path);
        } else {
            let file = File::options().append(true).open(&path).expect("a file");
            file.set_modified(times[i % 2]).expect("a time");
        }
    }
}

#[test]
fn a_clock_that_jumps() {
    let scratch = Scratch::new();
    let Some(clock) = jumping_clock(&scratch) else {
        println!("skipped: there is no C compiler (cc)");
        return;
    };
    let date = Command::new("date").arg("+%s").env("LD_PRELOAD", &clock).output().expect("date").stdout;
    let date: u64 = String::from_utf8_lossy(&date).trim().parse().expect("seconds");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(date.abs_diff(now) > 1_000_000, "the clock is the system's: {date}");
    let start = Instant::now();
    assert!(command(&scratch, ANALYZE, "whole").status().expect("the program starts").success());
    let time = start.elapsed();
    let jumping = || {
        let mut jumping = command(&scratch, ANALYZE, "out");
        jumping.env("LD_PRELOAD", &clock);
        jumping
    };
    let mut child = jumping().spawn().expect("the program starts");
    sleep(time / 2);
    child.kill().expect("a signal");
    child.wait().expect("an end");
    scatter_times(&scratch.path("out"));
    assert!(jumping().status().expect("the program starts").success());
    same(&results(&scratch.path("out")), &results(&scratch.path("whole")), "a clock that jumps");
}
