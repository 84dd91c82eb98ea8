//! A comparison as JUnit: a suite per group of metrics, a case per metric.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::super::format::plain;
use super::Comparison;
use super::words::{accepted, values};
use crate::error::{Error, Result};
use crate::gate::{Row, Status};

/// The file's content.
///
/// # Errors
/// [`Error::Numeric`] where it cannot be made.
pub fn gate_junit(comparison: &Comparison) -> Result<String> {
    let mut suites: Vec<TestSuite> = Vec::new();
    for row in &comparison.rows {
        let group = plain(row.name.split('.').next().unwrap_or_default());
        let place = suites.iter().position(|s| s.name.as_str() == group).unwrap_or_else(|| {
            suites.push(TestSuite::new(group.clone()));
            suites.len() - 1
        });
        let mut case = TestCase::new(plain(&row.name), status(row));
        case.set_classname(group);
        suites[place].add_test_case(case);
    }
    let mut report = Report::new("kernelview gate");
    report.add_test_suites(suites);
    report.to_string().map_err(|e| Error::Numeric(format!("the JUnit file cannot be made: {e}")))
}

fn status(row: &Row) -> TestCaseStatus {
    let (old, new) = values(row);
    let text = plain(&format!("{old} before, {new} now; accepted: {}", accepted(row)));
    match row.status {
        Status::Moved | Status::New | Status::Vanished => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(row.status.text()).set_message(text);
            status
        }
        Status::NotCompared => {
            let mut skipped = TestCaseStatus::skipped();
            skipped.set_message("nothing to compare with at these seeds");
            skipped
        }
        Status::Noted | Status::Within | Status::Same => TestCaseStatus::success(),
    }
}
