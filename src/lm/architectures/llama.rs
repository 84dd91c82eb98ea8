//! Llama and architectures that differ from it in a few settings: Mistral (windows), Qwen2 (biases) and Qwen3 (norms of
//! queries and keys).

use super::super::activation::Activation;
use super::super::fields::Fields;
use super::super::names::{FIELDS, HeadNames, LAYER, LayerNames, Names};
use super::super::parts::{
    Around, Attention, Description, Embeddings, FeedForward, FeedKind, Head, Layer, Norm, Projections, Span,
};
use super::super::rounding::Rounding;
use super::rope::ROPE;
use super::settings::{Defaults, Sizes, Windows, is_eager, refuse_windows};
use crate::error::Result;
use crate::lm::decoder::CausalConfig;
use crate::lm::rotary::{Rotary, Scaling};

pub(super) const LAYERS: LayerNames = LayerNames {
    attention_before: "input_layernorm",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    query_norm: "self_attn.q_norm",
    key_norm: "self_attn.k_norm",
    attention_output: "self_attn.o_proj",
    feed_before: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    ..LAYER
};

pub(super) const NAMES: Names = Names {
    prefix: "model",
    fields: FIELDS,
    tokens: "embed_tokens",
    positions: "",
    segments: "",
    embedding_norm: "",
    projection: "",
    relative: "",
    relative_norm: "",
    layers: "layers",
    group: "",
    layer: LAYERS,
    final_norm: "norm",
    head: HeadNames { start: "lm_head.", projection: "", transform: "", norm: "", decoder: "lm_head", bias: "" },
    targets: &["q_proj", "v_proj"],
    transposed: false,
    renamed: &[],
};

/// Llama's sizes.
pub(super) const LLAMA: Defaults = Defaults {
    vocab: 32_000,
    width: 4096,
    layers: 32,
    heads: 32,
    intermediate: 11_008,
    positions: 2048,
    kv_heads: None,
    head_size: None,
};

/// Qwen's.
const QWEN: Defaults =
    Defaults { vocab: 151_936, intermediate: 22_016, positions: 32_768, kv_heads: Some(32), ..LLAMA };

/// A causal network with rotary positions and nothing between embeddings and layers.
pub(super) fn plain(
    (architecture, names): (&'static str, &'static Names),
    (s, norm): (&Sizes, Norm),
    (tied, pad_token_id): (bool, i64),
    layers: Vec<Layer>,
) -> Description {
    let scaling = layers.iter().find_map(|l| l.attention.rotary.as_ref()).map(|r| &r.scaling);
    // What dynamic scaling is for: longer texts than those of `max_position_embeddings`.
    let max_tokens = match scaling {
        Some(Scaling::Dynamic { factor, trained }) => (*trained as f64 * factor.max(1.0)) as i64,
        _ => s.positions,
    };
    Description {
        architecture,
        names,
        vocab_size: s.vocab,
        width: s.width,
        max_tokens,
        pad_token_id,
        causal: true,
        embeddings: Embeddings {
            width: s.width,
            scale: 1.0,
            scale_rounding: Rounding::None,
            positions: None,
            segments: None,
            norm: None,
            projection: None,
        },
        relative: None,
        steps: (0..layers.len()).collect(),
        layers,
        sharing: None,
        final_norm: Some(norm),
        head: Head::plain(s.width, tied),
        mup_base_width: None,
    }
}

/// Llama's layer: norms before the branches, a gate, no biases.
pub(super) fn layer(s: &Sizes, norm: Norm, activation: Activation, rotary: Option<Rotary>) -> Layer {
    let attention = Attention {
        norms: Around::before(norm),
        heads: s.heads,
        kv_heads: s.kv_heads,
        head_size: s.head_size,
        projections: Projections::Separate,
        biased: false,
        output_biased: false,
        scale: 1.0 / (s.head_size as f64).sqrt(),
        rotary,
        window: None,
        cap: None,
        rounding: Rounding::None,
        query_key_norm: None,
    };
    let kind = FeedKind::Gated;
    let feed = FeedForward { norms: Around::before(norm), width: s.intermediate, kind, activation, biased: false };
    Layer { attention, feed, parallel: false, multiplier: 1.0 }
}

/// The network of a configuration with the given layers; `tied` is the default of `tie_word_embeddings`.
pub(super) fn llama_like(
    fields: &Fields,
    of: (&'static str, &'static Names),
    (s, norm, tied): (&Sizes, Norm, bool),
    layer: impl Fn(i64) -> Layer,
) -> Result<Description> {
    let tied = fields.flag("tie_word_embeddings", tied)?;
    let pad_token_id = fields.pad_token_id(0)?;
    let rounding = if is_eager(fields)? { Rounding::Single } else { Rounding::None };
    let rounded = |mut layer: Layer| {
        layer.attention.rounding = rounding;
        layer
    };
    Ok(plain(of, (s, norm), (tied, pad_token_id), (0..s.layers).map(layer).map(rounded).collect()))
}

