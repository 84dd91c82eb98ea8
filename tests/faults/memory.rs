//! Out of memory at any point: an error and no file, never a wrong file.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::common::command::Scratch;

const MEGABYTE: u64 = 1 << 20;

/// Without a limit a run takes a second; beside other tests, or with a system call for each allocation, many.
const PATIENCE: Duration = Duration::from_mins(1);

/// Limit from which the sweep takes small steps, and how far it continues above the first success. Memory may run out above it
/// too, when something takes more than it needs while it can.
const FINE: u64 = 432 * MEGABYTE;
const BEYOND: u64 = 176 * MEGABYTE;

/// The outcome of a run under a limit.
#[derive(Debug, PartialEq)]
enum End {
    /// Done, with the same kernel as without a limit.
    Done,
    /// An error of this program.
    Refused,
    /// The loader, or the start of libtorch or Rust, failed before this program's code ran.
    Gone,
}

/// The program under a limit on its address space.
fn limited(scratch: &Scratch, limit: u64, arguments: &[&str]) -> (Option<i32>, String) {
    let program = scratch.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {} && exec \"$@\"", limit / 1024), "sh"]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.current_dir(program.get_current_dir().expect("the scratch directory"));
    for (name, value) in program.get_envs() {
        match value {
            None => shell.env_remove(name),
            Some(value) => shell.env(name, value),
        };
    }
    shell.env("KERNELVIEW_FAMILY", concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/family"));
    // A backtrace takes memory itself: without this setting the process might wait for a lock that it holds.
    shell.env("RUST_BACKTRACE", "1");
    let log = fs::File::create(scratch.path("stderr")).expect("a file");
    let mut child = shell.stdout(Stdio::null()).stderr(log).spawn().expect("a shell");
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > until {
            child.kill().expect("a signal");
            child.wait().expect("an end");
            panic!("no end under {} MB within {PATIENCE:?}", limit / MEGABYTE);
        }
        sleep(Duration::from_millis(10));
    };
    (status.code(), fs::read_to_string(scratch.path("stderr")).expect("text"))
}

#[test]
fn any_limit_gives_the_kernel_or_an_error() {
    let scratch = Scratch::new();
    let out = scratch.path("K.safetensors");
    let words = "kernel --model prose-64 --device cpu --threads 2 --out K.safetensors";
    let words: Vec<&str> = words.split_whitespace().collect();
    let (code, stderr) = limited(&scratch, 64 << 30, &words);
    assert_eq!(code, Some(0), "{stderr}");
    let wanted = fs::read(&out).expect("a kernel");
    let (mut ends, mut limit, mut done) = (Vec::new(), 192 * MEGABYTE, None);
    while done.is_none_or(|first| limit < first + BEYOND) {
        assert!(limit < 4096 * MEGABYTE, "no limit was enough: {ends:?}");
        fs::remove_file(&out).ok();
        let (code, stderr) = limited(&scratch, limit, &words);
        let end = match code {
            Some(0) => {
                // Smaller pieces round differently, and leave a note.
                let same = fs::read(&out).expect("a kernel") == wanted;
                assert!(same || stderr.contains("out of memory"), "another kernel under {limit} bytes");
                End::Done
            }
            Some(1 | 2) if stderr.contains("error: ") && stderr.contains("out of memory") => End::Refused,
            // 127: the loader; none: a signal, after which the runtime that starts this program may print nothing. Once this
            // program has handled an error itself, it must do so at larger limits too.
            Some(1 | 127) | None if ends.iter().all(|end| *end == End::Gone) => End::Gone,
            _ => panic!("exit code {code:?} under {limit} bytes: {stderr}"),
        };
        if end == End::Done {
            done = done.or(Some(limit));
        } else {
            assert!(!out.exists(), "a file of a run that failed under {limit} bytes");
            let said = code.is_none() || !stderr.trim().is_empty();
            assert!(said && !stderr.contains("defect"), "exit code {code:?} under {limit} bytes: {stderr}");
        }
        ends.push(end);
        limit += if limit < FINE || done.is_some() { 16 } else { 4 } * MEGABYTE;
    }
    println!("limits from 192 MB by 16 MB, from {} MB by 4 MB until one is enough: {ends:?}", FINE / MEGABYTE);
    assert!(ends.contains(&End::Refused), "the sweep met no error of this program: {ends:?}");
}
