//! How far a short fine-tuning run departs from its kernel: a few steps on the true label of one sentence (the theory's batch
//! size of one), with muP's learning rates and a base rate at which the first step moves the sentence's own output by a fixed
//! share of χ, to first order.
//!
//! Batches are unsuitable: if a network does not know which word is right, the gradients of sentences with opposite labels
//! nearly cancel, so that the run is shorter the less the network knows, whatever χ is.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::questions::{Prompts, flat, gradients, rates};
use super::training::{entries, loss_gradient, outputs, rms};
use crate::error::Result;
use crate::jacobian::{Examples, Parameters};
use crate::lm::MaskedLm;
use crate::measure::relative_residual;
use crate::progress::check_cancelled;
use crate::train::{Optimizer, OptimizerKind, output_derivative};

/// Steps per run.
const STEPS: usize = 5;

/// Number of sentences with one run each, half of them with either label, and of sentences for measurements.
const RUNS: i64 = 2;
const MEASURED: i64 = 6;

/// First-order change of the sentence's own output in the first step: under SGD this times its χ; under sign updates this times
/// 2|χ| (1 for an undecided network), with the mean |χ| of all runs.
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
    pub fn kind(self) -> OptimizerKind {
        match self {
            Self::Sgd => OptimizerKind::Sgd,
            Self::Signgd => OptimizerKind::Signgd,
            Self::Adam => OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0 },
        }
    }

    /// Text in reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Sgd => "SGD",
            Self::Signgd => "SignGD",
            Self::Adam => "Adam",
        }
    }
}

/// The size of a run's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Length {
    /// In proportion to χ: so is the learning rate of sign updates, as the theorem requires.
    Natural,
    /// As for χ = 1/2, whatever χ is: a control for sign updates.
    Fixed,
    /// With outputs relative to their initial values, so that χ is 1/2.
    Centred,
}

/// Measurements of runs on other sentences: means over the runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Departure {
    /// `|Δf - <∇f_0, Δθ>| / |Δf|`.
    pub residual: f64,
    /// The same with half the slope, which is wrong.
    pub half_residual: f64,
    /// `|∇f_T - ∇f_0| / |∇f_0|`.
    pub gradient: f64,
    /// `|K_T - K_0| / |K_0|` of the update's own kernel.
    pub kernel: f64,
    /// Mean |χ| of the training sentences before the run.
    pub chi: f64,
    /// Root mean square of the probes' outputs before the run.
    pub output: f64,
    /// Mean diagonal of the kernel, with muP's learning rates.
    pub diagonal: f64,
}

/// The kernel \[N, N\] of gradients \[N, P\], with a learning rate for every entry.
fn kernel(gradients: &Tensor, rate: &Tensor, sign: bool) -> Tensor {
    let other = if sign { gradients.sign() } else { gradients.shallow_clone() };
    (gradients * rate).matmul(&other.transpose(0, 1))
}

/// A question's sentences, at the weights to be fine-tuned.
pub(super) struct Start<'a> {
    model: &'a MaskedLm,
    at: &'a Parameters,
    train: Prompts<'a>,
    probes: Prompts<'a>,
    /// Gradients of the probes \[N, P\].
    gradients: Tensor,
}

impl<'a> Start<'a> {
    pub fn new(model: &'a MaskedLm, at: &'a Parameters, train: &Prompts<'a>, probes: &Prompts<'a>) -> Result<Self> {
        let (train, probes) = (train.part(0, RUNS), probes.part(0, MEASURED));
        let gradients = gradients(at, &probes)?;
        Ok(Self { model, at, train, probes, gradients })
    }

    /// The tensors' shares of the mean diagonal of the SGD kernel, with muP's learning rates.
    pub fn shares(&self) -> Vec<f64> {
        let sizes = self.gradients.square() * entries(self.at, &rates(self.model, self.at, false));
        let mean = sizes.mean_dim([0i64].as_slice(), false, Kind::Double);
        let lengths: Vec<i64> = self.at.values().iter().map(|v| v.numel() as i64).collect();
        let parts = mean.split_with_sizes(lengths.as_slice(), 0);
        parts.iter().map(|s| s.sum(Kind::Double).double_value(&[])).collect()
    }

    /// Fine-tunes on each sentence.
    pub fn departure(&self, update: Update, length: Length) -> Result<Departure> {
        let sign = update != Update::Sgd;
        let of_tensor = rates(self.model, self.at, sign);
        let rate = entries(self.at, &of_tensor);
        let before = &self.gradients;
        let sizes = if sign { before.abs() } else { before.square() } * &rate;
        let diagonal = sizes.sum(Kind::Double).double_value(&[]) / self.probes.len() as f64;
        drop(sizes);

        let base = outputs(self.at, &self.train) * f64::from(u8::from(length == Length::Centred));
        let chi = output_derivative(&(outputs(self.at, &self.train) - &base), &self.train.labels);
        let chi = chi.abs().mean(Kind::Double).double_value(&[]);
        let movement = match (sign, length) {
            (false, _) => SGD_MOVE,
            (true, Length::Fixed) => SIGN_MOVE,
            (true, _) => SIGN_MOVE * 2.0 * chi,
        };
        let own: Vec<f64> = of_tensor.iter().map(|r| r * movement / diagonal).collect();

        // Norms are in coordinates that give all tensors the same learning rate.
        let weight = if sign { rate.square() } else { rate.shallow_clone() };
        let norm = |g: &Tensor| (g.square() * &weight).sum(Kind::Double).sqrt().double_value(&[]);
        let (value, size, first) = (outputs(self.at, &self.probes), norm(before), kernel(before, &rate, sign));
        let mut found = Departure {
            residual: 0.0,
            half_residual: 0.0,
            gradient: 0.0,
            kernel: 0.0,
            chi,
            output: rms(&value),
            diagonal,
        };
        for run in 0..self.train.len() {
            check_cancelled()?;
            let (label, base) = (self.train.labels.narrow(0, run as i64, 1), base.narrow(0, run as i64, 1));
            let sentence = self.train.part(run as i64, 1);
            let mut optimizer = Optimizer::with_rates(update.kind(), own.clone());
            let mut end = self.at.detached_copy();
            for _ in 0..STEPS {
                let chi = output_derivative(&(outputs(&end, &sentence) - &base), &label);
                end = optimizer.step(&end, &loss_gradient(&end, &sentence, &[0], &chi));
            }
            let slope = before.matmul(&(flat(&end) - flat(self.at)).unsqueeze(1));
            let moved = outputs(&end, &self.probes) - &value;
            let residual = |slope: &Tensor| relative_residual(&moved, slope).unwrap_or(f64::NAN);
            let after = gradients(&end, &self.probes)?;
            let share = 1.0 / self.train.len() as f64;
            found.residual += share * residual(&slope);
            found.half_residual += share * residual(&(slope * 0.5));
            found.gradient += share * norm(&(&after - before)) / size;
            let change = (kernel(&after, &rate, sign) - &first).norm().double_value(&[]);
            found.kernel += share * change / first.norm().double_value(&[]);
        }
        Ok(found)
    }
}
