//! Causal models in GGUF files: llama.cpp's names of settings and tensors, and its order of rotated entries.
//!
//! Settings that would change the function and are not supported are refused by name. Source of names: llama.cpp's
//! `gguf-py/gguf/constants.py`; of the order: its `convert_hf_to_gguf.py`.

use std::collections::BTreeMap;

use serde_json::json;
use tch::{Device, Kind};

use super::architectures;
use super::assemble::{Naming, Wanted};
use super::checkpoint::{Checkpoint, TensorSource};
use super::fields::Fields;
use super::names::LayerNames;
use super::network::Network;
use super::parts::Description;
use super::rotary::Scaling;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::jacobian::Parameters;
use crate::progress::check_cancelled;

/// Settings that would change the function: field names after the architecture's prefix, with the value that is equivalent
/// to absence, if any, as it is displayed.
const UNSUPPORTED: [(&str, Option<&str>); 8] = [
    ("attention.causal", Some("true")),
    ("attention.clamp_kqv", None),
    ("rope.scale_linear", Some("1")),
    ("rope.scaling.type", Some("`none`")),
    ("rope.scaling.factor", Some("1")),
    ("rope.scaling.attn_factor", Some("1")),
    ("expert_count", Some("0")),
    ("attention.temperature_scale", None),
];

/// An architecture of GGUF files.
struct Form {
    /// Its name in GGUF files.
    name: &'static str,
    /// Hugging Face's `model_type`.
    model_type: &'static str,
    /// Whether layers have windows.
    windows: bool,
    /// Whether norm weights are stored with one added.
    centred: bool,
}

static FORMS: [Form; 5] = [
    Form { name: "llama", model_type: "llama", windows: false, centred: false },
    Form { name: "qwen2", model_type: "qwen2", windows: false, centred: false },
    Form { name: "qwen3", model_type: "qwen3", windows: false, centred: false },
    Form { name: "gemma2", model_type: "gemma2", windows: true, centred: true },
    Form { name: "gemma3", model_type: "gemma3_text", windows: true, centred: true },
];

/// Network and values of a file.
pub(super) fn load(file: &Gguf, kind: Kind, device: Device) -> Result<(Network, Parameters)> {
    let of = architecture(file)?;
    let network = Network::new(describe(file, of)?);
    let checkpoint = checkpoint(file, of, network.description())?;
    let settings = "the file's metadata, in Hugging Face's words";
    let names = GgufNames(network.description().names.layer);
    let parameters =
        Wanted::of(network.description(), &names, settings).assemble(file.path(), &checkpoint, kind, device)?;
    Ok((network, parameters))
}

fn architecture(file: &Gguf) -> Result<&'static Form> {
    let name = file.text("general.architecture")?;
    FORMS.iter().find(|form| form.name == name).ok_or_else(|| {
        let known: Vec<&str> = FORMS.iter().map(|form| form.name).collect();
        let problem = format!("is `{name}`, which is not supported; supported are: {}", known.join(", "));
        file.wrong("general.architecture", problem)
    })
}

/// Whether a file says that angles are not scaled, so that a factor has no effect; the default of llama.cpp is linear scaling.
fn is_unscaled(file: &Gguf, key: &impl Fn(&str) -> String) -> bool {
    file.text(&key("rope.scaling.type")).is_ok_and(|kind| kind == "none")
}

/// The network of a file, from its settings under Hugging Face's names and from its tensors.
fn describe(file: &Gguf, of: &Form) -> Result<Description> {
    let key = |part: &str| format!("{}.{part}", of.name);
    for (part, harmless) in UNSUPPORTED {
        match file.field(&key(part)) {
            None => {}
            Some(found) if harmless == Some(found.to_string().as_str()) => {}
            Some(_) if part == "rope.scaling.factor" && is_unscaled(file, &key) => {}
            Some(found) => return Err(file.wrong(&key(part), format!("is {found}, which is not supported"))),
        }
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
    let mut settings = json!({
        "model_type": of.model_type,
        "vocab_size": table.map_or_else(|| size("vocab_size", None), Ok)?,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_size,
        "intermediate_size": size("feed_forward_length", None)?,
        "max_position_embeddings": size("context_length", None)?,
        "rms_norm_eps": file.positive(&key("attention.layer_norm_rms_epsilon"), None)?,
        "rope_theta": file.positive(&key("rope.freq_base"), Some(10_000.0))?,
        "tie_word_embeddings": file.shape("output.weight").is_none(),
        "pad_token_id": 0,
        // llama.cpp caps scores.
        "eager_attention": of.name == "gemma2",
        // As in llama.cpp's graph; the largest model of either family divides by another width.
        "query_pre_attn_scalar": match (of.name, layers) {
            ("gemma2", 46) | ("gemma3", 62) => hidden_size / heads,
            _ => head_size,
        },
    });
    let window = "attention.sliding_window";
    match (of.windows, file.field(&key(window)), file.field(&key("attention.sliding_window_pattern"))) {
        (true, _, None) => settings["sliding_window"] = size(window, None)?.into(),
        (true, _, Some(found)) => {
            let problem =
                format!("is {found}, which is not supported: the architecture determines the layers with windows");
            return Err(file.wrong(&key("attention.sliding_window_pattern"), problem));
        }
        (false, Some(found), _) => return Err(file.wrong(&key(window), format!("is {found}, which is not supported"))),
        (false, None, Some(found)) => {
            return Err(
                file.wrong(&key("attention.sliding_window_pattern"), format!("is {found}, which is not supported"))
            );
        }
        (false, None, None) => {}
    }
    for cap in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if file.field(&key(cap)).is_some() {
            settings[cap] = file.positive(&key(cap), None)?.into();
        }
    }
    let mut described = architectures::describe(&Fields::of(file.path(), settings))?;
    let has = |name: &str| file.shape(name).is_some();
    let factors = rotary_factors(file, head_size)?;
    for layer in &mut described.layers {
        layer.attention.biased = has("blk.0.attn_q.bias");
        layer.attention.output_biased = has("blk.0.attn_output.bias");
        layer.feed.biased = has("blk.0.ffn_up.bias");
        if let (Some(rotary), Some(factors)) = (&mut layer.attention.rotary, &factors) {
            rotary.scaling = Scaling::Pairs { factors: factors.clone() };
        }
    }
    Ok(described)
}

