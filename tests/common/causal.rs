//! Tiny causal checkpoints in Hugging Face's layout and as GGUF files, written without the program's own code.

use std::fs;
use std::path::Path;

use kernelview::jacobian::Parameters;
use kernelview::lm::{CausalArchitecture, CausalConfig, write_tensors};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// `config.json` of a configuration.
pub fn config_json(c: &CausalConfig) -> Value {
    if c.architecture == CausalArchitecture::Gpt2 {
        return json!({
            "model_type": "gpt2", "vocab_size": c.vocab_size, "n_embd": c.hidden_size, "n_layer": c.layers,
            "n_head": c.heads, "n_inner": c.intermediate_size, "n_positions": c.max_positions,
            "layer_norm_epsilon": c.norm_eps, "activation_function": "gelu_new", "tie_word_embeddings": c.tied_decoder,
        });
    }
    json!({
        "model_type": c.architecture.name(), "vocab_size": c.vocab_size, "hidden_size": c.hidden_size,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_size, "intermediate_size": c.intermediate_size, "max_position_embeddings": c.max_positions,
        "rms_norm_eps": c.norm_eps, "hidden_act": "silu", "rope_theta": c.rope_theta,
        "tie_word_embeddings": c.tied_decoder, "attention_bias": c.biases.output, "mlp_bias": c.biases.feed_forward,
        "use_sliding_window": false, "sliding_window": null, "rope_scaling": null,
    })
}

/// Tensors by their names in Hugging Face's checkpoints, in single precision; GPT-2's maps are transposed, as it stores them.
pub fn tensors(parameters: &Parameters) -> Vec<(String, Tensor)> {
    let named = parameters.specs().iter().zip(parameters.values());
    let turn = |name: &str| ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| name.ends_with(end));
    named
        .map(|(spec, t)| {
            let t = t.to_kind(Kind::Float);
            (spec.name.clone(), if turn(&spec.name) { t.tr().contiguous() } else { t })
        })
        .collect()
}

/// Writes `config.json` and `model.safetensors`.
pub fn write(directory: &Path, config: &Value, tensors: &[(String, Tensor)]) {
    fs::create_dir_all(directory).expect("a directory");
    fs::write(directory.join("config.json"), config.to_string()).expect("config.json");
    write_tensors(&directory.join("model.safetensors"), tensors, &[("format", "pt")]).expect("weights");
}

/// A GGUF file under construction.
#[derive(Clone, Default)]
pub struct GgufFile {
    pub fields: Vec<(String, Field)>,
    /// Name, shape (contiguous axis last, as in this program), type, bytes.
    pub tensors: Vec<(String, Vec<i64>, u32, Vec<u8>)>,
}

/// A field's value.
#[derive(Clone)]
pub enum Field {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.bytes());
}

impl GgufFile {
    /// Sets a field, or with `None` removes it.
    pub fn set(&mut self, name: &str, field: Option<Field>) -> &mut Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.extend(field.map(|field| (name.to_owned(), field)));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.fields.len() as u64).to_le_bytes());
        for (name, field) in &self.fields {
            text(&mut out, name);
            let mut put = |kind: u32, bytes: &[u8]| {
                out.extend(kind.to_le_bytes());
                out.extend(bytes);
            };
            let list =
                |kind: u32, count: usize| [kind.to_le_bytes().as_slice(), &(count as u64).to_le_bytes()].concat();
            match field {
                Field::U32(n) => put(4, &n.to_le_bytes()),
                Field::F32(x) => put(6, &x.to_le_bytes()),
                Field::Flag(flag) => put(7, &[u8::from(*flag)]),
                Field::Text(value) => {
                    let mut bytes = Vec::new();
                    text(&mut bytes, value);
                    put(8, &bytes);
                }
                Field::Texts(values) => {
                    let mut bytes = list(8, values.len());
                    for value in values {
                        text(&mut bytes, value);
                    }
                    put(9, &bytes);
                }
                Field::I32s(values) => {
                    let mut bytes = list(5, values.len());
                    for value in values {
                        bytes.extend(value.to_le_bytes());
                    }
                    put(9, &bytes);
                }
            }
        }
        let mut data: Vec<u8> = Vec::new();
        for (name, shape, kind, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0);
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

/// A model as llama.cpp's converter writes it: rows of Llama's queries and keys are ordered so that pairs are adjacent.
pub fn gguf(config: &CausalConfig, parameters: &Parameters) -> GgufFile {
    let name = config.architecture.name();
    let mut file = GgufFile::default();
    file.set("general.architecture", Some(Field::Text(name.into())));
    for (part, value) in [
        ("block_count", config.layers),
        ("context_length", config.max_positions),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("rope.dimension_count", config.head_size),
    ] {
        file.set(&format!("{name}.{part}"), Some(Field::U32(value as u32)));
    }
    file.set(&format!("{name}.rope.freq_base"), Some(Field::F32(config.rope_theta as f32)));
    file.set(&format!("{name}.attention.layer_norm_rms_epsilon"), Some(Field::F32(config.norm_eps as f32)));
    for (theirs, t) in tensors(parameters) {
        let own = theirs
            .replace("model.layers", "blk")
            .replace("model.embed_tokens", "token_embd")
            .replace("model.norm", "output_norm")
            .replace("lm_head", "output")
            .replace("self_attn.o_proj", "attn_output")
            .replace("self_attn.", "attn_")
            .replace("mlp.", "ffn_")
            .replace("_proj", "")
            .replace("input_layernorm", "attn_norm")
            .replace("post_attention_layernorm", "ffn_norm");
        let shape = t.size();
        let turned = config.architecture == CausalArchitecture::Llama
            && (theirs.contains("q_proj") || theirs.contains("k_proj"));
        let width: i64 = shape[1..].iter().product();
        let rows = t.reshape([-1, width]);
        let mut numbers = Vec::new();
        for row in 0..shape[0] {
            // Row 2p + s of a head in the file is row p + s d/2 of Hugging Face's.
            let (head, at, d) = (row / config.head_size, row % config.head_size, config.head_size);
            let from = if turned { head * d + at / 2 + (at % 2) * d / 2 } else { row };
            numbers.extend(Vec::<f32>::try_from(rows.get(from)).expect("single precision"));
        }
        file.tensors.push((own, shape, 0, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()));
    }
    file
}
