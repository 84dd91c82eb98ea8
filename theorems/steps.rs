//! Which kernel says what sign updates do to the outputs of a pre-trained network: steps as they are made, with hard labels.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::departure::Update;
use super::training::{loss_gradient, outputs};
use crate::jacobian::{Examples, Parameters, PlainTap};
use crate::train::{Optimizer, output_derivative};

/// Steps of a run, each on one example.
const STEPS: usize = 6;

/// What the first step on an undecided example would do to its own output, to first order.
const MOVE: f64 = 0.05;

/// How much of what steps did to the outputs of other examples each kernel leaves unexplained: `|Δf - prediction| / |Δf|` over all steps
/// and probes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Unexplained {
    /// `-η sign(χ_t) K_A(ξ, ξ_t)`, nothing fitted.
    pub asymmetric: f64,
    /// With χ_t in place of its sign, times the number that fits best.
    pub unsigned: f64,
    /// K_SGD in its place, times the number that fits best.
    pub sgd: f64,
    /// K_SignGD, likewise.
    pub signgd: f64,
    /// K_A with its arguments exchanged, likewise.
    pub transposed: f64,
}

/// One step on each training example in turn (SignGD), or steps on the first alone (Adam, whose memory mixes examples), with learning
/// rates `rates` of sign updates and `plain` of SGD in the units of the base width. `gradients` are those at the start
/// \[N, P\] of train and probes.
pub(super) fn unexplained(
    start: &Parameters,
    (train, probes): (&dyn Examples, &dyn Examples),
    labels: &Tensor,
    (of_train, of_probes): (&Tensor, &Tensor),
    (rates, rate, plain): (&[f64], &Tensor, &Tensor),
    update: Update,
) -> Unexplained {
    let diagonal = (of_train.abs() * rate).sum(Kind::Double).double_value(&[]) / train.len() as f64;
    let chi = output_derivative(&outputs(start, train), labels).abs().mean(Kind::Double).double_value(&[]);
    let eta = MOVE * 2.0 * chi / diagonal;
    let mut optimizer = Optimizer::with_rates(update.kind(), rates.iter().map(|r| r * eta).collect());
    let transposed = |t: &Tensor| t.transpose(0, 1);
    // [probe, train]
    let asymmetric = of_probes.matmul(&transposed(&(of_train.sign() * rate)));
    let reversed = (of_probes.sign() * rate).matmul(&transposed(of_train));
    let signgd = (of_probes.sign() * rate).matmul(&transposed(&of_train.sign()));
    let sgd = (of_probes * plain).matmul(&transposed(of_train));
    let mut at = start.detached_copy();
    let mut before = outputs(&at, probes);
    let (mut moved, mut columns) = (Vec::new(), Vec::new());
    for step in 0..STEPS.min(if update == Update::Signgd { train.len() } else { STEPS }) {
        let example = if update == Update::Signgd { step } else { 0 };
        let own = labels.narrow(0, example as i64, 1);
        let f = tch::no_grad(|| train.forward(&mut PlainTap::new(&at), &[example]));
        let chi = output_derivative(&f, &own);
        let pull = loss_gradient(&at, train, &[example], &chi);
        at = optimizer.step(&at, &pull);
        let after = outputs(&at, probes);
        moved.push(&after - &before);
        before = after;
        columns.push((example as i64, chi.double_value(&[0, 0])));
    }
    let moved = Tensor::cat(&moved, 1);
    let predicted = |kernel: &Tensor, of: fn(f64) -> f64| {
        let column = |(example, chi): &(i64, f64)| kernel.narrow(1, *example, 1) * (-eta * of(*chi));
        Tensor::cat(&columns.iter().map(column).collect::<Vec<_>>(), 1)
    };
    let left = |p: &Tensor| (&moved - p).norm().double_value(&[]) / moved.norm().double_value(&[]);
    let fitted = |p: Tensor| {
        let factor = (&p * &moved).sum(Kind::Double).double_value(&[]) / p.square().sum(Kind::Double).double_value(&[]);
        left(&(p * factor))
    };
    Unexplained {
        asymmetric: left(&predicted(&asymmetric, f64::signum)),
        unsigned: fitted(predicted(&asymmetric, |chi| chi)),
        sgd: fitted(predicted(&sgd, f64::signum)),
        signgd: fitted(predicted(&signgd, f64::signum)),
        transposed: fitted(predicted(&reversed, f64::signum)),
    }
}
