//! Fine-tuning on a prompt's true labels departs from its kernel in proportion to the χ that pre-training has left, once that is small.
//!
//! **Statement.** If a pre-training scheme is stable (outputs do not grow with the width) and non-trivial (outputs can be
//! updated), and a task is natural in it (χ, the loss's derivative in the output, vanishes on the true labels), then
//! fine-tuning on the task's prompt shows kernel behaviour (the paper, Theorem 5.5): under SGD, and under SignGD and early Adam
//! with a learning rate in proportion to χ. At finite width and length of pre-training: every departure from the kernel is
//! proportional to the χ that is left, whether width or length has made it small.
//!
//! **Hypotheses.** Measured first, over seeds of pre-training. Natural: only networks that know a kind of question are judged on
//! it, with a mean |χ| of its sentences of a fifth of an undecided network's 1/2 or less; and from the smallest network with the
//! shortest pre-training to the largest with the longest the mean |χ| falls by half or more. Stable, after the longest
//! pre-training: the outputs' size does not grow with the width on questions that sentences leave open, which no network can learn.
//! Non-trivial, on what is judged: the kernels' diagonals, by which learning rates are divided, do not depend on χ (exponents to
//! 0.15), so that what is found is also found at one learning rate.
//!
//! **Derivation.** In muP a step with a χ of order one changes features by order one at every width (`r = 0`,
//! dynamical-dichotomy-sgd): no kernel behaviour. The change is proportional to `ηχ` under SGD and to η under sign updates, and
//! so is the second order of the outputs over the first (chi-law). The curvature of the outputs per change of given size is a
//! property of the weights, which pre-training changes, too; the theorem takes it to be of order one. If it is, departures over
//! networks have the exponent 1 in χ under SGD, and 0 under SignGD with a fixed rate, from which a rate in proportion to χ makes 1
//! by chi-law; if it grows with what networks learn, a smaller one. Exponents in this theory are multiples of a half, so a quarter is
//! accepted on either side: half of their spacing, so that "in proportion" is meant up to that.
//!
//! **Experiment.** Networks pre-trained on a language with questions that sentences answer (`fixtures/family/agreement.toml`),
//! one for every width, length and seed. Five steps on the true label of one sentence, in muP's learning rates; relative
//! residual of the linearization, drift of the gradients and of the kernel on other sentences, mean over two sentences, one
//! with either label. Exponent in the sentences' mean |χ| over widths and lengths, with a level of its own for each kind of
//! question: one exponent for each seed, which draws weights, text, questions and sentences anew, and an interval over seeds.
//! Over all networks the departure is no power of χ (it has its largest values at a |χ| of 0.2 to 0.4); this was found on the seeds
//! 1 to 31, and the bound on |χ| was set then. The verdict is from the seeds from 32 on, which nobody had looked at; some were
//! added after looks, so intervals are confidence sequences. A table has what departs per χ, by ranges of χ, over all seeds. The
//! evidence is in `reports/agreement`, a file for each network.
//!
//! **Control.** Questions that the sentences leave open, in the same networks, against the χ of those that they answer: effects of
//! pre-training on any task are not effects of χ. (Networks that do not know the answer are no control, because the theorem says
//! nothing of them. Their exponents are in a table: those of residual and kernel drift are negative, that of the gradient drift is
//! a half, and over networks of any χ it is 1.)
//!
//! **Meaning.** Where a prompt has made χ small, fine-tuning follows its kernel to within a multiple of χ; where a network is about
//! to learn the answer, χ does not say how far it departs.

use super::agreement::{Evidence, LENGTHS, LONGEST, interval};
use super::agreement_network::{BY_TENSOR, Record};
use super::context::{Context, SHIFTED};
use super::departure::{Departure, Length, Update};
use super::{Claim, Graded, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Figure, Findings, Mark, Open, Series, Table};
use crate::pretrain::language::Topic as Question;
use crate::stats::{Expectation, Levelled, crossed, levelled_slope};

