//! GPT-2: norms before the branches, a position table, one map to queries, keys and values.

use super::super::activation::Activation;
use super::super::fields::Fields;
use super::super::names::{FieldNames, HeadNames, LAYER, LayerNames, Names};
use super::super::parts::{Around, Count, Description, FeedKind, Norm, Positions, Projections};
use super::llama;
use super::settings::{Sizes, refuse};
use crate::error::Result;
use crate::lm::decoder::{Biases, CausalArchitecture, CausalConfig};

pub(super) const NAMES: Names = Names {
    prefix: "transformer",
    fields: FieldNames {
        hidden: "n_embd",
        layers: "n_layer",
        heads: "n_head",
        intermediate: "n_inner",
        activation: "activation_function",
        positions: "n_positions",
    },
    tokens: "wte",
    positions: "wpe",
    layers: "h",
    layer: LayerNames {
        attention_before: "ln_1",
        fused: "attn.c_attn",
        attention_output: "attn.c_proj",
        feed_before: "ln_2",
        up: "mlp.c_fc",
        down: "mlp.c_proj",
        ..LAYER
    },
    final_norm: "ln_f",
    head: HeadNames { start: "lm_head.", ..llama::NAMES.head },
    targets: &["c_attn"],
    transposed: true,
    ..llama::NAMES
};

pub(super) fn describe(fields: &Fields, _: &'static str) -> Result<Description> {
    let hidden_size = fields.size_under(["n_embd", "hidden_size"], 768)?;
    let heads = fields.size_under(["n_head", "num_attention_heads"], 12)?;
    fields.multiple(("n_embd", hidden_size), ("n_head", heads))?;
    refuse(fields, "scale_attn_weights", &true.into())?;
    refuse(fields, "scale_attn_by_inverse_layer_idx", &false.into())?;
    refuse(fields, "add_cross_attention", &false.into())?;
    Ok(network(&CausalConfig {
        architecture: CausalArchitecture::Gpt2,
        vocab_size: fields.size("vocab_size", Some(50_257))?,
        hidden_size,
        layers: fields.layers(["n_layer", "num_hidden_layers"], 12)?,
        heads,
        kv_heads: heads,
        head_size: hidden_size / heads,
        intermediate_size: fields.size("n_inner", Some(4 * hidden_size))?,
        max_positions: fields.size_under(["n_positions", "max_position_embeddings"], 1024)?,
        norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        activation: fields.activation("activation_function", "gelu_new")?,
        rope_theta: 0.0,
        biases: Biases { qkv: true, output: true, feed_forward: true },
        pad_token_id: fields.pad_token_id(0)?,
        tied_decoder: fields.flag("tie_word_embeddings", true)?,
    }))
}

/// The parts of a configuration.
pub(super) fn network(c: &CausalConfig) -> Description {
    let s = Sizes::from(c);
    let norm = Norm::layer(c.norm_eps);
    let layer = layer(&s, norm, c.activation);
    let layers = vec![layer; c.layers as usize];
    let mut described = llama::plain(("gpt2", &NAMES), (&s, norm), (c.tied_decoder, c.pad_token_id), layers);
    described.embeddings.positions = Some(Positions { rows: c.max_positions, count: Count::From(0) });
    described
}

fn layer(s: &Sizes, norm: Norm, activation: Activation) -> super::super::parts::Layer {
    let mut layer = llama::layer(s, norm, activation, None);
    layer.attention.projections = Projections::Blocks;
    (layer.attention.biased, layer.attention.output_biased, layer.feed.biased) = (true, true, true);
    (layer.feed.kind, layer.feed.norms) = (FeedKind::Plain, Around::before(norm));
    layer
}
