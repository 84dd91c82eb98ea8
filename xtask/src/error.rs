//! Every failure of the set-up, with what was found, what is needed and the way out.

use std::io;
use std::path::PathBuf;

/// The result of a set-up step.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a set-up step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no Python to fetch with.
    #[error(
        "`python3` was not found, and its package client pip fetches the wheels. Install Python 3 with pip (on Debian \
         and Ubuntu: `apt-get install python3 python3-pip`) and run the command again{OWN_TORCH}"
    )]
    NoPython,
    /// Python is there without pip.
    #[error(
        "`python3` is there but has no pip, which fetches the wheels. Install it (on Debian and Ubuntu: `apt-get \
         install python3-pip`; elsewhere: `python3 -m ensurepip --user`) and run the command again{OWN_TORCH}"
    )]
    NoPip,
    /// pip could not reach its package index.
    #[error(
        "pip could not reach its package index to fetch {what} ({detail}). Check the network, and pip's proxy or index \
         settings (`python3 -m pip config list`), then run the command again; on a machine without network, set \
         KERNELVIEW_CACHE to a cache directory filled elsewhere"
    )]
    NoNetwork {
        /// What was to be fetched.
        what: String,
        /// What pip said.
        detail: String,
    },
    /// A file is not the one that was pinned.
    #[error(
        "{what} is not the file this project pins ({detail}). It was not used. A broken download or a proxy that \
         alters files does this: run the command again, and if it stays, have pip use another index"
    )]
    Hash {
        /// The file.
        what: String,
        /// Expected and found hash, or pip's words.
        detail: String,
    },
    /// The disk is too full.
    #[error(
        "not enough disk space in {}: {what} needs {} MB free while unpacking, and there are {} MB. Free some space, \
         or set KERNELVIEW_CACHE to a directory on a larger disk, then run the command again",
        path.display(), needed / 1_000_000, available / 1_000_000
    )]
    NoSpace {
        /// What was to be stored.
        what: String,
        /// The directory.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The disk filled up on the way.
    #[error(
        "could not {what}: the disk is full. Free some space, or set KERNELVIEW_CACHE to a directory on a larger disk, \
         then run the command again"
    )]
    DiskFull {
        /// The operation, with its path; reads on from "could not".
        what: String,
    },
    /// pip failed in a way not foreseen here.
    #[error("`python3 -m pip download` could not fetch {what}; pip said: {detail}")]
    Pip {
        /// What was to be fetched.
        what: String,
        /// pip's last lines.
        detail: String,
    },
    /// No libtorch is packaged for this machine.
    #[error(
        "a ready-made libtorch is known only for Linux on x86-64, and this is {os} on {arch}. Install PyTorch 2.11.0 or \
         libtorch 2.11.0 for this machine, set LIBTORCH_USE_PYTORCH=1 or LIBTORCH=DIR (DIR/lib and DIR/include), keep \
         the variable set for every cargo command, and run the command again"
    )]
    Platform {
        /// The operating system.
        os: &'static str,
        /// The processor architecture.
        arch: &'static str,
    },
    /// The user's own libtorch cannot serve.
    #[error(
        "{source_of} cannot be used: {found}. kernelview needs libtorch {needed} exactly, because its bindings are \
         generated for that version. {way_out}"
    )]
    OwnTorch {
        /// Where the libtorch comes from: the variable and its value.
        source_of: String,
        /// What was found there.
        found: String,
        /// The version needed.
        needed: &'static str,
        /// What to do.
        way_out: &'static str,
    },
    /// A wheel does not contain what it should.
    #[error("{}: {detail}", file.display())]
    Archive {
        /// The wheel.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A data set is not what it must be.
    #[error("{}: {detail}", path.display())]
    Data {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and the way out.
        detail: String,
    },
    /// Arguments that do not fit.
    #[error("{0}")]
    Arguments(String),
    /// No model has this name.
    #[error("there is no model `{name}`; there are: {known}")]
    UnknownModel {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No cache directory can be named.
    #[error("there is no cache directory: none of KERNELVIEW_CACHE, XDG_CACHE_HOME and HOME is set. Set one of them")]
    NoCacheDirectory,
    /// A file operation failed.
    #[error("could not {what}: {source}")]
    Io {
        /// The operation, with its path.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

const OWN_TORCH: &str = ". For libtorch alone there is another way: set LIBTORCH or LIBTORCH_USE_PYTORCH to an \
                         installed version 2.11.0 (`cargo xtask setup --help`)";

/// Says what was being done when a file operation failed.
pub trait Doing<T> {
    /// Turns the system's error into ours; `what` reads on from "could not".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| match source.into() {
            source if source.kind() == io::ErrorKind::StorageFull => Error::DiskFull { what: what() },
            source => Error::Io { what: what(), source },
        })
    }
}
