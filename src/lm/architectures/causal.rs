//! Causal networks whose configuration is built by hand, described as those that are read.

use super::super::decoder::{CausalArchitecture, CausalConfig};
use super::super::parts::Description;
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
