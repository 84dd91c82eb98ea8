//! The larger a new head, the lazier fine-tuning: departures from the kernel come to fall in inverse proportion to its norm.
//!
//! **Statement.** Linear probing before fine-tuning (LP-FT) leaves a head of large norm, and features that change little
//! (Tomihari and Sato 2024). In the limit of a large norm all departures from the kernel fall as 1 over the norm; at four to
//! eight times the norm of the trained readout they fall at least half as fast, and not faster.
//!
//! **Hypotheses.** The same |χ| at every norm: outputs count from their initial values, so that it is 1/2.
//!
//! **Derivation.** With a head `s v` on states h the output is `s v·h`, and its kernel has a part of the head, `h·h'`, and one of the
//! states, `s² <∇(v·h), ∇(v·h')>`. A step of SGD of one first-order size has a rate in inverse proportion to their sum. Where
//! the second part is the larger one the rate is as `s⁻²`, and the states' parameters, whose gradients are as s, move as
//! `s⁻¹`: so do gradients relative to themselves, the kernel, and the second-order term relative to the first. Where the
//! head's part is as large, at the trained readout's own norm, the rate hardly falls and the states move more, not less.
//!
//! **Experiment.** Networks pre-trained the longest on the small language (`fixtures/family/agreement.toml`), random heads of one,
//! two, four and eight times the trained readout's norm at the hidden word, through the transform. Five steps of SGD on the true
//! label of one sentence, as in prompt-kernel-regime. Exponents in the norm from four to eight times, means over widths for each
//! seed, and confidence sequences over seeds, some of which were added after looks. A table has all norms.
//!
//! **Control.** The exponents from the trained readout's norm to twice of it, where the head's own part of the kernel is as large.
//!
//! **Meaning.** A new head makes fine-tuning lazy by its size, whether it knows the answer or not. A prompt's trained readout does
//! so by its small χ (prompt-readout): the two are different ways into the kernel regime.

use super::agreement::{Evidence, geometric};
use super::agreement_network::{NORMS, Record};
use super::context::{Context, SHIFTED};
use super::departure::Departure;
use super::{Claim, Graded, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Findings, Open, Table};
use crate::stats::Expectation;

const REVERSED: Mutant = Mutant { name: "reversed", change: "the norms in reverse order" };
const SQUARED: Mutant = Mutant { name: "squared", change: "exponents in the square of the norm" };
const FLATTER: Graded =
    Graded { name: "flatter", change: "departures at eight times the norm larger by the fourth root of two" };

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-head-norm",
    topic: Topic::Prompt,
    title: "The larger a new head, the closer fine-tuning stays to its kernel",
    source: "Tomihari and Sato 2024 (LP-FT); exponents ours",
    prediction: "from four to eight times the trained readout's norm departures have exponents from -1, the limit, to -1/2",
    text: include_str!("prompt_head_norm.rs"),
    mutants: &[REVERSED, SQUARED],
    graded: &[SHIFTED, FLATTER],
    experiment,
};

/// Accepted exponents: from that of the limit to half of it.
const LIMIT: f64 = -1.0;
const TOLERANCE: f64 = 0.25;

/// Places in [`NORMS`] between which exponents are judged, and those of the control.
const LARGE: (usize, usize) = (2, 3);
const SMALL: (usize, usize) = (0, 1);

/// Accepted distance of |χ| from 1/2, which is exact.
const EXACT: f64 = 1e-9;

/// A departure among those of a run.
type Measure = fn(&Departure) -> f64;

const DEPARTURES: [(&str, Measure); 3] = [
    ("residual", |found| found.residual),
    ("gradient drift", |found| found.gradient),
    ("kernel drift", |found| found.kernel),
];

/// Exponent of a departure in the norm between two of [`NORMS`].
fn exponent(record: &Record, (from, to): (usize, usize), of: Measure) -> f64 {
    let [start, end] = [from, to].map(|at| &record.norms[at]);
    (of(&end.1) / of(&start.1)).ln() / (end.0 / start.0).ln()
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = Evidence::shipped()?;
    let mut collected = Collected { settings: evidence.settings(), ..Collected::default() };
    collected.settings.push(("norms over the trained readout's".into(), super::scan::list(&NORMS)));
    let largest = evidence.over_widths(|record| {
        let off = record.norms.iter().map(|(_, found)| (found.chi - 0.5).abs());
        off.fold(0.0, f64::max)
    });
    let title = "largest distance of |χ| from 1/2 over the norms";
    collected.hypotheses.push(Open::mean(title, Expectation::AtMost { bound: EXACT }, largest));
    // Departures beside the norms in reverse order have exponents of the other sign.
    let power = match () {
        () if context.is(REVERSED) => -1.0,
        () if context.is(SQUARED) => 2.0,
        () => 1.0,
    };
    let flatter = TOLERANCE * context.off(FLATTER);
    let accepted = context.expected(LIMIT + TOLERANCE, TOLERANCE);
    for (name, of) in DEPARTURES {
        let title = format!("exponent of the {name} in the norm, from four to eight times the trained readout's");
        let exponents = evidence.over_widths(|record| exponent(record, LARGE, of) / power + flatter);
        collected.checks.push(Open::sequence(&title, accepted, exponents));
    }
    for (name, of) in DEPARTURES {
        let title = format!("exponent of the {name} in the norm, from the trained readout's to twice of it");
        let exponents = evidence.over_widths(|record| exponent(record, SMALL, of));
        collected.controls.push(Open::sequence(&title, accepted, exponents));
    }
    collected.tables.extend([local(&evidence), levels(&evidence)]);
    Ok(context.judged(collected))
}

/// Exponents between neighbouring norms.
fn local(evidence: &Evidence) -> Table {
    let between = |at: usize| {
        let of = |of| super::agreement::interval(&evidence.over_widths(|record| exponent(record, (at, at + 1), of)));
        let label = format!("{} to {}", NORMS[at], NORMS[at + 1]);
        [Cell::from(label)].into_iter().chain(DEPARTURES.map(|(_, departure)| of(departure))).collect()
    };
    Table {
        title: "Exponents between neighbouring norms, 95% intervals over seeds".into(),
        columns: columns("norms over the trained readout's"),
        rows: (0..NORMS.len() - 1).map(between).collect(),
    }
}

/// Departures at each norm over those with the trained readout's.
fn levels(evidence: &Evidence) -> Table {
    let rows = NORMS.iter().enumerate().map(|(at, factor)| {
        let of = |of: Measure| {
            geometric(&evidence.over_widths(|record| of(&record.norms[at].1).ln() - of(&record.norms[0].1).ln()))
        };
        [Cell::from(*factor)].into_iter().chain(DEPARTURES.map(|(_, departure)| of(departure))).collect()
    });
    Table {
        title:
            "Departures with a random head of a norm over those with the trained readout's norm: factors, 95% intervals"
                .into(),
        columns: columns("norm over the trained readout's"),
        rows: rows.collect(),
    }
}

fn columns(first: &str) -> Vec<String> {
    [first].into_iter().chain(DEPARTURES.map(|(name, _)| name)).map(str::to_owned).collect()
}
