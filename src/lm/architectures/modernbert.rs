//! ModernBERT: norms before the branches, gates, rotary positions, and symmetric windows in most layers.

use super::super::fields::Fields;
use super::super::names::{FIELDS, FieldNames, HeadNames, LAYER, LayerNames, Names};
use super::super::parts::{Around, Description, FeedKind, Head, Norm, NormKind, Projections, Transform};
use super::super::rounding::Rounding;
use super::bert::{BERT, Encoder};
use super::llama;
use super::rope::{ROPE, Rope};
use super::settings::{Defaults, Windows, is_eager, refuse_other_kinds};
use crate::error::Result;

pub(super) const NAMES: Names = Names {
    prefix: "model",
    fields: FieldNames { activation: "hidden_activation", ..FIELDS },
    tokens: "embeddings.tok_embeddings",
    embedding_norm: "embeddings.norm",
    layers: "layers",
    layer: LayerNames {
        attention_before: "attn_norm",
        fused: "attn.Wqkv",
        attention_output: "attn.Wo",
        feed_before: "mlp_norm",
        gate: "mlp.Wi",
        down: "mlp.Wo",
        ..LAYER
    },
    final_norm: "final_norm",
    head: HeadNames {
        start: "head.",
        projection: "",
        transform: "head.dense",
        norm: "head.norm",
        decoder: "decoder",
        bias: "decoder.bias",
    },
    targets: &["Wqkv"],
    ..BERT
};

const DEFAULTS: Defaults = Defaults {
    vocab: 50_368,
    width: 768,
    layers: 22,
    heads: 12,
    intermediate: 1152,
    positions: 8192,
    kv_heads: None,
    head_size: None,
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let kind = if fields.flag("norm_bias", false)? { NormKind::Layer } else { NormKind::LayerUnbiased };
    let norm = Norm { kind, ..Norm::layer(fields.number("norm_eps", 1e-5)?) };
    let activation = fields.activation("hidden_activation", "gelu")?;
    let encoder = Encoder::read(fields, DEFAULTS, norm, activation)?;
    let s = encoder.sizes;
    let every = fields.size("global_attn_every_n_layers", Some(3))?;
    let local = fields.size("local_attention", Some(128))?;
    // A token sees half the window on either side, and itself.
    let has_window = |l| l % every != 0;
    refuse_other_kinds(fields, s.layers, "global_attn_every_n_layers", has_window)?;
    let windows = Windows::read(fields, s.layers, Some(local / 2 + 1), has_window)?;
    let far = Rope { theta: 160_000.0, theta_fields: &["global_rope_theta"], ..ROPE }.read(fields, &s)?;
    let near = Rope { theta_fields: &["local_rope_theta"], kind: "sliding_attention", ..ROPE };
    let shared = Rope { theta: 160_000.0, theta_fields: &["global_rope_theta"], ..near };
    let near = if fields.is_null("local_rope_theta") { shared } else { near }.read(fields, &s)?;
    let rounding = if is_eager(fields)? { Rounding::Single } else { Rounding::None };
    let (biased, feed_biased) = (fields.flag("attention_bias", false)?, fields.flag("mlp_bias", false)?);
    let mut described = encoder.described((name, &NAMES), activation, fields.flag("tie_word_embeddings", true)?);
    described.layers = (0..s.layers)
        .map(|l| {
            let window = windows.of(l);
            let rotary = if window.is_some() { &near } else { &far };
            let mut layer = llama::layer(&s, norm, activation, rotary.clone());
            // The embeddings are already normalized.
            layer.attention.norms.before = layer.attention.norms.before.filter(|_| l > 0);
            layer.attention.projections = Projections::Blocks;
            (layer.attention.biased, layer.attention.output_biased) = (biased, biased);
            (layer.attention.window, layer.feed.biased) = (window, feed_biased);
            layer.attention.rounding = rounding;
            (layer.feed.kind, layer.feed.norms) = (FeedKind::GatedFused, Around::before(norm));
            layer
        })
        .collect();
    described.final_norm = Some(norm);
    let transform = Transform {
        biased: fields.flag("classifier_bias", false)?,
        activation: fields.activation("classifier_activation", "gelu")?,
        norm,
    };
    let biased = fields.flag("decoder_bias", true)?;
    described.head = Head { transform: Some(transform), biased, ..described.head };
    Ok(described)
}
