//! Random cases of identities: networks of all kinds and shapes, and the largest error over many of them. Not a claim.

use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::context::Context;
use crate::error::Result;
use crate::jacobian::{Examples, Frozen, Parameters, Tap};
use crate::lm::{Architecture, MaskedLm, OutputMode, PromptExample, PromptExamples, random};
use crate::network::{Abc, Activation, Heads, Mlp, Transformer, TransformerAbc, TransformerShape, normal_tensor};
use crate::progress::check_cancelled;

/// Size of the vocabulary of random language models.
pub const VOCABULARY: i64 = 23;
/// The first token id that prompts use: 0 and 1 pad BERT and RoBERTa.
const FIRST_TOKEN: i64 = 2;

/// Kind and shape of a random network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A multilayer perceptron in NTK parametrization.
    Mlp {
        /// Input dimension.
        input: i64,
        /// Width of the hidden layers.
        width: i64,
        /// Number of hidden layers.
        depth: usize,
        /// The nonlinearity.
        activation: Activation,
    },
    /// A transformer in NTK parametrization, with random tokens.
    Transformer {
        /// Width, a multiple of two (it has two heads) and at least four: a layer norm of two entries returns ±1, so
        /// that nothing before it has a gradient beyond round-off.
        width: i64,
        /// Number of layers.
        layers: usize,
        /// Tokens per example.
        length: i64,
    },
    /// A two-layer BERT or RoBERTa of width 16 with random prompts of one to eight tokens.
    LanguageModel {
        /// Which of the two.
        architecture: Architecture,
        /// Whether its decoder is its token table.
        tied: bool,
    },
}

/// A network with parameters and examples, as the numbers from which they are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkCase {
    /// Kind and shape.
    pub shape: Shape,
    /// Number of examples.
    pub examples: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Seed of parameters and examples.
    pub seed: u64,
}

/// The network of a case.
pub struct Network {
    /// Its parameters, in double precision.
    pub parameters: Parameters,
    /// Its examples.
    pub examples: Box<dyn Examples>,
}

impl NetworkCase {
    /// A random perceptron.
    pub fn random_mlp(rng: &mut ChaCha8Rng) -> Self {
        let shape = Shape::Mlp {
            input: rng.random_range(1..8),
            width: rng.random_range(1..14),
            depth: rng.random_range(1..4),
            activation: *Activation::ALL.choose(rng).expect("there are activations"),
        };
        Self { shape, examples: rng.random_range(1..6), outputs: rng.random_range(1..4), seed: rng.random() }
    }

    /// A random language model.
    pub fn random_language_model(rng: &mut ChaCha8Rng) -> Self {
        let architecture = *[Architecture::Bert, Architecture::Roberta].choose(rng).expect("there are two");
        let shape = Shape::LanguageModel { architecture, tied: rng.random() };
        Self { shape, examples: rng.random_range(1..5), outputs: rng.random_range(1..4), seed: rng.random() }
    }

    /// A random transformer.
    pub fn random_transformer(rng: &mut ChaCha8Rng) -> Self {
        let (width, layers, length) = (2 * rng.random_range(2..6), rng.random_range(1..3), rng.random_range(1..7));
        let shape = Shape::Transformer { width, layers, length };
        Self { shape, examples: rng.random_range(1..5), outputs: rng.random_range(1..4), seed: rng.random() }
    }

