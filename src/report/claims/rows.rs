//! Formats checks, verdicts and cells of claims.

use crate::evidence::{Cell, Check, ClaimEvidence, ClaimVerdict, Findings};
use crate::report::format::{ROUND_OFF, chosen, escape, interval, number, resolved, unit};
use crate::report::rows::rounded_up;
use crate::stats::{Estimate, Expectation, Method, Outcome, seeds_needed};

/// How often so many samples decide.
const POWER: f64 = 0.9;

/// The role of a check in its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A condition of the claim.
    Hypothesis,
    /// A prediction of the claim.
    Prediction,
    /// A control, where the prediction must fail.
    Control,
}

/// A check as a row of a table.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct CheckRow {
    pub name: String,
    pub expected: String,
    pub measured: String,
    pub samples: usize,
    pub outcome: String,
    pub detectable: String,
}

impl CheckRow {
    pub(super) fn of(check: &Check, role: Role) -> Self {
        let detectable = match check.detectable {
            _ if check.estimate.method == Method::Exact => "exact".to_owned(),
            Some(distance) if distance.is_finite() => {
                let unit = unit(check.estimate.low, check.estimate.high, finest(&check.expectation));
                let text = resolved(distance, unit);
                if text.bytes().any(|b| (b'1'..=b'9').contains(&b)) { text } else { format!("< {}", decimal(unit)) }
            }
            _ => "n/a".to_owned(),
        };
        Self {
            name: check.name.clone(),
            expected: expected(&check.expectation),
            measured: measured(check),
            samples: check.estimate.samples,
            outcome: deciding_samples(check).unwrap_or_else(|| outcome(check.outcome, role).to_owned()),
            detectable,
        }
    }
}

/// A check's expectation, e.g. `-0.5 ± 0.05`.
pub(super) fn expected(expectation: &Expectation) -> String {
    match *expectation {
        Expectation::Within { target, tolerance } => format!("{} ± {}", chosen(target), chosen(tolerance)),
        Expectation::AtMost { bound } => format!("≤ {}", chosen(bound)),
        Expectation::AtLeast { bound } => format!("≥ {}", chosen(bound)),
    }
}

/// A check's number with its interval, e.g. `-0.497 [-0.512, -0.482]`; just the number if it has no sampling error.
pub(super) fn measured(check: &Check) -> String {
    let Estimate { value, low, high, method, .. } = check.estimate;
    if method == Method::Exact {
        return match check.expectation {
            // A violated check always shows its number in full.
            _ if check.outcome != Outcome::Holds => number(value),
            // Round-off, even whether it is zero, differs between machines.
            Expectation::AtMost { bound } if 0.0 < bound && bound <= ROUND_OFF => format!("< {}", chosen(bound)),
            _ => small(value),
        };
    }
    bracketed(value, low, high, finest(&check.expectation))
}

/// The finest relevant unit for an expectation: a tenth of a tolerance, a thousandth of a bound.
fn finest(expectation: &Expectation) -> Option<f64> {
    match *expectation {
        Expectation::Within { tolerance, .. } => Some(tolerance / 10.0),
        Expectation::AtMost { bound } | Expectation::AtLeast { bound } => {
            (bound != 0.0).then_some(bound.abs() / 1000.0)
        }
    }
}

/// The power of ten at or below a unit.
fn decimal(unit: f64) -> String {
    chosen(format!("1e{}", unit.log10().floor()).parse().expect("a power of ten"))
}

fn bracketed(value: f64, low: f64, high: f64, finest: Option<f64>) -> String {
    let (value, low, high) = interval(value, low, high, finest);
    format!("{value} [{low}, {high}]")
}

/// A number, or a note that it is round-off.
fn small(value: f64) -> String {
    if value == 0.0 || !value.is_finite() || value.abs() >= ROUND_OFF {
        return number(value);
    }
    if value < 0.0 { format!("> -{}", chosen(ROUND_OFF)) } else { format!("< {}", chosen(ROUND_OFF)) }
}

/// A cell of a table, as Markdown.
pub(super) fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Number(value) => escape(&small(*value)),
        Cell::Interval { value, low, high } => escape(&bracketed(*value, *low, *high, None)),
        Cell::Text(text) => escape(text),
    }
}

