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
//! terms. (With a tied decoder the label word's row is looked up too.) So it is with positions, segments and the
//! decoder's rows of other words; and a softmax over one key is 1 whatever queries and keys are. No other entry is zero.
//!
//! **Experiment.** Random BERT and RoBERTa models and prompts. Measured: key-bias gradients relative to the largest gradient;
//! gradients of rows that occur neither in the prompt nor as label word, one example at a time and in padded batches; entries
//! without gradient for none of these reasons; differences between the sign kernels of the reference engine and of the
//! structured engine for three batchings and blockings; the change of key biases under a step of sign descent.
//!
//! **Control.** Without the rule the same comparisons of sign kernels must show differences, and the query bias, a
//! tensor of the same shape beside the key bias, must not pass for a structural zero.
//!
//! **Meaning.** A sign gives the smallest gradient the weight of the largest. In a BERT of width 768 a key bias would
//! add up to 768 units of noise per layer to every entry of `K_SignGD`, differently on each machine; in `K_SGD`
//! nobody would ever notice.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::cases::{Network, NetworkCase, Shape, VOCABULARY, generator, larger, largest, worst};
use super::context::Context;
use super::{Claim, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::{Findings, Table};
use crate::jacobian::{ParameterSpec, Parameters, record};
use crate::kernel::{FormulaSet, GramOptions, dense_jacobian, reference_gram, structured_gram};
use crate::lm::Architecture;
use crate::progress::Silent;
use crate::train::{Optimizer, OptimizerKind};

const NO_RULE: Mutant = Mutant { name: "no-rule", change: "signs of key-bias gradients are counted" };
const QUERY_BIAS: Mutant = Mutant { name: "query-bias", change: "the rule is applied to query biases" };

pub(super) const CLAIM: Claim = Claim {
    id: "structural-zeros",
    topic: Topic::Identity,
    title: "Gradients that vanish in exact arithmetic have sign zero",
    source: "a rule of this program, needed by the sign kernels of the paper's Definition 3.3",
    prediction: "key biases and absent tokens have zero gradient; sign kernels agree bit for bit",
    text: include_str!("structural_zeros.rs"),
    mutants: &[NO_RULE, QUERY_BIAS],
    // Signs are equal or not: there is no tolerance to be off by.
    graded: &[],
    experiment,
};

/// A softmax's derivatives sum to zero up to a few roundings of 1.1e-16, and a bias's gradient adds them over at most 8 x 8
/// pairs of tokens.
const ROUND_OFF: f64 = 1e-12;

/// A language model, with the settings for computing its kernels.
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

/// Largest gradient of a structurally zero parameter, relative to the largest of all; largest gradient of an absent token's
/// row; number of entries without a gradient and without a reason for it, plus rows with a gradient despite a reason; largest
/// difference between sign kernels; largest move of a structurally zero parameter under sign descent.
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 5]> {
    let network = case.network.build(context);
    let network = match () {
        () if context.is(NO_RULE) => with_rule(network, "nothing"),
        () if context.is(QUERY_BIAS) => with_rule(network, "query.bias"),
        // As marked by the program itself.
        () => network,
    };
    let jacobian = dense_jacobian(&network.parameters, &*network.examples)?;
    let all: Vec<usize> = (0..network.examples.len()).collect();
    let batched = record(&network.parameters, &*network.examples, &all).dense();
    let absent = larger(absent_rows(case.network, &network, &jacobian), absent_rows(case.network, &network, &batched));
    Ok([
        part(&network, &jacobian, ParameterSpec::is_structural_zero),
        absent,
        unexplained(case.network, &network, &jacobian, |_| true),
        sign_differences(&network, case.block_entries)?,
        sign_descent(&network, &jacobian),
    ])
}

/// The same network, with the rule applied to the parameters whose names end in `suffix`.
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

/// Largest gradient of the wanted parameters, relative to the largest of all.
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

/// Why most rows of a tensor have no gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Token,
    Position,
    Segment,
    Word,
    OneKey,
}

impl Reason {
    const ALL: [Self; 5] = [Self::Token, Self::Position, Self::Segment, Self::Word, Self::OneKey];

    /// The reason that applies to a tensor; none for key biases, whose gradients are round-off.
    fn of(spec: &ParameterSpec) -> Option<Self> {
        let ends = |suffix: &str| spec.name.ends_with(suffix);
        match () {
            () if ends("word_embeddings.weight") => Some(Self::Token),
            () if ends("position_embeddings.weight") => Some(Self::Position),
            () if ends("token_type_embeddings.weight") => Some(Self::Segment),
            () if ends("decoder.weight") || spec.shape == [VOCABULARY] => Some(Self::Word),
            () if spec.name.contains(".query.") || spec.name.contains(".key.") => Some(Self::OneKey),
            () => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Token => "token tables: the token is neither in the prompt nor, where the decoder is tied, the word",
            Self::Position => "position tables: the prompt does not reach the position",
            Self::Segment => "segment tables: no token of the prompt is in the segment",
            Self::Word => "decoders: the row is another word's",
            Self::OneKey => "queries and keys: the prompt has one token, whose attention weight is 1",
        }
    }

