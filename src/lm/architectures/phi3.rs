//! Phi-3: Llama with one map to queries, keys and values, one to gate and up, and optionally partial rotary positions.

use super::super::fields::Fields;
use super::super::names::{LayerNames, Names};
use super::super::parts::{Description, FeedKind, Projections};
use super::llama::{self, LLAMA, llama_like, one_kind, rms};
use super::rope::{ROPE, Rope};
use super::settings::{Defaults, Sizes};
use crate::error::Result;

pub(super) const NAMES: Names = Names {
    layer: LayerNames { fused: "self_attn.qkv_proj", gate: "mlp.gate_up_proj", ..llama::LAYERS },
    targets: &["qkv_proj"],
    ..llama::NAMES
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::read(fields, Defaults { vocab: 32_064, width: 3072, intermediate: 8192, positions: 4096, ..LLAMA })?;
    let (norm, activation) = (rms(fields, 1e-5)?, fields.activation("hidden_act", "silu")?);
    let rotary = Rope { partial: true, original: Some(4096), ..ROPE }.read(fields, &s)?;
    let window = fields.nullable_size("sliding_window", None)?;
    let windows = one_kind(fields, s.layers, window)?;
    llama_like(fields, (name, &NAMES), (&s, norm, false), |l| {
        let mut layer = llama::layer(&s, norm, activation, rotary.clone());
        layer.attention.projections = Projections::Blocks;
        layer.attention.window = windows.of(l);
        layer.feed.kind = FeedKind::GatedFused;
        layer
    })
}
