//! Shared by the vector equations: trajectories with batches of several examples and outputs, each step against predictions
//! from the initial parameters. Not a claim.

use tch::{Kind, Tensor};

use super::context::Context;
use super::scan::{Scan, doubled};
use super::training::{entries, loss_gradient, outputs};
use crate::error::Result;
use crate::evidence::{Figure, Open, Series};
use crate::kernel::{FormulaSet, GramOptions, dense_jacobian, structured_gram};
use crate::network::{Abc, Activation, Mlp, unit_inputs};
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::train::{Optimizer, OptimizerKind, output_derivative};

const INPUT: i64 = 6;
const TRAIN: i64 = 5;
const PROBES: i64 = 4;
const OUTPUTS: i64 = 3;
const BATCH: usize = 3;
const STEPS: usize = 8;

/// The statistic of the outputs' movement.
const MOVES: &str = "movement of the outputs";

/// For exact equations. A central difference of fourth order with steps of a fifty-thousandth has an error of round-off over
/// the step, 1e-11, times cancellation in gradients.
pub(super) const TOLERANCE: f64 = 1e-8;

/// Accepted distance of the exponent of the outputs' movement from 0.
const STILL: f64 = 0.15;

/// A tenth of the residual of a kernel that is wrong by a factor of 2.
const SMALL: Expectation = Expectation::AtMost { bound: 0.05 };

/// The check that outputs move by order one.
pub(super) fn movement(scan: &Scan) -> Result<Open> {
    let moves = Expectation::Within { target: 0.0, tolerance: STILL };
    scan.scaling("exponent of the outputs' movement", MOVES, moves)
}

/// The check of a residual's exponent in width.
pub(super) fn fall(scan: &Scan, prediction: &'static str, expected: Expectation) -> Result<Open> {
    scan.scaling(format!("{prediction}: exponent of the relative residual along training"), prediction, expected)
}

/// The check that a prediction's residual is small at the largest width.
pub(super) fn smallness(scan: &Scan, prediction: &'static str) -> Open {
    scan.level(format!("{prediction}: relative residual at the largest width"), prediction, SMALL)
}

/// The plot of residuals.
pub(super) fn figure(title: &str, series: Vec<Series>) -> Figure {
    Figure {
        name: "residual".into(),
        title: title.into(),
        x_label: "width n".into(),
        y_label: "relative residual".into(),
        series,
    }
}

/// What predictions use of a network at its initial parameters.
pub(super) struct Start {
    /// Gradients \[probes · C, P\] of the probes' outputs.
    probes: Tensor,
    /// Gradients \[examples · C, P\] of the training examples' outputs.
    train: Tensor,
    /// Learning rate of each parameter entry \[P\].
    rates: Tensor,
    /// η K(SGD) \[probes · C, examples · C\], from the structured engine.
    kernel: Tensor,
}

/// Gradients and χ of one batch, for means over examples.
pub(super) struct Batch<'a> {
    start: &'a Start,
    /// Rows `example · C + output` of the batch.
    rows: Tensor,
    /// χ \[B, C\].
    chi: Tensor,
}

/// A prediction of a step of all probes' outputs \[probes · C\].
pub(super) struct Predicted {
    /// Name of the prediction.
    pub name: &'static str,
    /// Whether it gets the best-fitting scale, so that its shape is refuted and not its unit.
    pub scaled: bool,
    /// The step.
    pub step: fn(&Batch<'_>) -> Tensor,
}

impl Batch<'_> {
    /// χ as a vector \[B · C\], in the order of the rows.
    pub fn chi(&self) -> Tensor {
        self.chi.reshape([-1])
    }

    /// χ in order of outputs, which is not that of the rows.
    pub fn chi_by_output(&self) -> Tensor {
        self.chi.tr().reshape([-1])
    }

    /// `-η/B Σ_jd K(ic, jd) x_jd` with K(SGD).
    pub fn sgd(&self, x: &Tensor) -> Tensor {
        self.start.kernel.index_select(1, &self.rows).matmul(x) / -(BATCH as f64)
    }

    /// The same without interaction of outputs: only d = c.
    pub fn sgd_of_own_outputs(&self, x: &Tensor) -> Tensor {
        let kernel = self.start.kernel.index_select(1, &self.rows);
        let blocks = kernel.view([PROBES, OUTPUTS, BATCH as i64, OUTPUTS]);
        let own = Tensor::eye(OUTPUTS, (Kind::Double, kernel.device())).view([1, OUTPUTS, 1, OUTPUTS]);
        (blocks * own).view([PROBES * OUTPUTS, -1]).matmul(x) / -(BATCH as f64)
    }

    /// `-Σ_jd K_A(ic, jd) x_jd` with learning rates in the kernel.
    pub fn asymmetric(&self, x: &Tensor) -> Tensor {
        -self.moved(&self.gradients().sign().tr().matmul(x))
    }

    /// `-<η ∇f_ic, sign(Σ_jd ∇f_jd χ_jd)>`.
    pub fn operator(&self) -> Tensor {
        -self.moved(&self.gradients().tr().matmul(&self.chi()).sign())
    }

    /// Signs of every example's own gradient, averaged.
    pub fn signs_by_example(&self) -> Tensor {
        let products = self.gradients() * self.chi().unsqueeze(1);
        let examples = products.view([BATCH as i64, OUTPUTS, -1]).sum_dim_intlist(1i64, false, Kind::Double);
        -self.moved(&examples.sign().mean_dim(0i64, false, Kind::Double))
    }

