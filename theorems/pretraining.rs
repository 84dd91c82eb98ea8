//! A synthetic pre-training task, and a transformer pre-trained on it.
//!
//! Sequences are arithmetic progressions of tokens modulo the size of the vocabulary; one token is masked and must be predicted
//! from the others, which determine it. A prompt is such a sequence, a downstream task the choice between two tokens.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::context::Context;
use super::training::{loss_gradient, outputs};
use crate::error::Result;
use crate::jacobian::{Examples, Frozen, Parameters, Tap};
use crate::network::{Activation, Heads, Transformer, TransformerAbc, TransformerExamples, TransformerShape};
use crate::progress::check_cancelled;
use crate::train::{Optimizer, OptimizerKind, output_derivative};

/// Tokens 0 to 10; 11 is the mask. With a prime number of tokens, progressions with any step reach every token.
const VOCABULARY: i64 = 11;
const TOKENS: i64 = 5;
const BATCH: usize = 32;

/// A batch of masked sequences: ids \[N, T\], masked positions \[N\], hidden tokens \[N\].
pub(super) struct Masked {
    pub ids: Tensor,
    pub positions: Tensor,
    pub tokens: Vec<i64>,
}

impl Masked {
    /// Draws N sequences with steps 1 to 3.
    pub(super) fn draw(count: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut ids, mut positions, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let (start, step) = (rng.random_range(0..VOCABULARY), rng.random_range(1..=3));
            let hidden = rng.random_range(0..TOKENS);
            for t in 0..TOKENS {
                let token = (start + step * t) % VOCABULARY;
                ids.push(if t == hidden { VOCABULARY } else { token });
                if t == hidden {
                    tokens.push(token);
                }
            }
            positions.push(hidden);
        }
        Self { ids: Tensor::from_slice(&ids).view([-1, TOKENS]), positions: Tensor::from_slice(&positions), tokens }
    }

    /// The sequences as examples of a network, read out at the mask.
    pub(super) fn examples<'a>(&self, context: &Context<'_>, network: &'a Transformer) -> TransformerExamples<'a> {
        network.examples(self.ids.to_device(context.device)).read_at(self.positions.to_device(context.device))
    }
}

/// The transformer of one width, in muP with the learning rates for Adam.
pub(super) fn transformer(width: i64) -> Transformer {
    let shape = TransformerShape {
        vocab: VOCABULARY + 1,
        positions: TOKENS,
        width,
        heads: Heads::Dimension(8),
        layers: 2,
        inner: 2,
        outputs: VOCABULARY,
        activation: Activation::Gelu,
    };
    Transformer::new(shape, TransformerAbc::mup().with_sign_rates())
}

/// Trains with Adam from random weights, on new sequences in every step.
pub(super) fn pretrain(context: &Context<'_>, network: &Transformer, steps: usize, name: &str) -> Result<Parameters> {
    let weights = context.seed(&format!("{name}, weights"));
    let mut parameters = network.parameters(weights, Context::KIND, context.device);
    let mut trainer = Optimizer::with_rates(OptimizerKind::ADAM, network.learning_rates(0.05));
    let indices: Vec<usize> = (0..BATCH).collect();
    for step in 0..steps {
        check_cancelled()?;
        let batch = Masked::draw(BATCH, context.seed(&format!("{name}, step {step}")));
        let examples = batch.examples(context, network);
        let chi = output_derivative(&outputs(&parameters, &examples), &Tensor::from_slice(&batch.tokens));
        let gradients = loss_gradient(&parameters, &examples, &indices, &(chi / BATCH as f64));
        // The usual warm-up and decay, without which the noise of the last steps would be measured.
        let at = step as f64 / steps as f64;
        parameters = trainer.scaled_step(&parameters, &gradients, (at / 0.1).min(1.0 - at).min(1.0));
    }
    Ok(parameters)
}

/// A downstream task with one output: the logit of one label word minus that of another, per example.
pub(super) struct Choice<'a> {
    pub prompts: TransformerExamples<'a>,
    /// Label words \[N, 2\]: f is the first's logit minus the second's.
    pub words: Frozen,
}

impl Examples for Choice<'_> {
    fn len(&self) -> usize {
        self.prompts.len()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let logits = self.prompts.forward(tap, indices);
        let rows = Tensor::from_slice(&indices.iter().map(|i| *i as i64).collect::<Vec<_>>());
        let words = self.words.index_select(0, &rows).to_device(logits.device());
        let chosen = logits.gather(1, &words, false);
        chosen.narrow(1, 0, 1) - chosen.narrow(1, 1, 1)
    }
}

impl Choice<'_> {
    /// Label words \[N, 2\]: the hidden token first, then another drawn at random; every second pair is swapped, so that both
    /// answers occur. Returns the words and which of them is right (0 or 1).
    pub(super) fn words(tokens: &[i64], seed: u64) -> (Tensor, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut words, mut right) = (Vec::new(), Vec::new());
        for (i, token) in tokens.iter().enumerate() {
            let other = (token + rng.random_range(1..VOCABULARY)) % VOCABULARY;
            words.extend(if i % 2 == 0 { [*token, other] } else { [other, *token] });
            right.push(i % 2);
        }
        (Tensor::from_slice(&words).view([-1, 2]), right)
    }
}
