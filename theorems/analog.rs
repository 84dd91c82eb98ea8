//! The measurement of both kernel analogs: every step of a trajectory with batches of one example, against the step predicted
//! by a kernel at the initial parameters.

use tch::{Kind, Tensor};

use super::context::Context;
use super::scan::{Scan, doubled, list};
use super::training::{loss_gradient, outputs};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::kernel::{FormulaSet, Gram, GramOptions, structured_gram};
use crate::network::{Abc, Activation, Mlp, normal_tensor, unit_inputs};
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::train::{Optimizer, OptimizerKind};

const INPUT: i64 = 6;
const TRAIN: i64 = 4;
const PROBES: i64 = 6;
const STEPS: usize = 12;

/// Accepted distance of the residual's exponent from -1; it excludes -1/2.
const MARGIN: f64 = 0.4;

/// Accepted distance of the exponent of the outputs' movement from 0.
const STILL: f64 = 0.15;

const MOVES: &str = "movement of the outputs";

/// A kernel between probes (rows) and training examples (columns), with the factor made of χ.
pub(super) struct Prediction {
    /// Name, e.g. "K(SGD)".
    pub name: &'static str,
    /// The kernel \[probes, train\] at the initial parameters.
    pub kernel: fn(&Gram) -> Tensor,
    /// χ or its sign.
    pub factor: fn(f64) -> f64,
}

/// An analog, with the predictions that must fail in its place.
pub(super) struct Analog {
    pub optimizer: OptimizerKind,
    pub abc: Abc,
    pub eta: f64,
    pub claimed: Prediction,
    pub controls: Vec<Prediction>,
    pub setting: &'static str,
}

/// Runs the trajectories and compares. Controls get the best-fitting scale, so that their shape is refuted and not their unit;
/// the claimed prediction gets none.
pub(super) fn experiment(context: &Context<'_>, analog: &Analog) -> Result<Findings> {
    let widths = context.pick(doubled(128.0, 4), doubled(128.0, 5), doubled(256.0, 7));
    let seeds = context.seeds(32, 32, 24);
    let mut names = vec![analog.claimed.name];
    names.extend(analog.controls.iter().map(|c| c.name));
    names.push(MOVES);
    let scan = Scan::over(context, "trajectories", &widths, seeds, &names, |width, seed| {
        residuals(context, analog, width, seed)
    })?;
    let falls = context.expected(-1.0, MARGIN);
    let title = |name: &str| format!("{name}: exponent of the relative residual of the predicted steps");
    let mut findings = Collected {
        settings: vec![
            ("network".into(), analog.setting.into()),
            ("widths".into(), list(&widths)),
            ("seeds".into(), seeds.to_string()),
            ("training".into(), format!("{STEPS} steps, one example each, squared loss; inputs of different lengths")),
        ],
        checks: vec![scan.scaling(title(analog.claimed.name), analog.claimed.name, falls)?],
        tables: vec![scan.local_slopes(&[(analog.claimed.name, -1.0)])?],
        ..Collected::default()
    };
    // A tenth of the residual that the wrong kernels keep.
    let small = Expectation::AtMost { bound: 0.02 };
    let level = |name: &str| {
        let title = format!("{name}: relative residual of the predicted steps at the largest width");
        scan.level(title, name, small)
    };
    findings.checks.push(level(analog.claimed.name));
    let moves = Expectation::Within { target: 0.0, tolerance: STILL };
    let title_moves = "exponent of the outputs' movement along the trajectory (there is something to predict)";
    findings.hypotheses.push(scan.scaling(title_moves, MOVES, moves)?);
    let mut series = vec![scan.series(analog.claimed.name, analog.claimed.name, Some(-1.0), false)];
    for control in &analog.controls {
        findings.controls.push(scan.scaling(title(control.name), control.name, falls)?);
        findings.controls.push(level(control.name));
        series.push(scan.series(control.name, control.name, None, true));
    }
    findings.figures.push(Figure {
        name: "residual".into(),
        title: "Residual of one-step predictions along the trajectory".into(),
        x_label: "width n".into(),
        y_label: "relative residual".into(),
        series,
    });
    Ok(context.judged(findings))
}

