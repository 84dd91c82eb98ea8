//! One step's loss and gradient, and the loss on held-out text.

use tch::{Kind, Tensor};

use super::batches::{Batches, MaskedBatch};
use super::recipe::Recipe;
use crate::error::Result;
use crate::jacobian::{Parameters, PlainTap, Tap};
use crate::lm::{LanguageModel, MaskedLm};
use crate::progress::check_cancelled;
use crate::train::{Optimizer, OptimizerKind};

/// Logarithms of the tokens' frequencies in a text; every token is counted once more than it occurs.
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
    let rates = model.specs().iter().map(|s| rate * parametrization.sign_rate(model.config().hidden_size, s)).collect();
    let t = &recipe.training;
    Optimizer::with_rates(OptimizerKind::Adam { beta1: t.beta1, beta2: t.beta2, epsilon: t.epsilon }, rates)
}

/// Mean cross-entropy of the hidden tokens, in nats.
fn loss(model: &MaskedLm, tap: &mut dyn Tap, batch: &MaskedBatch) -> Tensor {
    let logits = model.vocabulary_logits(tap, &batch.input);
    let vocabulary = *logits.size().last().expect("logits have an axis of tokens");
    // The loss is a sum over thousands of tokens: in single precision, whatever the precision of the products.
    logits.view([-1, vocabulary]).to_kind(Kind::Float).cross_entropy_for_logits(&batch.targets)
}

/// Factor of the loss before a backward pass in mixed precision, by which gradients are divided after it. A logit's gradient is
/// its probability over the number of hidden tokens, about 1/8192/384: below what half precision represents without loss
/// (6e-5), while 1024 times that is above it. Sums over tokens stay far below the largest number, 65504. Multiplying by a power
/// of two is exact.
const SCALE: f64 = 1024.0;

/// The loss and its gradient. On a GPU, matrix products use mixed precision.
pub(super) fn gradient(model: &MaskedLm, parameters: &Parameters, batch: &MaskedBatch) -> (f64, Vec<Option<Tensor>>) {
    let mixed = parameters.device().is_cuda();
    scaled_gradient(model, parameters, batch, mixed, if mixed { SCALE } else { 1.0 })
}

fn scaled_gradient(
    model: &MaskedLm,
    parameters: &Parameters,
    batch: &MaskedBatch,
    mixed: bool,
    scale: f64,
) -> (f64, Vec<Option<Tensor>>) {
    let leaves = parameters.map(|v| v.detach().set_requires_grad(true));
    let loss = tch::autocast(mixed, || loss(model, &mut PlainTap::new(&leaves), batch));
    let gradients = Tensor::run_backward(&[&loss * scale], leaves.values(), false, false);
    let gradients = gradients.into_iter().map(|g| Some(if scale == 1.0 { g } else { g / scale }));
    (loss.to_kind(Kind::Double).double_value(&[]), gradients.collect())
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
        check_cancelled()?;
        let batch = text.batch(step, size, parameters.device());
        sum += loss(model, &mut PlainTap::new(parameters), &batch).to_kind(Kind::Double).double_value(&[]);
    }
    Ok(sum / steps as f64)
}

/// Loss of the tokens' frequencies in the training text on the same targets: the best that a network which reads no context can
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

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::lm::{Architecture, Roundings, TokenBatch, random};

    #[test]
    fn a_scaled_loss_has_the_same_gradient_to_the_last_bit() {
        let model = MaskedLm::new(random::tiny(Architecture::Roberta, 40));
        let parameters = random::parameters(&model, 1, 1.0, Kind::Float, Device::Cpu);
        let ids = Tensor::from_slice(&[5i64, 9, 4, 11, 6, 4, 8, 7]).view([2, 4]);
        let input = TokenBatch {
            segments: ids.zeros_like(),
            ids,
            present: None,
            mask_positions: Tensor::from_slice(&[2i64, 1]).view([2, 1]),
            roundings: Roundings::None,
        };
        let batch = MaskedBatch { input, targets: Tensor::from_slice(&[12i64, 13]) };
        let (loss, plain) = scaled_gradient(&model, &parameters, &batch, false, 1.0);
        let (same_loss, scaled) = scaled_gradient(&model, &parameters, &batch, false, SCALE);
        assert_eq!(loss, same_loss);
        assert_eq!(plain, scaled);
    }
}
