//! OLMo 2: Llama's maps, with norms after the branches and of all heads' queries and keys together.

use super::super::fields::Fields;
use super::super::names::{LayerNames, Names};
use super::super::parts::{Around, Description, Span};
use super::llama::{self, LLAMA, llama_like, rms};
use super::rope::ROPE;
use super::settings::{Defaults, Sizes, refuse_windows};
use crate::error::Result;

pub(super) const NAMES: Names = Names {
    layer: LayerNames {
        attention_after: "post_attention_layernorm",
        feed_after: "post_feedforward_layernorm",
        ..llama::LAYERS
    },
    ..llama::NAMES
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::read(fields, Defaults { vocab: 50_304, ..LLAMA })?;
    refuse_windows(fields, s.layers)?;
    let (norm, activation) = (rms(fields, 1e-5)?, fields.activation("hidden_act", "silu")?);
    let rotary = ROPE.read(fields, &s)?;
    let biased = fields.flag("attention_bias", false)?;
    llama_like(fields, (name, &NAMES), (&s, norm, false), |_| {
        let mut layer = llama::layer(&s, norm, activation, rotary.clone());
        (layer.attention.biased, layer.attention.output_biased) = (biased, biased);
        (layer.attention.norms, layer.feed.norms) = (Around::after(norm), Around::after(norm));
        layer.attention.query_key_norm = Some((norm, Span::All));
        layer
    })
}
