//! Runs of the real program; everything in the answer that depends on its directory is replaced.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kernelview::lm::Architecture;
use tempfile::TempDir;

use super::fixture::tiny_checkpoint;

/// The answer of a run.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A temporary directory with a tiny BERT in `model`, in which the program runs.
pub struct Scratch {
    directory: TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        tiny_checkpoint(&directory.path().join("model"), Architecture::Bert, 1);
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("inside the directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        path
    }

    /// The program in this directory, with an empty model cache and no network. One thread, because several tests run at a
    /// time.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kernelview"));
        command.current_dir(self.directory.path()).env("KERNELVIEW_CACHE", self.path("cache")).args(arguments);
        command.env("KERNELVIEW_FAMILY", self.path("family"));
        command.env("HF_HOME", self.path("hf")).env("HF_HUB_OFFLINE", "1");
        command.env_remove("RUST_BACKTRACE").env("OMP_NUM_THREADS", "1");
        command
    }

    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Answer {
        let output = self.command(arguments).output().expect("the program starts");
        self.answer(&output)
    }

    /// `kernel --model model ARGUMENTS`, split at spaces.
    pub fn kernel(&self, arguments: &str) -> Answer {
        let words: Vec<&str> = ["kernel", "--model", "model"].into_iter().chain(arguments.split_whitespace()).collect();
        self.run(&words)
    }

    /// Output with this directory replaced by `DIR`.
    pub fn answer(&self, output: &Output) -> Answer {
        let directory = self.directory.path().display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&directory, "DIR");
        Answer { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Every file and directory with its content.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(self.directory.path(), &mut found);
        found
    }
}

fn collect(directory: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, into);
            into.insert(path, Vec::new());
        } else {
            let bytes = fs::read(&path).expect("a file");
            into.insert(path, bytes);
        }
    }
}
