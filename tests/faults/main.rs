//! Disturbances of a run: killed at any moment, two at a time in one directory, a full or read-only disk, too little memory, a
//! clock that jumps. The final result must be, byte for byte, that of an undisturbed run.

mod clock;
#[path = "../common/mod.rs"]
mod common;
mod disks;
mod fuzz;
mod kills;
mod memory;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::command::Scratch;

const ANALYZE: &str = "analyze --model model --dtype f64 --device cpu --threads 1 --test-limit 24 --batch 8 --steps 6 \
                       --eval-every 3 --train-batch-size 4 --lr-sgd 1e-2,1e-1 --lr-adam 1e-3 --out-dir OUT";

fn words(text: &str, out: &str) -> Vec<String> {
    text.split_whitespace().map(|w| w.replace("OUT", out)).collect()
}

/// The command with its output in a directory of this name.
fn command(scratch: &Scratch, text: &str, out: &str) -> Command {
    let mut command = scratch.command(&words(text, out));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Files below a directory, without stored parts. No file may contain the output directory's name.
fn results(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![directory.to_path_buf()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(directory).expect("inside").to_path_buf();
            let passing = name.components().any(|c| c.as_os_str() == "parts")
                || name.to_string_lossy().contains(".part-")
                || name.file_name().is_some_and(|n| n == "cell.json");
            if path.is_dir() {
                open.push(path);
            } else if !passing {
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    if found.remove(Path::new("junit.xml")).is_some() {
        // Both contain the run times of experiments.
        found.remove(Path::new("report.json"));
    }
    found
}

/// Fails if two runs differ, naming the file.
fn same(found: &BTreeMap<PathBuf, Vec<u8>>, wanted: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let names = |r: &BTreeMap<PathBuf, Vec<u8>>| r.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted), "{what}");
    for (name, bytes) in wanted {
        assert!(found[name] == *bytes, "{what}: {} differs", name.display());
    }
}

#[test]
fn two_runs_in_one_directory() {
    let scratch = Scratch::new();
    let long = ANALYZE.replace("--steps 6", "--steps 4000");
    let mut first = command(&scratch, &long, "out").spawn().expect("the program starts");
    let until = Instant::now() + Duration::from_mins(1);
    while !scratch.path("out/parts").exists() && Instant::now() < until {
        sleep(Duration::from_millis(20));
    }
    let words = words(ANALYZE, "out");
    let second = scratch.run(&words);
    first.kill().expect("a signal");
    first.wait().expect("an end");
    assert_eq!(second.code, Some(2), "{}", second.stderr);
    assert!(second.stderr.contains("out: another kernelview process is writing here"), "{}", second.stderr);
    // The lock ended with its process.
    assert_eq!(scratch.run(&words).code, Some(0));
}
