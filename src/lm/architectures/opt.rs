//! OPT: position numbers start at two; norms before the branches, or, for the 350M-parameter model, after the residual sums
//! and with embeddings of another width.

use super::super::fields::Fields;
use super::super::names::{FIELDS, FieldNames, HeadNames, LAYER, LayerNames, Names};
use super::super::parts::{Around, Count, Description, FeedKind, Norm, Positions, Projection};
use super::llama::{self, llama_like};
use super::settings::{Defaults, Sizes, refuse};
use crate::error::Result;

/// The first position number, and the number of table rows beyond the longest text.
const FIRST: i64 = 2;

pub(super) const NAMES: Names = Names {
    prefix: "model",
    fields: FieldNames { intermediate: "ffn_dim", activation: "activation_function", ..FIELDS },
    tokens: "decoder.embed_tokens",
    positions: "decoder.embed_positions",
    projection: "decoder.project_in",
    layers: "decoder.layers",
    layer: LayerNames {
        attention_before: "self_attn_layer_norm",
        attention_outer: "self_attn_layer_norm",
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
        attention_output: "self_attn.out_proj",
        feed_before: "final_layer_norm",
        feed_outer: "final_layer_norm",
        up: "fc1",
        down: "fc2",
        ..LAYER
    },
    final_norm: "decoder.final_layer_norm",
    head: HeadNames { projection: "model.decoder.project_out", ..llama::NAMES.head },
    ..llama::NAMES
};

const DEFAULTS: Defaults = Defaults {
    vocab: 50_272,
    width: 768,
    layers: 12,
    heads: 12,
    intermediate: 3072,
    positions: 2048,
    kv_heads: None,
    head_size: None,
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::named(fields, NAMES.fields, DEFAULTS)?;
    refuse(fields, "num_key_value_heads", &s.heads.into())?;
    refuse(fields, "head_dim", &(s.width / s.heads).into())?;
    refuse(fields, "layer_norm_elementwise_affine", &true.into())?;
    let norm = Norm::layer(1e-5);
    let activation = fields.activation(NAMES.fields.activation, "relu")?;
    let biased = fields.flag("enable_bias", true)?;
    let first = fields.flag("do_layer_norm_before", true)?;
    let norms = if first { Around::before(norm) } else { Around::outer(norm) };
    let mut described = llama_like(fields, (name, &NAMES), (&s, norm, true), |_| {
        let mut layer = llama::layer(&s, norm, activation, None);
        (layer.attention.biased, layer.attention.output_biased, layer.feed.biased) = (biased, biased, biased);
        (layer.attention.norms, layer.feed.norms, layer.feed.kind) = (norms, norms, FeedKind::Plain);
        layer
    })?;
    described.embeddings.positions = Some(Positions { rows: s.positions + FIRST, count: Count::From(FIRST) });
    described.final_norm = described.final_norm.filter(|_| first);
    if fields.flag("_remove_final_layer_norm", false)? {
        described.final_norm = None;
    }
    let narrow = fields.size("word_embed_proj_dim", Some(s.width))?;
    if narrow != s.width {
        (described.embeddings.width, described.embeddings.projection) = (narrow, Some(Projection::Tokens));
        (described.head.width, described.head.projection) = (narrow, true);
    }
    Ok(described)
}
