//! Causal models in GGUF files: llama.cpp's names of settings and tensors, and its order of rotated entries.
//!
//! Settings that would change the function and are not supported are refused by name. Source of names: llama.cpp's
//! `gguf-py/gguf/constants.py`; of the order: its `convert_hf_to_gguf.py`.

use std::collections::BTreeMap;

use tch::{Device, Kind};

use super::assemble::{Naming, Wanted};
use super::checkpoint::{Checkpoint, TensorSource};
use super::config::Activation;
use super::decoder::{Biases, CausalArchitecture, CausalConfig};
use super::network::Network;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use crate::jacobian::Parameters;

/// Settings of another function than this program's: fields behind the architecture's name, with the one value that
/// means the same as absence, if there is one.
const UNSUPPORTED: [(&str, Option<&str>); 8] = [
    ("attention.sliding_window", None),
    ("attention.sliding_window_pattern", None),
    ("attention.clamp_kqv", None),
    ("rope.scale_linear", None),
    ("rope.scaling.type", Some("none")),
    ("rope.scaling.attn_factor", None),
    ("expert_count", None),
    ("attention.temperature_scale", None),
];

/// Network and values of a file.
pub(super) fn load(file: &Gguf, kind: Kind, device: Device) -> Result<(Network, Parameters)> {
    let config = config(file)?;
    let network = Network::new(config.describe());
    let checkpoint = checkpoint(file, &config)?;
    let settings = "the file's metadata, in Hugging Face's words";
    let wanted = Wanted::of(network.description(), &GgufNames, settings);
    let parameters = wanted.assemble(file.path(), &checkpoint, kind, device)?;
    Ok((network, parameters))
}

/// The settings of a file.
fn config(file: &Gguf) -> Result<CausalConfig> {
    let name = file.text("general.architecture")?;
    let architecture = match name {
        "llama" => CausalArchitecture::Llama,
        "qwen2" => CausalArchitecture::Qwen2,
        other => {
            return Err(file.wrong(
                "general.architecture",
                format!("is `{other}`, which is not supported; supported are: llama, qwen2"),
            ));
        }
    };
    let key = |part: &str| format!("{name}.{part}");
    for (part, harmless) in UNSUPPORTED {
        match file.field(&key(part)) {
            None => {}
            Some(Value::Text(text)) if Some(text.as_str()) == harmless => {}
            Some(found) => return Err(file.wrong(&key(part), format!("is {found}, which is not supported"))),
        }
    }
    if file.shape("rope_freqs.weight").is_some() {
        let problem = "is there: rotary angles that are changed for long texts are not supported";
        return Err(Error::format(file.path(), format!("tensor `rope_freqs.weight` {problem}")));
    }
    let size = |part: &str, default| file.size(&key(part), default);
    let hidden_size = size("embedding_length", None)?;
    let heads = size("attention.head_count", None)?;
    let kv_heads = size("attention.head_count_kv", Some(heads))?;
    let multiple = |whole: (&str, i64), part: (&str, i64)| {
        if whole.1 % part.1 == 0 {
            return Ok(());
        }
        Err(file.wrong(&key(whole.0), format!("is {}, not a multiple of `{}` {}", whole.1, key(part.0), part.1)))
    };
    multiple(("attention.head_count", heads), ("attention.head_count_kv", kv_heads))?;
    let head_size = if file.field(&key("attention.key_length")).is_some() {
        size("attention.key_length", None)?
    } else {
        multiple(("embedding_length", hidden_size), ("attention.head_count", heads))?;
        hidden_size / heads
    };
    for part in ["attention.value_length", "rope.dimension_count"] {
        let found = size(part, Some(head_size))?;
        if found != head_size {
            let problem = format!("is {found}, but heads have {head_size} entries, which must all be rotated");
            return Err(file.wrong(&key(part), problem));
        }
    }
    if head_size % 2 != 0 {
        return Err(file.wrong(&key("embedding_length"), format!("makes heads of {head_size} entries, not of pairs")));
    }
    let layers = size("block_count", None)?;
    if layers > 1000 {
        return Err(file.wrong(&key("block_count"), format!("must be at most 1000, found {layers}")));
    }
    let table = file.shape(TOKENS).and_then(<[i64]>::first).copied();
    let vocab_size = table.map_or_else(|| size("vocab_size", None), Ok)?;
    let has = |name: &str| file.shape(name).is_some();
    Ok(CausalConfig {
        architecture,
        vocab_size,
        hidden_size,
        layers,
        heads,
        kv_heads,
        head_size,
        intermediate_size: size("feed_forward_length", None)?,
        max_positions: size("context_length", None)?,
        norm_eps: file.positive(&key("attention.layer_norm_rms_epsilon"), None)?,
        activation: Activation::Silu,
        rope_theta: file.positive(&key("rope.freq_base"), Some(10_000.0))?,
        biases: Biases {
            qkv: has("blk.0.attn_q.bias"),
            output: has("blk.0.attn_output.bias"),
            feed_forward: has("blk.0.ffn_up.bias"),
        },
        pad_token_id: 0,
        tied_decoder: !has("output.weight"),
    })
}

