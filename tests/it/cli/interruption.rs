//! Ctrl-C during a command.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::Scratch;
use kernelview::kernel::KernelFile;

/// A running program whose stderr is read line by line.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, lines }
    }

    fn wait_for_line(&mut self, wanted: &str) {
        let mut seen = String::new();
        while self.lines.read_line(&mut seen).expect("text") > 0 {
            if seen.lines().last().is_some_and(|line| line.contains(wanted)) {
                return;
            }
        }
        panic!("it ended without `{wanted}`: {seen}");
    }

    /// Sends Ctrl-C; returns the exit status and what else was printed. Stopping takes at most one unit of work.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let asked = Instant::now();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("text");
        let status = self.child.wait().expect("it ends");
        assert!(asked.elapsed() < Duration::from_secs(20), "stopping took {:?}", asked.elapsed());
        (status.code(), rest)
    }
}

/// Names of all files and directories below a directory.
fn listing(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}

/// Fails for: an engine that does not notice a request to stop, a file that appears before it is whole.
#[test]
fn ctrl_c_during_a_kernel_leaves_nothing_half_written() {
    let scratch = Scratch::new();
    // Ten thousand pairs of batches, which would take minutes without the interruption.
    let rows: Vec<String> = (0..420).map(|i| format!("row {i} was what it was\t{}\n", i % 2)).collect();
    scratch.write("rows.tsv", format!("text\tlabel\n{}", rows.concat()));
    let before = listing(&scratch.path(""));
    let command = scratch.command(&[
        "kernel",
        "--model",
        "model",
        "--data",
        "rows.tsv",
        "--task",
        "SST-2",
        "--k",
        "100",
        "--batch",
        "1",
        "--out",
        "K.safetensors",
    ]);
    let mut running = Running::start(command);
    running.wait_for_line("kernel …");
    let (code, rest) = running.interrupt();
    assert_eq!(code, Some(130), "{rest}");
    assert!(rest.ends_with("error: interrupted\nnothing was written\n"), "{rest}");
    assert_eq!(listing(&scratch.path("")), before);
}

/// Fails for: a finished part that is lost, or not recognized by the next run of the same command.
#[test]
fn ctrl_c_during_an_analysis_keeps_what_is_finished() {
    let scratch = Scratch::new();
    let arguments = [
        "analyze",
        "--model",
        "model",
        "--out-dir",
        "report",
        "--test-limit",
        "4",
        "--steps",
        "1000000",
        "--lr-sgd",
        "1e-4",
        "--eval-every",
        "1000000",
        "--optimizers",
        "sgd",
    ];
    let train = scratch.path("report/kernels/train.safetensors");
    let mut first = Running::start(scratch.command(&arguments));
    first.wait_for_line("kernel of train x dev");
    let (code, rest) = first.interrupt();
    assert_eq!(code, Some(130), "{rest}");
    assert!(
        rest.ends_with("error: interrupted\nfinished parts are kept; the same command continues from them\n"),
        "{rest}"
    );
    KernelFile::read(&train).expect("the finished kernel");
    assert!(!listing(&scratch.path("report")).iter().any(|name| name.contains(".part-")));

    let mut second = Running::start(scratch.command(&arguments));
    second.wait_for_line("kernel train: already there");
    assert_eq!(second.interrupt().0, Some(130));
}
