//! A summary of a run of the suite for the terminal.

use super::rows::{deciding, measured, name, reasons};
use crate::evidence::{ClaimEvidence, Fate, Verification};
use crate::report::format::{plain, shorten};
use crate::report::terminal::{WIDTH, table, wrap};

/// Claim, verdict, deciding figure and run time of each claim as plain text, at most 100 columns wide; ends with a
/// newline.
pub fn claims_summary(verification: &Verification) -> String {
    let mut rows = vec![["claim", "verdict", "seconds", "measured"].map(String::from)];
    rows.extend(verification.claims.iter().map(claim));
    let errors = verification.errors.iter().filter(|e| e.mutant.is_none());
    rows.extend(errors.map(|e| [shorten(&plain(&e.claim), 40), "ERROR".into(), String::new(), plain(&e.message)]));
    let mut lines: Vec<String> = table(&rows).iter().map(|line| shorten(line, WIDTH)).collect();
    if let Some(sentence) = super::answer::mutants(verification) {
        lines.push(String::new());
        lines.push(sentence.replace("**", ""));
    }
    for failure in [Fate::Survived, Fate::WronglyCaught] {
        for (mutant, _) in verification.fates().filter(|(_, fate)| *fate == failure) {
            let name = format!("{} / {}", mutant.claim, mutant.label());
            lines.extend(wrap(&format!("{}: {name}: {}", failure.text().to_uppercase(), plain(&mutant.change))));
        }
    }
    for error in verification.errors.iter().filter(|e| e.mutant.is_some()) {
        lines.extend(wrap(&format!("ERROR: {}: {}", error.name(), plain(&error.message))));
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

fn claim(claim: &ClaimEvidence) -> [String; 4] {
    let text = claim.verdict.text();
    let verdict = if claim.verdict.is_failure() { text.to_uppercase() } else { text.to_owned() };
    let figure = match deciding(claim).first() {
        // The number first: the name is truncated at the end of the line.
        Some((check, role)) => format!("{}: {}", measured(check), plain(&name(check, *role))),
        None => reasons(claim).join("; "),
    };
    [shorten(&plain(&claim.id), 40), verdict, format!("{:.1}", claim.seconds), figure]
}