const TOKENS: &str = "token_embd.weight";

/// All tensors of a file by the file's own names, with rotated entries in Hugging Face's order: entry k of a head pairs
/// with k + d/2, where Llama's files have the two side by side.
fn checkpoint(file: &Gguf, config: &CausalConfig) -> Result<Checkpoint> {
    let mut tensors = BTreeMap::new();
    for name in file.names() {
        let mut tensor = file.tensor(name)?;
        let heads = match name.rsplit_once(".attn_").map(|(_, part)| part.split('.').next()) {
            Some(Some("q")) => Some(config.heads),
            Some(Some("k")) => Some(config.kv_heads),
            _ => None,
        };
        let shape = tensor.size();
        if let Some(heads) = heads
            && config.architecture == CausalArchitecture::Llama
            && shape.first() == Some(&(heads * config.head_size))
        {
            let pairs = tensor.reshape([heads, config.head_size / 2, 2, -1]);
            tensor = pairs.transpose(1, 2).reshape(shape.as_slice());
        }
        tensors.insert(name.to_owned(), TensorSource { tensor, file: file.path().to_path_buf() });
    }
    Ok(Checkpoint { tensors, files: vec![file.path().to_path_buf()] })
}

/// The names of a file's tensors.
struct GgufNames;

/// Hugging Face's names of a layer's parts, and the file's.
const PARTS: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];

impl Naming for GgufNames {
    fn aliases(&self, name: &str) -> Vec<String> {
        let own = match name {
            "model.embed_tokens.weight" => TOKENS.to_owned(),
            "model.norm.weight" => "output_norm.weight".to_owned(),
            "lm_head.weight" => "output.weight".to_owned(),
            _ => {
                let (number, part) =
                    name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')).unwrap_or(("", name));
                let renamed =
                    PARTS.iter().find_map(|(theirs, own)| Some(format!("{own}{}", part.strip_prefix(theirs)?)));
                format!("blk.{number}.{}", renamed.unwrap_or_else(|| part.to_owned()))
            }
        };
        vec![own]
    }

    fn layer_number(&self, name: &str) -> Option<i64> {
        let rest = name.strip_prefix("blk.").or_else(|| name.strip_prefix("model.layers."))?;
        rest.split('.').next()?.parse().ok()
    }

    fn is_expected_extra(&self, _name: &str) -> bool {
        false
    }

    fn is_head(&self, name: &str) -> bool {
        name == "output.weight"
    }

    fn no_head(&self) -> &'static str {
        "the decoder shares the token embeddings where the file has no `output.weight`"
    }

    fn layer(&self) -> (&'static str, &'static str) {
        ("a layer", "block_count")
    }
}
