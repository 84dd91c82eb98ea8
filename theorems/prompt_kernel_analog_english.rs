//! Sign updates of language models of English on a prompt's true labels move outputs by the asymmetric kernel.
//!
//! **Statement.** As prompt-kernel-analog, but of networks pre-trained on English, which know less of their tasks: each step of
//! SignGD on one example, and each of Adam's first, moves outputs by `-η sign(χ_t) K_A(ξ, ξ_t)` with the asymmetric kernel of the
//! pre-trained weights (the paper, Theorem 4.3), up to a tenth of the change.
//!
//! **Hypotheses.** Steps so small that outputs are linear in them. The theorem obtains this over a whole run from natural tasks;
//! these tasks are not natural to these networks, and how far it reaches is measured: six steps, of which a first one moves the own
//! output of a sentence with the mean diagonal by a tenth of the mean |χ| (judged), by four and by sixteen times as much (in the
//! table).
//!
//! **Derivation.** As there. Nothing is fitted. To first order in η this is an identity at any weights, pre-trained or not; what
//! depends on the weights is how far it reaches, and by how much other kernels miss.
//!
//! **Experiment.** The family of English prose, several seeds of pre-training at each of the widths 64, 128 and 256, on one text, on
//! the eight built-in cloze tasks: six steps on the true labels of a sentence each (SignGD), or of one (Adam; its label alternates over tasks), with
//! one learning rate for all tensors. Share of what the steps did to the outputs of sixteen other sentences that the prediction
//! leaves: geometric mean over tasks, at the width with most seeds, and a confidence sequence over seeds, some of which were added
//! after looks. That K_A leaves little tells it from no other kernel where all kernels of a prompt are nearly proportional, so the
//! best of the other kernels is compared with it: what K_A leaves vanishes with η (under SignGD a little slower than in
//! proportion, because signs of gradients change on the way); what the others leave does not, and must be at least four times as much (at this size of
//! steps; the factor grows as they become smaller). Beside the family, and not judged, are two models with an
//! interval over tasks, which says nothing of other pre-training: `bert-tiny-splade`, an English BERT of two layers that was
//! fine-tuned for retrieval, and `smollm2-135m`, SmolLM2-135M-Instruct rounded to four bits, a causal language model. The
//! evidence is in `reports/english`, a file for each model.
//!
//! **Control.** K_SGD at its best scale, and under SignGD χ in place of its sign. K_A with its arguments exchanged, in K_A's place,
//! against the better of K_SGD and K_SignGD.
//!
//! **Meaning.** What holds on a small language holds on English: the kernel of sign updates is the asymmetric one, with nothing
//! fitted. How much another kernel would miss depends on the model.

use super::context::{Context, SHIFTED};
use super::departure::Update;
use super::english::{English, MOVES, REPLICATED, Record, WIDTHS};
use super::prompt_kernel_analog::{SCALED, SYMMETRIC, Samples, TENTH, TRANSPOSED, judge, shares_left, taken};
use super::steps::{Fit, Predictions};
use super::{Claim, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Findings, Open};
use crate::stats::Expectation;

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-kernel-analog-english",
    topic: Topic::Prompt,
    title: "From weights pre-trained on English and on true labels, SignGD and early Adam move outputs by the asymmetric kernel",
    source: "the paper, Theorem 4.3",
    prediction: "K_A leaves at most a tenth of the change of outputs (geometric mean), nothing fitted; factor 1; the best other kernel leaves at least four times as much",
    text: include_str!("prompt_kernel_analog_english.rs"),
    mutants: &[TRANSPOSED, SYMMETRIC],
    graded: &[SHIFTED, SCALED],
    experiment,
};

/// Least accepted factor between what another kernel leaves and what K_A leaves.
const FOUR: f64 = 4.0;

/// The least that any of some kernels leaves, each at its best scale.
fn best(of: &[Fit]) -> f64 {
    of.iter().map(|fit| fit.left_at_best()).fold(f64::INFINITY, f64::min)
}

