//! A run of the suite of claims as named metrics.
//!
//! Checks without sampling error (worst cases of rounding, counts of violations) are left out: their values are noise or
//! zero, and their verdicts are included.

use super::metric::{Reading, Rule, Scale, Value};
use crate::evidence::{Check, ClaimVerdict, Verification};
use crate::stats::{Estimate, Method};

/// Resolution of means and slopes: they come from training runs, in which rounding grows.
const STEP: f64 = 1e-6;

/// The same relative to their interval: much smaller changes affect no verdict, and training in single precision moves a
/// slope by more than [`STEP`].
const OF_INTERVAL: f64 = 0.01;

/// What two runs of the suite must share to be comparable.
pub fn claims_identity(verification: &Verification) -> Vec<(String, String)> {
    vec![("profile".to_owned(), verification.run.profile.name().to_owned())]
}

/// The metrics of a run of the suite.
pub fn claims_metrics(verification: &Verification) -> Vec<Reading> {
    let mut found = Vec::new();
    for claim in &verification.claims {
        let name = |what: &str| format!("claims.{}.{what}", claim.id);
        // Between "holds" and "underpowered" a seed decides; a violation is a finding at any seed.
        let failed = if claim.verdict.is_failure() { claim.verdict.text() } else { "not violated" };
        found.push(text(name("verdict"), Rule::Exact, failed));
        if claim.verdict != ClaimVerdict::Holds {
            let mut note = text(name("verdict in full"), Rule::Note, claim.verdict.text());
            note.optional = true;
            found.push(note);
        }
        let findings = &claim.findings;
        for (role, checks) in
            [("hypotheses", &findings.hypotheses), ("checks", &findings.checks), ("controls", &findings.controls)]
        {
            found.extend(checks.iter().filter_map(|check| reading(name(&format!("{role}.{}", check.name)), check)));
        }
    }
    // At its tolerance a check may come out either way.
    for (mutant, fate) in verification.fates().filter(|(mutant, _)| mutant.strength != Some(1.0)) {
        found.push(text(format!("mutants.{}.{}", mutant.claim, mutant.label()), Rule::Exact, fate.text()));
    }
    for error in &verification.errors {
        let name = match &error.mutant {
            Some(mutant) => format!("mutants.{}.{mutant}", error.claim),
            None => format!("claims.{}.verdict", error.claim),
        };
        found.push(text(name, Rule::Exact, &format!("error: {}", error.message)));
    }
    found.push(text("run.device".into(), Rule::Note, &verification.run.device));
    found.push(text("run.program_version".into(), Rule::Note, &verification.run.version));
    found
}

fn text(name: String, rule: Rule, value: &str) -> Reading {
    Reading { name, rule, optional: false, value: Value::Text(value.to_owned()) }
}

/// Half the width of an estimate's interval; zero if it is unbounded.
fn interval(estimate: &Estimate) -> f64 {
    let half = 0.5 * (estimate.high - estimate.low);
    if half.is_finite() { half } else { 0.0 }
}

fn reading(name: String, check: &Check) -> Option<Reading> {
    let estimate = &check.estimate;
    let (scale, step) = match estimate.method {
        Method::Exact => return None,
        Method::ClopperPearson => (Scale::Share, 1.0 / estimate.samples.max(1) as f64),
        Method::Student | Method::Bootstrap | Method::Sequence | Method::Ratio => {
            (Scale::Linear, STEP.max(OF_INTERVAL * interval(estimate)))
        }
    };
    let rule = Rule::Random { scale, step };
    Some(Reading { name, rule, optional: false, value: Value::number(estimate.value) })
}