/// An undecided check with the number of samples that would decide it nine times out of ten if the truth were the measured number;
/// `None` for others, and if no number of samples shows that such a truth is accepted.
fn deciding_samples(check: &Check) -> Option<String> {
    let undecided = check.outcome == Outcome::Underpowered;
    let samples = undecided.then(|| seeds_needed(&check.estimate, &check.expectation, POWER)).flatten()?;
    Some(format!("undecided; about {} samples would decide", rounded_up(samples)))
}

fn outcome(outcome: Outcome, role: Role) -> &'static str {
    match (role, outcome) {
        (_, Outcome::Underpowered) => "undecided",
        (Role::Hypothesis, Outcome::Holds) => "met",
        (Role::Hypothesis, Outcome::Violated) => "**not met**",
        (Role::Prediction, Outcome::Holds) => "holds",
        (Role::Prediction, Outcome::Violated) => "**violated**",
        (Role::Control, Outcome::Violated) => "fails, as it must",
        (Role::Control, Outcome::Holds) => "**passes!**",
    }
}

/// A verdict, emphasized if it fails the suite.
pub(super) fn verdict(verdict: ClaimVerdict) -> String {
    if verdict.is_failure() { format!("**{}**", verdict.text().to_uppercase()) } else { verdict.text().to_owned() }
}

/// The checks that decide a claim's verdict: those that failed, or else all predictions.
pub(super) fn deciding(claim: &ClaimEvidence) -> Vec<(&Check, Role)> {
    let Findings { hypotheses, checks, controls, .. } = &claim.findings;
    let all = || {
        let hypotheses = hypotheses.iter().map(|c| (c, Role::Hypothesis));
        let checks = checks.iter().map(|c| (c, Role::Prediction));
        hypotheses.chain(checks).chain(controls.iter().map(|c| (c, Role::Control)))
    };
    let (role, outcome) = match claim.verdict {
        ClaimVerdict::Holds => (Some(Role::Prediction), Outcome::Holds),
        ClaimVerdict::Violated => (Some(Role::Prediction), Outcome::Violated),
        ClaimVerdict::NotApplicable => (Some(Role::Hypothesis), Outcome::Violated),
        ClaimVerdict::Broken => (Some(Role::Control), Outcome::Holds),
        ClaimVerdict::Underpowered => (None, Outcome::Underpowered),
    };
    all().filter(|(c, r)| c.outcome == outcome && role.is_none_or(|role| role == *r)).collect()
}

/// The deciding checks of a claim's verdict as texts, or what is missing.
pub(super) fn reasons(claim: &ClaimEvidence) -> Vec<String> {
    let texts: Vec<String> = deciding(claim).iter().map(|(check, role)| said(&name(check, *role), check)).collect();
    if !texts.is_empty() {
        return texts;
    }
    let missing = if claim.findings.checks.is_empty() { "check" } else { "control" };
    vec![format!("there is no {missing}, so nothing could have failed")]
}

/// A check in a line, by its own name.
pub fn check_line(check: &Check) -> String {
    said(&check.name, check)
}

fn said(name: &str, check: &Check) -> String {
    format!("{name}: {}, expected {}", measured(check), expected(&check.expectation))
}

/// A check's name, with its role if it is not a prediction.
pub(super) fn name(check: &Check, role: Role) -> String {
    let role = match role {
        Role::Hypothesis => "hypothesis: ",
        Role::Prediction => "",
        Role::Control => "control: ",
    };
    format!("{role}{}", check.name)
}

/// The outcome of the controls, in a few words.
pub(super) fn controls(findings: &Findings) -> String {
    let all = findings.controls.len();
    let count = |outcome| findings.controls.iter().filter(|c| c.outcome == outcome).count();
    let (passed, undecided) = (count(Outcome::Holds), count(Outcome::Underpowered));
    match (all, passed, undecided) {
        (0, ..) => "**none**".to_owned(),
        (1, 0, 0) => "fails, as it must".to_owned(),
        (_, 0, 0) => format!("all {all} fail, as they must"),
        (1, 1, _) => "**passes!**".to_owned(),
        (_, 0, _) => format!("{undecided} of {all} undecided"),
        (_, 1, _) => format!("**1 of {all} passes!**"),
        _ => format!("**{passed} of {all} pass!**"),
    }
}
