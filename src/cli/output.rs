//! Printing: a command fails if its standard output cannot be written; errors on stderr are ignored.
//!
//! Names of settings are replaced by their flags. The standard library's `println!` panics when a disk is full; here that is
//! an error like that of any other file.

use std::fmt::{Arguments, Display};
use std::io::{self, Write};

use super::fields::spoken;
use crate::error::{Error, Result};

/// Prints a line to standard output, as `println!` would; its value is a [`Result`].
macro_rules! outln {
    ($($text:tt)*) => {
        $crate::cli::output::line(format_args!($($text)*))
    };
}

/// Prints a line to stderr, as `eprintln!` would, but ignores failures.
macro_rules! errln {
    ($($text:tt)*) => {
        $crate::cli::output::note(format_args!($($text)*))
    };
}

pub(super) use {errln, outln};

/// Writes a line to standard output.
///
/// # Errors
/// [`Error::Io`] if it cannot be written, such as to a file on a full disk.
pub(super) fn line(text: Arguments<'_>) -> Result<()> {
    to_stdout(|out| writeln!(out, "{}", spoken(&text.to_string())))
}

/// Writes a text as it is to standard output.
///
/// # Errors
/// As [`line`].
pub(super) fn text(text: impl Display) -> Result<()> {
    to_stdout(|out| write!(out, "{}", spoken(&text.to_string())))
}

/// Flushed at once: a failure at the end of the process would go unreported.
fn to_stdout(write: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) -> Result<()> {
    let mut out = io::stdout().lock();
    write(&mut out).and_then(|()| out.flush()).map_err(Error::io("write", "standard output"))
}

/// Writes a line to stderr. A failure there cannot be reported, and is no reason to stop.
pub(super) fn note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{}", spoken(&text.to_string()));
}

/// A word quoted for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./,=:+@%".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
