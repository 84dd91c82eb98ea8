//! How far a short fine-tuning run departs from its kernel: five full-batch steps on true labels, with muP's learning rates and a base rate
//! at which a step on one sentence alone would move its own output by a fixed share of its χ to first order.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::questions::{Prompts, flat, gradients, rates};
use super::training::{entries, loss_gradient, outputs, rms};
use crate::error::Result;
use crate::jacobian::{Examples, Parameters};
use crate::lm::MaskedLm;
use crate::measure::relative_residual;
use crate::train::{Optimizer, OptimizerKind, output_derivative};

/// Steps of a run.
const STEPS: usize = 5;

/// What a step on one example alone would do to its own output, to first order: under SGD this times its χ, under sign updates this
/// times 2|χ|, which is 1 for an undecided network. So the rate of sign updates is in proportion to χ, as the theorem needs it.
const SGD_MOVE: f64 = 0.5;
const SIGN_MOVE: f64 = 0.05;

/// How a network is fine-tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Update {
    Sgd,
    Signgd,
    Adam,
}

impl Update {
    pub const ALL: [Self; 3] = [Self::Sgd, Self::Signgd, Self::Adam];

    pub fn kind(self) -> OptimizerKind {
        match self {
            Self::Sgd => OptimizerKind::Sgd,
            Self::Signgd => OptimizerKind::Signgd,
            Self::Adam => OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0 },
        }
    }
}

/// What was measured of a run, on other sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Departure {
    /// `|Δf - <∇f_0, Δθ>| / |Δf|`.
    pub residual: f64,
    /// The same with half the expansion: a wrong one.
    pub half_residual: f64,
    /// `|∇f_T - ∇f_0| / |∇f_0|`.
    pub gradient: f64,
    /// `|K_T - K_0| / |K_0|` of the update's own kernel.
    pub kernel: f64,
    /// Mean |χ| of the training sentences before the run.
    pub chi: f64,
    /// Root mean square of the outputs before the run.
    pub output: f64,
    /// Mean diagonal of the kernel in muP's learning rates.
    pub diagonal: f64,
}

/// The kernel \[N, N\] of some gradients \[N, P\] with a learning rate for every entry.
pub(super) fn kernel(gradients: &Tensor, rate: &Tensor, sign: bool) -> Tensor {
    let other = if sign { gradients.sign() } else { gradients.shallow_clone() };
    (gradients * rate).matmul(&other.transpose(0, 1))
}

/// The tensors' shares of the mean diagonal of SGD's kernel, in muP's learning rates.
pub(super) fn shares(model: &MaskedLm, at: &Parameters, probes: &Prompts<'_>) -> Result<Vec<f64>> {
    let rate = entries(at, &rates(model, at, false));
    let sizes = gradients(at, probes)?.square() * rate;
    let mean = sizes.mean_dim([0i64].as_slice(), false, Kind::Double);
    let lengths: Vec<i64> = at.values().iter().map(|v| v.numel() as i64).collect();
    let parts = mean.split_with_sizes(lengths.as_slice(), 0);
    Ok(parts.iter().map(|s| s.sum(Kind::Double).double_value(&[])).collect())
}

/// Fine-tunes on `train` and measures on `probes`. Where `centred`, outputs are counted from where they begin, so that χ is 1/2.
pub(super) fn departure(
    model: &MaskedLm,
    start: &Parameters,
    (train, probes): (&Prompts<'_>, &Prompts<'_>),
    update: Update,
    centred: bool,
) -> Result<Departure> {
    let sign = update != Update::Sgd;
    let of_tensor = rates(model, start, sign);
    let rate = entries(start, &of_tensor);
    let base = outputs(start, train) * f64::from(u8::from(centred));
    let derivative = |p: &Parameters| output_derivative(&(outputs(p, train) - &base), &train.labels);
    let chi = derivative(start).abs().mean(Kind::Double).double_value(&[]);

    let before = gradients(start, probes)?;
    let sizes = if sign { before.abs() } else { before.square() } * &rate;
    let diagonal = sizes.sum(Kind::Double).double_value(&[]) / probes.len() as f64;
    drop(sizes);

    let movement = if sign { SIGN_MOVE * 2.0 * chi } else { SGD_MOVE };
    let own = of_tensor.iter().map(|r| r * movement / diagonal).collect();
    let mut optimizer = Optimizer::with_rates(update.kind(), own);
    let indices: Vec<usize> = (0..train.len()).collect();
    let mut end = start.detached_copy();
    for _ in 0..STEPS {
        let pull = loss_gradient(&end, train, &indices, &(derivative(&end) / train.len() as f64));
        end = optimizer.step(&end, &pull);
    }
    let slope = before.matmul(&(flat(&end) - flat(start)).unsqueeze(1));
    let value = outputs(start, probes);
    let moved = outputs(&end, probes) - &value;
    let residual = |slope: &Tensor| relative_residual(&moved, slope).unwrap_or(f64::NAN);

    let after = gradients(&end, probes)?;
    // In the coordinates in which one learning rate is right for all tensors.
    let weight = if sign { rate.square() } else { rate.shallow_clone() };
    let norm = |g: &Tensor| (g.square() * &weight).sum(Kind::Double).sqrt().double_value(&[]);
    let gradient = norm(&(&after - &before)) / norm(&before);
    let (first, last) = (kernel(&before, &rate, sign), kernel(&after, &rate, sign));
    let kernel = (last - &first).norm().double_value(&[]) / first.norm().double_value(&[]);
    Ok(Departure {
        residual: residual(&slope),
        half_residual: residual(&(&slope * 0.5)),
        gradient,
        kernel,
        chi,
        output: rms(&value),
        diagonal,
    })
}
