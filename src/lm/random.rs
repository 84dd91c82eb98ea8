//! Checkpoints with random weights, for tests and benchmarks: any shape, one named seed, the same on every machine.

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::config::{Activation, Architecture, ModelConfig};
use super::encoder::MaskedLm;
use crate::error::{Error, Result};
use crate::files::{create_dir, write_atomic};
use crate::jacobian::Parameters;

/// The shape of BERT-base: 12 layers of width 768, 110M parameters.
pub fn bert_base() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Bert,
        vocab_size: 30_522,
        hidden_size: 768,
        layers: 12,
        heads: 12,
        intermediate_size: 3072,
        max_positions: 512,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        activation: Activation::Gelu,
        pad_token_id: 0,
        tied_decoder: true,
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

/// A tiny shape for tests: 2 layers of width 16.
pub fn tiny(architecture: Architecture, vocab_size: i64) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size,
        hidden_size: 16,
        layers: 2,
        heads: 2,
        intermediate_size: 24,
        max_positions: 80,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        activation: Activation::Gelu,
        pad_token_id: i64::from(architecture == Architecture::Roberta),
        tied_decoder: true,
    }
}

/// Draws weights: matrices N(0, scale²/fan_in), tables N(0, scale²·0.1), layer norm weights around 1, biases N(0,
/// 0.1²).
pub fn parameters(model: &MaskedLm, seed: u64, scale: f64, kind: Kind, device: Device) -> Parameters {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = model
        .specs()
        .iter()
        .map(|spec| {
            let is_norm_weight = spec.shape.len() == 1 && !spec.is_bias();
            let (mean, deviation) = if is_norm_weight {
                (1.0, 0.1)
            } else if spec.is_bias() {
                (0.0, 0.1)
            } else if spec.name.contains("embeddings") {
                (0.0, scale * 0.1f64.sqrt())
            } else {
                (0.0, scale / (spec.shape[1] as f64).sqrt())
            };
            let normal = Normal::new(mean, deviation).expect("the deviation is finite and positive");
            let numbers: Vec<f64> = (0..spec.numel()).map(|_| normal.sample(&mut rng)).collect();
            Tensor::from_slice(&numbers).view(spec.shape.as_slice()).to_kind(kind).to_device(device)
        })
        .collect();
    Parameters::new(std::rc::Rc::clone(model.specs()), values)
}

/// Writes `config.json` and `model.safetensors` (f32) of a model.
pub fn save(model: &MaskedLm, parameters: &Parameters, directory: &Path) -> Result<()> {
    create_dir(directory)?;
    let c = model.config();
    let (name, kind) = match c.architecture {
        Architecture::Bert => ("BertForMaskedLM", "bert"),
        Architecture::Roberta => ("RobertaForMaskedLM", "roberta"),
    };
    let activation = match c.activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
        Activation::Tanh => "tanh",
    };
    let config = json!({
        "architectures": [name], "model_type": kind, "vocab_size": c.vocab_size, "hidden_size": c.hidden_size,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "intermediate_size": c.intermediate_size,
        "max_position_embeddings": c.max_positions, "type_vocab_size": c.type_vocab_size,
        "layer_norm_eps": c.layer_norm_eps, "hidden_act": activation, "pad_token_id": c.pad_token_id,
        "tie_word_embeddings": c.tied_decoder,
    });
    let text = serde_json::to_string_pretty(&config).expect("a JSON value prints");
    write_atomic(&directory.join("config.json"), text.as_bytes())?;
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = parameters
        .specs()
        .iter()
        .zip(parameters.values())
        .map(|(spec, value)| {
            let numbers = Vec::<f32>::try_from(value.to_kind(Kind::Float).reshape([-1])).expect("a flat f32 tensor");
            let raw = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            (spec.name.clone(), spec.shape.iter().map(|n| *n as usize).collect(), raw)
        })
        .collect();
    let path = directory.join("model.safetensors");
    let views: Vec<(&str, TensorView<'_>)> = bytes
        .iter()
        .map(|(name, shape, raw)| TensorView::new(Dtype::F32, shape.clone(), raw).map(|v| (name.as_str(), v)))
        .collect::<Result<_, _>>()
        .map_err(|e| Error::format(&path, e.to_string()))?;
    let file = safetensors::serialize(views, None).map_err(|e| Error::format(&path, e.to_string()))?;
    write_atomic(&path, &file)
}
