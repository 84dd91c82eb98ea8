//! In muP the limit of training is a program's, not a kernel's: features are learned.
//!
//! **Statement.** A network in muP, trained for T steps, has a limit as its width grows, and its outputs converge to it as
//! `n^-1/2`. That limit is not what the kernel at initialization predicts. In NTK parametrization it is.
//!
//! **Hypotheses.** A perceptron in muP; a number of steps and a learning rate that do not grow with the width; the limit's
//! outputs are of order one: measured.
//!
//! **Derivation.** In muP all of training is a tensor program: after `s` steps `W` is its initial value plus `Σ_s a_s b_s ⊗
//! x_s/n`, with `a_s = -η χ_s` a scalar, so `Wx` is a product by the initial matrix plus `Σ_s a_s avg(x_s x) b_s`, entries of
//! the same order. The output is an average; χ is a scalar made of it; and the Master Theorem gives the limit of all (Yang and
//! Hu, Tensor Programs IV). In NTK parametrization the same updates have the factor `n^-1/2`; as this tends to 0 the program
//! becomes linear in them, and its limit is gradient descent with the initial kernel. SignGD is the same with signs, and its
//! kernel is `<∇f, sign ∇f'>`.
//!
//! **Experiment.** A perceptron with two hidden layers, trained on two examples in turn by SGD or SignGD, as a program: its
//! limit from samples, then networks of growing width (which are the networks of `network`, trained by autograd: a test holds
//! them to 1e-10). The statistic is the root mean square distance of the outputs on the examples and on an input not trained
//! on. At the largest width outputs, in the mean over networks, are the limit to 2%.
//!
//! **Control.** The prediction of the kernel, by kernel descent with the limit of the kernel at initialization: networks must
//! not converge to it. And in NTK parametrization the limit must not differ from it.
//!
//! **Meaning.** Feature learning does not rule out an infinite-width theory, only one that consists of a kernel. Pre-training
//! in muP has a limit from which fine-tuning can start: see prompt-kernel-limit.

use super::context::{Context, SHIFTED};
use super::convergence::{Comparison, converges, limit, sampled};
use super::scan::{doubled, list};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Figure, Findings, Mark, Open, Table};
use crate::network::Activation;
use crate::program::networks::{Gradient, Input, Network, Regime, Training, Update};
use crate::program::{Expression, LimitOptions, LimitRun, Program, Scalar, Term};
use crate::stats::Expectation;

const NO_CORRECTION: Mutant =
    Mutant { name: "no-correction", change: "a limit in which W and its transpose are independent" };
const ONE_STEP_LESS: Mutant = Mutant { name: "one-step-less", change: "the limit of a run that is a step shorter" };
const KERNEL_REGIME: Mutant = Mutant { name: "kernel-regime", change: "the limit of NTK parametrization" };

pub(super) const CLAIM: Claim = Claim {
    id: "mup-limit",
    topic: Topic::Program,
    title: "Training in muP converges to its program's limit, not to its kernel's prediction",
    source: "Yang and Hu, Tensor Programs IV; Yang and Littwin, Tensor Programs IVb",
    prediction: "distance from the limit falls as n^-1/2; the kernel's prediction is elsewhere",
    text: include_str!("mup_limit.rs"),
    mutants: &[NO_CORRECTION, ONE_STEP_LESS, KERNEL_REGIME],
    graded: &[SHIFTED],
    experiment,
};

/// Accepted distance from 1 of the ratio of outputs at the largest width to their limit: what is left of the finite width falls
/// as `1/n` in the mean, and limits are known to a hundredth.
const CONSTANT: f64 = 0.02;

const DISTANCE: &str = "distance from the limit";
const KERNEL: &str = "distance from the kernel's prediction";

/// Targets large enough to require features.
const TARGETS: [f64; 2] = [2.0, -2.0];

/// Inputs with |ξ|² near 3: two for training, and one that is not trained on.
const INPUTS: [(&str, [f64; 3]); 3] = [("a", [1.0, 1.0, -1.0]), ("b", [-0.5, 1.5, 0.7]), ("c", [1.5, -0.5, 0.7])];

