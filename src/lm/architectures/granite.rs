//! Granite: Llama with multipliers of embeddings, scores, branches and logits.

use super::super::fields::Fields;
use super::super::parts::Description;
use super::llama::{self, LLAMA, NAMES, llama_like, rms};
use super::rope::ROPE;
use super::settings::{Sizes, refuse_windows};
use crate::error::Result;

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::read(fields, LLAMA)?;
    refuse_windows(fields, s.layers)?;
    let (norm, activation) = (rms(fields, 1e-6)?, fields.activation("hidden_act", "silu")?);
    let rotary = ROPE.read(fields, &s)?;
    let (biased, feed_biased) = (fields.flag("attention_bias", false)?, fields.flag("mlp_bias", false)?);
    if fields.is_null("attention_multiplier") {
        return Err(fields
            .fail("attention_multiplier is null, which is not supported; remove the field for 1, or give a number"));
    }
    let multiplier = |name: &str| fields.positive(name, 1.0);
    let (scores, branches) = (multiplier("attention_multiplier")?, multiplier("residual_multiplier")?);
    let mut described = llama_like(fields, (name, &NAMES), (&s, norm, false), |_| {
        let mut layer = llama::layer(&s, norm, activation, rotary.clone());
        (layer.attention.biased, layer.attention.output_biased) = (biased, biased);
        (layer.attention.scale, layer.multiplier) = (scores, branches);
        layer.feed.biased = feed_biased;
        layer
    })?;
    described.embeddings.scale = multiplier("embedding_multiplier")?;
    described.head.scale = 1.0 / multiplier("logits_scaling")?;
    Ok(described)
}