const HALF: Mutant = Mutant { name: "half-expansion", change: "the residual against half of the Taylor expansion" };
const SQUARED: Mutant = Mutant { name: "squared-chi", change: "χ² in the place of χ" };
const STEEPER: Graded = Graded { name: "steeper", change: "departures multiplied by the fourth root of χ" };
const MATCHED: Mutant = Mutant {
    name: "matched-rate",
    change: "sign updates with a learning rate in proportion to χ where it must be fixed",
};

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-kernel-regime",
    topic: Topic::Prompt,
    title: "With a prompt, fine-tuning of networks that know the answer departs from its kernel in proportion to the χ that is left",
    source: "the paper, Theorem 5.5",
    prediction: "for |χ| ≤ 0.1 residual, gradient drift and kernel drift have the exponent 1 in χ under SGD, and 0 under SignGD with a fixed rate",
    text: include_str!("prompt_kernel_regime.rs"),
    mutants: &[HALF, SQUARED, MATCHED],
    graded: &[SHIFTED, STEEPER],
    experiment,
};

/// Accepted distance of an exponent in χ from 1: half the spacing of this theory's exponents.
const QUARTER: f64 = 0.25;

/// Accepted distance of a hypothesis' exponent from the theory's 0.
const STILL: f64 = 0.15;

/// The |χ| of networks that know the answer, and of those that do not.
const KNOWN: (f64, f64) = (0.0, 0.1);
const UNKNOWN: (f64, f64) = (0.2, 0.6);

/// Ranges of |χ| in the table.
const RANGES: [(f64, f64); 6] = [(0.0, 0.005), (0.005, 0.02), (0.02, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.6)];

/// The first seed that was not looked at when [`KNOWN`] was set.
const FRESH: u64 = 32;

const UPDATES: [Update; 3] = [Update::Sgd, Update::Signgd, Update::Adam];

/// A statistic of a departure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Statistic {
    Residual,
    Gradient,
    Kernel,
}

impl Statistic {
    const ALL: [Self; 3] = [Self::Residual, Self::Gradient, Self::Kernel];

    fn text(self) -> &'static str {
        match self {
            Self::Residual => "linearization residual",
            Self::Gradient => "gradient drift",
            Self::Kernel => "kernel drift",
        }
    }

    fn of(self, found: &Departure) -> f64 {
        match self {
            Self::Residual => found.residual,
            Self::Gradient => found.gradient,
            Self::Kernel => found.kernel,
        }
    }
}

/// A seed's exponent of a quantity in χ, over some questions in networks with a χ in a range; NaN if χ does not vary there.
fn slope(
    evidence: &Evidence,
    seed: u64,
    (least, most): (f64, f64),
    questions: &[Question],
    of: impl Fn(&Record, Question) -> (f64, f64),
) -> f64 {
    let mut points = Vec::new();
    for record in evidence.networks(seed) {
        for (group, question) in questions.iter().enumerate() {
            let (chi, value) = of(record, *question);
            if least <= chi && chi <= most {
                points.push(Levelled { group, x: chi.ln(), y: value.ln() });
            }
        }
    }
    levelled_slope(&points).unwrap_or(f64::NAN)
}

/// The seeds that were not looked at.
fn fresh(evidence: &Evidence) -> Vec<u64> {
    evidence.seeds.iter().copied().filter(|seed| *seed >= FRESH).collect()
}

/// Exponents of a quantity of the runs in the questions' own χ, one per fresh seed.
fn exponents(
    evidence: &Evidence,
    range: (f64, f64),
    (update, length): (Update, Length),
    of: impl Fn(&Departure) -> f64,
) -> Vec<f64> {
    let one = |seed| {
        slope(evidence, seed, range, &Question::ANSWERED, |record, question| {
            let run = record.run(question, update, length);
            (run.chi, of(run))
        })
    };
    fresh(evidence).into_iter().map(one).collect()
}

/// Exponents of open questions' departures in the χ of the same network's answered questions, over all networks.
fn open(evidence: &Evidence, statistic: Statistic) -> Vec<f64> {
    let all = (0.0, f64::INFINITY);
    let one = |seed| {
        slope(evidence, seed, all, &Question::OPEN, |record, question| {
            (record.chi(&Question::ANSWERED), statistic.of(record.run(question, Update::Sgd, Length::Natural)))
        })
    };
    fresh(evidence).into_iter().map(one).collect()
}

