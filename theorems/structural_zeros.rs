//! Gradients that vanish in exact arithmetic have sign zero
//!
//! **Statement.** Under softmax attention the gradient of a key bias is zero, and the gradient of an embedding row is
//! zero for every example in which the row does not occur. In floating point the second zero is exact but the first
//! is round-off, whose signs are noise. Counted as zero (the rule of this program), sign kernels are the same
//! integers in every engine and for every batching, and sign descent leaves key biases where they are.
//!
//! **Hypotheses.** Attention weights are a softmax over keys of `q·k / √d`, keys are `W x + b`, and the bias `b` enters
//! nothing else.
//!
//! **Derivation.** A change `δ` of the key bias adds `q·δ / √d` to all scores of the query `q`, the same number for
//! every key; softmax ignores a common summand, so no output changes. Its computed gradient is
//! `Σ_t Σ_s (∂f/∂score_ts) q_t / √d`, where the derivatives of each softmax sum to zero over `s` only up to rounding.
//! An embedding table enters through the rows that are looked up, so the derivative in another row is a sum without
//! terms. (With a tied decoder the label word's row is looked up too.)
//!
//! **Experiment.** Random BERT and RoBERTa models and prompts. Measured: key-bias gradients relative to the largest
//! gradient; gradients of rows that occur neither in the prompt nor as label word, one example at a time and in padded
//! batches; differences between the sign kernels of the reference engine and of the structured engine for three
//! batchings and blockings; the change of key biases under a step of sign descent.
//!
//! **Control.** Without the rule the same comparisons of sign kernels must show differences, and the query bias, a
//! tensor of the same shape beside the key bias, must not pass for a structural zero.
//!
//! **Meaning.** A sign gives the smallest gradient the weight of the largest. In a BERT of width 768 a key bias would
//! add up to 768 units of noise per layer to every entry of `K_SignGD`, differently on each machine; in `K_SGD`
//! nobody would ever notice.

use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::cases::{Network, NetworkCase, Shape, VOCABULARY, generator, larger, largest, worst};
use super::context::Context;
use super::{Claim, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::jacobian::{ParameterSpec, Parameters, record};
use crate::kernel::{FormulaSet, GramOptions, dense_jacobian, reference_gram, structured_gram};
use crate::progress::Silent;
use crate::train::{Optimizer, OptimizerKind};

pub(super) const CLAIM: Claim = Claim {
    id: "structural-zeros",
    topic: Topic::Identity,
    title: "Gradients that vanish in exact arithmetic have sign zero",
    source: "a rule of this program, needed by the sign kernels of the paper's Definition 3.3",
    prediction: "key biases and absent tokens have zero gradient; sign kernels agree bit for bit",
    text: include_str!("structural_zeros.rs"),
    mutants: &[
        Mutant { name: "no-rule", change: "signs of key-bias gradients are counted" },
        Mutant { name: "query-bias", change: "the rule is applied to query biases" },
    ],
    graded: &[],
    experiment,
};

/// A softmax's derivatives sum to zero up to a few roundings of 1.1e-16, and a bias' gradient adds them over at most
/// 8 x 8 pairs of tokens.
const ROUND_OFF: f64 = 1e-12;

/// A language model and how its kernels are computed.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network, a language model.
    pub network: NetworkCase,
    /// Entries per materialized block.
    pub block_entries: i64,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self { network: NetworkCase::random_language_model(rng), block_entries: 1 << rng.random_range(7..16) }
    }
}

/// Largest gradient of a structurally zero parameter relative to the largest of all; largest gradient of an absent
/// token's row; largest difference between sign kernels; largest move of a structurally zero parameter under sign
/// descent.
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 4]> {
    let network = case.network.build(context);
    let network = match () {
        () if context.is("no-rule") => with_rule(network, "nothing"),
        () if context.is("query-bias") => with_rule(network, "query.bias"),
        // As the program itself marks them.
        () => network,
    };
    let jacobian = dense_jacobian(&network.parameters, &*network.examples)?;
    let all: Vec<usize> = (0..network.examples.len()).collect();
    let batched = record(&network.parameters, &*network.examples, &all).dense();
    let absent = larger(absent_rows(case.network, &network, &jacobian), absent_rows(case.network, &network, &batched));
    Ok([
        part(&network, &jacobian, ParameterSpec::is_structural_zero),
        absent,
        sign_differences(&network, case.block_entries)?,
        sign_descent(&network, &jacobian),
    ])
}

/// The same network with the rule applied to the parameters whose name ends so.
fn with_rule(network: Network, suffix: &str) -> Network {
    let specs = network.parameters.specs().iter();
    let specs: Arc<[ParameterSpec]> = specs
        .map(|s| {
            let all = std::iter::once(0..s.shape[0]).collect();
            let structural_zeros = if s.name.ends_with(suffix) { all } else { Vec::new() };
            ParameterSpec { structural_zeros, ..s.clone() }
        })
        .collect();
    let values = network.parameters.values().iter().map(Tensor::shallow_clone).collect();
    Network { parameters: Parameters::new(specs, values), ..network }
}