const STEPS: usize = 5;

/// A run as a program.
struct Run {
    program: Program,
    /// Outputs on the inputs after the last step.
    outputs: Vec<Scalar>,
    /// What the kernel at initialization predicts for them.
    predicted: Vec<Scalar>,
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let widths = context.pick(doubled(32.0, 5), doubled(64.0, 6), doubled(128.0, 6));
    let seeds = context.seeds(24, 32, 32);
    let block = context.pick(32, 16, 4);
    let samples = context.pick(200_000, 1_000_000, 4_000_000);
    let updates = [("SGD", Update::Sgd), ("SignGD", Update::Sign)];
    let mut findings = Collected {
        settings: vec![
            ("network".into(), "perceptron, tanh, two hidden layers, muP".into()),
            ("training".into(), format!("{STEPS} steps of one example, squared loss, targets {}", list(&TARGETS))),
            ("learning rate".into(), format!("{} (SGD), {} (SignGD)", rate(Update::Sgd), rate(Update::Sign))),
            ("widths".into(), list(&widths)),
            ("samples".into(), format!("{seeds}, each the root mean square of {block} networks")),
            ("limits".into(), format!("{samples} samples in 16 replicas")),
        ],
        ..Collected::default()
    };
    let mut figure = Figure {
        name: "distance".into(),
        title: "Distance of trained outputs from the limit".into(),
        x_label: "width n".into(),
        y_label: "distance, in units of the narrowest width's".into(),
        series: vec![],
    };
    for (name, update) in updates {
        let options = sampled(context, name, samples);
        let run = train(Regime::MaximalUpdate, update, STEPS)?;
        let own_limit = limit(context, &run.program, &options)?;
        // Networks are compared with this limit; a mutant replaces it.
        let regime = if context.is(KERNEL_REGIME) { Regime::NeuralTangent } else { Regime::MaximalUpdate };
        let compared = train(regime, update, STEPS - usize::from(context.is(ONE_STEP_LESS)))?;
        let correction = !context.is(NO_CORRECTION);
        let compared_limit = limit(context, &compared.program, &LimitOptions { correction, ..options })?;
        let means = |l: &LimitRun<'_>, of: &[Scalar]| of.iter().map(|s| l.scalar(*s)).collect::<Vec<f64>>();
        let values =
            [(DISTANCE, means(&compared_limit, &compared.outputs)), (KERNEL, means(&own_limit, &run.predicted))];
        let (program, scalars) = (&run.program, &run.outputs[..]);
        let comparison = Comparison { name, program, scalars, values: &values, widths: &widths, seeds, block };
        let scan = comparison.scan(context)?;

        let sizes = ratios(&own_limit, &run.outputs, &[], &[]);
        let title = format!("{name}: root mean square of the limit's outputs");
        findings.hypotheses.push(Open::mean(title, Expectation::Within { target: 2.0, tolerance: 1.5 }, sizes));

        let title = format!("{name}: exponent of the {DISTANCE}");
        findings.checks.push(scan.scaling(title, DISTANCE, converges(context))?);
        let widest = widths[widths.len() - 1];
        let title = format!("{name}: outputs at width {widest}, mean over networks, as a multiple of the limit");
        findings.checks.push(Open::mean(title, context.expected(1.0, CONSTANT), comparison.constants(context)?));
        // A tenth of the outputs, far beyond the limits' errors, which are below a hundredth.
        let elsewhere = Expectation::AtLeast { bound: 0.1 };
        let gap = |l: &LimitRun<'_>, r: &Run| ratios(l, &r.outputs, &r.predicted, &r.outputs);
        let title = format!("{name}: relative distance of the limit and the kernel's prediction");
        findings.checks.push(Open::mean(title, elsewhere, gap(&compared_limit, &compared)));

        let title = format!("{name}: exponent of the {KERNEL}");
        findings.controls.push(scan.scaling(title, KERNEL, converges(context))?);
        let lazy = train(Regime::NeuralTangent, update, STEPS)?;
        let lazy_limit = limit(context, &lazy.program, &options)?;
        let title = format!("{name}, NTK parametrization: relative distance of the limit and the kernel's prediction");
        findings.controls.push(Open::mean(title, elsewhere, gap(&lazy_limit, &lazy)));

        figure.series.push(scan.series(name, DISTANCE, Some(-0.5), false));
        figure.series.push(scan.series(&format!("{name}, {KERNEL}"), KERNEL, None, true));
        let mut table = scan.local_slopes(&[(DISTANCE, -0.5)])?;
        table.title = format!("Slopes between neighbouring widths: {name}");
        findings.tables.push(table);
        findings.tables.push(outputs_table(name, &own_limit, &run));
    }
    findings.figures.push(figure);
    Ok(context.judged(findings))
}

