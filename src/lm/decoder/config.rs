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
    /// Token id of padding, which need not be in the vocabulary. Nothing that is read attends to it.
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
    let hidden_size = fields.size_under(["n_embd", "hidden_size"], 768)?;
    let heads = fields.size_under(["n_head", "num_attention_heads"], 12)?;
    fields.multiple(("n_embd", hidden_size), ("n_head", heads))?;
    refuse(fields, "scale_attn_weights", &Value::Bool(true))?;
    refuse(fields, "scale_attn_by_inverse_layer_idx", &Value::Bool(false))?;
    refuse(fields, "add_cross_attention", &Value::Bool(false))?;
    Ok(CausalConfig {
        architecture: CausalArchitecture::Gpt2,
        vocab_size: fields.size("vocab_size", Some(50_257))?,
        hidden_size,
        layers: fields.layers(["n_layer", "num_hidden_layers"], 12)?,
        heads,
        kv_heads: heads,
        head_size: hidden_size / heads,
        intermediate_size: fields.size("n_inner", Some(4 * hidden_size))?,
        max_positions: fields.size_under(["n_positions", "max_position_embeddings"], 1024)?,
        norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        activation: fields.activation("activation_function", "gelu_new")?,
        rope_theta: 0.0,
        biases: Biases { qkv: true, output: true, feed_forward: true },
        pad_token_id: fields.pad_token_id(0)?,
        tied_decoder: fields.flag("tie_word_embeddings", true)?,
    })
}

fn llama(fields: &Fields, architecture: CausalArchitecture) -> Result<CausalConfig> {
    let qwen = architecture == CausalArchitecture::Qwen2;
    // Sizes that the file does not give are transformers'.
    let (vocab, intermediate, positions) = if qwen { (151_936, 22_016, 32_768) } else { (32_000, 11_008, 2048) };
    let hidden_size = fields.size("hidden_size", Some(4096))?;
    let heads = fields.size("num_attention_heads", Some(32))?;
    // Qwen2's class has 32 of them where the field is absent, and as many as of queries where it is null.
    let shared = if qwen && !fields.is_null("num_key_value_heads") { 32 } else { heads };
    let kv_heads = fields.size("num_key_value_heads", Some(shared))?;
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
    refuse_window(fields, qwen)?;
    let biased = !qwen && fields.flag("attention_bias", false)?;
    let feed_biased = !qwen && fields.flag("mlp_bias", false)?;
    Ok(CausalConfig {
        architecture,
        vocab_size: fields.size("vocab_size", Some(vocab))?,
        hidden_size,
        layers: fields.layers(["num_hidden_layers"; 2], 32)?,
        heads,
        kv_heads,
        head_size,
        intermediate_size: fields.size("intermediate_size", Some(intermediate))?,
        max_positions: fields.size("max_position_embeddings", Some(positions))?,
        norm_eps: fields.number("rms_norm_eps", 1e-6)?,
        activation: fields.activation("hidden_act", "silu")?,
        rope_theta: rope_theta(fields)?,
        biases: Biases { qkv: qwen || biased, output: biased, feed_forward: feed_biased },
        pad_token_id: fields.pad_token_id(0)?,
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

/// The base of the rotary angles: beside the other settings, or in `rope_parameters` or `rope_scaling`, where newer files
/// hold it; two that differ are refused, and so are angles that are changed for long texts.
fn rope_theta(fields: &Fields) -> Result<f64> {
    refuse(fields, "partial_rotary_factor", &Value::from(1.0))?;
    let mut found: Option<(String, f64)> = None;
    let mut note = |name: String, fields: &Fields| -> Result<()> {
        if fields.present("rope_theta").is_none() {
            return Ok(());
        }
        let theta = fields.positive("rope_theta", 10_000.0)?;
        if let Some((other, known)) = found.replace((name.clone(), theta))
            && known != theta
        {
            return Err(fields.fail(format!("{other} {known} and {name} {theta} contradict each other")));
        }
        Ok(())
    };
    note("rope_theta".into(), fields)?;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(scaling) = fields.object(name)? else { continue };
        let older = scaling.text("type", "default")?;
        let kind = scaling.text("rope_type", older)?;
        if kind != "default" {
            let message = format!("{name} of type `{kind}` is not supported; only plain rotary positions are");
            return Err(fields.fail(message));
        }
        refuse(&scaling, "partial_rotary_factor", &Value::from(1.0))?;
        note(format!("{name}.rope_theta"), &scaling)?;
    }
    Ok(found.map_or(10_000.0, |(_, theta)| theta))
}
