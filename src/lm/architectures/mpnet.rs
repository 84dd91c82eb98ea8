//! MPNet: RoBERTa without segments, with attention scores by distance shared by all layers.

use super::super::activation::Activation;
use super::super::fields::Fields;
use super::super::names::{LayerNames, Names};
use super::super::parts::{Count, Description, Norm, Positions, Relative};
use super::super::relative::BUCKETS;
use super::bert::{self, BERT, Encoder};
use super::settings::Defaults;
use crate::error::Result;

/// The id of padding in the class, whatever a file says.
const PAD: i64 = 1;

pub(super) const NAMES: Names = Names {
    prefix: "mpnet",
    relative: "encoder.relative_attention_bias",
    layer: LayerNames {
        query: "attention.attn.q",
        key: "attention.attn.k",
        value: "attention.attn.v",
        attention_output: "attention.attn.o",
        attention_outer: "attention.LayerNorm",
        ..BERT.layer
    },
    head: bert::ROBERTA.head,
    targets: &["attn.q", "attn.v"],
    ..BERT
};

const DEFAULTS: Defaults = Defaults {
    vocab: 30_527,
    width: 768,
    layers: 12,
    heads: 12,
    intermediate: 3072,
    positions: 512,
    kv_heads: None,
    head_size: None,
};

pub(super) fn describe(fields: &Fields, name: &'static str) -> Result<Description> {
    let norm = Norm::layer(fields.number("layer_norm_eps", 1e-12)?);
    let activation = fields.activation("hidden_act", "gelu")?;
    let encoder = Encoder::read(fields, DEFAULTS, norm, activation)?;
    let rows = fields.size("relative_attention_num_buckets", Some(BUCKETS))?;
    if rows < BUCKETS {
        return Err(fields.fail(format!(
            "relative_attention_num_buckets {rows} is not supported: MPNet's class counts {BUCKETS} buckets whatever the table's size"
        )));
    }
    if encoder.sizes.positions <= PAD + 1 {
        let positions = encoder.sizes.positions;
        return Err(
            fields.fail(format!("max_position_embeddings {positions} leaves no position after padding's {PAD}"))
        );
    }
    // The head's activation is the exact one in any case.
    let mut described = encoder.described((name, &NAMES), Activation::Gelu, fields.flag("tie_word_embeddings", true)?);
    described.pad_token_id = PAD;
    described.embeddings.positions =
        Some(Positions { rows: encoder.sizes.positions, count: Count::BehindPadding(PAD) });
    described.max_tokens = encoder.sizes.positions - PAD - 1;
    described.relative = Some(Relative::Bias { rows });
    Ok(described)
}
