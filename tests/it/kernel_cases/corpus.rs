//! The corpus of kernel cases, and its networks.

use kernelview::jacobian::Parameters;
use kernelview::lm::{
    Activation, Architecture, CausalArchitecture, CausalConfig, CausalLm, LanguageModel, MaskedLm, ModelConfig,
    OutputMode, PromptExample, PromptExamples, Roundings, random,
};
use serde::Deserialize;
use tch::{Device, Kind};

const CORPUS: &str = include_str!("../../../fixtures/kernel-cases.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub architecture: String,
    pub tied: bool,
    pub activation: String,
    sizes: Sizes,
    seed: u64,
    pub label_ids: Vec<i64>,
    pub output: OutputMode,
    pub left: Vec<Prompt>,
    pub right: Option<Vec<Prompt>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    hidden_size: i64,
    heads: i64,
    layers: i64,
    intermediate_size: i64,
    vocab_size: i64,
    max_positions: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    pub ids: Vec<i64>,
    pub mask: usize,
    pub segments: Option<Vec<i64>>,
}

pub fn corpus() -> Vec<Case> {
    toml::from_str::<Corpus>(CORPUS).expect("the corpus is readable").case
}

impl Case {
    pub fn model(&self) -> Box<dyn LanguageModel> {
        let activation = match self.activation.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            "silu" => Activation::Silu,
            "tanh" => Activation::Tanh,
            other => panic!("{}: activation {other}", self.name),
        };
        let s = &self.sizes;
        let masked = |architecture| -> Box<dyn LanguageModel> {
            Box::new(MaskedLm::new(ModelConfig {
                hidden_size: s.hidden_size,
                heads: s.heads,
                layers: s.layers,
                intermediate_size: s.intermediate_size,
                max_positions: s.max_positions,
                activation,
                tied_decoder: self.tied,
                ..random::tiny(architecture, s.vocab_size)
            }))
        };
        let causal = |architecture| -> Box<dyn LanguageModel> {
            Box::new(CausalLm::new(CausalConfig {
                hidden_size: s.hidden_size,
                heads: s.heads,
                kv_heads: if architecture == CausalArchitecture::Gpt2 { s.heads } else { 1 },
                head_size: s.hidden_size / s.heads,
                layers: s.layers,
                intermediate_size: s.intermediate_size,
                max_positions: s.max_positions,
                activation,
                tied_decoder: self.tied,
                ..random::tiny_causal(architecture, s.vocab_size)
            }))
        };
        match self.architecture.as_str() {
            "bert" => masked(Architecture::Bert),
            "roberta" => masked(Architecture::Roberta),
            "distilbert" => masked(Architecture::DistilBert),
            "electra" => masked(Architecture::Electra),
            "albert" => masked(Architecture::Albert),
            "gpt2" => causal(CausalArchitecture::Gpt2),
            "llama" => causal(CausalArchitecture::Llama),
            "qwen2" => causal(CausalArchitecture::Qwen2),
            other => panic!("{}: architecture {other}", self.name),
        }
    }

    pub fn examples<'a>(&self, model: &'a dyn LanguageModel, prompts: &[Prompt]) -> PromptExamples<'a> {
        let prompts = prompts
            .iter()
            .map(|p| PromptExample {
                input_ids: p.ids.clone(),
                segment_ids: p.segments.clone().unwrap_or_else(|| vec![0; p.ids.len()]),
                mask_position: p.mask,
            })
            .collect();
        PromptExamples::new(model, prompts, &self.label_ids, self.output, Device::Cpu)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name))
            .rounded(Roundings::None)
    }

    pub fn outputs(&self) -> usize {
        if self.output == OutputMode::Difference { 1 } else { self.label_ids.len() }
    }

    /// The larger of both sides' numbers of Jacobian rows.
    pub fn rows(&self) -> i64 {
        let examples = self.right.as_ref().map_or(0, Vec::len).max(self.left.len());
        (examples * self.outputs()) as i64
    }
}

/// A case's network, with weights that single precision represents exactly, so that it is the same function in both precisions.
pub struct Built {
    pub single: Parameters,
    pub double: Parameters,
}

impl Built {
    pub fn new(case: &Case, model: &dyn LanguageModel) -> Self {
        let single = random::parameters(model, case.seed, 1.5, Kind::Float, Device::Cpu);
        let double = single.map(|v| v.to_kind(Kind::Double));
        Self { single, double }
    }
}
