//! Constructors of common errors.

use std::fmt;
use std::path::Path;

use super::Error;
use crate::setting::Field;

impl Error {
    /// Wraps an I/O error with the action and the path it concerns.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A file with invalid content.
    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// An invalid row of a data file; `row` counts from 1 as an editor does.
    pub fn row(path: impl AsRef<Path>, row: usize, message: impl Into<String>) -> Self {
        Self::Row { path: path.as_ref().to_path_buf(), row, message: message.into() }
    }

    /// A setting out of range.
    pub fn setting(field: Field, value: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self::Setting { field, value: value.to_string(), expected: expected.into() }
    }

    /// An argument out of range that is not a setting.
    pub fn value(what: impl Into<String>, value: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self::Value { what: what.into(), value: value.to_string(), expected: expected.into() }
    }

    /// An invalid command-line argument.
    pub fn argument(flag: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Arguments { flag: flag.into(), problem: problem.into() }
    }

    /// A task definition that is inconsistent or unsuitable here.
    pub fn task(task: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Task { task: task.into(), problem: problem.into() }
    }

    /// A document that cannot be made from its data.
    pub fn document(document: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Document { document: document.into(), reason: reason.to_string() }
    }

    /// A system, fit or decomposition without a solution.
    pub fn no_solution(of: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::NoSolution { of: of.into(), reason: reason.into() }
    }
}
