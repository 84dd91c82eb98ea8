//! `config.json`: which network a checkpoint is, and its sizes.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::read_text;

/// Architectures that this program can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// BERT with its masked-LM head.
    Bert,
    /// RoBERTa with its masked-LM head: BERT's encoder, other position numbers, other names.
    Roberta,
}

/// Elementwise activation of the feed-forward layers and the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The fields of `config.json` that determine the network.
#[derive(Clone, Debug)]
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
}

impl ModelConfig {
    /// Reads `config.json` in a checkpoint directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let text = read_text(&path)?;
        let json: Value =
            serde_json::from_str(&text).map_err(|e| Error::format(&path, format!("not a JSON document: {e}")))?;
        Self::parse(&path, &json)
    }

    fn parse(path: &Path, json: &Value) -> Result<Self> {
        let fail = |message: String| Error::format(path, message);
        let architecture = match json.get("model_type").and_then(Value::as_str) {
            Some("bert") => Architecture::Bert,
            Some("roberta") => Architecture::Roberta,
            Some(other) => {
                return Err(fail(format!("model_type `{other}` is not supported; supported are: bert, roberta")));
            }
            None => {
                return Err(fail("the field `model_type` is missing (expected \"bert\" or \"roberta\")".into()));
            }
        };
        let size = |field: &str, default: Option<i64>| -> Result<i64> {
            match (json.get(field), default) {
                (None | Some(Value::Null), Some(d)) => Ok(d),
                (None, None) => Err(fail(format!("the field `{field}` is missing"))),
                (Some(v), _) => v
                    .as_i64()
                    .filter(|n| *n > 0 && *n <= 1 << 31)
                    .ok_or_else(|| fail(format!("the field `{field}` must be a positive integer, found {v}"))),
            }
        };
        let pad = match json.get("pad_token_id") {
            None | Some(Value::Null) => i64::from(architecture == Architecture::Roberta),
            Some(v) => v.as_i64().filter(|n| *n >= 0).ok_or_else(|| fail(format!("pad_token_id is {v}")))?,
        };
        if let Some(kind) = json.get("position_embedding_type").and_then(Value::as_str)
            && kind != "absolute"
        {
            return Err(fail(format!("position_embedding_type `{kind}` is not supported; only `absolute` is")));
        }
        let activation = match json.get("hidden_act").and_then(Value::as_str).unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            other => {
                return Err(fail(format!(
                    "hidden_act `{other}` is not supported; supported are: gelu, gelu_new, relu, silu, tanh"
                )));
            }
        };
        let config = Self {
            architecture,
            vocab_size: size("vocab_size", None)?,
            hidden_size: size("hidden_size", None)?,
            layers: size("num_hidden_layers", None)?,
            heads: size("num_attention_heads", None)?,
            intermediate_size: size("intermediate_size", None)?,
            max_positions: size("max_position_embeddings", None)?,
            type_vocab_size: size("type_vocab_size", Some(1))?,
            layer_norm_eps: json.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12),
            activation,
            pad_token_id: pad,
            tied_decoder: json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(true),
        };
        if config.hidden_size % config.heads != 0 {
            return Err(fail(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                config.hidden_size, config.heads
            )));
        }
        if config.architecture == Architecture::Roberta && config.max_tokens() < 1 {
            return Err(fail(format!(
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