/// The root mean square norm of `rms_norm_eps`.
pub(super) fn rms(fields: &Fields, default: f64) -> Result<Norm> {
    Ok(Norm::rms(fields.number("rms_norm_eps", default)?))
}

pub(super) fn llama(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::read(fields, LLAMA)?;
    refuse_windows(fields, s.layers)?;
    let (norm, activation) = (rms(fields, 1e-6)?, fields.activation("hidden_act", "silu")?);
    let rotary = ROPE.read(fields, &s)?;
    let (biased, feed_biased) = (fields.flag("attention_bias", false)?, fields.flag("mlp_bias", false)?);
    llama_like(fields, (name, &NAMES), (&s, norm, false), |_| {
        let mut layer = layer(&s, norm, activation, rotary.clone());
        (layer.attention.biased, layer.attention.output_biased) = (biased, biased);
        layer.feed.biased = feed_biased;
        layer
    })
}

/// The window of a class with one kind of layer: Mistral's and Phi-3's.
pub(super) fn one_kind(fields: &Fields, layers: i64, window: Option<i64>) -> Result<Windows> {
    let windows = Windows::read(fields, layers, window, |_| true)?;
    if windows.layers.contains(&false) && window.is_some() {
        let problem =
            "layer_types names layers without a window, but sliding_window is for all layers of this architecture";
        return Err(fields.fail(problem));
    }
    Ok(windows)
}

pub(super) fn mistral(fields: &Fields, name: &'static str) -> Result<Description> {
    let s = Sizes::read(fields, Defaults { intermediate: 14_336, positions: 131_072, kv_heads: Some(8), ..LLAMA })?;
    let (norm, activation) = (rms(fields, 1e-6)?, fields.activation("hidden_act", "silu")?);
    let rotary = ROPE.read(fields, &s)?;
    let window = fields.nullable_size("sliding_window", Some(4096))?;
    let windows = one_kind(fields, s.layers, window)?;
    llama_like(fields, (name, &NAMES), (&s, norm, false), |l| {
        let mut layer = layer(&s, norm, activation, rotary.clone());
        layer.attention.window = windows.of(l);
        layer
    })
}

pub(super) fn qwen2(fields: &Fields, name: &'static str) -> Result<Description> {
    qwen(fields, name, QWEN, (true, false), None)
}

pub(super) fn qwen3(fields: &Fields, name: &'static str) -> Result<Description> {
    let biased = fields.flag("attention_bias", false)?;
    let norm = rms(fields, 1e-6)?;
    let defaults = Defaults { head_size: Some(128), ..QWEN };
    qwen(fields, name, defaults, (biased, biased), Some((norm, Span::Head)))
}

/// Qwen's windows start at some layer, and are off by default.
fn qwen(
    fields: &Fields,
    name: &'static str,
    defaults: Defaults,
    (biased, output_biased): (bool, bool),
    query_key_norm: Option<(Norm, Span)>,
) -> Result<Description> {
    let s = Sizes::read(fields, defaults)?;
    let (norm, activation) = (rms(fields, 1e-6)?, fields.activation("hidden_act", "silu")?);
    let rotary = ROPE.read(fields, &s)?;
    let asked = fields.flag("use_sliding_window", false)?;
    let window = fields.nullable_size("sliding_window", Some(4096))?.filter(|_| asked);
    let first = fields.count("max_window_layers", 28)?;
    let windows = Windows::read(fields, s.layers, window, |l| l >= first)?;
    llama_like(fields, (name, &NAMES), (&s, norm, false), |l| {
        let mut layer = layer(&s, norm, activation, rotary.clone());
        (layer.attention.biased, layer.attention.output_biased) = (biased, output_biased);
        (layer.attention.window, layer.attention.query_key_norm) = (windows.of(l), query_key_norm);
        layer
    })
}

/// The network of a configuration that was built by hand.
pub(super) fn network(c: &CausalConfig) -> Description {
    let s = Sizes::from(c);
    let norm = Norm::rms(c.norm_eps);
    let rotary = Rotary::plain(c.head_size, c.rope_theta);
    let mut layer = layer(&s, norm, c.activation, Some(rotary));
    (layer.attention.biased, layer.attention.output_biased) = (c.biases.qkv, c.biases.output);
    layer.feed.biased = c.biases.feed_forward;
    let layers = vec![layer; c.layers as usize];
    plain((c.architecture.name(), &NAMES), (&s, norm), (c.tied_decoder, c.pad_token_id), layers)
}
