//! What every language model is, for readers of label words: masked ones, which fill a gap, and causal ones, which
//! continue a text.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::checkpoint::check_directory;
use super::config::{Architecture, unknown_model};
use super::decoder::{self, CausalLm};
use super::encoder::MaskedLm;
use super::fields::Fields;
use crate::error::Result;
use crate::gguf::Gguf;
use crate::jacobian::{ParameterSpec, Parameters, Tap};

/// Token sequences of one batch, padded on the right.
#[derive(Debug)]
pub struct TokenBatch {
    /// Token ids \[B, T\].
    pub ids: Tensor,
    /// Whether a position holds a token rather than padding \[B, T\]; `None` where all do.
    pub present: Option<Tensor>,
    /// Segment ids \[B, T\].
    pub segments: Tensor,
    /// Positions that are read \[B, M\]: the masks, or the last tokens.
    pub mask_positions: Tensor,
}

/// Where a model's output is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// At the mask, with the text on both sides of it.
    Mask,
    /// At the last token of a text, which it continues.
    LastToken,
}

/// What others need to know about a network.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFacts {
    /// Its `model_type`.
    pub architecture: &'static str,
    /// Vocabulary size V.
    pub vocab_size: i64,
    /// Longest sequence.
    pub max_tokens: i64,
    /// Number of segment ids; 1 where a network knows no segments.
    pub segments: i64,
    /// Token id that fills up a batch.
    pub pad_token_id: i64,
    /// Number of layers.
    pub layers: i64,
    /// Width of the residual stream.
    pub width: i64,
    /// Where its output is read.
    pub reads: Reads,
}

/// A language model without its values, which live in [`Parameters`], so that it can be evaluated at many of them,
/// in several threads at a time.
pub trait LanguageModel: Send + Sync {
    /// Specifications of the parameters.
    fn specs(&self) -> &Arc<[ParameterSpec]>;

    /// Its kind and sizes.
    fn facts(&self) -> NetworkFacts;

    /// Everything that determines the function beside the values, as text, for digests.
    fn settings(&self) -> String;

    /// Last hidden states at the one position of each sequence that is read, in front of the model's own head
    /// \[B, width\].
    fn features(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor;

    /// Logits of the label words at the one position of each sequence that is read \[B, C\]; `label_ids` \[C\] are their
    /// token ids.
    fn label_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch, label_ids: &Tensor) -> Tensor;

    /// This model as a masked one, if it is one.
    fn masked(&self) -> Option<&MaskedLm> {
        None
    }
}

/// The token id that fills up a batch: that of padding, or 0 where the vocabulary lacks it. Nothing that is read attends to
/// it.
pub(super) fn filler(pad_token_id: i64, vocab_size: i64) -> i64 {
    if (0..vocab_size).contains(&pad_token_id) { pad_token_id } else { 0 }
}

/// Reads configuration and weights of a checkpoint directory, or of a GGUF file.
///
/// # Errors
/// Unknown architectures and settings; missing, misshapen or non-finite tensors; layers beyond the configured number.
pub fn load(directory: &Path, kind: Kind, device: Device) -> Result<(Box<dyn LanguageModel>, Parameters)> {
    if Gguf::find(directory)?.is_some() {
        let (model, parameters) = CausalLm::load(directory, kind, device)?;
        return Ok((Box::new(model), parameters));
    }
    check_directory(directory)?;
    let fields = Fields::read(directory)?;
    let name = fields.text("model_type", "")?;
    if Architecture::named(name).is_some() {
        let (model, parameters) = MaskedLm::load(directory, kind, device)?;
        return Ok((Box::new(model), parameters));
    }
    if decoder::CAUSAL.contains(&name) {
        let (model, parameters) = CausalLm::load(directory, kind, device)?;
        return Ok((Box::new(model), parameters));
    }
    Err(unknown_model(&fields, name, &[&Architecture::ALL.map(Architecture::name)[..], &decoder::CAUSAL].concat()))
}
