//! Averages of a tensor program converge to its limit at the rate n^-1/2, whatever the program computes.
//!
//! **Statement.** Write a network, its gradients or its training as a program over vectors of `n` entries: Gaussian vectors and
//! matrices, products by `W` and `Wᵀ`, functions of entries, averages. As `n` grows every average converges to a number that
//! the program's limit gives, and its distance from it falls as `n^-1/2`.
//!
//! **Hypotheses.** Entries of matrices are independent Gaussians of variance `σ²/n`. Nonlinearities grow at most polynomially;
//! signs, which have a jump, are not covered by the theorem, and are measured here. One of the programs needs the correction
//! term below: measured.
//!
//! **Derivation.** In the limit the entries of a vector x are independent copies of a random variable `Z^x`. Products have
//! `Z^{Wx} = Ẑ + Ż`: `Ẑ` Gaussian, with covariance `σ² E[Z^x Z^x']` with the other outputs of `W`; `Ż = σ² Σ_j
//! E[∂Z^x/∂Ẑ^{Wᵀy_j}] Z^{y_j}`, due to the dependence of `W` and its transpose. As each `Wᵀy` is Gaussian given everything
//! before it, `W` given its products so far is a Gaussian matrix under linear equations, whose conditional mean gives `Ż` and
//! whose fluctuation gives `Ẑ` (Yang's Gaussian conditioning). Averages over `n` entries that are independent up to order `1/n`
//! fluctuate by `n^-1/2`. By Stein's lemma `E[∂Z^x/∂Ẑ_j] = (Cov(Ẑ)⁻¹ E[Ẑ Z^x])_j`, without a derivative.
//!
//! **Experiment.** Five programs: the kernels of a perceptron, forward and backward; a recurrent network with a loss on its
//! last state, backward through time; a layer of attention; three steps of SGD in muP; three steps of SignGD in NTK
//! parametrization. Each is run in the limit, with samples in independent replicas, and as random networks of growing width.
//! The statistic is the root mean square distance of all averages, each in units of its distance at the narrowest width. The
//! perceptron's limits are compared with closed forms as well.
//!
//! **Control.** The recurrent network against a limit that takes `W` and `Wᵀ` for independent, and against one with a separate
//! matrix for each step: the distances must not fall as `n^-1/2`.
//!
//! **Meaning.** The theorems on wide networks, the paper's among them, are stated for networks that are tensor programs. Their
//! limits need no derivation by hand: the program that computes the network also gives its limit.

use nalgebra::DMatrix;

use super::context::{Context, SHIFTED};
use super::convergence::{Comparison, converges, limit, sampled};
use super::scan::{doubled, list};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings, Open};
use crate::network::Activation;
use crate::network::limits::limit_kernels;
use crate::program::networks::{
    Input, Network, PerceptronKernels, Recurrent, Regime, Training, Update, attention, perceptron_kernels, recurrent,
};
use crate::program::{LimitOptions, Program, Scalar};
use crate::stats::Expectation;

const NO_CORRECTION: Mutant =
    Mutant { name: "no-correction", change: "limits in which W and its transpose are independent" };
const SMALLER_VARIANCE: Mutant =
    Mutant { name: "smaller-variance", change: "limits whose matrices have a σ that is a tenth too small" };
const MATRIX_DRAWN_ANEW: Mutant =
    Mutant { name: "matrix-drawn-anew", change: "the limit of a recurrent network with a matrix for every step" };

pub(super) const CLAIM: Claim = Claim {
    id: "master-theorem",
    topic: Topic::Program,
    title: "Averages of tensor programs converge to the limit of the same program",
    source: "Yang, Tensor Programs III (Master Theorem)",
    prediction: "distance falls as n^-1/2",
    text: include_str!("master_theorem.rs"),
    mutants: &[NO_CORRECTION, SMALLER_VARIANCE, MATRIX_DRAWN_ANEW],
    graded: &[SHIFTED],
    experiment,
};

const DISTANCE: &str = "distance from the limit";
const WITHOUT: &str = "distance from the limit without correction";
const ANEW: &str = "distance from the limit with a matrix for every step";

/// √2 keeps the variance of relu networks constant over layers.
const GAIN: f64 = std::f64::consts::SQRT_2;
const STEPS: usize = 3;

