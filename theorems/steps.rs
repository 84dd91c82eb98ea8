//! Which kernel predicts the effect of sign updates on the outputs of a pre-trained network: actual steps with hard labels.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::departure::Update;
use super::training::{loss_gradient, outputs};
use crate::jacobian::{Examples, Parameters, PlainTap};
use crate::train::{Optimizer, output_derivative};

/// Steps per run, each on one example.
const STEPS: usize = 6;

/// First-order change of an undecided example's own output in a first step.
const MOVE: f64 = 0.05;

/// A prediction compared with the steps' changes of other examples' outputs: both as vectors over all steps and probes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Fit {
    /// `|prediction| / |Δf|`.
    pub size: f64,
    /// Cosine of the angle between them.
    pub cosine: f64,
}

impl Fit {
    /// `|Δf - factor · prediction| / |Δf|`.
    pub fn left_by(self, factor: f64) -> f64 {
        let size = factor * self.size;
        (1.0 - 2.0 * size * self.cosine + size * size).max(0.0).sqrt()
    }

    /// The same with the best-fitting factor.
    pub fn left_at_best(self) -> f64 {
        (1.0 - self.cosine * self.cosine).max(0.0).sqrt()
    }
}

/// Each kernel's predictions of actual steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Predictions {
    /// `-η sign(χ_t) K_A(ξ, ξ_t)`.
    pub asymmetric: Fit,
    /// The same with χ_t in place of its sign.
    pub unsigned: Fit,
    /// K_SGD in place of K_A.
    pub sgd: Fit,
    /// K_SignGD.
    pub signgd: Fit,
    /// K_A with its arguments exchanged.
    pub transposed: Fit,
    /// Mean |χ| of the examples before the steps.
    pub chi: f64,
}

/// One step on each training example in turn (SignGD), or all steps on the first (Adam, whose memory mixes examples), with
/// learning rates `rates` for sign updates and `plain` for SGD, relative to the base width's. `gradients` are the initial
/// gradients \[N, P\] of train and probes.
pub(super) fn predictions(
    start: &Parameters,
    (train, probes): (&dyn Examples, &dyn Examples),
    labels: &Tensor,
    (of_train, of_probes): (&Tensor, &Tensor),
    (rates, rate, plain): (&[f64], &Tensor, &Tensor),
    update: Update,
) -> Predictions {
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
    let fit = |p: Tensor| {
        let (size, actual) = (p.norm().double_value(&[]), moved.norm().double_value(&[]));
        Fit { size: size / actual, cosine: (p * &moved).sum(Kind::Double).double_value(&[]) / (size * actual) }
    };
    Predictions {
        asymmetric: fit(predicted(&asymmetric, f64::signum)),
        unsigned: fit(predicted(&asymmetric, |chi| chi)),
        sgd: fit(predicted(&sgd, f64::signum)),
        signgd: fit(predicted(&signgd, f64::signum)),
        transposed: fit(predicted(&reversed, f64::signum)),
        chi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_the_distance() {
        let (actual, prediction) = ([3.0f64, -1.0, 2.0], [1.0, 0.5, 2.0]);
        let dot = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (size, own) = (dot(&prediction, &prediction).sqrt(), dot(&actual, &actual).sqrt());
        let fit = Fit { size: size / own, cosine: dot(&actual, &prediction) / (size * own) };
        for factor in [0.5, 1.0, 1.7] {
            let apart = [0, 1, 2].map(|i| actual[i] - factor * prediction[i]);
            assert!((fit.left_by(factor) - dot(&apart, &apart).sqrt() / own).abs() < 1e-12);
            assert!(fit.left_at_best() <= fit.left_by(factor));
        }
        let best = dot(&actual, &prediction) / (size * size);
        assert!((fit.left_at_best() - fit.left_by(best)).abs() < 1e-12);
    }
}