/// Mean logarithm of a quantity of answered questions' runs with a χ in a range, for each of all seeds that have such runs.
fn logarithms(
    evidence: &Evidence,
    (least, most): (f64, f64),
    (update, length): (Update, Length),
    of: &dyn Fn(&Departure) -> f64,
) -> Vec<f64> {
    let one = |seed: &u64| {
        let runs =
            evidence.networks(*seed).flat_map(|r| Question::ANSWERED.map(|question| r.run(question, update, length)));
        let logs: Vec<f64> = runs.filter(|run| least < run.chi && run.chi <= most).map(|run| of(run).ln()).collect();
        (!logs.is_empty()).then(|| logs.iter().sum::<f64>() / logs.len() as f64)
    };
    evidence.seeds.iter().filter_map(one).collect()
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = Evidence::shipped()?;
    let mut collected = Collected { settings: evidence.settings(), ..Collected::default() };
    collected.settings.push(("seeds judged".into(), format!("{}, from {FRESH} on", fresh(&evidence).len())));
    hypotheses(&evidence, &mut collected);
    let power = if context.is(SQUARED) { 2.0 } else { 1.0 };
    let of = |statistic: Statistic| {
        let half = context.is(HALF) && statistic == Statistic::Residual;
        let steeper = QUARTER * context.off(STEEPER);
        move |found: &Departure| {
            let departure = if half { found.half_residual } else { statistic.of(found) };
            departure * found.chi.powf(steeper)
        }
    };
    for (update, length, target) in [(Update::Sgd, Length::Natural, 1.0), (Update::Signgd, Length::Fixed, 0.0)] {
        let length = if update == Update::Signgd && context.is(MATCHED) { Length::Natural } else { length };
        for statistic in Statistic::ALL {
            // An exponent in χ² is half of that in χ.
            let slopes = exponents(&evidence, KNOWN, (update, length), of(statistic));
            let slopes = slopes.into_iter().map(|slope| slope / power).collect();
            let rate = if update == Update::Signgd { " with a fixed rate" } else { "" };
            let title = format!("{}{rate}: exponent of the {} in χ", update.text(), statistic.text());
            collected.checks.push(Open::sequence(title, context.expected(target, QUARTER), slopes));
        }
    }
    let one = Expectation::Within { target: 1.0, tolerance: QUARTER };
    for statistic in Statistic::ALL {
        let title = format!("open questions, SGD: exponent of the {} in the χ of answered ones", statistic.text());
        collected.controls.push(Open::sequence(title, one, open(&evidence, statistic)));
    }
    collected.tables.extend([by_update(&evidence), by_range(&evidence), effects(&evidence), by_part(&evidence)]);
    collected.figures.extend(Statistic::ALL.map(|statistic| figure(&evidence, statistic)));
    Ok(context.judged(collected))
}