/// A program for the networks, and one for the limit, which differs only under a mutant.
struct Case {
    name: &'static str,
    network: Program,
    limit: Program,
    /// Networks per sample of the quick profile; averages of products of many entries have longer tails.
    block: usize,
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let widths = context.pick(doubled(32.0, 5), doubled(64.0, 6), doubled(128.0, 6));
    let seeds = context.seeds(24, 32, 32);
    let samples = context.pick(200_000, 1_000_000, 4_000_000);
    let cases = cases(context)?;
    let mut findings = Collected {
        settings: vec![
            ("programs".into(), cases.iter().map(|c| c.name).collect::<Vec<_>>().join("; ")),
            ("widths".into(), list(&widths)),
            ("samples".into(), format!("{seeds}, each of several networks")),
            ("limits".into(), format!("{samples} samples in 16 replicas")),
        ],
        ..Collected::default()
    };
    let mut figure = Figure {
        name: "distance".into(),
        title: "Distance of all averages from the limit".into(),
        x_label: "width n".into(),
        y_label: "distance, in units of the narrowest width's".into(),
        series: vec![],
    };
    for case in &cases {
        let scalars = case.network.averages();
        let options = LimitOptions {
            correction: !context.is(NO_CORRECTION),
            ..sampled(context, &format!("limit, {}", case.name), samples)
        };
        let mut values = vec![(DISTANCE, limits(context, &case.limit, &options)?)];
        let with_controls = case.name == "recurrent network";
        if with_controls {
            let wrong = LimitOptions { correction: false, ..options };
            let anew = recurrence(1.0, false)?.program;
            values.push((WITHOUT, limits(context, &case.network, &wrong)?));
            values.push((ANEW, limits(context, &anew, &options)?));
        }
        let block = context.pick(case.block, case.block, 4);
        let (name, program) = (case.name, &case.network);
        let comparison =
            Comparison { name, program, scalars: &scalars, values: &values, widths: &widths, seeds, block };
        let scan = comparison.scan(context)?;
        let title = format!("{name}: exponent of the {DISTANCE}");
        findings.checks.push(scan.scaling(title, DISTANCE, converges(context))?);
        figure.series.push(scan.series(name, DISTANCE, Some(-0.5), false));
        let mut table = scan.local_slopes(&[(DISTANCE, -0.5)])?;
        table.title = format!("Slopes between neighbouring widths: {name}");
        findings.tables.push(table);
        if with_controls {
            for wrong in [WITHOUT, ANEW] {
                let title = format!("{name}: exponent of the {wrong}");
                findings.controls.push(scan.scaling(title, wrong, converges(context))?);
                figure.series.push(scan.series(&format!("{name}, {wrong}"), wrong, None, true));
            }
        }
    }
    findings.figures.push(figure);
    needs_correction(context, samples, &mut findings)?;
    closed_forms(context, &mut findings)?;
    Ok(context.judged(findings))
}

/// Limits of all averages of a program.
fn limits(context: &Context<'_>, program: &Program, options: &LimitOptions) -> Result<Vec<f64>> {
    let limit = limit(context, program, options)?;
    Ok(program.averages().into_iter().map(|s| limit.scalar(s)).collect())
}

/// Two inputs of different lengths in three dimensions.
fn inputs() -> DMatrix<f64> {
    DMatrix::from_row_slice(2, 3, &[1.0, 0.5, -0.3, -0.2, 1.4, 0.8])
}

fn cases(context: &Context<'_>) -> Result<Vec<Case>> {
    let factor = if context.is(SMALLER_VARIANCE) { 0.9 } else { 1.0 };
    let shared = !context.is(MATRIX_DRAWN_ANEW);
    let perceptron = |gain: f64| perceptron_kernels(&inputs(), 2, Activation::Relu, gain);
    let tokens = DMatrix::from_row_slice(3, 3, &[1.0, 0.5, -0.2, 0.5, 1.5, 0.3, -0.2, 0.3, 0.8]);
    let layer = || attention(&tokens, 2.0);
    let sgd = || trained(Regime::MaximalUpdate, Update::Sgd);
    let sign = || trained(Regime::NeuralTangent, Update::Sign);
    Ok(vec![
        Case {
            name: "kernels of a perceptron",
            network: perceptron(GAIN)?.program,
            limit: perceptron(GAIN * factor)?.program,
            block: 6,
        },
        Case {
            name: "recurrent network",
            network: recurrence(1.0, true)?.program,
            limit: recurrence(factor, shared)?.program,
            block: 12,
        },
        Case { name: "attention", network: layer()?.program, limit: layer()?.program, block: 6 },
        Case { name: "SGD in muP", network: sgd()?, limit: sgd()?, block: 6 },
        Case { name: "SignGD in NTK parametrization", network: sign()?, limit: sign()?, block: 6 },
    ])
}

