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

/// More encoder layers than any model has: beyond it a number is a mistake, and names of its tensors would fill memory.
const MOST_LAYERS: i64 = 1000;

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
        let path = directory.join("config.json");
        if !path.exists() {
            let message = "no config.json here: expected a Hugging Face checkpoint directory with config.json, weights and \
                           tokenizer.json";
            return Err(Error::format(directory, message));
        }
        let text = read_text(&path)?;
        let json: Value =
            serde_json::from_str(&text).map_err(|e| Error::format(&path, format!("not a JSON document: {e}")))?;
        Self::parse(&path, &json)
    }

    fn parse(path: &Path, json: &Value) -> Result<Self> {
        let fail = |message: String| Error::format(path, message);
        if !json.is_object() {
            return Err(fail("expected a JSON object with the model's settings".into()));
        }
        // Absent and null are the same; a value of another type is an error, never the default.
        let present = |field: &str| json.get(field).filter(|v| !v.is_null());
        let wrong = |field: &str, wanted: &str, found: &Value| {
            fail(format!("the field `{field}` must be {wanted}, found {found}"))
        };
        let text = |field: &str, default: &'static str| match present(field) {
            None => Ok(default),
            Some(v) => v.as_str().ok_or_else(|| wrong(field, "a string", v)),
        };
        let architecture = match text("model_type", "")? {
            "bert" => Architecture::Bert,
            "roberta" => Architecture::Roberta,
            "" => {
                return Err(fail("the field `model_type` is missing (expected \"bert\" or \"roberta\")".into()));
            }
            other => {
                return Err(fail(format!("model_type `{other}` is not supported; supported are: bert, roberta")));
            }
        };
        let size = |field: &str, default: Option<i64>| -> Result<i64> {
            match (present(field), default) {
                (None, Some(d)) => Ok(d),
                (None, None) => Err(fail(format!("the field `{field}` is missing (expected a positive integer)"))),
                (Some(v), _) => {
                    v.as_i64().filter(|n| *n > 0 && *n <= 1 << 31).ok_or_else(|| wrong(field, "a positive integer", v))
                }
            }
        };
        let vocab_size = size("vocab_size", None)?;
        let pad = match present("pad_token_id") {
            None => i64::from(architecture == Architecture::Roberta),
            Some(v) => v
                .as_i64()
                .filter(|n| (0..vocab_size).contains(n))
                .ok_or_else(|| wrong("pad_token_id", &format!("a token id below vocab_size {vocab_size}"), v))?,
        };
        let layers = size("num_hidden_layers", None)?;
        if layers > MOST_LAYERS {
            return Err(wrong("num_hidden_layers", &format!("at most {MOST_LAYERS}"), &layers.into()));
        }
        let layer_norm_eps = match present("layer_norm_eps") {
            None => 1e-12,
            Some(v) => v
                .as_f64()
                .filter(|x| *x >= 0.0)
                .ok_or_else(|| wrong("layer_norm_eps", "a number that is not negative", v))?,
        };
        let tied_decoder = match present("tie_word_embeddings") {
            None => true,
            Some(v) => v.as_bool().ok_or_else(|| wrong("tie_word_embeddings", "true or false", v))?,
        };
        let positions = text("position_embedding_type", "absolute")?;
        if positions != "absolute" {
            return Err(fail(format!("position_embedding_type `{positions}` is not supported; only `absolute` is")));
        }
        let activation = match text("hidden_act", "gelu")? {
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
        let mup_base_width = match present("mup_base_width") {
            None => None,
            Some(_) => Some(size("mup_base_width", None)?),
        };
        let config = Self {
            architecture,
            vocab_size,
            hidden_size: size("hidden_size", None)?,
            layers,
            heads: size("num_attention_heads", None)?,
            intermediate_size: size("intermediate_size", None)?,
            max_positions: size("max_position_embeddings", None)?,
            type_vocab_size: size("type_vocab_size", Some(1))?,
            layer_norm_eps,
            activation,
            pad_token_id: pad,
            tied_decoder,
            mup_base_width,
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