/// Exponents in width of a quantity after the longest pre-training, one per seed.
fn in_width(evidence: &Evidence, of: impl Fn(&Record) -> f64) -> Vec<f64> {
    evidence.over_seeds(|seed| {
        let point = |width: &i64| {
            let found = of(evidence.of(seed, *width, LONGEST));
            Levelled { group: 0, x: (*width as f64).ln(), y: found.ln() }
        };
        levelled_slope(&Evidence::WIDTHS.iter().map(point).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    })
}

fn hypotheses(evidence: &Evidence, collected: &mut Collected) {
    let falls = evidence.over_seeds(|seed| {
        let chi = |record: Option<&Record>| record.expect("networks of every seed").chi(&Question::ANSWERED).ln();
        // In the order of widths and lengths.
        chi(evidence.networks(seed).last()) - chi(evidence.networks(seed).next())
    });
    let half = Expectation::AtMost { bound: 0.5f64.ln() };
    let title = "natural: logarithm of the mean |χ| of the largest network with the longest pre-training over that of the first";
    collected.hypotheses.push(Open::sequence(title, half, falls));
    let outputs = in_width(evidence, |record| record.small_outputs(&Question::OPEN));
    let bounded = Expectation::AtMost { bound: STILL };
    let title = "stable: exponent of open questions' outputs in width";
    collected.hypotheses.push(Open::sequence(title, bounded, outputs));
    let still = Expectation::Within { target: 0.0, tolerance: STILL };
    for (update, length) in [(Update::Sgd, Length::Natural), (Update::Signgd, Length::Fixed)] {
        let title = format!("non-trivial: exponent of the diagonal of {}'s kernel in χ", update.text());
        let slopes = exponents(evidence, KNOWN, (update, length), |found| found.diagonal);
        collected.hypotheses.push(Open::sequence(title, still, slopes));
    }
}

/// Exponents of all updates, with either rate, where the answer is known, where it is not, and over all networks; not judged.
fn by_update(evidence: &Evidence) -> Table {
    let mut columns = vec!["fine-tuning".to_owned(), "networks with |χ|".to_owned()];
    columns.extend(Statistic::ALL.map(|s| s.text().to_owned()));
    let mut rows = Vec::new();
    let fixed = (Update::Signgd, Length::Fixed, "SignGD, η fixed");
    let natural = UPDATES.map(|update| (update, Length::Natural, update.text()));
    for (update, length, name) in natural.into_iter().chain([fixed]) {
        let name = if length == Length::Natural && update != Update::Sgd {
            format!("{name}, η in proportion to χ")
        } else {
            name.to_owned()
        };
        for (range, text) in [(KNOWN, "at most 0.1"), (UNKNOWN, "0.2 to 0.6"), ((0.0, f64::INFINITY), "any")] {
            let mut row = vec![Cell::from(name.as_str()), Cell::from(text)];
            let of = |s: Statistic| interval(&exponents(evidence, range, (update, length), move |found| s.of(found)));
            row.extend(Statistic::ALL.map(of));
            rows.push(row);
        }
    }
    Table { title: "Exponents in χ over the seeds judged, with 95% intervals".into(), columns, rows }
}

/// What departs per χ under SGD, by ranges of χ: a proportion has the same number in every range. Over all seeds.
fn by_range(evidence: &Evidence) -> Table {
    let mut columns = vec!["|χ|".to_owned(), "seeds".to_owned()];
    columns.extend(Statistic::ALL.map(|s| format!("logarithm of the {} over χ", s.text())));
    columns.push("logarithm of the diagonal of SGD's kernel".into());
    let rows = RANGES.map(|range| {
        let over = |of: &dyn Fn(&Departure) -> f64| logarithms(evidence, range, (Update::Sgd, Length::Natural), of);
        let seeds = over(&|run| run.chi).len();
        let mut row = vec![Cell::from(format!("{} to {}", range.0, range.1)), Cell::from(seeds as f64)];
        row.extend(Statistic::ALL.map(|s| interval(&over(&move |run| s.of(run) / run.chi))));
        row.push(interval(&over(&|run| run.diagonal)));
        row
    });
    Table { title: "Departure per χ, 95% intervals".into(), columns, rows: rows.to_vec() }
}

/// Components of the scatter of what departs per χ after the longest pre-training at the largest width, for SGD: seeds and kinds
/// of question cross.
fn effects(evidence: &Evidence) -> Table {
    let widest = *Evidence::WIDTHS.last().expect("several widths");
    let rows = Statistic::ALL.map(|statistic| {
        let of_kinds = |seed: &u64| {
            let record = evidence.of(*seed, widest, LONGEST);
            let runs = Question::ANSWERED.map(|question| record.run(question, Update::Sgd, Length::Natural));
            runs.map(|run| (statistic.of(run) / run.chi).ln()).to_vec()
        };
        let table: Vec<Vec<f64>> = evidence.seeds.iter().map(of_kinds).collect();
        let found = crossed(&table, Mark::CONFIDENCE);
        let deviations = [found.rows, found.columns, found.rest].map(|variance| Cell::from(variance.sqrt()));
        [Cell::from(statistic.text()), Cell::from(found.mean)].into_iter().chain(deviations).collect()
    });
    let columns =
        ["SGD", "logarithm of the departure over χ", "deviation over seeds", "over kinds of question", "of the rest"];
    let title = format!("Random effects at width {widest} after the longest pre-training");
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.to_vec() }
}

