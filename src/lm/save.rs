//! Writes checkpoint directories, with `config.json` and `model.safetensors`, for Hugging Face's classes and this program's
//! loaders.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tch::{Kind, Tensor};

use super::activation::Activation;
use super::config::{Architecture, Sharing};
use super::encoder::MaskedLm;
use crate::error::{Error, Result};
use crate::files::{create_dir, write_atomic};
use crate::jacobian::Parameters;

/// Element type of stored weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredType {
    /// Half precision: 11 significant bits, half the size.
    F16,
    /// Single precision.
    #[default]
    F32,
}

impl StoredType {
    fn kind(self) -> Kind {
        match self {
            Self::F16 => Kind::Half,
            Self::F32 => Kind::Float,
        }
    }
}

/// Writes a model; `config.json` is written last, as the sign that the weights are complete.
pub fn save(model: &MaskedLm, parameters: &Parameters, directory: &Path, stored: StoredType) -> Result<()> {
    create_dir(directory)?;
    let named = parameters.specs().iter().map(|s| s.name.as_str()).zip(parameters.values());
    let mut named: Vec<(String, Tensor)> =
        named.map(|(name, value)| (name.to_owned(), value.to_kind(stored.kind()))).collect();
    // Since version 5, transformers reads an untied decoder's bias only from there.
    let head = model.config().architecture.names().head;
    if let Some(at_decoder) = head.bias_at_decoder().filter(|_| !model.config().tied_decoder) {
        let bias = named.iter().find(|(name, _)| name == head.bias).map(|(_, bias)| bias.shallow_clone());
        named.extend(bias.map(|bias| (at_decoder, bias)));
    }
    write_tensors(&directory.join("model.safetensors"), &named, &[("format", "pt")])?;
    let text = serde_json::to_string_pretty(&config_json(model, stored)).expect("a JSON value prints") + "\n";
    write_atomic(&directory.join("config.json"), text.as_bytes())
}

fn config_json(model: &MaskedLm, stored: StoredType) -> serde_json::Value {
    let c = model.config();
    let fields = c.architecture.names().fields;
    let name = match c.architecture {
        Architecture::Bert => "BertForMaskedLM",
        Architecture::Roberta => "RobertaForMaskedLM",
        Architecture::XlmRoberta => "XLMRobertaForMaskedLM",
        Architecture::Camembert => "CamembertForMaskedLM",
        Architecture::DistilBert => "DistilBertForMaskedLM",
        Architecture::Electra => "ElectraForMaskedLM",
        Architecture::Albert => "AlbertForMaskedLM",
    };
    let activation = match c.activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::GeluFast => "gelu_fast",
        Activation::QuickGelu => "quick_gelu",
        Activation::Relu => "relu",
        Activation::SquaredRelu => "relu2",
        Activation::Silu => "silu",
        Activation::Tanh => "tanh",
    };
    let mut config = json!({
        "architectures": [name], "model_type": c.architecture.name(), "vocab_size": c.vocab_size,
        fields.hidden: c.hidden_size, fields.layers: c.layers, fields.heads: c.heads,
        fields.intermediate: c.intermediate_size, "max_position_embeddings": c.max_positions,
    });
    if c.has_segments() {
        config["type_vocab_size"] = c.type_vocab_size.into();
        config["layer_norm_eps"] = c.layer_norm_eps.into();
    }
    config[fields.activation] = activation.into();
    config["pad_token_id"] = c.pad_token_id.into();
    config["tie_word_embeddings"] = c.tied_decoder.into();
    config["torch_dtype"] = if stored == StoredType::F16 { "float16" } else { "float32" }.into();
    if matches!(c.architecture, Architecture::Electra | Architecture::Albert) {
        config["embedding_size"] = c.embedding_size.unwrap_or(c.hidden_size).into();
    }
    if let Some(Sharing { groups, inner }) = c.sharing {
        config["num_hidden_groups"] = groups.into();
        config["inner_group_num"] = inner.into();
    }
    if let Some(base) = c.mup_base_width {
        config["mup_base_width"] = base.into();
    }
    config
}

/// Writes named tensors of one of the types f16, f32, f64 or u8, with metadata.
///
/// # Errors
/// [`Error::Format`] if a tensor has another type; [`Error::Io`].
pub fn write_tensors(path: &Path, named: &[(impl AsRef<str>, Tensor)], metadata: &[(&str, &str)]) -> Result<()> {
    let mut stored = Vec::with_capacity(named.len());
    for (name, tensor) in named {
        let name = name.as_ref();
        let dtype = match tensor.kind() {
            Kind::Half => Dtype::F16,
            Kind::Float => Dtype::F32,
            Kind::Double => Dtype::F64,
            Kind::Uint8 => Dtype::U8,
            other => return Err(Error::format(path, format!("tensor `{name}` of {other:?} cannot be written"))),
        };
        let flat = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        let mut bytes = vec![0u8; flat.numel() * tensor.kind().elt_size_in_bytes()];
        flat.copy_data_u8(&mut bytes, flat.numel());
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        stored.push((name, dtype, shape, bytes));
    }
    let views = stored
        .iter()
        .map(|(name, dtype, shape, bytes)| TensorView::new(*dtype, shape.clone(), bytes).map(|view| (*name, view)));
    let views: Vec<(&str, TensorView<'_>)> =
        views.collect::<std::result::Result<_, _>>().map_err(|e| Error::format(path, e.to_string()))?;
    let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let file = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::format(path, e.to_string()))?;
    write_atomic(path, &file)
}
