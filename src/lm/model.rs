//! What every language model is, for readers of label words: masked ones, which fill a gap, and causal ones, which
//! continue a text.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::assemble::Wanted;
use super::checkpoint::{Checkpoint, check_directory};
use super::fields::Fields;
use super::names::ModelNames;
use super::network::Network;
use super::parts::Description;
use super::{architectures, gguf};
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
    /// What is rounded in a network of double precision.
    pub roundings: Roundings,
}

/// What a network of double precision rounds to single precision. Networks of single precision compute the same whichever it
/// is.
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
    /// Whether a token's state can depend on what stands behind it: in masked models, and in causal ones whose angles depend
    /// on the length of the text.
    pub looks_ahead: bool,
    /// The base width of a network that this program pre-trained in muP: its learning rates follow from it.
    pub mup_base_width: Option<i64>,
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

    /// Logits of the whole vocabulary at every position that is read \[B, M, V\].
    fn vocabulary_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor;
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
pub fn load(place: &Path, kind: Kind, device: Device) -> Result<(Box<dyn LanguageModel>, Parameters)> {
    // Settings before the weights, which may be large: what is not supported is refused at once.
    let (network, parameters) = if let Some(file) = Gguf::find(place)? {
        gguf::load(&Gguf::open(&file)?, kind, device)?
    } else {
        check_directory(place)?;
        let network = Network::new(architectures::describe(&Fields::read(place)?)?);
        let parameters = weights(place, network.description(), kind, device)?;
        (network, parameters)
    };
    Ok((Box::new(network), parameters))
}

/// What [`LanguageModel::settings`] of the model in a checkpoint directory is, from its `config.json` alone.
///
/// # Errors
/// Unknown architectures and settings.
pub fn settings(directory: &Path) -> Result<String> {
    let description = architectures::describe(&Fields::read(directory)?)?;
    Ok(serde_json::to_string(&description).expect("a description is plain data"))
}

/// The parameters of a network from the files of a checkpoint directory.
pub(super) fn weights(directory: &Path, d: &Description, kind: Kind, device: Device) -> Result<Parameters> {
    let checkpoint = Checkpoint::open(directory)?;
    let naming = ModelNames::of(d);
    Wanted::of(d, &naming, "config.json").assemble(directory, &checkpoint, kind, device)
}
