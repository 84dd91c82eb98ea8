//! Taylor's theorem in χ at infinite width: from the limit of a pre-trained network, fine-tuning on soft labels departs from
//! its kernel in proportion to χ.
//!
//! **Statement.** Take the limit of a network pre-trained in muP, features learned. Fine-tune it on labels that make its output
//! derivative `χ` equal to `δ`: the outputs' change differs from the kernel's first-order prediction by a share proportional to
//! `χ`, and gradients drift by a share proportional to `χ`.
//!
//! **Hypotheses.** Stable: outputs are of order one. Non-trivial: fine-tuning can move them, because the kernel at the
//! pre-trained weights is of order one. Both are measured. It is not required that the task be natural: its labels are made
//! from the network's own outputs.
//!
//! **Derivation.** Pre-training in muP is a tensor program, and so is the fine-tuning that follows it in the same program. At
//! infinite width no power of `n` is left: what remains is Taylor's formula in the updates, `-ηχ∇f`, whose second order is `χ`
//! times the first.
//!
//! **Experiment.** Pre-training fills in the masked token of alternating sequences `+-+`, by SGD; prompts are sequences with
//! one more token hidden. Labels are the pre-trained output less `δ`, so that `χ = δ` exactly, and fine-tuning takes three
//! steps on one prompt. The residual is that of `f_T` against `f_0 + <∇f_0, θ_T - θ_0>` on another prompt, the drift `|∇f_T -
//! ∇f_0|/|∇f_0|`. Every replica of the limit is a sample; slopes are in δ.
//!
//! **Control.** SignGD, whose steps do not shrink with `χ`. And a new random head on the same body with the old head's labels,
//! which are unrelated to its own output: its χ does not depend on δ, and nothing falls.
//!
//! **Meaning.** An identity that holds in the limit as it does at finite width (chi-law); what the limit adds is that no finite
//! width is at work. It is no evidence for the paper's Theorem 5.5, which is about the χ of true labels.

use super::context::{Context, SHIFTED};
use super::convergence::{limit, sampled};
use super::scan::{Scan, list};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings, Open};
use crate::network::Activation;
use crate::program::networks::{Input, Network, Regime, Training, Update};
use crate::program::{LimitRun, Program, Scalar};
use crate::stats::Expectation;

const HARD_LABELS: Mutant = Mutant { name: "hard-labels", change: "labels at a fixed distance instead of δ" };
const HALF_PREDICTION: Mutant = Mutant { name: "half-prediction", change: "the first-order prediction halved" };
const RANDOM_HEAD: Mutant = Mutant { name: "random-head", change: "a random head on the pre-trained body" };

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-kernel-limit",
    topic: Topic::Identity,
    title: "Taylor's theorem in the limit: fine-tuning on labels at distance χ departs from its kernel in proportion to χ",
    source: "Taylor's theorem; the mechanism of the paper's Theorem 5.5",
    prediction: "residual and drift have slope 1 in χ",
    text: include_str!("prompt_kernel_limit.rs"),
    mutants: &[HARD_LABELS, HALF_PREDICTION, RANDOM_HEAD],
    graded: &[SHIFTED],
    experiment,
};

const RESIDUAL: &str = "residual";
const DRIFT: &str = "gradient drift";

/// Masked sequences of pre-training, their hidden tokens' values, and names. A sequence and its negative have opposite outputs,
/// because the network is odd: these three represent six.
const SEQUENCES: [(&str, [f64; 3], f64); 3] =
    [("?-+", [0.0, -1.0, 1.0], 1.0), ("+?+", [1.0, 0.0, 1.0], -1.0), ("+-?", [1.0, -1.0, 0.0], 1.0)];

/// Prompts with one more token hidden: the training example, and the probe.
const PROMPTS: [(&str, [f64; 3]); 2] = [("?-.", [0.0, -1.0, 0.0]), (".?+", [0.0, 0.0, 1.0])];

