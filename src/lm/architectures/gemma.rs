//! Gemma 2 and 3: scaled embeddings, norms before and after both branches with weights stored as offsets from one, windows
//! in some layers. Gemma 2 caps scores and logits; Gemma 3 normalizes queries and keys, and has another rotary base in
//! layers with windows.

use super::super::fields::Fields;
use super::super::names::{FIELDS, FieldNames, LayerNames, Names};
use super::super::parts::{Around, Description, Layer, Norm, NormKind, Span};
use super::super::rounding::Rounding;
use super::llama::{self, llama_like, rms};
use super::rope::{ROPE, Rope};
use super::settings::{Defaults, Sizes, Windows, is_eager, refuse};
use crate::error::Result;

pub(super) const NAMES: Names = Names {
    fields: FieldNames { activation: "hidden_activation", ..FIELDS },
    layer: LayerNames {
        attention_after: "post_attention_layernorm",
        feed_before: "pre_feedforward_layernorm",
        feed_after: "post_feedforward_layernorm",
        ..llama::LAYERS
    },
    ..llama::NAMES
};

const GEMMA2: Defaults = Defaults {
    vocab: 256_000,
    width: 2304,
    layers: 26,
    heads: 8,
    intermediate: 9216,
    positions: 8192,
    kv_heads: Some(4),
    head_size: Some(256),
};

/// What both have in common.
struct Gemma {
    sizes: Sizes,
    norm: Norm,
    layer: Layer,
    window: Option<i64>,
}

impl Gemma {
    fn read(
        fields: &Fields,
        defaults: Defaults,
        (cap, logit_cap): (Option<f64>, Option<f64>),
    ) -> Result<(Self, Option<f64>)> {
        refuse(fields, "use_bidirectional_attention", &false.into())?;
        let sizes = Sizes::read(fields, defaults)?;
        let norm = Norm { kind: NormKind::RmsCentred, ..rms(fields, 1e-6)? };
        // Files of the first releases also name another activation than the one that the class uses.
        let activation = fields.activation(NAMES.fields.activation, "gelu_pytorch_tanh")?;
        let mut layer = llama::layer(&sizes, norm, activation, None);
        layer.attention.norms = Around { before: Some(norm), after: Some(norm), outer: None };
        layer.feed.norms = layer.attention.norms;
        layer.attention.scale = 1.0 / fields.positive("query_pre_attn_scalar", 256.0)?.sqrt();
        let biased = fields.flag("attention_bias", false)?;
        (layer.attention.biased, layer.attention.output_biased) = (biased, biased);
        // The default attention of transformers 4 omits the cap.
        let eager = is_eager(fields)?;
        layer.attention.cap = fields.nullable_number("attn_logit_softcapping", cap)?.filter(|_| eager);
        let window = fields.nullable_size("sliding_window", Some(4096))?;
        Ok((Self { sizes, norm, layer, window }, fields.nullable_number("final_logit_softcapping", logit_cap)?))
    }

    fn described(
        self,
        fields: &Fields,
        name: &'static str,
        cap: Option<f64>,
        of: impl Fn(&mut Layer, i64),
    ) -> Result<Description> {
        let mut described = llama_like(fields, (name, &NAMES), (&self.sizes, self.norm, true), |l| {
            let mut layer = self.layer.clone();
            of(&mut layer, l);
            layer
        })?;
        described.embeddings.scale = (self.sizes.width as f64).sqrt();
        described.head.cap = cap;
        Ok(described)
    }
}

pub(super) fn gemma2(fields: &Fields, name: &'static str) -> Result<Description> {
    let (gemma, cap) = Gemma::read(fields, GEMMA2, (Some(50.0), Some(30.0)))?;
    let windows = Windows::read(fields, gemma.sizes.layers, gemma.window, |l| (l + 1) % 2 != 0)?;
    let rotary = ROPE.read(fields, &gemma.sizes)?;
    gemma.described(fields, name, cap, |layer, l| {
        (layer.attention.rotary, layer.attention.window) = (rotary.clone(), windows.of(l));
    })
}

pub(super) fn gemma3(fields: &Fields, name: &'static str) -> Result<Description> {
    let (gemma, cap) = Gemma::read(fields, Defaults { vocab: 262_208, positions: 131_072, ..GEMMA2 }, (None, None))?;
    let pattern = fields.size("sliding_window_pattern", Some(6))?;
    let written = fields.size("_sliding_window_pattern", Some(pattern))?;
    if written != pattern && fields.present("layer_types").is_none() {
        return Err(fields.fail(format!(
            "_sliding_window_pattern {written} is read by some versions of transformers only; name the layers with a window \
             in layer_types, or set sliding_window_pattern too"
        )));
    }
    let windows = Windows::read(fields, gemma.sizes.layers, gemma.window, |l| (l + 1) % pattern != 0)?;
    let far = Rope { theta: 1_000_000.0, ..ROPE }.read(fields, &gemma.sizes)?;
    let near = Rope { theta_fields: &["rope_local_base_freq"], kind: "sliding_attention", scaled: false, ..ROPE };
    let near = near.read(fields, &gemma.sizes)?;
    let norm = gemma.norm;
    let mut described = gemma.described(fields, name, cap, |layer, l| {
        let window = windows.of(l);
        layer.attention.rotary = if window.is_some() { near.clone() } else { far.clone() };
        (layer.attention.window, layer.attention.query_key_norm) = (window, Some((norm, Span::Head)));
    })?;
    // The class stores the number as a tensor, which is created in single precision.
    described.embeddings.scale_rounding = Rounding::Single;
    Ok(described)
}
