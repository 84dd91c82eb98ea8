//! Causal networks whose configuration is built by hand, described as those that are read.

use super::super::decoder::{CausalArchitecture, CausalConfig};
use super::super::parts::Description;
use super::settings::Sizes;
use super::{gpt2, llama};

impl CausalConfig {
    /// As a description by parts.
    pub(in crate::lm) fn describe(&self) -> Description {
        match self.architecture {
            CausalArchitecture::Gpt2 => gpt2::network(self),
            CausalArchitecture::Llama | CausalArchitecture::Qwen2 => llama::network(self),
        }
    }
}

impl From<&CausalConfig> for Sizes {
    fn from(c: &CausalConfig) -> Self {
        Self {
            width: c.hidden_size,
            layers: c.layers,
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_size: c.head_size,
            intermediate: c.intermediate_size,
            vocab: c.vocab_size,
            positions: c.max_positions,
        }
    }
}
