//! The effects of a trained readout on kernel behaviour, and of the place that is read and the head's transform.
//!
//! **Statement.** Prompt-based fine-tuning differs from fine-tuning with a new head in three things: it reads the hidden word
//! and not the first token, it goes through the pre-trained transform, and its readout is trained. With all states that are
//! read, and all readouts, scaled to the same size, a random readout departs further from its kernel than the trained one, in
//! proportion to its larger χ (Theorem 5.5 of the paper, for its comparison with standard fine-tuning in Section 5).
//!
//! **Hypotheses.** The prompt is natural: its mean |χ|, read with the trained readout, is below half of an undecided network's.
//!
//! **Derivation.** Departures under SGD are proportional to χ (prompt-kernel-regime; measured there only for networks that know
//! the answer). A random readout does not know the
//! answer: its |χ| is 1/2. So with all else equal the ratio of departures is that of χ, up to the ratio of the two readouts'
//! second derivatives, which is of order one: a factor of two is accepted on either side.
//!
//! **Experiment.** Networks pre-trained the longest on the small language (`fixtures/family/agreement.toml`), two kinds of
//! questions, all eight combinations of place (hidden word, first token), transform (with, without) and readout (the network's
//! own, or a random one of its norm, two draws); what is read is scaled to one size. Five steps of SGD on the true label of one
//! sentence, as in prompt-kernel-regime. Contrasts of logarithms, means over questions and widths for each seed, intervals over
//! seeds. The readout's contrast at the prompt's place is judged; the effects of each factor at every combination of the others
//! are in a table.
//!
//! **Control.** The same contrast without the transform: the trained readout was not trained for that state.
//!
//! **Meaning.** The head matters through the χ that it leaves, not by being new. The other changes of standard fine-tuning have
//! effects of their own, which a comparison with a new head on the first token confounds with the head's.

use super::agreement::{Evidence, interval};
use super::agreement_network::{NORMS, Read, Record};
use super::context::{Context, SHIFTED};
use super::departure::Departure;
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Findings, Open, Table};
use crate::stats::Expectation;

const EXCHANGED: Mutant = Mutant { name: "exchanged", change: "the trained readout in the random one's place" };
const NO_CHI: Mutant = Mutant { name: "without-chi", change: "departures compared as if χ were the same" };

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-readout",
    topic: Topic::Prompt,
    title: "A random readout departs further from its kernel than the trained one, by as much as its χ is larger",
    source: "the paper, Theorem 5.5 and Section 5, against standard fine-tuning",
    prediction: "ratio of departures at least 2, and that of χ to a factor of 2, all else equal",
    text: include_str!("prompt_readout.rs"),
    mutants: &[EXCHANGED, NO_CHI],
    graded: &[SHIFTED],
    experiment,
};

/// Largest |χ| of a natural prompt: half of an undecided network's.
const NATURAL: f64 = 0.25;

/// A way of reading: at the hidden word, through the transform, with the trained readout.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    at_mask: bool,
    transform: bool,
    trained: bool,
}

impl Way {
    /// All eight ways.
    fn all() -> impl Iterator<Item = Self> {
        (0u8..8).map(|n| [4, 2, 1].map(|bit| n & bit == 0)).map(|[at_mask, transform, trained]| Self {
            at_mask,
            transform,
            trained,
        })
    }
}

impl Way {
    fn place_text(self) -> &'static str {
        if self.at_mask { "hidden word" } else { "first token" }
    }

    fn transform_text(self) -> &'static str {
        if self.transform { "with transform" } else { "without transform" }
    }

    fn trained_text(self) -> &'static str {
        if self.trained { "trained" } else { "random" }
    }
}

const PROMPT: Way = Way { at_mask: true, transform: true, trained: true };
const RANDOM: Way = Way { trained: false, ..PROMPT };

/// Mean logarithm of a quantity of the runs with a way of reading, over questions and draws.
fn typical(record: &Record, way: Way, of: fn(&Departure) -> f64) -> f64 {
    let is_own = |r: &&Read| (r.at_mask, r.transform, r.trained) == (way.at_mask, way.transform, way.trained);
    let logs: Vec<f64> = record.read.iter().filter(is_own).map(|r| of(&r.found).ln()).collect();
    logs.iter().sum::<f64>() / logs.len() as f64
}

