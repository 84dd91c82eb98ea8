//! A comparison as JUnit: a suite per group of metrics, a case per metric.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::super::format::plain;
use super::super::junit_file::{non_success, skipped, text};
use super::Comparison;
use super::words::{accepted, values};
use crate::error::Result;
use crate::gate::{Row, Status};

/// The file's content.
///
/// # Errors
/// [`crate::error::Error::Document`] if it cannot be rendered.
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
    text(&report)
}

fn status(row: &Row) -> TestCaseStatus {
    let (old, new) = values(row);
    let text = format!("{old} before, {new} now; accepted: {}", accepted(row));
    match row.status {
        Status::Moved | Status::New | Status::Vanished => {
            non_success(NonSuccessKind::Failure, row.status.text(), &text)
        }
        Status::NotCompared => skipped("nothing to compare with at these seeds"),
        Status::Noted | Status::Within | Status::Same => TestCaseStatus::success(),
    }
}