/// Divisors of the pairs' angles: llama.cpp's form of Llama 3's scaling.
fn rotary_factors(file: &Gguf, head_size: i64) -> Result<Option<Vec<f64>>> {
    let name = "rope_freqs.weight";
    if file.shape(name).is_none() {
        return Ok(None);
    }
    let factors = Vec::<f64>::try_from(file.tensor(name)?.to_kind(Kind::Double).reshape([-1])).unwrap_or_default();
    if factors.len() as i64 == head_size / 2 && factors.iter().all(|f| f.is_finite() && *f > 0.0) {
        return Ok(Some(factors));
    }
    let problem = format!("must be {} positive numbers, one for each pair of entries", head_size / 2);
    Err(Error::format(file.path(), format!("tensor `{name}` {problem}")))
}

const TOKENS: &str = "token_embd.weight";

/// All tensors of a file by the file's own names, with rotated entries in Hugging Face's order: entry k of a head pairs with
/// k + d/2, whereas Llama's files have pairs side by side.
fn checkpoint(file: &Gguf, of: &Form, d: &Description) -> Result<Checkpoint> {
    let mut tensors = BTreeMap::new();
    for name in file.names().filter(|name| *name != "rope_freqs.weight") {
        check_cancelled()?;
        let mut tensor = file.tensor(name)?;
        let attention = d.layers.first().map(|layer| &layer.attention);
        let heads = match (name.rsplit_once(".attn_").map(|(_, part)| part.split('.').next()), attention) {
            (Some(Some("q")), Some(attention)) => Some((attention.heads, attention.head_size)),
            (Some(Some("k")), Some(attention)) => Some((attention.kv_heads, attention.head_size)),
            _ => None,
        };
        let shape = tensor.size();
        if let Some((heads, head_size)) = heads
            && of.name == "llama"
            && shape.first() == Some(&(heads * head_size))
        {
            let pairs = tensor.reshape([heads, head_size / 2, 2, -1]);
            tensor = pairs.transpose(1, 2).reshape(shape.as_slice());
        }
        if of.centred && name.ends_with("norm.weight") {
            tensor = tensor.to_kind(Kind::Float) - 1.0;
        }
        let source = TensorSource { tensor, is_view: false, file: file.path().to_path_buf() };
        tensors.insert(name.to_owned(), source);
    }
    Ok(Checkpoint { tensors, files: vec![file.path().to_path_buf()] })
}

/// The names of a file's tensors, from Hugging Face's names within a layer.
struct GgufNames(LayerNames);

impl GgufNames {
    /// Hugging Face's names of a layer's parts, and the file's.
    fn parts(&self) -> [(&'static str, &'static str); 13] {
        let names = &self.0;
        [
            (names.attention_before, "attn_norm"),
            (names.query, "attn_q"),
            (names.key, "attn_k"),
            (names.value, "attn_v"),
            (names.query_norm, "attn_q_norm"),
            (names.key_norm, "attn_k_norm"),
            (names.attention_output, "attn_output"),
            (names.attention_after, "post_attention_norm"),
            (names.feed_before, "ffn_norm"),
            (names.gate, "ffn_gate"),
            (names.up, "ffn_up"),
            (names.down, "ffn_down"),
            (names.feed_after, "post_ffw_norm"),
        ]
    }
}

impl Naming for GgufNames {
    fn aliases(&self, name: &str) -> Vec<String> {
        let own = match name {
            "model.embed_tokens.weight" => TOKENS.to_owned(),
            "model.norm.weight" => "output_norm.weight".to_owned(),
            "lm_head.weight" => "output.weight".to_owned(),
            _ => {
                let (number, part) =
                    name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')).unwrap_or(("", name));
                let of = |(theirs, own): &(&str, &str)| {
                    let rest = part.strip_prefix(theirs).filter(|rest| !theirs.is_empty() && rest.starts_with('.'))?;
                    Some(format!("{own}{rest}"))
                };
                let renamed = self.parts().iter().find_map(of);
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
        "the decoder is tied to the token embeddings if the file has no `output.weight`"
    }

    fn layer(&self) -> (&'static str, &'static str) {
        ("a layer", "block_count")
    }
}