/// Four steps of a recurrent network whose matrix has `factor` times the deviation 1.2. Its input is small, where tanh is
/// nearly linear, which makes the back-propagated gradient depend more on the last state.
fn recurrence(factor: f64, shared: bool) -> Result<Recurrent> {
    recurrent(4, Activation::Tanh, 1.2 * factor, 0.25, shared)
}

/// Three steps on two examples in turn, and the output of a third input.
fn trained(regime: Regime, update: Update) -> Result<Program> {
    let names = ["a", "b", "c"];
    let entries = [[1.0, 0.5, -0.3], [-0.2, 1.4, 0.8], [0.7, -0.4, 1.1]];
    let inputs: Vec<Input> =
        names.iter().zip(entries).map(|(n, e)| Input { name: (*n).into(), entries: e.to_vec() }).collect();
    let targets = [1.0, -1.0];
    let network = Network { dimension: 3, depth: 2, activation: Activation::Tanh, regime, update };
    let mut training = Training::new(network);
    for step in 0..STEPS {
        let example = step % 2;
        training.step(&[&inputs[example]], 0.5, |_, f| f - targets[example]);
    }
    training.output(&inputs[2]);
    training.finish()
}

/// The hypothesis on the recurrent network: the correction is a substantial part of its gradients.
fn needs_correction(context: &Context<'_>, samples: usize, findings: &mut Collected) -> Result<()> {
    let network = recurrence(1.0, true)?;
    let options = sampled(context, "limit, recurrent network", samples);
    let with = limit(context, &network.program, &options)?;
    let without = limit(context, &network.program, &LimitOptions { correction: false, ..options })?;
    let replicas = |l: &[f64], w: &[f64]| -> Vec<f64> { l.iter().zip(w).map(|(l, w)| (l - w) / l).collect() };
    let first = network.gradients[0];
    let share = replicas(with.replicas(first), without.replicas(first));
    let title = "recurrent network: share of the correction in the squared gradient that went back through all steps";
    findings.hypotheses.push(Open::mean(title, Expectation::AtLeast { bound: 0.1 }, share));
    Ok(())
}

/// The check that the limits of the perceptron's kernels are their closed forms.
fn closed_forms(context: &Context<'_>, findings: &mut Collected) -> Result<()> {
    let factor = if context.is(SMALLER_VARIANCE) { 0.9 } else { 1.0 };
    let PerceptronKernels { program, nngp, ntk, layers } =
        perceptron_kernels(&inputs(), 2, Activation::Relu, GAIN * factor)?;
    // A million samples at every profile: it takes seconds.
    let options = LimitOptions { replicas: 32, ..sampled(context, "limit, closed forms", 1_000_000) };
    let limit = limit(context, &program, &options)?;
    let exact = limit_kernels(&inputs(), 2, Activation::Relu, GAIN);
    let pair = (0, 1);
    let values: [(&str, Scalar, f64); 4] = [
        ("NNGP", nngp[0][1], exact.nngp[pair]),
        ("NTK", ntk[0][1], exact.ntk[pair]),
        ("hidden layer's A-SignGD kernel", layers[1].asymmetric[0][1], exact.per_layer[1].asymmetric[pair]),
        ("hidden layer's SignGD kernel", layers[1].signgd[0][1], exact.per_layer[1].signgd[pair]),
    ];
    for (name, scalar, exact) in values {
        let ratios: Vec<f64> = limit.replicas(scalar).iter().map(|v| v / exact).collect();
        let title = format!("kernels of a perceptron: sampled limit of the {name} over its closed form");
        // A gain that is a tenth too small deviates by ten times this.
        let expectation = context.expected(1.0, 0.02);
        findings.checks.push(Open::mean(title, expectation, ratios));
    }
    Ok(())
}