    /// Number of a tensor's rows that have a gradient for a prompt and a word.
    fn moving(self, spec: &ParameterSpec, ids: &[i64], word: i64, tied: bool) -> i64 {
        let distinct = |values: BTreeSet<i64>| values.len() as i64;
        match self {
            Self::Token => distinct(ids.iter().copied().chain(tied.then_some(word)).collect()),
            Self::Position => ids.len() as i64,
            Self::Segment => distinct(ids.iter().map(|id| id % 2).collect()),
            Self::Word => 1,
            Self::OneKey if ids.len() == 1 => 0,
            Self::OneKey => spec.shape[0],
        }
    }
}

/// Number of entries of the wanted tensors that are exactly zero without a reason, plus the excess or deficit of rows with a
/// gradient, over all Jacobian rows. Key biases have their own check.
fn unexplained(
    case: NetworkCase,
    network: &Network,
    jacobian: &Tensor,
    wanted: impl Fn(&ParameterSpec) -> bool,
) -> f64 {
    let (prompts, labels) = case.tokens();
    let tied = matches!(case.shape, Shape::LanguageModel { tied: true, .. });
    let count = |t: &Tensor| t.sum(Kind::Int64).int64_value(&[]);
    let (mut start, mut found) = (0, 0);
    for spec in network.parameters.specs() {
        let part = jacobian.narrow(1, start, spec.numel()).reshape([jacobian.size()[0], spec.shape[0], -1]);
        start += spec.numel();
        if spec.name.ends_with("key.bias") || !wanted(spec) {
            continue;
        }
        for (i, (ids, _)) in prompts.iter().enumerate() {
            for (c, word) in labels.iter().enumerate() {
                let entries = part.get((i * labels.len() + c) as i64).not_equal(0.0);
                let moving = count(&entries.any_dim(1, false));
                let expected = Reason::of(spec).map_or(spec.shape[0], |why| why.moving(spec, ids, *word, tied));
                // In a row with a gradient every entry has one.
                found += (moving - expected).abs() + moving * entries.size()[1] - count(&entries);
            }
        }
    }
    found as f64
}

/// For each reason, the tensors and rows of two models that have no gradient because of it.
fn reasons(context: &Context<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for (architecture, tied) in [(Architecture::Bert, false), (Architecture::Roberta, true)] {
        let shape = Shape::LanguageModel { architecture, tied };
        let case = NetworkCase { shape, examples: 4, outputs: 2, seed: context.seed("structural-zeros reasons") };
        let network = case.build(context);
        let jacobian = dense_jacobian(&network.parameters, &*network.examples)?;
        let key_biases = part(&network, &jacobian, ParameterSpec::is_structural_zero);
        let name = format!("{architecture:?}, {} decoder", if tied { "tied" } else { "own" });
        let round_off = if key_biases <= ROUND_OFF { "round-off" } else { "not round-off" };
        let keys = network.parameters.specs().iter().filter(|s| s.is_structural_zero()).count() as f64;
        let why = "key biases: softmax ignores a summand that all keys share";
        rows.push(vec![name.as_str().into(), why.into(), keys.into(), round_off.into()]);
        for reason in Reason::ALL {
            let own = |spec: &ParameterSpec| Reason::of(spec) == Some(reason) && !spec.is_structural_zero();
            let tensors = network.parameters.specs().iter().filter(|s| own(s)).count() as f64;
            let left = unexplained(case, &network, &jacobian, own);
            let outcome = if left == 0.0 { "exactly the rows stated" } else { "other rows" };
            rows.push(vec![name.as_str().into(), reason.text().into(), tensors.into(), outcome.into()]);
        }
    }
    Ok(Table {
        title: "Why entries have no gradient, tensor by tensor".into(),
        columns: ["model", "tensors: reason", "tensors", "measured"].map(str::to_owned).to_vec(),
        rows,
    })
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
    let [biases, absent, without_reason, signs, moved] =
        worst(context, "structural-zeros", cases, Case::random, errors)?;
    let checks = vec![
        identity("gradients of key biases relative to the largest gradient", ROUND_OFF, biases, cases),
        identity("gradients of absent tokens' rows", 0.0, absent, cases),
        identity("entries without gradient and without a reason, or against it", 0.0, without_reason, cases),
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
    // The size of the difference is round-off, which varies between machines; the existence of a difference is not.
    let differ = if noise == 0.0 { 0.0 } else { 1.0 };
    let controls = vec![
        identity("without the rule: whether sign kernels differ (0: no, 1: yes)", 0.0, differ, several),
        identity("gradients of query biases relative to the largest gradient", ROUND_OFF, query, several),
    ];
    let notes = vec!["By how much sign kernels differ without the rule depends on each machine's rounding.".to_owned()];
    Ok(Findings {
        settings: vec![("cases".into(), cases.to_string())],
        checks,
        controls,
        tables: vec![reasons(context)?],
        notes,
        ..Findings::default()
    })
}
