//! The parameters of causal language models under Hugging Face's names, in the order in which its classes register them.

use std::sync::Arc;

use super::config::{CausalArchitecture, CausalConfig};
use crate::jacobian::{Param, ParameterSpec, Role};
use crate::lm::assemble::Naming;

/// A linear map, or the affine part of a norm. A root mean square norm has no bias.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub weight: Param,
    pub bias: Option<Param>,
}

/// How a layer makes queries, keys and values.
pub(super) enum Projections {
    /// One map whose rows are queries, keys, values.
    Fused(Map),
    Separate {
        query: Map,
        key: Map,
        value: Map,
    },
}

/// A layer's feed-forward part.
pub(super) enum FeedForward {
    /// `down(φ(up(x)))`
    Plain { up: Map, down: Map },
    /// `down(φ(gate(x)) ∘ up(x))`
    Gated { gate: Map, up: Map, down: Map },
}

/// Parameters of one layer.
pub(super) struct Layer {
    pub attention_norm: Map,
    pub projections: Projections,
    pub attention_output: Map,
    pub feed_norm: Map,
    pub feed: FeedForward,
}

/// Where each parameter of the network is.
pub(super) struct Layout {
    pub tokens: Param,
    /// The position table; without one positions are rotary.
    pub positions: Option<Param>,
    pub layers: Vec<Layer>,
    pub final_norm: Map,
    pub decoder: Param,
}

/// Specifications under construction.
struct Builder {
    specs: Vec<ParameterSpec>,
    reasons: Vec<&'static str>,
    role: Role,
    layer: String,
}

impl Builder {
    fn group(&mut self, role: Role, layer: impl Into<String>) {
        (self.role, self.layer) = (role, layer.into());
    }

    fn add(&mut self, name: String, shape: &[i64], reason: &'static str) -> Param {
        let (role, layer) = (self.role, self.layer.clone());
        self.specs.push(ParameterSpec { name, shape: shape.to_vec(), role, layer, structural_zeros: 0..0 });
        self.reasons.push(reason);
        Param(self.specs.len() - 1)
    }

    fn map(&mut self, name: &str, shape: &[i64], bias: bool, reasons: (&'static str, &'static str)) -> Map {
        let weight = self.add(format!("{name}.weight"), shape, reasons.0);
        let bias = bias.then(|| self.add(format!("{name}.bias"), &shape[..1], reasons.1));
        Map { weight, bias }
    }
}

/// Specifications, the layout into them, and for each the settings that fix its shape.
pub(super) fn layout(config: &CausalConfig) -> (Arc<[ParameterSpec]>, Layout, Vec<&'static str>) {
    let mut b = Builder { specs: Vec::new(), reasons: Vec::new(), role: Role::Embedding, layer: "embeddings".into() };
    let layout = match config.architecture {
        CausalArchitecture::Gpt2 => gpt2(config, &mut b),
        CausalArchitecture::Llama | CausalArchitecture::Qwen2 => llama(config, &mut b),
    };
    (b.specs.into(), layout, b.reasons)
}

fn gpt2(config: &CausalConfig, b: &mut Builder) -> Layout {
    let (h, v, i) = (config.hidden_size, config.vocab_size, config.intermediate_size);
    let tokens = b.add("transformer.wte.weight".into(), &[v, h], "vocab_size x n_embd");
    let positions = b.add("transformer.wpe.weight".into(), &[config.max_positions, h], "n_positions x n_embd");
    let norm = ("n_embd", "n_embd");
    let layers = (0..config.layers)
        .map(|l| {
            let at = |part: &str| format!("transformer.h.{l}.{part}");
            b.group(Role::Body, format!("layer {l}"));
            let attention_norm = b.map(&at("ln_1"), &[h], true, norm);
            let fused = b.map(&at("attn.c_attn"), &[3 * h, h], true, ("n_embd x 3 n_embd", "3 n_embd"));
            // Under softmax attention a key bias adds the same number to all scores of a query, which softmax ignores.
            let bias = fused.bias.expect("GPT-2's maps have biases");
            b.specs[bias.0].structural_zeros = h..2 * h;
            Layer {
                attention_norm,
                projections: Projections::Fused(fused),
                attention_output: b.map(&at("attn.c_proj"), &[h, h], true, ("n_embd x n_embd", "n_embd")),
                feed_norm: b.map(&at("ln_2"), &[h], true, norm),
                feed: FeedForward::Plain {
                    up: b.map(&at("mlp.c_fc"), &[i, h], true, ("n_embd x n_inner", "n_inner")),
                    down: b.map(&at("mlp.c_proj"), &[h, i], true, ("n_inner x n_embd", "n_embd")),
                },
            }
        })
        .collect();
    b.group(Role::Body, "final norm");
    let final_norm = b.map("transformer.ln_f", &[h], true, norm);
    Layout { tokens, positions: Some(positions), layers, final_norm, decoder: decoder(config, b, tokens) }
}

