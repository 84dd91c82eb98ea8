//! GPT-NeoX and Pythia: both branches read the layer's input, one map computes each head's query, key and value, and rotary
//! positions cover part of a head.

use super::super::fields::Fields;
use super::super::names::{FIELDS, HeadNames, LAYER, LayerNames, Names};
use super::super::parts::{Around, Description, FeedKind, Norm, Projections};
use super::llama::{self, llama_like};
use super::rope::{ROPE, Rope};
use super::settings::{Defaults, Sizes, refuse, refuse_windows};
use crate::error::Result;

pub(super) const NAMES: Names = Names {
    prefix: "gpt_neox",
    fields: FIELDS,
    tokens: "embed_in",
    layer: LayerNames {
        attention_before: "input_layernorm",
        fused: "attention.query_key_value",
        attention_output: "attention.dense",
        feed_before: "post_attention_layernorm",
        up: "mlp.dense_h_to_4h",
        down: "mlp.dense_4h_to_h",
        ..LAYER
    },
    final_norm: "final_layer_norm",
    head: HeadNames { start: "embed_out.", decoder: "embed_out", ..llama::NAMES.head },
    targets: &["query_key_value"],
    ..llama::NAMES
};

const DEFAULTS: Defaults = Defaults {
    vocab: 50_432,
    width: 6144,
    layers: 44,
    heads: 64,
    intermediate: 24_576,
    positions: 2048,
    kv_heads: None,
    head_size: None,
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::read(fields, DEFAULTS)?;
    refuse_windows(fields, s.layers)?;
    refuse(fields, "num_key_value_heads", &s.heads.into())?;
    refuse(fields, "head_dim", &(s.width / s.heads).into())?;
    let norm = Norm::layer(fields.number("layer_norm_eps", 1e-5)?);
    let activation = fields.activation("hidden_act", "gelu")?;
    if fields.present("rotary_pct").is_none()
        && let Some(share) = fields.present("partial_rotary_factor").filter(|share| share.as_f64() != Some(0.25))
    {
        return Err(fields.fail(format!(
            "partial_rotary_factor {share} is read by some versions of transformers only; write it as rotary_pct too"
        )));
    }
    let rope = Rope {
        theta_fields: &["rotary_emb_base", "rope_theta"],
        share: 0.25,
        partial: true,
        share_fields: &["rotary_pct", "partial_rotary_factor"],
        ..ROPE
    };
    let rotary = rope.read(fields, &s)?;
    let biased = fields.flag("attention_bias", true)?;
    let parallel = fields.flag("use_parallel_residual", true)?;
    llama_like(fields, (name, &NAMES), (&s, norm, false), |_| {
        let mut layer = llama::layer(&s, norm, activation, rotary.clone());
        layer.attention.projections = Projections::Heads;
        (layer.attention.biased, layer.attention.output_biased) = (biased, biased);
        (layer.feed.kind, layer.feed.biased, layer.feed.norms) = (FeedKind::Plain, true, Around::before(norm));
        layer.parallel = parallel;
        layer
    })
}
