//! Checkpoints with random weights, for tests and benchmarks: any shape, seeded, the same on every machine.

use kernelview_loops::draws::Draws;
use tch::{Device, Kind, Tensor};

use super::activation::Activation;
use super::config::{Architecture, ModelConfig, Sharing};
use super::decoder::{Biases, CausalArchitecture, CausalConfig};
use super::model::LanguageModel;
use crate::jacobian::{Parameters, Role};

/// The shape of BERT-base: 12 layers of width 768, 110M parameters.
pub fn bert_base() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Bert,
        vocab_size: 30_522,
        hidden_size: 768,
        embedding_size: None,
        layers: 12,
        sharing: None,
        heads: 12,
        intermediate_size: 3072,
        max_positions: 512,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        activation: Activation::Gelu,
        pad_token_id: 0,
        tied_decoder: true,
        mup_base_width: None,
    }
}

/// The shape of RoBERTa-base: 12 layers of width 768 and a vocabulary of 50,265, 125M parameters.
pub fn roberta_base() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Roberta,
        vocab_size: 50_265,
        max_positions: 514,
        type_vocab_size: 1,
        layer_norm_eps: 1e-5,
        pad_token_id: 1,
        ..bert_base()
    }
}

/// A tiny shape for tests: 2 layers of width 16; ELECTRA's and ALBERT's embeddings are half as wide, and ALBERT's layers
/// share parameters.
pub fn tiny(architecture: Architecture, vocab_size: i64) -> ModelConfig {
    let is_factorized = matches!(architecture, Architecture::Electra | Architecture::Albert);
    ModelConfig {
        architecture,
        vocab_size,
        hidden_size: 16,
        embedding_size: is_factorized.then_some(8),
        layers: 2,
        sharing: (architecture == Architecture::Albert).then_some(Sharing { groups: 1, inner: 1 }),
        heads: 2,
        intermediate_size: 24,
        max_positions: 80,
        type_vocab_size: if architecture == Architecture::DistilBert { 1 } else { 2 },
        layer_norm_eps: 1e-12,
        activation: Activation::Gelu,
        pad_token_id: i64::from(architecture.is_roberta()),
        tied_decoder: true,
        mup_base_width: None,
    }
}

/// A tiny causal shape for tests: 2 layers of width 16; Llama and Qwen2 have two query heads per key head.
pub fn tiny_causal(architecture: CausalArchitecture, vocab_size: i64) -> CausalConfig {
    let gpt2 = architecture == CausalArchitecture::Gpt2;
    CausalConfig {
        architecture,
        vocab_size,
        hidden_size: 16,
        layers: 2,
        heads: 4,
        kv_heads: if gpt2 { 4 } else { 2 },
        head_size: 4,
        intermediate_size: 24,
        max_positions: 80,
        norm_eps: 1e-5,
        activation: if gpt2 { Activation::GeluTanh } else { Activation::Silu },
        // Small, so that angles are large within a few tokens.
        rope_theta: 100.0,
        biases: Biases { qkv: architecture != CausalArchitecture::Llama, output: gpt2, feed_forward: gpt2 },
        pad_token_id: 0,
        tied_decoder: true,
    }
}

/// Draws weights: matrices N(0, scale²/fan_in), tables N(0, scale²·0.1), layer norm weights around 1, biases N(0,
/// 0.1²).
pub fn parameters(model: &dyn LanguageModel, seed: u64, scale: f64, kind: Kind, device: Device) -> Parameters {
    let mut draws = Draws::new(seed, 0);
    let values = model
        .specs()
        .iter()
        .map(|spec| {
            let is_norm_weight = spec.shape.len() == 1 && !spec.is_bias();
            let (mean, deviation) = if is_norm_weight {
                (1.0, 0.1)
            } else if spec.is_bias() {
                (0.0, 0.1)
            } else if spec.role == Role::Embedding {
                (0.0, scale * 0.1f64.sqrt())
            } else {
                (0.0, scale / (spec.shape[1] as f64).sqrt())
            };
            let numbers = draws.normal(mean, deviation, spec.numel() as usize);
            Tensor::from_slice(&numbers).view(spec.shape.as_slice()).to_kind(kind).to_device(device)
        })
        .collect();
    Parameters::new(std::sync::Arc::clone(model.specs()), values)
}
