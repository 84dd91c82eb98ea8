//! Sign updates from pre-trained weights on a prompt's true labels move outputs by the asymmetric kernel, and by no other.
//!
//! **Statement.** Where fine-tuning is in the kernel regime, each step of SignGD on one example moves outputs by `f_t(ξ) -
//! f_{t-1}(ξ) ≈ -η sign(χ_t) K_A(ξ, ξ_t)` with the asymmetric kernel `K_A(ξ, ξ') = <∇f(ξ), sign ∇f(ξ')>` of the pre-trained
//! weights, and so do Adam's first steps (the paper, Theorem 4.3). At finite width and length of pre-training, up to a tenth of
//! the change.
//!
//! **Hypotheses.** The question is natural to the networks measured: its mean |χ| before any step is below half of an undecided
//! network's.
//!
//! **Derivation.** With one output `sign ∇ℓ = sign(χ) sign(∇f)` (sign-factorization), so a step is `-η sign(χ) sign ∇f(ξ_t)`
//! whatever χ's size, and Taylor's formula gives the rest. Nothing is fitted. K_SGD and K_SignGD have other entries, and K_A is
//! not symmetric: with exchanged arguments it describes another algorithm. To first order in η this is an identity at any
//! weights; what pre-training decides is whether six steps of this size are still of first order, and how different the kernels
//! are.
//!
//! **Experiment.** Networks pre-trained the longest on the small language (`fixtures/family/agreement.toml`), with a question
//! that they have learned; six steps on the true labels of a sentence each (SignGD), or of one (Adam, whose memory mixes
//! sentences), with a learning rate in proportion to the mean |χ|. Share of what the steps did to the outputs of sixteen other
//! sentences that the prediction leaves, `|Δf - prediction| / |Δf|`. Shares are skewed, over two orders of magnitude, so that the
//! geometric mean is judged: mean of logarithms over widths for each seed, and a confidence sequence over seeds, some of which
//! were added after looks. Single networks may leave more than a tenth; the table has the largest share.
//!
//! **Control.** The other kernels, each with its best-fitting factor; K_A has none. Under SignGD χ in place of its sign, too; under
//! Adam, all of whose steps are on one sentence, χ hardly changes from step to step, and its sign is no more than a factor.
//!
//! **Meaning.** The kernel of sign updates on a real network is the asymmetric one. Symmetric ones may solve the task, but do
//! not describe the optimizer.

use super::agreement::{Evidence, LONGEST, geometric, interval};
use super::agreement_network::Record;
use super::context::{Context, SHIFTED};
use super::departure::Update;
use super::steps::{Fit, Predictions};
use super::{Claim, Graded, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Findings, Open, Table};
use crate::stats::Expectation;

pub(super) const TRANSPOSED: Mutant = Mutant { name: "transposed", change: "K_A with its arguments exchanged" };
pub(super) const SYMMETRIC: Mutant =
    Mutant { name: "symmetric", change: "K_SGD in the place of K_A, at its best scale" };
pub(super) const SCALED: Graded = Graded { name: "scaled", change: "K_A a tenth too large" };

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-kernel-analog",
    topic: Topic::Prompt,
    title: "From pre-trained weights and on true labels, SignGD and early Adam move outputs by the asymmetric kernel",
    source: "the paper, Theorem 4.3",
    prediction: "K_A leaves at most a tenth of the change of outputs (geometric mean), nothing fitted; factor 1",
    text: include_str!("prompt_kernel_analog.rs"),
    mutants: &[TRANSPOSED, SYMMETRIC],
    graded: &[SHIFTED, SCALED],
    experiment,
};

/// Largest accepted share of the outputs' change that the prediction leaves.
pub(super) const TENTH: f64 = 0.1;

/// Accepted distance of the best-fitting factor from 1.
const FACTOR: f64 = 0.1;

/// Largest |χ| of a natural question: half of an undecided network's.
const NATURAL: f64 = 0.25;

/// Selects one prediction of the steps.
type Of = fn(&Predictions) -> Fit;

/// One number per sample: of an optimizer's steps, what a function makes of the predictions.
pub(super) type Samples<'a> = dyn Fn(Update, &dyn Fn(&Predictions) -> f64) -> Vec<f64> + 'a;

const UNSIGNED: &str = "K_A and χ in place of its sign";

const CONTROLS: [(&str, Of); 4] = [
    ("K_SGD", |p| p.sgd),
    ("K_SignGD", |p| p.signgd),
    ("K_A with its arguments exchanged", |p| p.transposed),
    (UNSIGNED, |p| p.unsigned),
];

fn made(record: &Record, update: Update) -> &Predictions {
    &record.steps_made.iter().find(|(of, _)| *of == update).expect("steps of both updates").1
}

