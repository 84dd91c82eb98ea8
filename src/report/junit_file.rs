//! JUnit files for Jenkins, GitLab and GitHub, from a report of `quick-junit`.

use quick_junit::{NonSuccessKind, Report, TestCaseStatus};

use super::format::plain;
use crate::error::{Error, Result};

/// The file's content.
///
/// The schema of Jenkins' xUnit plugin allows skipped cases only in suites, and rejects a file that counts them at its root.
///
/// # Errors
/// [`Error::Document`] if it cannot be rendered.
pub(in crate::report) fn text(report: &Report) -> Result<String> {
    let text = report.to_string().map_err(|e| Error::document("the JUnit file", e))?;
    Ok(text.replacen(&format!(" skipped=\"{}\"", report.skipped), "", 1))
}

/// A failure or error. GitLab shows an element's text, GitHub its message, so both are set.
pub(in crate::report) fn non_success(kind: NonSuccessKind, type_: &str, text: &str) -> TestCaseStatus {
    let (mut status, text) = (TestCaseStatus::non_success(kind), plain(text));
    status.set_type(type_).set_message(text.as_str()).set_description(text.as_str());
    status
}

/// A skipped case.
pub(in crate::report) fn skipped(text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(plain(text));
    status
}