const PRE_TRAINING: usize = 6;
const FINE_TUNING: usize = 3;
const RATE: f64 = 0.5;
const REPLICAS: usize = 16;

/// How fine-tuning deviates from the claim.
#[derive(Clone, Copy, PartialEq)]
enum Variant {
    Natural,
    RandomHead,
    SignUpdates,
}

/// Pre-training and fine-tuning as one program.
struct FineTuning {
    program: Program,
    /// Outputs of the pre-trained network on the prompts.
    prompts: Vec<Scalar>,
    /// The kernel of the probe at the start of fine-tuning.
    kernel: Scalar,
    /// The change of the probe's output, and its first-order prediction.
    moved: Scalar,
    predicted: Scalar,
    /// Inner products of the probe's gradients before and after.
    products: [Scalar; 3],
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let deltas = context.pick(vec![0.001, 0.01, 0.1], vec![0.001, 0.003, 0.01, 0.03, 0.1], vec![1e-4, 1e-3, 0.01, 0.1]);
    let samples = context.pick(32_000, 160_000, 1_600_000);
    let own = if context.is(RANDOM_HEAD) { Variant::RandomHead } else { Variant::Natural };
    let natural = scan(context, own, &deltas, samples)?;
    let random = scan(context, Variant::RandomHead, &deltas, samples)?;
    let signs = scan(context, Variant::SignUpdates, &deltas, samples)?;
    let mut findings = Collected {
        settings: vec![
            ("network".into(), "perceptron, tanh, two hidden layers, muP, in the limit".into()),
            (
                "pre-training".into(),
                format!("{PRE_TRAINING} steps of SGD on all masked sequences, squared loss, η = {RATE}"),
            ),
            ("fine-tuning".into(), format!("{FINE_TUNING} steps on one prompt, η = {RATE}")),
            ("χ".into(), list(&deltas)),
            ("limits".into(), format!("{samples} samples in {REPLICAS} replicas")),
        ],
        ..Collected::default()
    };
    hypotheses(context, samples, &mut findings)?;
    // At the largest δ the next term of the expansion is below a tenth of the leading one; δ spans two decades.
    let slope = context.expected(1.0, 0.05);
    for statistic in [RESIDUAL, DRIFT] {
        let title = |what: &str| format!("{what}exponent of the {statistic} in χ");
        findings.checks.push(natural.scaling(title(""), statistic, slope)?);
        findings.controls.push(random.scaling(title("random head: "), statistic, slope)?);
        findings.controls.push(signs.scaling(title("SignGD: "), statistic, slope)?);
        findings.figures.push(Figure {
            name: statistic.replace(' ', "-"),
            title: format!("Fine-tuning from the pre-trained limit: {statistic}"),
            x_label: "output derivative χ of the natural task".into(),
            y_label: statistic.into(),
            series: vec![
                natural.series("pre-trained", statistic, Some(1.0), false),
                random.series("random head", statistic, None, true),
                signs.series("SignGD", statistic, None, true),
            ],
        });
    }
    Ok(context.judged(findings))
}

/// The hypotheses: stable and non-trivial.
fn hypotheses(context: &Context<'_>, samples: usize, findings: &mut Collected) -> Result<()> {
    let run = fine_tune(context, Variant::Natural, 0.1)?;
    let limit = limit(context, &run.program, &sampled(context, "pre-training", samples))?;
    let each = |of: &dyn Fn(usize) -> f64| (0..REPLICAS).map(of).collect::<Vec<_>>();
    let output = |r: usize, prompt: usize| limit.replicas(run.prompts[prompt])[r];
    let size = each(&|r| (f64::midpoint(output(r, 0).powi(2), output(r, 1).powi(2))).sqrt());
    let kernel = each(&|r| limit.replicas(run.kernel)[r]);
    let title = "stable: root mean square of the pre-trained outputs on the prompts";
    findings.hypotheses.push(Open::mean(title, Expectation::AtMost { bound: 2.0 }, size));
    let title = "non-trivial: the kernel at the pre-trained weights";
    findings.hypotheses.push(Open::mean(title, Expectation::AtLeast { bound: 0.1 }, kernel));
    Ok(())
}