/// Relative residual of every prediction, over all steps and probes of one trajectory.
fn residuals(context: &Context<'_>, analog: &Analog, width: f64, seed: usize) -> Result<Vec<f64>> {
    let abc = analog.abc.clone();
    let mlp =
        Mlp { input: INPUT, width: width as i64, depth: 2, outputs: 1, activation: Activation::Tanh, gain: 1.0, abc };
    let weights = context.seed(&format!("width {width}, seed {seed}"));
    let mut parameters = mlp.parameters(weights, Context::KIND, context.device);
    let draw = context.seed(&format!("inputs, seed {seed}"));
    let inputs = unit_inputs(TRAIN + PROBES, INPUT, draw, Context::KIND, context.device);
    // Different lengths, because <∇f, sign ∇f'> is nearly symmetric for equal ones.
    let lengths =
        (normal_tensor(&[TRAIN + PROBES, 1], 0.5, draw, 7, Context::KIND, context.device)).clamp(-0.7, 0.7).exp();
    let inputs = inputs * lengths;
    let train = mlp.examples(inputs.narrow(0, 0, TRAIN));
    let probes = mlp.examples(inputs.narrow(0, TRAIN, PROBES));
    let gram = structured_gram(&parameters, &probes, Some(&train), &GramOptions::new(FormulaSet::ALL, 3), &Silent)?;
    // Distances to the targets between 1/2 and 2, to distinguish χ from its sign.
    let distances = Tensor::from_slice(&[0.5, -1.0, 2.0, -0.7]).view([TRAIN, 1]);
    let targets = outputs(&parameters, &train) + distances;
    let rates = mlp.learning_rates(analog.eta);
    let rate = rates[1];
    let mut trainer = Optimizer::with_rates(analog.optimizer, rates);
    let predictions: Vec<&Prediction> = std::iter::once(&analog.claimed).chain(&analog.controls).collect();
    let kernels: Vec<Tensor> = predictions.iter().map(|p| (p.kernel)(&gram)).collect();
    let mut actual = Vec::new();
    let mut predicted: Vec<Vec<Tensor>> = predictions.iter().map(|_| Vec::new()).collect();
    for step in 0..STEPS {
        let i = step % TRAIN as usize;
        let all = outputs(&parameters, &train) - &targets;
        let chi = all.narrow(0, i as i64, 1);
        let before = outputs(&parameters, &probes);
        let gradients = loss_gradient(&parameters, &train, &[i], &chi);
        parameters = trainer.step(&parameters, &gradients);
        actual.push((outputs(&parameters, &probes) - before).squeeze_dim(1));
        for ((sequence, kernel), prediction) in predicted.iter_mut().zip(&kernels).zip(&predictions) {
            let factor = -rate * (prediction.factor)(chi.double_value(&[0, 0]));
            sequence.push(kernel.select(1, i as i64) * factor);
        }
    }
    let actual = Tensor::cat(&actual, 0);
    let norm = |t: &Tensor| t.square().sum(Kind::Double).sqrt().double_value(&[]);
    let residual = |(k, parts): (usize, &Vec<Tensor>)| {
        let guess = Tensor::cat(parts, 0);
        let best = (&actual * &guess).sum(Kind::Double).double_value(&[]) / norm(&guess).powi(2);
        let scale = if k == 0 { 1.0 } else { best };
        norm(&(&actual - guess * scale)) / norm(&actual)
    };
    let moved = norm(&actual) / (actual.numel() as f64).sqrt();
    Ok(predicted.iter().enumerate().map(residual).chain([moved]).collect())
}

/// A requested matrix of a Gram.
pub(super) fn asked(matrix: Option<&Tensor>) -> Tensor {
    matrix.expect("all formulas were asked for").shallow_clone()
}

/// The columns of a kernel assigned to the wrong training examples.
pub(super) fn permuted(kernel: &Tensor) -> Tensor {
    kernel.roll([1i64].as_slice(), [1i64].as_slice())
}
