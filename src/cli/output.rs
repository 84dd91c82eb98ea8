//! Printing: what a command prints to standard output must arrive, or the command fails; what it says on stderr may be lost.
//!
//! Settings are named by their flags, whoever wrote the text. The standard library's `println!` panics where a disk is full. Here that is an error like that of any other file.

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

/// Prints a line to stderr, as `eprintln!` would, where that is possible.
macro_rules! errln {
    ($($text:tt)*) => {
        $crate::cli::output::note(format_args!($($text)*))
    };
}

pub(super) use {errln, outln};

/// Writes a line to standard output.
///
/// # Errors
/// [`Error::Io`] where it cannot be written, such as to a file on a full disk.
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

/// Writes a line to stderr. A failure there has nobody to be told to, and is no reason to stop.
pub(super) fn note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{}", spoken(&text.to_string()));
}
