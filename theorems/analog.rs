//! The measurement of both kernel analogs: every step of a trajectory with batches of one example, against the step predicted
//! by a kernel at the initial parameters.

use tch::{Kind, Tensor};

use super::context::Context;
use super::scan::{Scan, doubled, list};
use super::training::{loss_gradient, outputs};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
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
    pub kernel: fn(&Kernels) -> Tensor,
    /// χ or its sign.
    pub factor: fn(f64) -> f64,
}

/// The kernels \[probes, train\] at the start of a trajectory.
pub(super) struct Kernels {
    pub sgd: Tensor,
    pub asymmetric: Tensor,
    /// The asymmetric kernel with its arguments exchanged.
    pub transposed: Tensor,
    pub signgd: Tensor,
}

/// How networks are trained.
pub(super) struct Setting {
    pub optimizer: OptimizerKind,
    pub abc: Abc,
    pub eta: f64,
    pub text: &'static str,
}

/// The predictions of an analog: the claimed one, and those that must fail in its place.
pub(super) struct Predictions {
    pub claimed: Prediction,
    pub controls: Vec<Prediction>,
}

/// Runs the trajectories and compares. Controls get the best-fitting scale, so that their shape is refuted and not their unit;
/// the claimed prediction gets none.
pub(super) fn experiment(
    context: &Context<'_>,
    setting: &Setting,
    Predictions { claimed, controls }: &Predictions,
) -> Result<Findings> {
    let widths = context.pick(doubled(128.0, 4), doubled(128.0, 5), doubled(256.0, 5));
    let seeds = context.seeds(32, 32, 32);
    let mut names = vec![claimed.name];
    names.extend(controls.iter().map(|c| c.name));
    names.push(MOVES);
    let scan = Scan::watched(context, "trajectories", &widths, seeds, &names, |width, seed| {
        // Mutants of the prediction share the run.
        let stage = format!("{:?}", setting.optimizer);
        let run = context.independent(&stage, width, seed, |own| run(own, setting, width, seed))?;
        Ok(residuals(&run, std::iter::once(claimed).chain(controls)))
    })?;
    let falls = context.expected(-1.0, MARGIN);
    let title = |name: &str| format!("{name}: exponent of the relative residual of the predicted steps");
    let mut findings = Collected {
        settings: vec![
            ("network".into(), setting.text.into()),
            ("widths".into(), list(&widths)),
            ("seeds".into(), seeds.to_string()),
            ("training".into(), format!("{STEPS} steps, one example each, squared loss; inputs of different lengths")),
        ],
        checks: vec![scan.scaling(title(claimed.name), claimed.name, falls)?],
        tables: vec![scan.local_slopes(&[(claimed.name, -1.0)])?],
        ..Collected::default()
    };
    // A tenth of the residual that the wrong kernels keep.
    let small = Expectation::AtMost { bound: 0.02 };
    let level = |name: &str| {
        let title = format!("{name}: relative residual of the predicted steps at the largest width");
        scan.level(title, name, small)
    };
    findings.checks.push(level(claimed.name));
    let moves = Expectation::Within { target: 0.0, tolerance: STILL };
    let title_moves = "exponent of the outputs' movement along the trajectory (there is something to predict)";
    findings.hypotheses.push(scan.scaling(title_moves, MOVES, moves)?);
    let mut series = vec![scan.series(claimed.name, claimed.name, Some(-1.0), false)];
    for control in controls {
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

/// A trajectory.
#[derive(Clone)]
struct Run {
    /// Entries of the kernels at its start: SGD's, the asymmetric one, the same with its arguments exchanged, SignGD's.
    kernels: [Vec<f64>; 4],
    /// χ of each step's example, and the probes' changes.
    steps: Vec<(f64, Vec<f64>)>,
    rate: f64,
}

/// Trains a network.
fn run(context: &Context<'_>, setting: &Setting, width: f64, seed: usize) -> Result<Run> {
    let abc = setting.abc.clone();
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
    let rates = mlp.learning_rates(setting.eta);
    let rate = rates[1];
    let mut trainer = Optimizer::with_rates(setting.optimizer, rates);
    let numbers = |t: &Tensor| Vec::<f64>::try_from(t.reshape([-1])).expect("a vector of f64");
    let kernels = [gram.sgd, gram.asymmetric, gram.asymmetric_reversed, gram.signgd];
    let kernels = kernels.map(|kernel| numbers(&kernel.expect("all were asked for")));
    let mut steps = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        let i = step % TRAIN as usize;
        let all = outputs(&parameters, &train) - &targets;
        let chi = all.narrow(0, i as i64, 1);
        let before = outputs(&parameters, &probes);
        let gradients = loss_gradient(&parameters, &train, &[i], &chi);
        parameters = trainer.step(&parameters, &gradients);
        steps.push((chi.double_value(&[0, 0]), numbers(&(outputs(&parameters, &probes) - before))));
    }
    Ok(Run { kernels, steps, rate })
}

/// Relative residual of every prediction, over all steps and probes of one trajectory, and the outputs' movement.
fn residuals<'a>(run: &Run, predictions: impl Iterator<Item = &'a Prediction>) -> Vec<f64> {
    let kernel = |at: usize| Tensor::from_slice(&run.kernels[at]).view([PROBES, TRAIN]);
    let kernels = Kernels { sgd: kernel(0), asymmetric: kernel(1), transposed: kernel(2), signgd: kernel(3) };
    let moves: Vec<f64> = run.steps.iter().flat_map(|(_, moved)| moved.iter().copied()).collect();
    let actual = Tensor::from_slice(&moves);
    let norm = |t: &Tensor| t.square().sum(Kind::Double).sqrt().double_value(&[]);
    let residual = |(k, prediction): (usize, &Prediction)| {
        let kernel = (prediction.kernel)(&kernels);
        let predicted =
            run.steps.iter().enumerate().map(|(step, (chi, _))| {
                kernel.select(1, step as i64 % TRAIN) * (-run.rate * (prediction.factor)(*chi))
            });
        let guess = Tensor::cat(&predicted.collect::<Vec<_>>(), 0);
        let best = (&actual * &guess).sum(Kind::Double).double_value(&[]) / norm(&guess).powi(2);
        let scale = if k == 0 { 1.0 } else { best };
        norm(&(&actual - guess * scale)) / norm(&actual)
    };
    let moved = norm(&actual) / (actual.numel() as f64).sqrt();
    predictions.enumerate().map(residual).chain([moved]).collect()
}

/// The columns of a kernel assigned to the wrong training examples.
pub(super) fn permuted(kernel: &Tensor) -> Tensor {
    kernel.roll([1i64].as_slice(), [1i64].as_slice())
}