const NORM: (&str, &str) = ("hidden_size", "hidden_size");
const Q: (&str, &str) = ("num_attention_heads · head_dim x hidden_size", "num_attention_heads · head_dim");
const KV: (&str, &str) = ("num_key_value_heads · head_dim x hidden_size", "num_key_value_heads · head_dim");
const UP: (&str, &str) = ("intermediate_size x hidden_size", "intermediate_size");

fn llama(config: &CausalConfig, b: &mut Builder) -> Layout {
    let (h, v, i) = (config.hidden_size, config.vocab_size, config.intermediate_size);
    let (queries, keys) = (config.heads * config.head_size, config.kv_heads * config.head_size);
    let tokens = b.add("model.embed_tokens.weight".into(), &[v, h], "vocab_size x hidden_size");
    let layers = (0..config.layers)
        .map(|l| {
            let at = |part: &str| format!("model.layers.{l}.{part}");
            b.group(Role::Body, format!("layer {l}"));
            // Rotation makes a key bias depend on the distance, so that softmax sees it: no structural zeros.
            let projections = Projections::Separate {
                query: b.map(&at("self_attn.q_proj"), &[queries, h], config.biases.qkv, Q),
                key: b.map(&at("self_attn.k_proj"), &[keys, h], config.biases.qkv, KV),
                value: b.map(&at("self_attn.v_proj"), &[keys, h], config.biases.qkv, KV),
            };
            let output = ("hidden_size x num_attention_heads · head_dim", "hidden_size");
            let attention_output = b.map(&at("self_attn.o_proj"), &[h, queries], config.biases.output, output);
            let feed = FeedForward::Gated {
                gate: b.map(&at("mlp.gate_proj"), &[i, h], config.biases.feed_forward, UP),
                up: b.map(&at("mlp.up_proj"), &[i, h], config.biases.feed_forward, UP),
                down: b.map(
                    &at("mlp.down_proj"),
                    &[h, i],
                    config.biases.feed_forward,
                    ("hidden_size x intermediate_size", "hidden_size"),
                ),
            };
            let attention_norm = b.map(&at("input_layernorm"), &[h], false, NORM);
            let feed_norm = b.map(&at("post_attention_layernorm"), &[h], false, NORM);
            Layer { attention_norm, projections, attention_output, feed_norm, feed }
        })
        .collect();
    b.group(Role::Body, "final norm");
    let final_norm = b.map("model.norm", &[h], false, NORM);
    Layout { tokens, positions: None, layers, final_norm, decoder: decoder(config, b, tokens) }
}

fn decoder(config: &CausalConfig, b: &mut Builder, tokens: Param) -> Param {
    if config.tied_decoder {
        return tokens;
    }
    b.group(Role::Head, "head");
    b.add("lm_head.weight".into(), &[config.vocab_size, config.hidden_size], "vocab_size x the width")
}

/// The names of a causal model's tensors: with and without the model's prefix.
pub(super) struct CausalNames(pub CausalArchitecture);

impl CausalNames {
    fn prefix(&self) -> &'static str {
        if self.0 == CausalArchitecture::Gpt2 { "transformer." } else { "model." }
    }
}

impl Naming for CausalNames {
    fn aliases(&self, name: &str) -> Vec<String> {
        let bare = name.strip_prefix(self.prefix()).map(str::to_owned);
        [name.to_owned()].into_iter().chain(bare).collect()
    }

    fn layer_number(&self, name: &str) -> Option<i64> {
        let bare = name.strip_prefix(self.prefix()).unwrap_or(name);
        let start = if self.0 == CausalArchitecture::Gpt2 { "h." } else { "layers." };
        bare.strip_prefix(start)?.split('.').next()?.parse().ok()
    }

    /// The causal mask as a buffer, rotary frequencies as a buffer, and the stored copy of a tied decoder.
    fn is_expected_extra(&self, name: &str) -> bool {
        ["attn.bias", "attn.masked_bias", "rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
            || self.is_head(name)
    }

    fn is_head(&self, name: &str) -> bool {
        name == "lm_head.weight"
    }

    fn is_decoder(&self, name: &str) -> bool {
        self.is_head(name)
    }

    /// GPT-2's maps are stored as convolutions of width one.
    fn is_transposed(&self, name: &str) -> bool {
        self.0 == CausalArchitecture::Gpt2 && name.contains(".c_") && name.ends_with(".weight")
    }

    fn no_head(&self) -> &'static str {
        "the decoder has weights of its own unless tie_word_embeddings is true"
    }

    fn layer(&self) -> (&'static str, &'static str) {
        ("a layer", if self.0 == CausalArchitecture::Gpt2 { "n_layer" } else { "num_hidden_layers" })
    }
}
