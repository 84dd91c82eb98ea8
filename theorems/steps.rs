//! Which kernel predicts the effect of sign updates on the outputs of a pre-trained network: actual steps with hard labels.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::analog::Kernels;
use super::departure::Update;
use super::training::{loss_gradient, outputs};
use crate::error::Result;
use crate::jacobian::{Examples, Parameters, PlainTap};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::progress::Silent;
use crate::train::{Optimizer, output_derivative};

/// Steps per run, each on one example.
const STEPS: usize = 6;

/// First-order change of an undecided example's own output in a first step, for the small language.
pub(super) const MOVE: f64 = 0.05;

/// A prediction compared with the steps' changes of other examples' outputs: both as vectors over all steps and probes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Fit {
    /// `|prediction| / |Δf|`.
    pub size: f64,
    /// Cosine of the angle between them.
    pub cosine: f64,
}

impl Fit {
    /// Compares tensors of one shape.
    pub fn of(prediction: &Tensor, actual: &Tensor) -> Self {
        let (size, length) = (prediction.norm().double_value(&[]), actual.norm().double_value(&[]));
        let product = (prediction * actual).sum(Kind::Double).double_value(&[]);
        Self { size: size / length, cosine: product / (size * length) }
    }

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

/// The kernels at the start of a run, with the learning rates of its tensors.
pub(super) struct Start {
    /// Between probes (rows) and training examples (columns).
    pub kernels: Kernels,
    /// Mean of `<∇f, sign ∇f>` over the training examples.
    pub diagonal: f64,
    /// Relative learning rates of sign updates; they weigh the sign kernels.
    pub rates: Vec<f64>,
}

impl Start {
    /// From gradients \[N, P\] of training examples and of probes, with relative learning rates of tensors for sign updates, and
    /// those of all entries \[P\] for sign updates and for SGD.
    pub fn weighed(
        (of_train, of_probes): (&Tensor, &Tensor),
        rates: Vec<f64>,
        (rate, plain): (&Tensor, &Tensor),
    ) -> Self {
        let transposed = |t: &Tensor| t.transpose(0, 1);
        let kernels = Kernels {
            sgd: (of_probes * plain).matmul(&transposed(of_train)),
            asymmetric: of_probes.matmul(&transposed(&(of_train.sign() * rate))),
            transposed: (of_probes.sign() * rate).matmul(&transposed(of_train)),
            signgd: (of_probes.sign() * rate).matmul(&transposed(&of_train.sign())),
        };
        let diagonal = (of_train.abs() * rate).sum(Kind::Double).double_value(&[]) / of_train.size()[0] as f64;
        Self { kernels, diagonal, rates }
    }

    /// By the structured engine, with one learning rate for all tensors: for networks whose gradients are too large to be held.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn even(parameters: &Parameters, train: &dyn Examples, probes: &dyn Examples) -> Result<Self> {
        let options = GramOptions::new(FormulaSet::ALL, parameters.len());
        let cross = structured_gram(parameters, probes, Some(train), &options, &Silent)?;
        let formulas = FormulaSet { sgd: false, asymmetric: true, signgd: false };
        let options = GramOptions::new(formulas, parameters.len());
        let own = structured_gram(parameters, train, None, &options, &Silent)?.asymmetric.expect("asked for");
        let diagonal = own.diagonal(0, 0, 1).mean(Kind::Double).double_value(&[]);
        let of = |kernel: Option<Tensor>| kernel.expect("all were asked for");
        let kernels = Kernels {
            sgd: of(cross.sgd),
            asymmetric: of(cross.asymmetric),
            transposed: of(cross.asymmetric_reversed),
            signgd: of(cross.signgd),
        };
        Ok(Self { kernels, diagonal, rates: vec![1.0; parameters.len()] })
    }
}

/// One step on each training example in turn (SignGD), or all steps on the first (Adam, whose memory mixes examples), against
/// what the kernels at the start predict. A first step on an example with the mean diagonal moves its own output by `2|χ|
/// movement`, to first order, with the mean |χ| of the training examples.
pub(super) fn predictions(
    parameters: &Parameters,
    (train, probes): (&dyn Examples, &dyn Examples),
    labels: &Tensor,
    start: &Start,
    (update, movement): (Update, f64),
) -> Predictions {
    let chi = output_derivative(&outputs(parameters, train), labels).abs().mean(Kind::Double).double_value(&[]);
    let eta = movement * 2.0 * chi / start.diagonal;
    let mut optimizer = Optimizer::with_rates(update.kind(), start.rates.iter().map(|r| r * eta).collect());
    let mut at = parameters.detached_copy();
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
    let Kernels { sgd, asymmetric, transposed, signgd } = &start.kernels;
    let predicted = |kernel: &Tensor, of: fn(f64) -> f64| {
        let column = |(example, chi): &(i64, f64)| kernel.narrow(1, *example, 1) * (-eta * of(*chi));
        Tensor::cat(&columns.iter().map(column).collect::<Vec<_>>(), 1)
    };
    let fit = |prediction: Tensor| Fit::of(&prediction, &moved);
    Predictions {
        asymmetric: fit(predicted(asymmetric, f64::signum)),
        unsigned: fit(predicted(asymmetric, |chi| chi)),
        sgd: fit(predicted(sgd, f64::signum)),
        signgd: fit(predicted(signgd, f64::signum)),
        transposed: fit(predicted(transposed, f64::signum)),
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
        let fit = Fit::of(&Tensor::from_slice(&prediction), &Tensor::from_slice(&actual));
        for factor in [0.5, 1.0, 1.7] {
            let apart = [0, 1, 2].map(|i| actual[i] - factor * prediction[i]);
            assert!((fit.left_by(factor) - dot(&apart, &apart).sqrt() / own).abs() < 1e-12);
            assert!(fit.left_at_best() <= fit.left_by(factor));
        }
        let best = dot(&actual, &prediction) / (size * size);
        assert!((fit.left_at_best() - fit.left_by(best)).abs() < 1e-12);
    }
}