/// Logarithm of what the best of the other kernels leaves over what the one that the claim takes leaves.
fn over_taken(context: &Context<'_>, p: &Predictions) -> f64 {
    (best(&[p.sgd, p.signgd, p.transposed]) / taken(context, p).0.left_at_best()).ln()
}

/// Checks and controls of the family.
fn judge_family(context: &Context<'_>, collected: &mut Collected, samples: &Samples<'_>) {
    judge(context, collected, "English prose, ", samples);
    let (tenth, four) = (Expectation::AtMost { bound: TENTH.ln() }, Expectation::AtLeast { bound: FOUR.ln() });
    for update in [Update::Signgd, Update::Adam] {
        let whose = format!("English prose, {}", update.text());
        let title = format!(
            "{whose}: logarithm of the share that the best other kernel leaves over K_A's, each at its best scale"
        );
        collected.checks.push(Open::sequence(title, four, samples(update, &|p| over_taken(context, p))));
        let title = format!("{whose}: logarithm of the share that K_SGD leaves at its best scale");
        let left = samples(update, &|p| p.sgd.left_at_best().ln());
        collected.controls.push(Open::sequence(title, tenth, left));
        let title = format!(
            "{whose}: logarithm of the share that the better of K_SGD and K_SignGD leaves over that of K_A with its arguments \
             exchanged"
        );
        let wrong = samples(update, &|p| (best(&[p.sgd, p.signgd]) / p.transposed.left_at_best()).ln());
        collected.controls.push(Open::sequence(title, four, wrong));
    }
    let title =
        "English prose, SignGD: logarithm of the share that K_A and χ in place of its sign leaves at its best scale";
    let unsigned = samples(Update::Signgd, &|p| p.unsigned.left_at_best().ln());
    collected.controls.push(Open::sequence(title, tenth, unsigned));
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = English::shipped()?;
    let mut collected = Collected { settings: evidence.settings(), ..Collected::default() };
    let over_seeds = |widths: &[i64], movement: f64, update: Update, of: &dyn Fn(&Predictions) -> f64| -> Vec<f64> {
        let mean = |seed: u64| {
            let of_width = |width: &i64| evidence.of(*width, seed).over_tasks(|task| of(task.made(update, movement)));
            widths.iter().map(of_width).sum::<f64>() / widths.len() as f64
        };
        evidence.seeds_of(widths).into_iter().map(mean).collect()
    };
    judge_family(context, &mut collected, &|update, of| over_seeds(&REPLICATED, MOVES[0], update, of));
    let mut rows: Vec<(String, Box<Samples<'_>>)> = Vec::new();
    for movement in MOVES {
        for width in WIDTHS {
            let name = format!("prose, width {width}, first step {movement}");
            match evidence.seeds_of(&[width]).as_slice() {
                // One seed has no interval over seeds.
                [seed] => {
                    let record = evidence.of(width, *seed);
                    let own: Box<Samples<'_>> = Box::new(move |update, of| each_task(record, movement, update, of));
                    rows.push((format!("{name}, over tasks"), own));
                }
                seeds => {
                    let own: Box<Samples<'_>> = Box::new(move |update, of| over_seeds(&[width], movement, update, of));
                    rows.push((format!("{name}, over {} seeds", seeds.len()), own));
                }
            }
        }
        for (name, record) in &evidence.others {
            let name = format!("{name}, first step {movement}, over tasks");
            rows.push((name, Box::new(move |update, of| each_task(record, movement, update, of))));
        }
    }
    let rows: Vec<(String, &Samples<'_>)> = rows.iter().map(|(name, own)| (name.clone(), &**own)).collect();
    collected.tables.push(shares_left("model", &rows));
    Ok(context.judged(collected))
}

fn each_task(record: &Record, movement: f64, update: Update, of: &dyn Fn(&Predictions) -> f64) -> Vec<f64> {
    record.each_task(|task| of(task.made(update, movement)))
}
