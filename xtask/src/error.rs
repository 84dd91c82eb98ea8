//! Failures of the set-up: what was found, what is needed and what to do.

use std::io;
use std::path::PathBuf;

/// The result of a set-up step.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a set-up step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Python, needed for downloads, is missing.
    #[error(
        "`python3` was not found, and its package client pip fetches the wheels. Install Python 3 with pip (on Debian \
         and Ubuntu: `apt-get install python3 python3-pip`) and run the command again{OWN_TORCH}"
    )]
    NoPython,
    /// Python has no pip.
    #[error(
        "`python3` has no pip, which fetches the wheels. Install it (on Debian and Ubuntu: `apt-get install \
         python3-pip`; elsewhere: `python3 -m ensurepip --user`) and run the command again{OWN_TORCH}"
    )]
    NoPip,
    /// The disk is too full.
    #[error(
        "not enough disk space in {}: {what} needs {} MB free while unpacking, but {} MB are free. Free some space, \
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
    /// The disk became full during the set-up.
    #[error(
        "could not {what}: the disk is full. Free some space, or set KERNELVIEW_CACHE to a directory on a larger disk, \
         then run the command again"
    )]
    DiskFull {
        /// The operation, with its path; completes "could not …".
        what: String,
    },
    /// pip failed, and has said why.
    #[error(
        "pip could not fetch {what} into {}: its own words are above. Check the network, pip's proxy or index settings \
         (`python3 -m pip config list`) and the disk, then run the command again; on a machine without network, set \
         KERNELVIEW_CACHE to a cache directory filled elsewhere",
        directory.display()
    )]
    Pip {
        /// What was to be fetched.
        what: String,
        /// Where to.
        directory: PathBuf,
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
    /// The user's own libtorch cannot be used.
    #[error(
        "{source_of} cannot be used: {found}. kernelview needs libtorch {needed} exactly, because its bindings are \
         generated for that version. {way_out}"
    )]
    OwnTorch {
        /// The variable that names it, with its value.
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
    /// A data set is invalid.
    #[error("{}: {detail}", path.display())]
    Data {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        detail: String,
    },
    /// Invalid arguments.
    #[error("{0}")]
    Arguments(String),
    /// No model has this name.
    #[error("there is no model `{name}`; known models: {known}")]
    UnknownModel {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// There is no cache directory.
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

const OWN_TORCH: &str = ". To avoid downloading libtorch, set LIBTORCH or LIBTORCH_USE_PYTORCH to an installed \
                         version 2.11.0 (`cargo xtask setup --help`)";

/// Adds what was being done to a failed file operation.
pub trait Doing<T> {
    /// Converts an I/O error; `what` completes "could not …".
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