/// A part of the network: its name, and which parameters belong to it.
type Part = (&'static str, fn(&str) -> bool);

/// Which parts of the network make the kernel's diagonal grow or fall with the width, over seeds whose two widest networks know
/// the question: otherwise it would be what they have learned that makes it grow.
fn by_part(evidence: &Evidence) -> Table {
    const PARTS: [Part; 6] = [
        ("embeddings", |name| name.contains("embeddings.")),
        ("attention", |name| name.contains(".attention.")),
        ("feed-forward layers", |name| name.contains("encoder.") && !name.contains(".attention.")),
        ("the head's transform", |name| {
            name.starts_with("lm_head.") && !name.contains("decoder") && name != "lm_head.bias"
        }),
        ("decoder", |name| name.contains("decoder") || name == "lm_head.bias"),
        ("all", |_| true),
    ];
    let [.., wide, widest] = Evidence::WIDTHS else { unreachable!("several widths") };
    let at = |seed: u64, width: i64| evidence.of(seed, width, LONGEST);
    let knows = |record: &Record| record.chi(&[BY_TENSOR]) <= KNOWN.1;
    let seeds: Vec<u64> =
        evidence.seeds.iter().copied().filter(|seed| knows(at(*seed, *wide)) && knows(at(*seed, *widest))).collect();
    let rows = PARTS.map(|(part, is_own)| {
        let size =
            move |record: &Record| record.shares.iter().filter(|(name, _)| is_own(name)).map(|s| s.1).sum::<f64>();
        let over = |of: &dyn Fn(u64) -> f64| interval(&seeds.iter().map(|seed| of(*seed)).collect::<Vec<_>>());
        let widths = (*widest as f64 / *wide as f64).ln();
        let grows = over(&|seed| (size(at(seed, *widest)) / size(at(seed, *wide))).ln() / widths);
        let share = over(&|seed| size(at(seed, *widest)) / at(seed, *widest).shares.iter().map(|s| s.1).sum::<f64>());
        vec![Cell::from(part), grows, share]
    });
    let exponent = format!("exponent of its sum of squares from width {wide} to {widest}");
    Table {
        title: format!(
            "SGD's kernel by part on the {}, over the {} seeds whose networks know it, 95% intervals",
            BY_TENSOR.text(),
            seeds.len()
        ),
        columns: vec!["part".into(), exponent, format!("share at width {widest}")],
        rows: rows.to_vec(),
    }
}

/// A departure against χ: of answered questions a point for each range of χ, of open ones for each width and length. Marks go down
/// in χ, so that a predicted slope passes through the smallest.
fn figure(evidence: &Evidence, statistic: Statistic) -> Figure {
    let answered = |runs: (Update, Length)| -> Vec<Mark> {
        let of_range = |range: &(f64, f64)| {
            let chi = logarithms(evidence, *range, runs, &|run| run.chi);
            let departures = logarithms(evidence, *range, runs, &|run| statistic.of(run));
            let x = (chi.iter().sum::<f64>() / chi.len() as f64).exp();
            Mark::geometric_mean(x, &departures.into_iter().map(f64::exp).collect::<Vec<_>>())
        };
        RANGES.iter().rev().map(of_range).collect()
    };
    let mut open: Vec<Mark> = Evidence::WIDTHS
        .iter()
        .flat_map(|width| LENGTHS.map(|steps| (*width, steps)))
        .map(|(width, steps)| {
            let records: Vec<&Record> = evidence.seeds.iter().map(|seed| evidence.of(*seed, width, steps)).collect();
            let chi = records.iter().map(|r| r.chi(&Question::ANSWERED).ln()).sum::<f64>() / records.len() as f64;
            let typical = |record: &&Record| {
                let logs = Question::OPEN.map(|q| statistic.of(record.run(q, Update::Sgd, Length::Natural)).ln());
                (logs.iter().sum::<f64>() / logs.len() as f64).exp()
            };
            Mark::geometric_mean(chi.exp(), &records.iter().map(typical).collect::<Vec<_>>())
        })
        .collect();
    open.sort_by(|a, b| b.x.total_cmp(&a.x));
    let series =
        |name: &str, marks, predicted_slope, control| Series { name: name.into(), marks, predicted_slope, control };
    Figure {
        name: statistic.text().replace(' ', "-"),
        title: format!("Departure from the kernel over networks: {}", statistic.text()),
        x_label: "|χ| of the question, or (open ones) of the network's answered questions".into(),
        y_label: statistic.text().into(),
        series: vec![
            series("SGD", answered((Update::Sgd, Length::Natural)), Some(1.0), false),
            series("SignGD, fixed rate", answered((Update::Signgd, Length::Fixed)), Some(0.0), false),
            series("SGD, open questions", open, None, true),
        ],
    }
}