    /// A random network: mostly perceptrons, because the others cost as much as many of them.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        match rng.random_range(0..6) {
            0 => Self::random_language_model(rng),
            1 => Self::random_transformer(rng),
            _ => Self::random_mlp(rng),
        }
    }

    /// The same, but with derivatives of every order: tanh in place of relu.
    #[must_use]
    pub fn smooth(self) -> Self {
        let shape = match self.shape {
            Shape::Mlp { input, width, depth, activation: Activation::Relu } => {
                Shape::Mlp { input, width, depth, activation: Activation::Tanh }
            }
            shape => shape,
        };
        Self { shape, ..self }
    }

    /// Parameters and examples of this case.
    pub fn build(&self, context: &Context<'_>) -> Network {
        match self.shape {
            Shape::Mlp { input, width, depth, activation } => {
                let outputs = self.outputs as i64;
                let mlp = Mlp { input, width, depth, outputs, activation, gain: 1.4, abc: Abc::ntk(depth) };
                let inputs =
                    normal_tensor(&[self.examples as i64, input], 1.0, self.seed ^ 1, 0, Context::KIND, context.device);
                let parameters = mlp.parameters(self.seed, Context::KIND, context.device);
                Network { parameters, examples: Box::new(mlp.examples(inputs)) }
            }
            Shape::Transformer { width, layers, length } => {
                let shape = TransformerShape {
                    vocab: VOCABULARY,
                    positions: length,
                    width,
                    heads: Heads::Number(2),
                    layers,
                    inner: 2,
                    outputs: self.outputs as i64,
                    activation: Activation::Gelu,
                };
                let network = Transformer::new(shape, TransformerAbc::ntk());
                let parameters = network.parameters(self.seed, Context::KIND, context.device);
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                let ids: Vec<i64> =
                    (0..self.examples as i64 * length).map(|_| rng.random_range(0..VOCABULARY)).collect();
                let ids = Tensor::from_slice(&ids).view([-1, length]).to_device(context.device);
                Network { parameters, examples: Box::new(Sequences { network, ids: ids.into() }) }
            }
            Shape::LanguageModel { architecture, tied } => {
                let mut config = random::tiny(architecture, VOCABULARY);
                config.tied_decoder = tied;
                let model = MaskedLm::new(config);
                // With scale 1.5 attention and outputs vary among examples, so that kernels are not nearly of rank one.
                let parameters = random::parameters(&model, self.seed, 1.5, Context::KIND, context.device);
                Network { parameters, examples: Box::new(self.prompts(model, context)) }
            }
        }
    }

    /// Prompts and label words of a language-model case.
    fn prompts(&self, model: MaskedLm, context: &Context<'_>) -> Prompts {
        let (prompts, labels) = self.tokens();
        let prompts = prompts
            .into_iter()
            .map(|(input_ids, mask_position)| PromptExample {
                segment_ids: input_ids.iter().map(|id| id % 2).collect(),
                input_ids,
                mask_position,
            })
            .collect();
        Prompts { model, texts: prompts, labels, device: context.device }
    }

    /// Token ids and mask position of every prompt, and the label words' ids.
    pub fn tokens(&self) -> (Vec<(Vec<i64>, usize)>, Vec<i64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let prompts = (0..self.examples)
            .map(|_| {
                let length = rng.random_range(1..9);
                let ids = (0..length).map(|_| rng.random_range(FIRST_TOKEN..VOCABULARY)).collect();
                (ids, rng.random_range(0..length))
            })
            .collect();
        let words: Vec<i64> = (FIRST_TOKEN..VOCABULARY).collect();
        (prompts, words.choose_multiple(&mut rng, self.outputs).copied().collect())
    }
}

/// Sequences that own their transformer.
struct Sequences {
    network: Transformer,
    ids: Frozen,
}

impl Examples for Sequences {
    fn len(&self) -> usize {
        self.ids.size()[0] as usize
    }

    fn outputs(&self) -> usize {
        self.network.shape().outputs as usize
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        self.network.examples(self.ids.shallow_clone()).forward(tap, indices)
    }
}

/// Prompted examples that own their model.
struct Prompts {
    model: MaskedLm,
    texts: Vec<PromptExample>,
    labels: Vec<i64>,
    device: tch::Device,
}

impl Examples for Prompts {
    fn len(&self) -> usize {
        self.texts.len()
    }

    fn outputs(&self) -> usize {
        self.labels.len()
    }

    fn cost(&self, index: usize) -> usize {
        self.texts[index].input_ids.len()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let chosen: Vec<PromptExample> = indices.iter().map(|i| self.texts[*i].clone()).collect();
        let all: Vec<usize> = (0..chosen.len()).collect();
        PromptExamples::new(&self.model, chosen, &self.labels, OutputMode::Logits, self.device)
            .expect("random prompts fit their model")
            .forward(tap, &all)
    }
}

/// The largest error of each of an identity's `L` laws over random cases. Every case has its own random stream, named after the
/// claim and the case's number.
pub(super) fn worst<Case, const L: usize>(
    context: &Context<'_>,
    claim: &str,
    cases: usize,
    random: impl Fn(&mut ChaCha8Rng) -> Case,
    errors: impl Fn(&Case, &Context<'_>) -> Result<[f64; L]>,
) -> Result<[f64; L]> {
    context.monitor.begin("random cases", cases as u64);
    let mut worst = [0.0; L];
    for i in 0..cases {
        check_cancelled()?;
        let case = random(&mut generator(context, &format!("{claim} case {i}")));
        for (all, one) in worst.iter_mut().zip(errors(&case, context)?) {
            *all = larger(*all, one);
        }
        context.monitor.advance(1);
    }
    context.monitor.end();
    Ok(worst)
}

/// The random stream with this name.
pub(super) fn generator(context: &Context<'_>, name: &str) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(context.seed(name))
}

/// The larger of two errors; NaN counts as the largest (`f64::max` would drop it).
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Largest entrywise difference over the largest magnitude of `expected`; infinite when only `expected` is all zero.
pub(super) fn relative(actual: &Tensor, expected: &Tensor) -> f64 {
    let difference = largest(&(actual - expected));
    if difference == 0.0 { 0.0 } else { difference / largest(expected) }
}

/// Largest magnitude of a tensor's entries.
pub(super) fn largest(t: &Tensor) -> f64 {
    if t.numel() == 0 { 0.0 } else { t.abs().max().to_kind(Kind::Double).double_value(&[]) }
}
