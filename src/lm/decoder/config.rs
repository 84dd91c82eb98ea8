//! Which causal network a `config.json` describes. Settings that would change the function and are not supported are
//! refused by name, whatever their value's effect might be.

use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::lm::config::{Activation, unknown_model};
use crate::lm::fields::Fields;

/// Causal language models that this program can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CausalArchitecture {
    /// GPT-2: layer norms, a position table, one map for queries, keys and values.
    Gpt2,
    /// Llama and its descendants (SmolLM2): root mean square norms, rotary positions, gated feed-forward layers, keys and
    /// values shared by groups of heads.
    Llama,
    /// Qwen2: Llama with biases of queries, keys and values.
    Qwen2,
}

/// Values of `model_type` of causal language models.
pub(in crate::lm) const CAUSAL: [&str; 3] = ["gpt2", "llama", "qwen2"];

impl CausalArchitecture {
    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        CAUSAL[self as usize]
    }
}

/// Which of a layer's linear maps have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Biases {
    /// Those to queries, keys and values.
    pub qkv: bool,
    /// The attention's output map.
    pub output: bool,
    /// The feed-forward maps.
    pub feed_forward: bool,
}

/// The settings that determine a causal network.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CausalConfig {
    /// Architecture.
    pub architecture: CausalArchitecture,
    /// Vocabulary size V.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Number of layers.
    pub layers: i64,
    /// Heads of queries per layer.
    pub heads: i64,
    /// Heads of keys and values per layer; each serves `heads / kv_heads` heads of queries.
    pub kv_heads: i64,
    /// Width of a head; even where positions are rotary.
    pub head_size: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Longest sequence: rows of GPT-2's position table, or what the model was trained for.
    pub max_positions: i64,
    /// Added to variances or mean squares in norms.
    pub norm_eps: f64,
    /// Activation.
    pub activation: Activation,
    /// Base of the rotary angles' geometric sequence.
    pub rope_theta: f64,
    /// Which maps have biases.
    pub biases: Biases,
    /// Token id of padding. Nothing that is read attends to it.
    pub pad_token_id: i64,
    /// Whether the decoder shares the token embeddings.
    pub tied_decoder: bool,
}

impl CausalConfig {
    /// Reads `config.json` in a checkpoint directory.
    pub fn read(directory: &Path) -> Result<Self> {
        Self::parse(&Fields::read(directory)?)
    }

    pub(in crate::lm) fn parse(fields: &Fields) -> Result<Self> {
        match fields.text("model_type", "")? {
            "gpt2" => gpt2(fields),
            "llama" => llama(fields, CausalArchitecture::Llama),
            "qwen2" => llama(fields, CausalArchitecture::Qwen2),
            other => Err(unknown_model(fields, other, &CAUSAL)),
        }
    }
}

fn gpt2(fields: &Fields) -> Result<CausalConfig> {
    let hidden_size = fields.size("n_embd", None)?;
    let heads = fields.size("n_head", None)?;
    fields.multiple(("n_embd", hidden_size), ("n_head", heads))?;
    refuse(fields, "scale_attn_weights", &Value::Bool(true))?;
    refuse(fields, "scale_attn_by_inverse_layer_idx", &Value::Bool(false))?;
    refuse(fields, "add_cross_attention", &Value::Bool(false))?;
    let vocab_size = fields.size("vocab_size", None)?;
    Ok(CausalConfig {
        architecture: CausalArchitecture::Gpt2,
        vocab_size,
        hidden_size,
        layers: fields.layers("n_layer")?,
        heads,
        kv_heads: heads,
        head_size: hidden_size / heads,
        intermediate_size: fields.size("n_inner", Some(4 * hidden_size))?,
        max_positions: fields.size("n_positions", None)?,
        norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        activation: fields.activation("activation_function", "gelu_new")?,
        rope_theta: 0.0,
        biases: Biases { qkv: true, output: true, feed_forward: true },
        pad_token_id: fields.pad_token_id(vocab_size, 0)?,
        tied_decoder: fields.flag("tie_word_embeddings", true)?,
    })
}

