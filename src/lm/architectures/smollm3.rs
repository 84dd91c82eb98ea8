//! SmolLM3: Llama with some layers without positions.

use super::super::fields::Fields;
use super::super::parts::Description;
use super::llama::{self, NAMES, llama_like, rms};
use super::rope::{ROPE, Rope};
use super::settings::{Defaults, Sizes, Windows};
use crate::error::Result;

const DEFAULTS: Defaults = Defaults {
    vocab: 128_256,
    width: 2048,
    layers: 36,
    heads: 16,
    intermediate: 11_008,
    positions: 32_768,
    kv_heads: Some(4),
    head_size: None,
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::read(fields, DEFAULTS)?;
    let (norm, activation) = (rms(fields, 1e-6)?, fields.activation("hidden_act", "silu")?);
    let rotary = Rope { theta: 2_000_000.0, ..ROPE }.read(fields, &s)?;
    let turned = turned(fields, s.layers)?;
    let asked = fields.flag("use_sliding_window", false)?;
    // The flag decides which layers have the window only if they are not listed.
    let listed = fields.present("layer_types").is_some();
    let window = fields.nullable_size("sliding_window", None)?.filter(|_| asked || listed);
    let windows = Windows::read(fields, s.layers, window, |l| !turned[l as usize])?;
    let (biased, feed_biased) = (fields.flag("attention_bias", false)?, fields.flag("mlp_bias", false)?);
    llama_like(fields, (name, &NAMES), (&s, norm, true), |l| {
        let rotary = rotary.clone().filter(|_| turned[l as usize]);
        let mut layer = llama::layer(&s, norm, activation, rotary);
        (layer.attention.biased, layer.attention.output_biased) = (biased, biased);
        layer.attention.window = windows.of(l);
        layer.feed.biased = feed_biased;
        layer
    })
}

/// For each layer, whether it rotates queries and keys: a list of ones and zeros, or all but every fourth.
fn turned(fields: &Fields, layers: i64) -> Result<Vec<bool>> {
    let Some(found) = fields.present("no_rope_layers") else {
        let interval = fields.size("no_rope_layer_interval", Some(4))?;
        return Ok((0..layers).map(|l| (l + 1) % interval != 0).collect());
    };
    let list: Option<Vec<i64>> = found.as_array().and_then(|list| list.iter().map(serde_json::Value::as_i64).collect());
    match list {
        Some(list) if list.len() as i64 == layers && list.iter().all(|n| [0, 1].contains(n)) => {
            Ok(list.into_iter().map(|n| n == 1).collect())
        }
        _ => Err(fields.wrong("no_rope_layers", &format!("a list of {layers} ones and zeros"), found)),
    }
}
