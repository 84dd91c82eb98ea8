//! One step's loss and gradient, and the loss on held-out text.

use tch::{Kind, Tensor};

use super::batches::{Batches, MaskedBatch};
use super::recipe::Recipe;
use crate::error::Result;
use crate::jacobian::{Parameters, PlainTap, Tap};
use crate::lm::MaskedLm;
use crate::progress::check_stop;
use crate::train::{Optimizer, OptimizerKind};

/// Logarithms of the tokens' frequencies in a text, each counted once more than it occurs.
pub(super) fn log_frequencies(text: &[u16], vocabulary: usize) -> Vec<f64> {
    let mut counts = vec![1.0f64; vocabulary];
    for id in text {
        counts[usize::from(*id)] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    counts.into_iter().map(|count| (count / total).ln()).collect()
}

/// Adam with the learning rates of the network's parametrization; `rate` is that of the base width.
pub(super) fn optimizer(recipe: &Recipe, model: &MaskedLm, rate: f64) -> Optimizer {
    let parametrization = recipe.parametrization();
    let rates = model.specs().iter().map(|s| rate * parametrization.sign_rate(model.config(), s)).collect();
    let t = &recipe.training;
    Optimizer::with_rates(OptimizerKind::Adam { beta1: t.beta1, beta2: t.beta2, epsilon: t.epsilon }, rates)
}

/// Mean cross-entropy of the hidden tokens, in nats.
fn loss(model: &MaskedLm, tap: &mut dyn Tap, batch: &MaskedBatch) -> Tensor {
    let logits = model.vocabulary_logits(tap, &batch.input);
    let vocabulary = *logits.size().last().expect("logits have an axis of tokens");
    // The loss is a sum over thousands of tokens: in single precision, whatever the products were computed in.
    logits.view([-1, vocabulary]).to_kind(Kind::Float).cross_entropy_for_logits(&batch.targets)
}

/// The loss and its gradient. On a GPU matrix products run in mixed precision.
pub(super) fn gradient(model: &MaskedLm, parameters: &Parameters, batch: &MaskedBatch) -> (f64, Vec<Option<Tensor>>) {
    let leaves = parameters.map(|v| v.detach().set_requires_grad(true));
    let mixed = parameters.device().is_cuda();
    let loss = tch::autocast(mixed, || loss(model, &mut PlainTap::new(&leaves), batch));
    let gradients = Tensor::run_backward(&[&loss], leaves.values(), false, false);
    (loss.to_kind(Kind::Double).double_value(&[]), gradients.into_iter().map(Some).collect())
}

/// Mean loss on the first `sequences` masked sequences of a text.
pub(super) fn evaluate(
    model: &MaskedLm,
    parameters: &Parameters,
    text: &mut Batches<'_>,
    sequences: usize,
    size: usize,
) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let steps = sequences.min(text.len()).div_ceil(size).max(1);
    let mut sum = 0.0;
    for step in 0..steps {
        check_stop()?;
        let batch = text.batch(step, size, parameters.device());
        sum += loss(model, &mut PlainTap::new(parameters), &batch).to_kind(Kind::Double).double_value(&[]);
    }
    Ok(sum / steps as f64)
}

/// Loss of the tokens' frequencies in the training text on the same targets: what a network that reads no context can
/// reach.
pub(super) fn unigram_loss(
    train: &[u16],
    text: &mut Batches<'_>,
    sequences: usize,
    size: usize,
    vocabulary: usize,
) -> f64 {
    let logarithms = log_frequencies(train, vocabulary);
    let steps = sequences.min(text.len()).div_ceil(size).max(1);
    let (mut sum, mut seen) = (0.0, 0usize);
    for step in 0..steps {
        let targets = text.batch(step, size, tch::Device::Cpu).targets;
        for id in Vec::<i64>::try_from(targets).expect("a flat tensor of integers") {
            sum -= logarithms[id as usize];
            seen += 1;
        }
    }
    sum / seen as f64
}