/// Largest gradient of the parameters in question, relative to the largest of all.
fn part(network: &Network, jacobian: &Tensor, wanted: impl Fn(&ParameterSpec) -> bool) -> f64 {
    let (mut start, mut found) = (0, 0.0);
    for spec in network.parameters.specs() {
        if wanted(spec) {
            found = larger(found, largest(&jacobian.narrow(1, start, spec.numel())));
        }
        start += spec.numel();
    }
    found / largest(jacobian)
}

/// Largest gradient of a token-table row that occurs neither in the row's prompt nor as its label word.
fn absent_rows(case: NetworkCase, network: &Network, jacobian: &Tensor) -> f64 {
    let (prompts, labels) = case.tokens();
    let tied = matches!(case.shape, Shape::LanguageModel { tied: true, .. });
    let (mut start, mut found) = (0, 0.0);
    for spec in network.parameters.specs() {
        if spec.name.ends_with("word_embeddings.weight") {
            let rows = jacobian.narrow(1, start, spec.numel()).reshape([-1, spec.shape[0], spec.shape[1]]);
            let rows = rows.abs().amax([2], false).to_device(Device::Cpu);
            for (i, (ids, _)) in prompts.iter().enumerate() {
                for (c, label) in labels.iter().enumerate() {
                    for id in (0..VOCABULARY).filter(|id| !(ids.contains(id) || tied && label == id)) {
                        found = larger(found, rows.double_value(&[(i * labels.len() + c) as i64, id]));
                    }
                }
            }
        }
        start += spec.numel();
    }
    found
}

/// Largest difference between the reference engine's sign kernel and the structured engine's, over batchings.
fn sign_differences(network: &Network, block_entries: i64) -> Result<f64> {
    let formulas = FormulaSet { sgd: false, asymmetric: false, signgd: true };
    let include = vec![true; network.parameters.len()];
    let (parameters, examples) = (&network.parameters, &*network.examples);
    let expected = reference_gram(parameters, examples, None, formulas, &include)?.signgd.expect("asked for");
    let mut found = 0.0;
    for batch in [1, 2, 32] {
        let options = GramOptions { batch, block_entries, ..GramOptions::new(formulas, include.len()) };
        let kernel = structured_gram(parameters, examples, None, &options, &Silent)?.signgd.expect("asked for");
        found = larger(found, largest(&(kernel - &expected)));
    }
    Ok(found)
}

/// Largest move of a key bias under one step of sign descent at rate 1 along the first Jacobian row.
fn sign_descent(network: &Network, jacobian: &Tensor) -> f64 {
    let (mut start, mut gradients) = (0, Vec::new());
    for spec in network.parameters.specs() {
        gradients.push(Some(jacobian.get(0).narrow(0, start, spec.numel()).view(spec.shape.as_slice())));
        start += spec.numel();
    }
    let mut optimizer = Optimizer::new(OptimizerKind::Signgd, 1.0, gradients.len());
    let updates = optimizer.updates(&network.parameters, &gradients, 1.0);
    let moved = network.parameters.specs().iter().zip(updates).filter(|(spec, _)| spec.name.ends_with("key.bias"));
    moved.filter_map(|(_, update)| update).fold(0.0, |found, update| larger(found, largest(&update)))
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(10, 100, 400);
    let [biases, absent, signs, moved] = worst(context, "structural-zeros", cases, Case::random, errors)?;
    let checks = vec![
        identity("gradients of key biases relative to the largest gradient", ROUND_OFF, biases, cases),
        identity("gradients of absent tokens' rows", 0.0, absent, cases),
        identity("differences between sign kernels of engines and batchings", 0.0, signs, cases),
        identity("key biases' change under sign descent at rate 1", 0.0, moved, cases),
    ];
    let (mut noise, mut query): (f64, f64) = (0.0, 0.0);
    let several = 6;
    for i in 0..several {
        let mut rng = generator(context, &format!("structural-zeros control {i}"));
        let network = NetworkCase { examples: 4, ..NetworkCase::random_language_model(&mut rng) }.build(context);
        let jacobian = dense_jacobian(&network.parameters, &*network.examples)?;
        query = query.max(part(&network, &jacobian, |spec| spec.name.ends_with("query.bias")));
        noise = noise.max(sign_differences(&with_rule(network, "nothing"), 1 << 20)?);
    }
    // By how much they differ is round-off, which no two machines share; that they do is not.
    let differ = if noise == 0.0 { 0.0 } else { 1.0 };
    let controls = vec![
        identity("without the rule: whether sign kernels differ (0: no, 1: yes)", 0.0, differ, several),
        identity("gradients of query biases relative to the largest gradient", ROUND_OFF, query, several),
    ];
    let notes = vec!["By how much sign kernels differ without the rule depends on each machine's rounding.".to_owned()];
    Ok(Findings { settings: vec![("cases".into(), cases.to_string())], checks, controls, notes, ..Findings::default() })
}
