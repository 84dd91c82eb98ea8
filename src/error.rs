//! Every failure a user can meet, with the file, the field, the shapes and the way out in its message.
//!
//! Knows nothing of tensors or networks, so that every module can use it.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::setting::Field;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. [`Error::exit_code`] gives the process's exit status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted: "read", "write", "create", …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file was read but its content is not what it must be.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, which field it concerns, and what was expected.
        message: String,
    },
    /// One row of a data file is wrong.
    #[error("{}, row {row}: {message}", path.display())]
    Row {
        /// The data file.
        path: PathBuf,
        /// Row number as an editor shows it: 1 is the first line.
        row: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A checkpoint lacks a tensor that its architecture needs.
    #[error("{}: tensor `{tensor}` (shape {expected:?}) is missing; {hint}", path.display())]
    TensorMissing {
        /// The checkpoint file or directory.
        path: PathBuf,
        /// The tensor's canonical name.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
        /// What was found instead, or what to check.
        hint: String,
    },
    /// A tensor of a checkpoint has another shape than its configuration says.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?} ({reason})", path.display())]
    TensorShape {
        /// The checkpoint file.
        path: PathBuf,
        /// The tensor's name as in the file.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
        /// The shape in the file.
        found: Vec<i64>,
        /// Which fields of the configuration ask for it.
        reason: String,
    },
    /// A setting lies outside its range, or cannot be had here.
    #[error("{field} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        field: Field,
        /// What it is.
        value: String,
        /// What it may be, and what else would help.
        expected: String,
    },
    /// Settings that contradict each other, or do not fit what they are applied to.
    #[error("{0}")]
    Settings(String),
    /// A quantity that must be finite is not, or a system has no solution.
    #[error("{0}")]
    Numeric(String),
    /// libtorch reported a failure.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The computation was [cancelled](crate::progress::Cancellation); finished parts are kept.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Wraps an I/O error with the action and the path it concerns.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A file whose content is wrong.
    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// A row of a data file that is wrong; `row` counts from 1 as an editor does.
    pub fn row(path: impl AsRef<Path>, row: usize, message: impl Into<String>) -> Self {
        Self::Row { path: path.as_ref().to_path_buf(), row, message: message.into() }
    }

    /// A setting outside its range.
    pub fn setting(field: Field, value: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self::Setting { field, value: value.to_string(), expected: expected.into() }
    }

    /// 2 for bad input or settings, 130 for an interruption, 1 for everything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Numeric(_) | Self::Torch(_) => 1,
            Self::Interrupted => 130,
            _ => 2,
        }
    }
}

/// Whether a panic says that memory ran out: what libtorch's CUDA and CPU allocators, oneDNN and C++'s own say, and the
/// system where it has no room for a thread.
pub fn is_shortage(payload: &(dyn Any + Send)) -> bool {
    let texts = [
        "out of memory",
        "can't allocate memory",
        "std::bad_alloc",
        "failed to spawn thread",
        // oneDNN's, where there is no room for the code that it generates.
        "could not create a primitive",
        // libtorch's, where there is no room for its message either.
        "Error computing Error::what()",
    ];
    // A descriptor is what oneDNN refuses for what it cannot do.
    let says = |said: &str| texts.iter().any(|text| said.contains(text)) && !said.contains("primitive descriptor");
    whole_text(payload).is_some_and(says)
}

/// The way out of a shortage of memory: a constant, because a process without memory cannot make a text.
pub const SHORTAGE_ADVICE: &str = "what is finished is kept; raise the limit (ulimit -v, the job's or the container's), or ask \
                                   for less: setting `threads` 1, a smaller setting `batch`, a smaller setting `memory` where \
                                   there is one";

/// What to tell a user about a panic for which [`is_shortage`] holds: how much was asked for, where it says so, and the way
/// out.
pub fn shortage_text(payload: &(dyn Any + Send)) -> String {
    let asked = whole_text(payload)
        .and_then(|said| said.split_once("ried to allocate "))
        .map(|(_, rest)| rest.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .map_or_else(String::new, |amount| format!(" when {} more were asked for", amount.trim_end_matches('.')));
    format!("out of memory{asked}: {SHORTAGE_ADVICE}")
}

fn whole_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
}

/// The first line of what a panic said. libtorch's failures arrive as panics whose text carries a C++ stack behind
/// escaped or real line ends.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let message = whole_text(payload).unwrap_or("unknown panic");
    let first = message.split("\\n").next().unwrap_or(message).lines().next().unwrap_or(message);
    let unwrapped = "called `Result::unwrap()` on an `Err` value: Torch(\"";
    first.strip_prefix(unwrapped).map_or_else(|| first.to_owned(), |reason| format!("libtorch: {reason}"))
}
