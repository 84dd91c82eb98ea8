//! With the trained readout a prompt's fine-tuning is lazy: a random one departs at least twice as far from its kernel, all else
//! equal.
//!
//! **Statement.** Prompt-based fine-tuning differs from fine-tuning with a new head in three things: it reads the hidden word
//! and not the first token, it goes through the pre-trained transform, and its readout is trained. With all states that are
//! read, and all readouts, scaled to the same size, a random readout departs at least twice as far from its kernel as the trained
//! one (Section 5 of the paper, which compares with standard fine-tuning; Theorem 5.5 for the trained readout). Twice is our bound.
//!
//! **Hypotheses.** The prompt is natural: its mean |χ|, read with the trained readout, is below half of an undecided network's; with
//! the random one it is an undecided network's, 1/2 up to an eighth.
//!
//! **Derivation.** Where χ is small departures under SGD are proportional to it (prompt-kernel-regime), so that the trained readout
//! departs little. A random readout does not know the answer: its |χ| is 1/2, a small χ does not bound its departures, and only the
//! readout differs. By how much it departs further the theorem does not say: at a |χ| of 1/2 departures are not proportional to χ
//! any more, and a table says what is left of the ratio beside that of χ.
//!
//! **Experiment.** Networks pre-trained the longest on the small language (`fixtures/family/agreement.toml`), two kinds of
//! questions, all eight combinations of place (hidden word, first token), transform (with, without) and readout (the network's
//! own, or a random one of its norm, two draws); what is read is scaled to one size. Five steps of SGD on the true label of one
//! sentence, as in prompt-kernel-regime. Contrasts of logarithms, means over questions and widths for each seed, and confidence
//! sequences over seeds, some of which were added after looks. The readout's contrast at the prompt's place is judged; that at each
//! width, and the effects of each factor at every combination of the others, are in tables.
//!
//! **Control.** The same contrast without the transform: the trained readout was not trained for that state.
//!
//! **Meaning.** The pre-trained readout is part of what makes a prompt's fine-tuning lazy. By how much its χ is smaller does not
//! say by how much it is lazier. The other changes of standard fine-tuning have effects of their own, which a comparison with a new
//! head on the first token confounds with the head's.

use super::agreement::{Evidence, LONGEST, geometric};
use super::agreement_network::{Read, Record};
use super::context::Context;
use super::departure::Departure;
use super::{Claim, Graded, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Findings, Open, Table};
use crate::stats::Expectation;

const EXCHANGED: Mutant = Mutant { name: "exchanged", change: "the two readouts exchanged" };
const NO_TRANSFORM: Mutant =
    Mutant { name: "without-transform", change: "the trained readout without the transform that it was trained with" };
const TAMED: Graded = Graded { name: "tamed", change: "the random readout's departures ten times too small" };

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-readout",
    topic: Topic::Prompt,
    title: "A random readout departs at least twice as far from its kernel as the trained one, all else equal",
    source: "the paper, Theorem 5.5 and Section 5, against standard fine-tuning",
    prediction: "ratio of departures at least 2, with states and readouts of one size",
    text: include_str!("prompt_readout.rs"),
    mutants: &[EXCHANGED, NO_TRANSFORM],
    graded: &[TAMED],
    experiment,
};

/// Largest |χ| of a natural prompt: half of an undecided network's.
const NATURAL: f64 = 0.25;

/// The |χ| of a readout that does not know the answer, and the accepted distance from it.
const UNDECIDED: (f64, f64) = (0.5, 0.125);

/// The ratio of departures between what is typical, about twenty, and the least accepted, two: a graded mutant's unit.
const BETWEEN: f64 = 10.0;

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

