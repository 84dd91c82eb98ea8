//! Causal language models whose configuration is built in code: GPT-2, Llama and Qwen2 with unscaled rotary positions.

use super::activation::Activation;
use super::configured::Configured;

/// Causal architectures whose configuration can be built in code.
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

impl CausalArchitecture {
    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
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

/// The settings that determine such a network.
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
    /// Width of a head; even if positions are rotary.
    pub head_size: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Longest sequence: rows of GPT-2's position table, or the trained length.
    pub max_positions: i64,
    /// Added to variances or mean squares in norms.
    pub norm_eps: f64,
    /// Activation.
    pub activation: Activation,
    /// Base of the rotary angles' geometric sequence.
    pub rope_theta: f64,
    /// Which maps have biases; in GPT-2 all have.
    pub biases: Biases,
    /// Token id of padding, which may be outside the vocabulary. Nothing that is read attends to it.
    pub pad_token_id: i64,
    /// Whether the decoder is tied to the token embeddings.
    pub tied_decoder: bool,
}

/// A causal language model with its configuration.
pub type CausalLm = Configured<CausalConfig>;

impl CausalLm {
    /// The network of a configuration.
    pub fn new(config: CausalConfig) -> Self {
        Self::of(config, CausalConfig::describe)
    }
}