const RESIDUAL: fn(&Departure) -> f64 = |found| found.residual;
const GRADIENT: fn(&Departure) -> f64 = |found| found.gradient;
const CHI: fn(&Departure) -> f64 = |found| found.chi;

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = Evidence::shipped()?;
    let mut collected = Collected { settings: evidence.settings(), ..Collected::default() };
    let other = if context.is(EXCHANGED) { PROMPT } else { RANDOM };
    let title = "natural: mean |χ| with the trained readout (an undecided network has 1/2)";
    let chi = evidence.over_widths(|record| typical(record, PROMPT, CHI).exp());
    collected.hypotheses.push(Open::mean(title, Expectation::AtMost { bound: NATURAL }, chi));
    let twice = Expectation::AtLeast { bound: 2f64.ln() };
    let ratio = |record: &Record, of| typical(record, other, of) - typical(record, PROMPT, of);
    let of_chi = f64::from(u8::from(!context.is(NO_CHI)));
    for (name, of) in [("residual", RESIDUAL), ("gradient drift", GRADIENT)] {
        let title = format!("logarithm of the {name} of a random readout over the trained one's");
        collected.checks.push(Open::mean(&title, twice, evidence.over_widths(|record| ratio(record, of))));
        let left = evidence.over_widths(|record| ratio(record, of) - of_chi * ratio(record, CHI));
        collected.checks.push(Open::mean(format!("{title}, less that of χ"), context.expected(0.0, 2f64.ln()), left));
    }
    // Without the transform the trained readout reads a state that it was not trained for.
    let bare = |record: &Record| {
        let [random, trained] = [false, true].map(|trained| Way { trained, transform: false, ..PROMPT });
        typical(record, random, RESIDUAL) - typical(record, trained, RESIDUAL)
    };
    let title = "without the transform: logarithm of the residual of a random readout over the trained one's";
    collected.controls.push(Open::mean(title, twice, evidence.over_widths(bare)));
    collected.tables.extend([levels(&evidence), effects(&evidence), norms(&evidence)]);
    Ok(context.judged(collected))
}

fn levels(evidence: &Evidence) -> Table {
    let rows = Way::all().map(|way| {
        let words = [way.place_text(), way.transform_text(), way.trained_text()];
        let numbers = [CHI, RESIDUAL, GRADIENT, |d: &Departure| d.kernel];
        let mean = |of| interval(&evidence.over_widths(|record| typical(record, way, of)));
        words.map(Cell::from).into_iter().chain(numbers.map(mean)).collect()
    });
    let columns = ["read", "transform", "readout", "log |χ|", "log residual", "log gradient drift", "log kernel drift"];
    let title = "Logarithms of χ and of departures, 95% intervals".into();
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
}

/// A factor: its name, and a way of reading with its level replaced.
type Factor = (&'static str, fn(Way, bool) -> Way);

/// Effects of each factor at every combination of the other two. (Means over these would mislead: only one of the eight ways, the
/// prompt's own, has a small χ.)
fn effects(evidence: &Evidence) -> Table {
    let factors: [Factor; 3] = [
        ("random readout against the trained one", |way, new| Way { trained: !new, ..way }),
        ("first token against the hidden word", |way, new| Way { at_mask: !new, ..way }),
        ("without the transform against with it", |way, new| Way { transform: !new, ..way }),
    ];
    let rows = factors.into_iter().enumerate().flat_map(|(at, (name, with))| {
        let own_level = move |way: &Way| [way.trained, way.at_mask, way.transform][at];
        Way::all().filter(own_level).map(move |way| {
            let effect =
                |of: fn(&Departure) -> f64| {
                    interval(&evidence.over_widths(|record| {
                        typical(record, with(way, true), of) - typical(record, with(way, false), of)
                    }))
                };
            let levels = [way.trained_text(), way.place_text(), way.transform_text()];
            let others: Vec<&str> = levels.into_iter().enumerate().filter(|(k, _)| *k != at).map(|(_, t)| t).collect();
            let cells = [Cell::from(name), Cell::from(others.join(", "))].into_iter();
            cells.chain([effect(CHI), effect(RESIDUAL), effect(GRADIENT), effect(|d| d.kernel)]).collect()
        })
    });
    let columns = ["factor", "of", "log |χ|", "log residual", "log gradient drift", "log kernel drift"];
    let title = "Effects of one factor at each combination of the others, 95% intervals".into();
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
}

/// Random heads of growing norm, with χ = 1/2 throughout.
fn norms(evidence: &Evidence) -> Table {
    let rows = NORMS.iter().enumerate().map(|(at, factor)| {
        let of = |of: fn(&Departure) -> f64| interval(&evidence.over_widths(|record| of(&record.norms[at].1).ln()));
        vec![Cell::from(*factor), of(RESIDUAL), of(GRADIENT), of(|d| d.kernel)]
    });
    let columns = ["norm over the trained readout's", "log residual", "log gradient drift", "log kernel drift"];
    let title = "The norm of a random head, 95% intervals".into();
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
}
