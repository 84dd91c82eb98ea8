//! The language models of laws and kernel cases, each with one name.

use kernelview::lm::{Architecture, CausalArchitecture, CausalLm, LanguageModel, MaskedLm, random};

/// One of these language models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Bert,
    Roberta,
    DistilBert,
    Electra,
    Albert,
    Gpt2,
    Llama,
    Qwen2,
}

impl Network {
    pub const ALL: [Self; 8] = [
        Self::Bert,
        Self::Roberta,
        Self::DistilBert,
        Self::Electra,
        Self::Albert,
        Self::Gpt2,
        Self::Llama,
        Self::Qwen2,
    ];

    /// The masked architecture, or the causal one.
    pub fn architecture(self) -> Result<Architecture, CausalArchitecture> {
        match self {
            Self::Bert => Ok(Architecture::Bert),
            Self::Roberta => Ok(Architecture::Roberta),
            Self::DistilBert => Ok(Architecture::DistilBert),
            Self::Electra => Ok(Architecture::Electra),
            Self::Albert => Ok(Architecture::Albert),
            Self::Gpt2 => Err(CausalArchitecture::Gpt2),
            Self::Llama => Err(CausalArchitecture::Llama),
            Self::Qwen2 => Err(CausalArchitecture::Qwen2),
        }
    }

    /// A network of two layers of width 16.
    pub fn tiny(self, vocabulary: i64, tied: bool) -> Box<dyn LanguageModel> {
        match self.architecture() {
            Ok(architecture) => {
                let mut config = random::tiny(architecture, vocabulary);
                config.tied_decoder = tied;
                Box::new(MaskedLm::new(config))
            }
            Err(architecture) => {
                let mut config = random::tiny_causal(architecture, vocabulary);
                config.tied_decoder = tied;
                Box::new(CausalLm::new(config))
            }
        }
    }

    /// Whether positions are rotary angles, so that equal tokens are alike in any position.
    pub fn is_rotary(self) -> bool {
        matches!(self, Self::Llama | Self::Qwen2)
    }

    /// Number of segment ids that its prompts may have.
    pub fn segments(self) -> i64 {
        if self.architecture().is_ok() && self != Self::DistilBert { 2 } else { 1 }
    }

    /// Whether a parameter is a table of token embeddings.
    pub fn is_token_table(name: &str) -> bool {
        ["word_embeddings.weight", "wte.weight", "embed_tokens.weight"].iter().any(|end| name.ends_with(end))
    }
}