/// Means over the widths for each seed.
fn over_widths(evidence: &Evidence, update: Update, of: impl Fn(&Predictions) -> f64) -> Vec<f64> {
    evidence.over_widths(|record| of(made(record, update)))
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = Evidence::shipped()?;
    let mut collected = Collected { settings: evidence.settings(), ..Collected::default() };
    let title = "natural: mean |χ| of the sentences before the steps (an undecided network has 1/2)";
    let natural = Expectation::AtMost { bound: NATURAL };
    collected.hypotheses.push(Open::sequence(title, natural, over_widths(&evidence, Update::Signgd, |p| p.chi)));
    judge(context, &mut collected, "", &|update, of| over_widths(&evidence, update, of));
    let tenth = Expectation::AtMost { bound: TENTH.ln() };
    for (name, of) in CONTROLS {
        for update in [Update::Signgd, Update::Adam] {
            if update == Update::Adam && name == UNSIGNED {
                continue;
            }
            let title = format!("{}: logarithm of the share that {name} leaves at its best scale", update.text());
            let left = over_widths(&evidence, update, |p| of(p).left_at_best().ln());
            collected.controls.push(Open::sequence(title, tenth, left));
        }
    }
    collected.tables.push(by_width(&evidence));
    Ok(context.judged(collected))
}

/// The prediction that the claim takes for K_A's: that of another kernel for a mutant, and whether it is one.
pub(super) fn taken(context: &Context<'_>, predictions: &Predictions) -> (Fit, bool) {
    if context.is(TRANSPOSED) {
        (predictions.transposed, true)
    } else if context.is(SYMMETRIC) {
        (predictions.sgd, true)
    } else {
        (predictions.asymmetric, false)
    }
}

/// What the claim's prediction leaves: K_A's with the factor of a graded mutant, another kernel's at its best scale.
fn left_by_taken(context: &Context<'_>, predictions: &Predictions) -> f64 {
    let (own, is_other) = taken(context, predictions);
    if is_other { own.left_at_best() } else { own.left_by(1.0 + FACTOR * context.off(SCALED)) }
}

/// Checks of one set of samples: what K_A leaves of SignGD's and Adam's steps, and its best factor. `whose` begins their titles.
pub(super) fn judge(context: &Context<'_>, collected: &mut Collected, whose: &str, samples: &Samples<'_>) {
    let tenth = Expectation::AtMost { bound: TENTH.ln() };
    let factor = 1.0 + FACTOR * context.off(SCALED);
    for update in [Update::Signgd, Update::Adam] {
        let title = format!("{whose}{}: logarithm of the share of the outputs' change that K_A leaves", update.text());
        collected.checks.push(Open::sequence(title, tenth, samples(update, &|p| left_by_taken(context, p).ln())));
        let title = format!("{whose}{}: factor of K_A that fits best", update.text());
        let best = |p: &Predictions| p.asymmetric.cosine / p.asymmetric.size / factor;
        collected.checks.push(Open::sequence(title, context.expected(1.0, FACTOR), samples(update, &best)));
    }
}

/// A table of the share of the change that each prediction leaves, as geometric means, and the largest of K_A's samples (of English
/// a seed's mean over tasks); `rows` have a name and the samples of each.
pub(super) fn shares_left(what: &str, rows: &[(String, &Samples<'_>)]) -> Table {
    let mut columns = vec!["steps".to_owned(), what.to_owned(), "mean |χ| before".to_owned(), "K_A".to_owned()];
    columns.push("K_A, largest sample".into());
    columns.extend(CONTROLS.map(|(name, _)| format!("{name}, best scale")));
    let cells = [Update::Signgd, Update::Adam].into_iter().flat_map(|update| {
        rows.iter().map(move |(name, samples)| {
            let mean = |of: &dyn Fn(&Predictions) -> f64| interval(&samples(update, of));
            let mut row = vec![Cell::from(update.text()), Cell::from(name.as_str()), mean(&|p| p.chi)];
            let logs = samples(update, &|p| p.asymmetric.left_by(1.0).ln());
            row.push(geometric(&logs));
            row.push(Cell::from(logs.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b)).exp()));
            row.extend(CONTROLS.map(|(_, of)| geometric(&samples(update, &|p| of(p).left_at_best().ln()))));
            row
        })
    });
    let title = "Share of the outputs' change that is left: geometric means, 95% intervals".into();
    Table { title, columns, rows: cells.collect() }
}

/// The share of the change that each prediction leaves, by width.
fn by_width(evidence: &Evidence) -> Table {
    let of_width = |width: i64| {
        move |update: Update, of: &dyn Fn(&Predictions) -> f64| {
            evidence.over_seeds_of(&[width], |seed| of(made(evidence.of(seed, width, LONGEST), update)))
        }
    };
    let samples: Vec<_> = Evidence::WIDTHS.iter().map(|width| (width.to_string(), of_width(*width))).collect();
    let rows: Vec<(String, &Samples<'_>)> =
        samples.iter().map(|(name, own)| (name.clone(), own as &Samples<'_>)).collect();
    shares_left("width", &rows)
}
