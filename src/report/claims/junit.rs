//! `junit.xml`: a suite per topic with a case per claim, and a suite of mutants, for continuous integration.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::rows::reasons;
use crate::error::Result;
use crate::evidence::{ClaimEvidence, ClaimVerdict, ExperimentError, Fate, MutantResult, Verification};
use crate::report::format::plain;
use crate::report::junit_file::{non_success, skipped, text};

/// The file's content.
///
/// # Errors
/// [`crate::error::Error::Document`] if it cannot be rendered.
pub fn junit(verification: &Verification) -> Result<String> {
    // Suites are in the order in which their families first appear.
    let mut suites: Vec<TestSuite> = Vec::new();
    for claim in &verification.claims {
        suite(&mut suites, &claim.topic).add_test_case(of_claim(claim));
    }
    for error in verification.errors.iter().filter(|e| e.mutant.is_none()) {
        suite(&mut suites, &error.topic).add_test_case(of_error(error));
    }
    for (mutant, fate) in verification.fates() {
        suite(&mut suites, "mutants").add_test_case(of_mutant(mutant, fate));
    }
    for error in verification.errors.iter().filter(|e| e.mutant.is_some()) {
        suite(&mut suites, "mutants").add_test_case(of_error(error));
    }
    let mut report = Report::new("kernelview verify");
    report.add_test_suites(suites);
    text(&report)
}

/// The suite of this name, created if missing.
fn suite<'a>(suites: &'a mut Vec<TestSuite>, name: &str) -> &'a mut TestSuite {
    let index = suites.iter().position(|s| s.name.as_str() == name).unwrap_or_else(|| {
        suites.push(TestSuite::new(plain(name)));
        suites.len() - 1
    });
    &mut suites[index]
}

fn of_claim(claim: &ClaimEvidence) -> TestCase {
    let text = format!("{}: {}", claim.verdict.text(), reasons(claim).join("; "));
    let status = match claim.verdict {
        ClaimVerdict::Holds => TestCaseStatus::success(),
        ClaimVerdict::Violated | ClaimVerdict::Broken => {
            non_success(NonSuccessKind::Failure, claim.verdict.text(), &text)
        }
        ClaimVerdict::Underpowered | ClaimVerdict::NotApplicable => skipped(&text),
    };
    case(&claim.id, &claim.topic, claim.seconds, status)
}

fn of_mutant(mutant: &MutantResult, fate: Fate) -> TestCase {
    let by = mutant.caught_by.join("; ");
    let status = match fate {
        Fate::Survived => {
            let text = format!("nothing noticed it: {}", mutant.change);
            non_success(NonSuccessKind::Failure, fate.text(), &text)
        }
        Fate::WronglyCaught => {
            let text = format!("within its tolerance, but {by} called it violated: {}", mutant.change);
            non_success(NonSuccessKind::Failure, fate.text(), &text)
        }
        Fate::Undecided => skipped(&format!("{}: the claim itself does not pass {by}", fate.text())),
        Fate::Passes | Fate::Caught => TestCaseStatus::success(),
    };
    case(&mutant.label(), &mutant.claim, mutant.seconds, status)
}

fn of_error(error: &ExperimentError) -> TestCase {
    let status = non_success(NonSuccessKind::Error, "error", &error.message);
    match &error.mutant {
        Some(mutant) => case(mutant, &error.claim, 0.0, status),
        None => case(&error.claim, &error.topic, 0.0, status),
    }
}

fn case(name: &str, class: &str, seconds: f64, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(plain(name), status);
    case.set_classname(plain(class));
    // An invalid stored time is omitted.
    case.set_time(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    case
}