/// Limits, with the kernel's predictions.
fn outputs_table(name: &str, limit: &LimitRun<'_>, run: &Run) -> Table {
    let rows = INPUTS.iter().zip(run.outputs.iter().zip(&run.predicted)).map(|((input, _), (output, predicted))| {
        let cell = |s: &Scalar| Cell::from(limit.estimate(*s, Mark::CONFIDENCE));
        vec![Cell::from(*input), cell(output), cell(predicted)]
    });
    Table {
        title: format!("Outputs after training, in the limit: {name}"),
        columns: ["input", "limit", "kernel's prediction"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// For every replica, the root mean square of `left` minus `right`, relative to that of `unit`; an empty `right` counts as
/// zero, an empty `unit` as one.
fn ratios(limit: &LimitRun<'_>, left: &[Scalar], right: &[Scalar], unit: &[Scalar]) -> Vec<f64> {
    let norm = |left: &[Scalar], right: &[Scalar], replica: usize| {
        let at = |s: Option<&Scalar>| s.map_or(0.0, |s| limit.replicas(*s)[replica]);
        let squares = left.iter().enumerate().map(|(i, s)| (at(Some(s)) - at(right.get(i))).powi(2));
        (squares.sum::<f64>() / left.len() as f64).sqrt()
    };
    let replicas = limit.replicas(left[0]).len();
    let relative = |r: usize| norm(left, right, r) / if unit.is_empty() { 1.0 } else { norm(unit, &[], r) };
    (0..replicas).map(relative).collect()
}

fn rate(update: Update) -> f64 {
    match update {
        Update::Sgd => 0.4,
        Update::Sign => 0.35,
    }
}

/// Training on two examples in turn, with kernel descent for comparison.
fn train(regime: Regime, update: Update, steps: usize) -> Result<Run> {
    let inputs: Vec<Input> =
        INPUTS.iter().map(|(name, entries)| Input { name: (*name).into(), entries: entries.to_vec() }).collect();
    let mut training = Training::new(Network { dimension: 3, depth: 2, activation: Activation::Tanh, regime, update });
    let gradients: Vec<Gradient> = inputs.iter().map(|x| training.gradient(x)).collect();
    let directions: Vec<Gradient> = inputs[..2].iter().map(|x| training.direction(x)).collect();
    let kernel: Vec<Vec<Scalar>> = (0..inputs.len())
        .map(|i| (0..2).map(|j| training.kernel(&format!("K({i}, {j})"), &gradients[i], &directions[j])).collect())
        .collect();
    let mut predicted: Vec<Scalar> = gradients.iter().map(|g| g.output).collect();
    for step in 0..steps {
        let example = step % 2;
        let chi = |f: Scalar| f - TARGETS[example];
        training.step(&[&inputs[example]], rate(update), |_, f| chi(f));
        let size = match update {
            Update::Sgd => chi(predicted[example]),
            Update::Sign => chi(predicted[example]).sign(),
        };
        let size = training.builder.scalar(format!("predicted χ{step}"), size * -rate(update));
        for (i, f) in predicted.iter_mut().enumerate() {
            let moved: Expression = *f + size * kernel[i][example];
            *f = training.builder.scalar(format!("predicted f{}({i})", step + 1), moved);
        }
    }
    let outputs = inputs.iter().map(|x| training.output(x)).collect();
    Ok(Run { program: training.finish()?, outputs, predicted })
}
