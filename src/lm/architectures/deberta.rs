//! DeBERTa v2 and v3: attention scores of queries and keys with embeddings of their distance, in addition to those with each
//! other.

use serde_json::Value;

use super::super::fields::Fields;
use super::super::names::{HeadNames, LayerNames, Names};
use super::super::parts::{Count, Description, Disentangled, Norm, Positions, Projection, Relative};
use super::bert::{BERT, Encoder};
use super::settings::{Defaults, refuse};
use crate::error::Result;

pub(super) const NAMES: Names = Names {
    prefix: "deberta",
    projection: "embeddings.embed_proj",
    relative: "encoder.rel_embeddings",
    relative_norm: "encoder.LayerNorm",
    layer: LayerNames {
        query: "attention.self.query_proj",
        key: "attention.self.key_proj",
        value: "attention.self.value_proj",
        position_query: "attention.self.pos_query_proj",
        position_key: "attention.self.pos_key_proj",
        ..BERT.layer
    },
    targets: &["query_proj", "value_proj"],
    // The head's tensors in Microsoft's files.
    renamed: &[
        ("cls.predictions.transform.", "lm_predictions.lm_head."),
        ("cls.predictions.bias", "lm_predictions.lm_head.bias"),
    ],
    ..BERT
};

/// The head for `legacy: false`, whose decoder is always tied.
const NEWER: Names = Names {
    head: HeadNames {
        start: "lm_predictions.",
        projection: "",
        transform: "lm_predictions.lm_head.dense",
        norm: "lm_predictions.lm_head.LayerNorm",
        decoder: "lm_predictions.lm_head.decoder",
        bias: "lm_predictions.lm_head.bias",
    },
    renamed: &[],
    ..NAMES
};

const DEFAULTS: Defaults = Defaults {
    vocab: 128_100,
    width: 1536,
    layers: 24,
    heads: 24,
    intermediate: 6144,
    positions: 512,
    kv_heads: None,
    head_size: None,
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    if fields.present("conv_kernel_size").is_some_and(|size| *size != 0) {
        return Err(
            fields.fail("conv_kernel_size is not supported: the convolution after the first layer is not implemented")
        );
    }
    let norm = Norm::layer(fields.number("layer_norm_eps", 1e-7)?);
    let activation = fields.activation("hidden_act", "gelu")?;
    let encoder = Encoder::read(fields, DEFAULTS, norm, activation)?;
    let s = encoder.sizes;
    refuse(fields, "attention_head_size", &s.head_size.into())?;
    let (query_position, key_position) = read_by(fields)?;
    let relative = relative(fields, norm, s.positions, (query_position, key_position))?;
    let newer = !fields.flag("legacy", true)?;
    let tied = fields.flag("tie_word_embeddings", true)? || newer;
    let mut described = encoder.described((name, if newer { &NEWER } else { &NAMES }), activation, tied);
    let parts = 1 + i64::from(query_position) + i64::from(key_position);
    // The class takes this root in single precision, whatever the network's precision.
    let root = f64::from(((s.head_size * parts) as f32).sqrt());
    for layer in &mut described.layers {
        layer.attention.scale = 1.0 / root;
    }
    described.relative = relative;
    if fields.flag("position_biased_input", true)? {
        described.embeddings.positions = Some(Positions { rows: s.positions, count: Count::From(0) });
    }
    described.embeddings.segments = Some(fields.count("type_vocab_size", 0)?).filter(|rows| *rows > 0);
    let narrow = fields.size("embedding_size", Some(s.width))?;
    if narrow != s.width {
        if newer {
            return Err(fields.fail(format!("embedding_size {narrow} is not supported where legacy is false")));
        }
        (described.embeddings.width, described.head.width) = (narrow, narrow);
        described.embeddings.projection = Some(Projection::Sum);
    }
    Ok(described)
}

/// Whether queries, and whether keys, are multiplied with embeddings of distances, by `pos_att_type`.
fn read_by(fields: &Fields) -> Result<(bool, bool)> {
    let Some(found) = fields.present("pos_att_type") else { return Ok((false, false)) };
    let wrong = || fields.wrong("pos_att_type", "a list of `c2p` and `p2c`", found);
    let kinds: Vec<String> = match found {
        Value::String(text) => text.to_lowercase().split('|').map(|kind| kind.trim().to_owned()).collect(),
        Value::Array(list) => {
            list.iter().map(|kind| kind.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_>>()?
        }
        _ => return Err(wrong()),
    };
    if kinds.iter().any(|kind| !["c2p", "p2c", ""].contains(&kind.as_str())) {
        return Err(wrong());
    }
    let has = |kind: &str| kinds.iter().any(|k| k == kind);
    Ok((has("c2p"), has("p2c")))
}

fn relative(
    fields: &Fields,
    norm: Norm,
    positions: i64,
    (query_position, key_position): (bool, bool),
) -> Result<Option<Relative>> {
    if !fields.flag("relative_attention", false)? {
        return Ok(None);
    }
    if !query_position && !key_position {
        return Err(fields.fail("relative_attention is true, but pos_att_type names neither c2p nor p2c"));
    }
    let positive = |name: &str| -> Result<Option<i64>> {
        let Some(found) = fields.present(name) else { return Ok(None) };
        if found.as_i64().is_some_and(|n| n < 1) { Ok(None) } else { fields.size(name, None).map(Some) }
    };
    let furthest = positive("max_relative_positions")?.unwrap_or(positions);
    let buckets = positive("position_buckets")?;
    if let Some(n) = buckets.filter(|n| *n < 4 || furthest - 1 <= n / 2) {
        return Err(fields.fail(format!(
            "position_buckets {n} is not supported with distances up to {furthest}: it must be at least 4, and less than twice as many"
        )));
    }
    let kinds = fields.text("norm_rel_ebd", "none")?.to_lowercase();
    let normed = kinds.split('|').any(|kind| kind.trim() == "layer_norm");
    Ok(Some(Relative::Vectors(Disentangled {
        span: buckets.unwrap_or(furthest),
        buckets,
        furthest,
        query_position,
        key_position,
        shared: fields.flag("share_att_key", false)?,
        norm: Some(norm).filter(|_| normed),
    })))
}