fn llama(fields: &Fields, architecture: CausalArchitecture) -> Result<CausalConfig> {
    let hidden_size = fields.size("hidden_size", None)?;
    let heads = fields.size("num_attention_heads", None)?;
    let kv_heads = fields.size("num_key_value_heads", Some(heads))?;
    fields.multiple(("num_attention_heads", heads), ("num_key_value_heads", kv_heads))?;
    let head_size = match fields.present("head_dim") {
        None => {
            fields.multiple(("hidden_size", hidden_size), ("num_attention_heads", heads))?;
            hidden_size / heads
        }
        Some(_) => fields.size("head_dim", None)?,
    };
    if head_size % 2 != 0 {
        return Err(fields.fail(format!("heads of width {head_size} have no pairs of entries to rotate")));
    }
    let qwen = architecture == CausalArchitecture::Qwen2;
    refuse_window(fields, qwen)?;
    let biased = !qwen && fields.flag("attention_bias", false)?;
    let feed_biased = !qwen && fields.flag("mlp_bias", false)?;
    let vocab_size = fields.size("vocab_size", None)?;
    Ok(CausalConfig {
        architecture,
        vocab_size,
        hidden_size,
        layers: fields.layers("num_hidden_layers")?,
        heads,
        kv_heads,
        head_size,
        intermediate_size: fields.size("intermediate_size", None)?,
        max_positions: fields.size("max_position_embeddings", None)?,
        norm_eps: fields.number("rms_norm_eps", 1e-6)?,
        activation: fields.activation("hidden_act", "silu")?,
        rope_theta: rope_theta(fields)?,
        biases: Biases { qkv: qwen || biased, output: biased, feed_forward: feed_biased },
        pad_token_id: fields.pad_token_id(vocab_size, 0)?,
        tied_decoder: fields.flag("tie_word_embeddings", false)?,
    })
}

/// Fails unless a setting is absent or has the one value that is supported.
fn refuse(fields: &Fields, field: &str, only: &Value) -> Result<()> {
    match fields.present(field).filter(|found| *found != only) {
        None => Ok(()),
        Some(found) => Err(fields.fail(format!("{field} {found} is not supported; only {only} is"))),
    }
}

/// Attention to a window of the last tokens alone gives other logits as soon as a text is longer.
fn refuse_window(fields: &Fields, qwen: bool) -> Result<()> {
    // Qwen2's files name a width also where the window is off.
    if qwen {
        refuse(fields, "use_sliding_window", &Value::Bool(false))?;
    } else if let Some(width) = fields.present("sliding_window") {
        return Err(fields.fail(format!("sliding_window {width} is not supported: attention must be to all tokens")));
    }
    let Some(layers) = fields.present("layer_types") else { return Ok(()) };
    let kinds = layers.as_array().ok_or_else(|| fields.wrong("layer_types", "a list", layers))?;
    match kinds.iter().find(|kind| kind.as_str() != Some("full_attention")) {
        None => Ok(()),
        Some(kind) => {
            Err(fields.fail(format!("layer_types has {kind}, which is not supported; only `full_attention` is")))
        }
    }
}

/// The base of the rotary angles, which newer files hold in `rope_parameters`; angles that are changed for long texts
/// are refused.
fn rope_theta(fields: &Fields) -> Result<f64> {
    refuse(fields, "partial_rotary_factor", &Value::from(1.0))?;
    let nested = fields.object("rope_parameters")?;
    for (name, scaling) in [("rope_scaling", fields.object("rope_scaling")?), ("rope_parameters", nested)] {
        let Some(scaling) = scaling else { continue };
        let older = scaling.text("type", "default")?;
        let kind = scaling.text("rope_type", older)?;
        if kind != "default" {
            let message = format!("{name} of type `{kind}` is not supported; only plain rotary positions are");
            return Err(fields.fail(message));
        }
        refuse(&scaling, "partial_rotary_factor", &Value::from(1.0))?;
        if name == "rope_parameters" && scaling.present("rope_theta").is_some() {
            return scaling.positive("rope_theta", 10_000.0);
        }
    }
    fields.positive("rope_theta", 10_000.0)
}
