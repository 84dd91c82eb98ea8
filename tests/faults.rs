//! What may happen to a run: killed at any moment, two at a time in one directory, a full or read-only disk.
//!
//! A killed run is given again, and everything but stored parts must be the bytes of a run that nobody disturbed.
//! `KERNELVIEW_KILLS=50` kills every command so many times; `cargo test` does it twice.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::command::Scratch;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Kills of every command.
fn kills() -> usize {
    std::env::var("KERNELVIEW_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

const ANALYZE: &str = "analyze --model model --dtype f64 --device cpu --threads 1 --test-limit 24 --batch 8 --steps 6 \
                       --eval-every 3 --train-batch-size 4 --lr-sgd 1e-2,1e-1 --lr-adam 1e-3 --out-dir OUT";
const KERNEL: &str = "kernel --model model --dtype f64 --device cpu --threads 1 --out OUT/K.safetensors";
const VERIFY: &str = "verify --claim sign-factorization,structural-zeros --jobs 1 --device cpu --out-dir OUT";
const LORA: &str = "lora --model model --dtype f64 --device cpu --threads 1 --ranks 1,2 --draws 2 --out-dir OUT";

fn reproduce() -> String {
    format!(
        "reproduce --models model --data-dir {} --tasks MRPC,RTE --k 2 --seeds 13 --dtype f64 --device cpu --threads 1 \
         --steps 2 --eval-every 2 --train-batch-size 2 --lr-sgd 1e-2 --lr-adam 1e-3 --out-dir OUT",
        concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks")
    )
}

/// The command with its output in a directory of this name.
fn command(scratch: &Scratch, text: &str, out: &str) -> Command {
    let words: Vec<String> = text.split_whitespace().map(|w| w.replace("OUT", out)).collect();
    let mut command = scratch.command(&words);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Files below a directory but stored parts. The output directory's name is in no file.
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
        // Both say how long experiments took.
        found.remove(Path::new("report.json"));
    }
    found
}

fn killed_anywhere(text: &str) {
    let scratch = Scratch::new();
    let place = |out: &str| {
        let path = scratch.path(out);
        fs::create_dir_all(&path).expect("a directory");
        path
    };
    let whole = place("whole");
    let start = Instant::now();
    assert!(command(&scratch, text, "whole").status().expect("the program starts").success());
    let (time, wanted) = (start.elapsed(), results(&whole));
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let mut survived = 0;
    for i in 0..kills() {
        let out = format!("killed-{i}");
        let directory = place(&out);
        let mut child = command(&scratch, text, &out).spawn().expect("the program starts");
        sleep(time.mul_f64(rng.random_range(0.05..0.95)));
        survived += usize::from(child.try_wait().expect("a child").is_some());
        child.kill().expect("a signal");
        child.wait().expect("an end");
        let again = command(&scratch, text, &out).status().expect("the program starts");
        assert!(again.success(), "kill {i}: the command fails after it");
        let found = results(&directory);
        let names = |r: &BTreeMap<PathBuf, Vec<u8>>| r.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&wanted), "kill {i}");
        for (name, bytes) in &wanted {
            assert!(found[name] == *bytes, "kill {i}: {} differs", name.display());
        }
    }
    println!("{} kills, {survived} of them after the end: {text}", kills());
}

#[test]
fn kernel_killed() {
    killed_anywhere(KERNEL);
}

#[test]
fn analyze_killed() {
    killed_anywhere(ANALYZE);
}

#[test]
fn verify_killed() {
    killed_anywhere(VERIFY);
}

#[test]
fn lora_killed() {
    killed_anywhere(LORA);
}

#[test]
fn reproduce_killed() {
    killed_anywhere(&reproduce());
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
    let words: Vec<String> = ANALYZE.split_whitespace().map(|w| w.replace("OUT", "out")).collect();
    let second = scratch.run(&words);
    first.kill().expect("a signal");
    first.wait().expect("an end");
    assert_eq!(second.code, Some(2), "{}", second.stderr);
    assert!(second.stderr.contains("out: another kernelview is writing here"), "{}", second.stderr);
    // The lock went with its process.
    assert_eq!(scratch.run(&words).code, Some(0));
}

/// A small file system of its own, gone when dropped.
#[cfg(target_os = "linux")]
struct Mount(PathBuf);

#[cfg(target_os = "linux")]
impl Mount {
    /// `None` where this user may not mount.
    fn new(place: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&place).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&place).stderr(Stdio::null());
        mount.status().is_ok_and(|s| s.success()).then_some(Self(place))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mount {
    fn drop(&mut self) {
        // Nothing to be done where it fails: the directory is a temporary one.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn disks_that_cannot_be_written() {
    let scratch = Scratch::new();
    let Some(_small) = Mount::new(scratch.path("small"), "size=48k") else {
        println!("skipped: this user may not mount a file system");
        return;
    };
    let words = |out: &str| ANALYZE.split_whitespace().map(|w| w.replace("OUT", out)).collect::<Vec<_>>();
    let full = scratch.run(&words("small/out"));
    assert_eq!(full.code, Some(2), "{}", full.stderr);
    assert!(full.stderr.contains("cannot write") && full.stderr.contains("small/out"), "{}", full.stderr);
    for name in results(&scratch.path("small/out")).keys() {
        assert_ne!(name, Path::new("report.md"), "a report of a run that failed");
    }
    let Some(_read_only) = Mount::new(scratch.path("fixed"), "ro,size=48k") else { return };
    let refused = scratch.run(&words("fixed/out"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("cannot create directory DIR/fixed/out") || refused.stderr.contains("fixed/out"));
}