    /// Movement of the probes' outputs, for a movement of the parameters in units of their learning rates.
    fn moved(&self, direction: &Tensor) -> Tensor {
        self.start.probes.matmul(&(direction * &self.start.rates))
    }

    /// Gradients \[B · C, P\] of the batch.
    fn gradients(&self) -> Tensor {
        self.start.train.index_select(0, &self.rows)
    }
}

/// Trajectories of an optimizer in a parametrization.
pub(super) struct Trajectories {
    pub optimizer: OptimizerKind,
    pub abc: Abc,
    pub eta: f64,
    pub predictions: &'static [Predicted],
}

impl Trajectories {
    /// Widths of the profile.
    pub fn widths(context: &Context<'_>) -> Vec<f64> {
        context.pick(doubled(32.0, 4), doubled(64.0, 4), doubled(128.0, 5))
    }

    /// Settings for reports, with the number of random networks on which the equation was tested exactly.
    pub fn settings(&self, context: &Context<'_>, seeds: usize, cases: usize) -> Vec<(String, String)> {
        vec![
            ("network".into(), format!("tanh, two hidden layers, {OUTPUTS} outputs")),
            ("widths".into(), super::scan::list(&Self::widths(context))),
            ("seeds".into(), seeds.to_string()),
            (
                "training".into(),
                format!("{STEPS} steps on batches of {BATCH} of {TRAIN} examples, cross-entropy, η = {}", self.eta),
            ),
            ("cases of the exact equation".into(), cases.to_string()),
        ]
    }

    /// The residual of every prediction and the movement, over widths and seeds.
    pub fn scan(&self, context: &Context<'_>, seeds: usize) -> Result<Scan> {
        let names: Vec<&'static str> = self.predictions.iter().map(|p| p.name).chain([MOVES]).collect();
        Scan::over(context, "trajectories", &Self::widths(context), seeds, &names, |width, seed| {
            self.residuals(context, width, seed)
        })
    }

    fn residuals(&self, context: &Context<'_>, width: f64, seed: usize) -> Result<Vec<f64>> {
        let abc = self.abc.clone();
        let (input, activation) = (INPUT, Activation::Tanh);
        let mlp = Mlp { input, width: width as i64, depth: 2, outputs: OUTPUTS, activation, gain: 1.0, abc };
        let weights = context.seed(&format!("width {width}, seed {seed}"));
        let mut parameters = mlp.parameters(weights, Context::KIND, context.device);
        let draw = context.seed(&format!("inputs, seed {seed}"));
        let inputs = unit_inputs(TRAIN + PROBES, INPUT, draw, Context::KIND, context.device);
        let (train, probes) = (mlp.examples(inputs.narrow(0, 0, TRAIN)), mlp.examples(inputs.narrow(0, TRAIN, PROBES)));
        let rates = mlp.learning_rates(self.eta);
        let options = GramOptions::new(FormulaSet::SGD, parameters.len());
        let gram = structured_gram(&parameters, &probes, Some(&train), &options, &Silent)?;
        let start = Start {
            probes: dense_jacobian(&parameters, &probes)?,
            train: dense_jacobian(&parameters, &train)?,
            rates: entries(&parameters, &rates),
            kernel: gram.sgd.expect("asked for") * rates[0],
        };
        let labels = Tensor::arange(TRAIN, (Kind::Int64, context.device)).remainder(OUTPUTS);
        let mut trainer = Optimizer::with_rates(self.optimizer, rates);
        let mut actual = Vec::new();
        let mut predicted: Vec<Vec<Tensor>> = self.predictions.iter().map(|_| Vec::new()).collect();
        for step in 0..STEPS {
            let indices: Vec<usize> = (0..BATCH).map(|b| (step + 2 * b) % TRAIN as usize).collect();
            let chosen = Tensor::from_slice(&indices.iter().map(|i| *i as i64).collect::<Vec<_>>());
            let chi = output_derivative(&outputs(&parameters, &train), &labels).index_select(0, &chosen);
            let before = outputs(&parameters, &probes);
            let gradients = loss_gradient(&parameters, &train, &indices, &(&chi / BATCH as f64));
            parameters = trainer.step(&parameters, &gradients);
            actual.push((outputs(&parameters, &probes) - before).reshape([-1]));
            let rows =
                (chosen.unsqueeze(1) * OUTPUTS + Tensor::arange(OUTPUTS, (Kind::Int64, context.device))).reshape([-1]);
            let batch = Batch { start: &start, rows, chi };
            for (steps, prediction) in predicted.iter_mut().zip(self.predictions) {
                steps.push((prediction.step)(&batch));
            }
        }
        let actual = Tensor::cat(&actual, 0);
        let norm = |t: &Tensor| t.square().sum(Kind::Double).sqrt().double_value(&[]);
        let residual = |(steps, prediction): (&Vec<Tensor>, &Predicted)| {
            let guess = Tensor::cat(steps, 0);
            let best = (&actual * &guess).sum(Kind::Double).double_value(&[]) / norm(&guess).powi(2);
            norm(&(&actual - guess * if prediction.scaled { best } else { 1.0 })) / norm(&actual)
        };
        let moved = norm(&actual) / (actual.numel() as f64).sqrt();
        Ok(predicted.iter().zip(self.predictions).map(residual).chain([moved]).collect())
    }
}