/// Residual and drift over δ; the samples are the replicas of the limit, which use the same draws for every δ.
fn scan(context: &Context<'_>, variant: Variant, deltas: &[f64], samples: usize) -> Result<Scan> {
    let options = sampled(context, "pre-training", samples);
    let runs: Vec<FineTuning> =
        deltas.iter().map(|delta| fine_tune(context, variant, *delta)).collect::<Result<_>>()?;
    let limits: Vec<LimitRun<'_>> =
        runs.iter().map(|run| limit(context, &run.program, &options)).collect::<Result<_>>()?;
    let stage = match variant {
        Variant::Natural => "natural tasks",
        Variant::RandomHead => "random head",
        Variant::SignUpdates => "SignGD",
    };
    let factor = if context.is(HALF_PREDICTION) { 0.5 } else { 1.0 };
    // Nothing is computed here that could be shared: the limits are.
    Scan::watched(context, stage, deltas, REPLICAS, &[RESIDUAL, DRIFT], |delta, replica| {
        let place = deltas.iter().position(|d| *d == delta).expect("one of the deltas");
        let (run, limit) = (&runs[place], &limits[place]);
        let value = |s: Scalar| limit.replicas(s)[replica];
        let (moved, predicted) = (value(run.moved), value(run.predicted) * factor);
        let [start, mixed, end] = run.products.map(value);
        let residual = (moved - predicted).abs() / predicted.abs();
        Ok(vec![residual, ((start - 2.0 * mixed + end) / start).sqrt()])
    })
}

fn input(name: &str, entries: [f64; 3]) -> Input {
    Input { name: name.into(), entries: entries.to_vec() }
}

fn fine_tune(context: &Context<'_>, variant: Variant, delta: f64) -> Result<FineTuning> {
    let update = if variant == Variant::SignUpdates { Update::Sign } else { Update::Sgd };
    let regime = Regime::MaximalUpdate;
    let mut training = Training::new(Network { dimension: 3, depth: 2, activation: Activation::Tanh, regime, update });
    let sequences = SEQUENCES.map(|(name, entries, _)| input(name, entries));
    for step in 0..PRE_TRAINING {
        // Sign updates use one sequence per step, with a rate that leads to similar outputs.
        if update == Update::Sign {
            let place = step % SEQUENCES.len();
            training.step(&[&sequences[place]], 0.3 * RATE, |_, f| f - SEQUENCES[place].2);
        } else {
            training.step(&sequences.each_ref(), RATE, |place, f| f - SEQUENCES[place].2);
        }
    }
    let [prompt, probe] = PROMPTS.map(|(name, entries)| input(name, entries));
    let prompts = vec![training.output(&prompt), training.output(&probe)];
    // χ = f - y at the pre-trained output f.
    let distance = if context.is(HARD_LABELS) { 0.1 } else { delta };
    let label = training.builder.scalar("y", prompts[0] - distance);
    if variant == Variant::RandomHead {
        training.replace_readout();
    }
    let before = training.gradient(&probe);
    let mut movements = Vec::new();
    for _ in 0..FINE_TUNING {
        let rate = if update == Update::Sign { 0.1 * RATE } else { RATE };
        movements.extend(training.step(&[&prompt], rate, |_, f| f - label));
    }
    let predicted = training.first_order("prediction", &before, &movements);
    let after = training.gradient(&probe);
    let moved = training.builder.scalar("moved", after.output - before.output);
    let products = [
        training.kernel("before·before", &before, &before),
        training.kernel("before·after", &before, &after),
        training.kernel("after·after", &after, &after),
    ];
    let kernel = products[0];
    Ok(FineTuning { program: training.finish()?, prompts, kernel, moved, predicted, products })
}
