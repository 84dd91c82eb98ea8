//! JUnit files as Jenkins, GitLab and GitHub read them, from a report of `quick-junit`.

use quick_junit::{NonSuccessKind, Report, TestCaseStatus};

use super::format::plain;
use crate::error::{Error, Result};

/// The file's content.
///
/// The schema of Jenkins' xUnit plugin knows skipped cases in suites alone, and refuses a file that counts them at its root.
///
/// # Errors
/// [`Error::Document`] where it cannot be made.
pub(in crate::report) fn text(report: &Report) -> Result<String> {
    let text = report.to_string().map_err(|e| Error::document("the JUnit file", e))?;
    Ok(text.replacen(&format!(" skipped=\"{}\"", report.skipped), "", 1))
}

/// A failure or an error. GitLab shows an element's text, GitHub's readers its message, so both have it.
pub(in crate::report) fn non_success(kind: NonSuccessKind, type_: &str, text: &str) -> TestCaseStatus {
    let (mut status, text) = (TestCaseStatus::non_success(kind), plain(text));
    status.set_type(type_).set_message(text.as_str()).set_description(text.as_str());
    status
}

/// A case of which nothing can be said.
pub(in crate::report) fn skipped(text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(plain(text));
    status
}
