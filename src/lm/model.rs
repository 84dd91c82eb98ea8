//! The interface of language models: masked ones, which fill a gap, and causal ones, which continue a text.

use std::sync::Arc;

use tch::Tensor;

use crate::jacobian::{ParameterSpec, Tap};

/// Token sequences of one batch, padded on the right.
#[derive(Debug)]
pub struct TokenBatch {
    /// Token ids \[B, T\].
    pub ids: Tensor,
    /// Whether a position holds a token rather than padding \[B, T\]; `None` if all do.
    pub present: Option<Tensor>,
    /// Segment ids \[B, T\].
    pub segments: Tensor,
    /// Positions to read \[B, M\]: the masks, or the last tokens.
    pub mask_positions: Tensor,
    /// What is rounded in a double-precision network.
    pub roundings: Roundings,
}

/// What a double-precision network rounds to single precision. Has no effect in single-precision networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roundings {
    /// What transformers rounds: root mean square norms, rotary angles, and some models' softmax.
    #[default]
    AsTransformers,
    /// Nothing: for measures that subtract nearly equal outputs, and for laws of exact arithmetic.
    None,
}

/// Where a model's output is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// At the mask, with text on both sides.
    Mask,
    /// At the last token of a text, which the model continues.
    LastToken,
}

/// Facts about a network.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFacts {
    /// Its `model_type`.
    pub architecture: &'static str,
    /// Vocabulary size V.
    pub vocab_size: i64,
    /// Longest sequence.
    pub max_tokens: i64,
    /// Number of segment ids; 1 without segments.
    pub segments: i64,
    /// Token id of padding in batches.
    pub pad_token_id: i64,
    /// Number of layers.
    pub layers: i64,
    /// Width of the residual stream.
    pub width: i64,
    /// Where its output is read.
    pub reads: Reads,
    /// Whether a token's state can depend on later tokens: in masked models, and in causal ones whose rotary angles depend
    /// on the text's length.
    pub looks_ahead: bool,
    /// The base width of a network pre-trained by this program in muP, which determines its learning rates.
    pub mup_base_width: Option<i64>,
}

/// A language model without its values, which live in [`Parameters`](crate::jacobian::Parameters), so that it can be evaluated at many parameter vectors,
/// in several threads.
pub trait LanguageModel: Send + Sync {
    /// Specifications of the parameters.
    fn specs(&self) -> &Arc<[ParameterSpec]>;

    /// Its kind and sizes.
    fn facts(&self) -> NetworkFacts;

    /// Everything else that determines the function, as text, for digests.
    fn settings(&self) -> String;

    /// Last hidden states, before the model's own head, at the single position read per sequence \[B, width\].
    fn features(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor;

    /// Logits of the label words at the single position read per sequence \[B, C\]; `label_ids` \[C\] are their token ids.
    fn label_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch, label_ids: &Tensor) -> Tensor;

    /// Logits of the whole vocabulary at every position read \[B, M, V\].
    fn vocabulary_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor;
}

/// The token id of padding in batches, or 0 if the vocabulary lacks it. Nothing that is read attends to it.
pub(super) fn filler(pad_token_id: i64, vocab_size: i64) -> i64 {
    if (0..vocab_size).contains(&pad_token_id) { pad_token_id } else { 0 }
}