/// Mean of a quantity of the runs with a way of reading, over questions and draws.
fn mean(record: &Record, way: Way, of: impl Fn(&Departure) -> f64) -> f64 {
    let is_own = |r: &&Read| (r.at_mask, r.transform, r.trained) == (way.at_mask, way.transform, way.trained);
    let all: Vec<f64> = record.read.iter().filter(is_own).map(|r| of(&r.found)).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

/// Mean of its logarithm.
fn typical(record: &Record, way: Way, of: fn(&Departure) -> f64) -> f64 {
    mean(record, way, |found| of(found).ln())
}

const RESIDUAL: fn(&Departure) -> f64 = |found| found.residual;
const GRADIENT: fn(&Departure) -> f64 = |found| found.gradient;
const KERNEL: fn(&Departure) -> f64 = |found| found.kernel;
const CHI: fn(&Departure) -> f64 = |found| found.chi;

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = Evidence::shipped()?;
    let mut collected = Collected { settings: evidence.settings(), ..Collected::default() };
    for (way, title, accepted) in [
        (
            PROMPT,
            "natural: mean |χ| with the trained readout (an undecided network has 1/2)",
            Expectation::AtMost { bound: NATURAL },
        ),
        (RANDOM, "mean |χ| with a random readout", Expectation::Within { target: UNDECIDED.0, tolerance: UNDECIDED.1 }),
    ] {
        let chi = evidence.over_widths(|record| mean(record, way, CHI));
        collected.hypotheses.push(Open::sequence(title, accepted, chi));
    }
    let (trained, random) = match () {
        () if context.is(EXCHANGED) => (RANDOM, PROMPT),
        () if context.is(NO_TRANSFORM) => (Way { transform: false, ..PROMPT }, RANDOM),
        () => (PROMPT, RANDOM),
    };
    let twice = Expectation::AtLeast { bound: 2f64.ln() };
    let tamed = BETWEEN.ln() * context.off(TAMED);
    for (name, of) in [("residual", RESIDUAL), ("gradient drift", GRADIENT), ("kernel drift", KERNEL)] {
        let title = format!("logarithm of the {name} of a random readout over the trained one's");
        let ratios = evidence.over_widths(|record| typical(record, random, of) - typical(record, trained, of) - tamed);
        collected.checks.push(Open::sequence(&title, twice, ratios));
    }
    // Without the transform the trained readout reads a state that it was not trained for.
    let bare = |record: &Record| {
        let [random, trained] = [false, true].map(|trained| Way { trained, transform: false, ..PROMPT });
        typical(record, random, RESIDUAL) - typical(record, trained, RESIDUAL)
    };
    let title = "without the transform: logarithm of the residual of a random readout over the trained one's";
    collected.controls.push(Open::sequence(title, twice, evidence.over_widths(bare)));
    collected.tables.extend([by_width(&evidence), levels(&evidence), effects(&evidence)]);
    Ok(context.judged(collected))
}

/// The random readout over the trained one at each width, and what is left of departures beside χ.
fn by_width(evidence: &Evidence) -> Table {
    let ratio = |record: &Record, of| typical(record, RANDOM, of) - typical(record, PROMPT, of);
    let rows = Evidence::WIDTHS.iter().map(|width| {
        let over = |of: &dyn Fn(&Record) -> f64| {
            geometric(&evidence.over_seeds(|seed| of(evidence.of(seed, *width, LONGEST))))
        };
        let own = [CHI, RESIDUAL, GRADIENT, KERNEL].map(|of| over(&move |record| ratio(record, of)));
        let left = over(&|record| ratio(record, RESIDUAL) - ratio(record, CHI));
        [Cell::from(*width as f64)].into_iter().chain(own).chain([left]).collect()
    });
    let columns = ["width", "|χ|", "residual", "gradient drift", "kernel drift", "residual over |χ|"];
    let title = "A random readout over the trained one: factors, 95% intervals".into();
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
}

fn levels(evidence: &Evidence) -> Table {
    let rows = Way::all().map(|way| {
        let words = [way.place_text(), way.transform_text(), way.trained_text()];
        let numbers = [CHI, RESIDUAL, GRADIENT, KERNEL];
        let mean = |of| geometric(&evidence.over_widths(|record| typical(record, way, of)));
        words.map(Cell::from).into_iter().chain(numbers.map(mean)).collect()
    });
    let columns = ["read", "transform", "readout", "|χ|", "residual", "gradient drift", "kernel drift"];
    let title = "|χ| and departures: geometric means, 95% intervals".into();
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
                    geometric(&evidence.over_widths(|record| {
                        typical(record, with(way, true), of) - typical(record, with(way, false), of)
                    }))
                };
            let levels = [way.trained_text(), way.place_text(), way.transform_text()];
            let others: Vec<&str> = levels.into_iter().enumerate().filter(|(k, _)| *k != at).map(|(_, t)| t).collect();
            let cells = [Cell::from(name), Cell::from(others.join(", "))].into_iter();
            cells.chain([effect(CHI), effect(RESIDUAL), effect(GRADIENT), effect(KERNEL)]).collect()
        })
    });
    let columns = ["change", "of", "|χ|", "residual", "gradient drift", "kernel drift"];
    let title = "Effects of one change at each combination of the others: factors, 95% intervals".into();
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
}
