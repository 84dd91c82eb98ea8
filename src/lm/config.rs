//! `config.json`: which network a checkpoint is, and its sizes.

use std::path::Path;

use tch::Tensor;

use super::fields::Fields;
use crate::error::{Error, Result};

/// Masked language models that this program can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// BERT with its masked-LM head.
    Bert,
    /// RoBERTa with its masked-LM head: BERT's encoder, other position numbers, other names.
    Roberta,
}

/// Elementwise activation of the feed-forward layers and the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function.
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
    /// `x σ(x)`
    Silu,
    /// `tanh x`
    Tanh,
}

impl Activation {
    /// Applied to every entry.
    pub(super) fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Relu => x.relu(),
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
        }
    }
}

/// Values of `model_type` of masked language models.
pub(super) const MASKED: [&str; 2] = ["bert", "roberta"];

/// The error about a `model_type` that is none of these.
pub(super) fn unknown_model(fields: &Fields, found: &str, known: &[&str]) -> Error {
    if found.is_empty() {
        let known: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
        return fields.fail(format!("the field `model_type` is missing (expected {})", known.join(" or ")));
    }
    fields.fail(format!("model_type `{found}` is not supported; supported are: {}", known.join(", ")))
}

/// The fields of `config.json` that determine the network.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ModelConfig {
    /// Architecture.
    pub architecture: Architecture,
    /// Vocabulary size V.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Number of encoder layers.
    pub layers: i64,
    /// Attention heads per layer.
    pub heads: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Rows of the position table.
    pub max_positions: i64,
    /// Rows of the segment table.
    pub type_vocab_size: i64,
    /// Added to variances in layer norms.
    pub layer_norm_eps: f64,
    /// Activation.
    pub activation: Activation,
    /// Token id of padding; RoBERTa's position numbers start after it.
    pub pad_token_id: i64,
    /// Whether the decoder shares the token embeddings.
    pub tied_decoder: bool,
    /// The base width of a network that this program pre-trained in muP: its learning rates follow from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mup_base_width: Option<i64>,
}

impl ModelConfig {
    /// Reads `config.json` in a checkpoint directory.
    pub fn read(directory: &Path) -> Result<Self> {
        Self::parse(&Fields::read(directory)?)
    }

    pub(super) fn parse(fields: &Fields) -> Result<Self> {
        let architecture = match fields.text("model_type", "")? {
            "bert" => Architecture::Bert,
            "roberta" => Architecture::Roberta,
            other => return Err(unknown_model(fields, other, &MASKED)),
        };
        let vocab_size = fields.size("vocab_size", None)?;
        let pad_token_id = fields.pad_token_id(vocab_size, i64::from(architecture == Architecture::Roberta))?;
        let layers = fields.layers("num_hidden_layers")?;
        let layer_norm_eps = fields.number("layer_norm_eps", 1e-12)?;
        let tied_decoder = fields.flag("tie_word_embeddings", true)?;
        let positions = fields.text("position_embedding_type", "absolute")?;
        if positions != "absolute" {
            let message = format!("position_embedding_type `{positions}` is not supported; only `absolute` is");
            return Err(fields.fail(message));
        }
        let activation = fields.activation("hidden_act", "gelu")?;
        let mup_base_width = match fields.present("mup_base_width") {
            None => None,
            Some(_) => Some(fields.size("mup_base_width", None)?),
        };
        let config = Self {
            architecture,
            vocab_size,
            hidden_size: fields.size("hidden_size", None)?,
            layers,
            heads: fields.size("num_attention_heads", None)?,
            intermediate_size: fields.size("intermediate_size", None)?,
            max_positions: fields.size("max_position_embeddings", None)?,
            type_vocab_size: fields.size("type_vocab_size", Some(1))?,
            layer_norm_eps,
            activation,
            pad_token_id,
            tied_decoder,
            mup_base_width,
        };
        fields.multiple(("hidden_size", config.hidden_size), ("num_attention_heads", config.heads))?;
        if config.architecture == Architecture::Roberta && config.max_tokens() < 1 {
            return Err(fields.fail(format!(
                "max_position_embeddings {} leaves no position after pad_token_id {}",
                config.max_positions, config.pad_token_id
            )));
        }
        Ok(config)
    }

    /// Longest sequence that the position table covers.
    pub fn max_tokens(&self) -> i64 {
        match self.architecture {
            Architecture::Bert => self.max_positions,
            Architecture::Roberta => self.max_positions - self.pad_token_id - 1,
        }
    }
}
