//! Settings shared by several architectures: heads, windows, unsupported values.

use serde_json::Value;

use super::super::fields::Fields;
use super::super::names::{FIELDS, FieldNames};
use crate::error::Result;

/// Fails unless a setting is absent or has the only supported value.
pub(super) fn refuse(fields: &Fields, field: &str, only: &Value) -> Result<()> {
    match fields.present(field).filter(|found| *found != only) {
        None => Ok(()),
        Some(found) => Err(fields.fail(format!("{field} {found} is not supported; only {only} is"))),
    }
}

/// Whether attention is computed as by transformers' `eager` implementation, with softmax in single precision and support for
/// capped scores: this program's own field `eager_attention`. transformers takes the choice as an argument, and ignores a
/// field `attn_implementation`.
///
/// # Errors
/// A field that is not a boolean.
pub(super) fn is_eager(fields: &Fields) -> Result<bool> {
    fields.flag("eager_attention", false)
}

/// Sizes of a network's layers.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub width: i64,
    pub layers: i64,
    pub heads: i64,
    pub kv_heads: i64,
    pub head_size: i64,
    pub intermediate: i64,
    pub vocab: i64,
    pub positions: i64,
}

/// Defaults of transformers' classes for sizes missing in `config.json`.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub vocab: i64,
    pub width: i64,
    pub layers: i64,
    pub heads: i64,
    pub intermediate: i64,
    pub positions: i64,
    /// Heads of keys and values; as many as of queries if this is `None` or the field is null.
    pub kv_heads: Option<i64>,
    /// `head_dim`; width / heads if this is `None`.
    pub head_size: Option<i64>,
}

impl Sizes {
    /// Those of most causal models.
    pub fn read(fields: &Fields, defaults: Defaults) -> Result<Self> {
        Self::named(fields, FIELDS, defaults)
    }

    /// The same under other names.
    pub fn named(fields: &Fields, names: FieldNames, defaults: Defaults) -> Result<Self> {
        let width = fields.size(names.hidden, Some(defaults.width))?;
        let heads = fields.size(names.heads, Some(defaults.heads))?;
        let absent = if fields.is_null("num_key_value_heads") { None } else { defaults.kv_heads };
        let kv_heads = fields.size("num_key_value_heads", Some(absent.unwrap_or(heads)))?;
        fields.multiple((names.heads, heads), ("num_key_value_heads", kv_heads))?;
        let head_size = match (fields.present("head_dim"), defaults.head_size) {
            (None, None) => {
                fields.multiple((names.hidden, width), (names.heads, heads))?;
                width / heads
            }
            (_, default) => fields.size("head_dim", default)?,
        };
        Ok(Self {
            width,
            layers: fields.layers([names.layers; 2], defaults.layers)?,
            heads,
            kv_heads,
            head_size,
            intermediate: fields.size(names.intermediate, Some(defaults.intermediate))?,
            vocab: fields.size("vocab_size", Some(defaults.vocab))?,
            positions: fields.size(names.positions, Some(defaults.positions))?,
        })
    }
}

/// Which layers attend only to a window of tokens.
pub(super) struct Windows {
    /// The window.
    pub width: Option<i64>,
    /// For each layer, whether it has the window.
    pub layers: Vec<bool>,
}

impl Windows {
    /// Windows of one width in the layers that `layer_types` names, or by default in `default`.
    pub fn read(fields: &Fields, layers: i64, width: Option<i64>, default: impl Fn(i64) -> bool) -> Result<Self> {
        let default: Vec<bool> = (0..layers).map(default).collect();
        let named = kinds(fields, layers)?;
        if width.is_none() && named.as_ref().is_some_and(|named| named.contains(&true)) {
            return Err(fields.fail("layer_types names layers with a window, but there is no sliding_window"));
        }
        Ok(Self { width, layers: named.unwrap_or(default) })
    }

    /// The window of a layer.
    pub fn of(&self, layer: i64) -> Option<i64> {
        self.width.filter(|_| self.layers[layer as usize])
    }
}

/// For each layer, whether `layer_types` gives it a window.
fn kinds(fields: &Fields, layers: i64) -> Result<Option<Vec<bool>>> {
    let Some(found) = fields.present("layer_types") else { return Ok(None) };
    let kinds = found.as_array().ok_or_else(|| fields.wrong("layer_types", "a list", found))?;
    if kinds.len() as i64 != layers {
        return Err(fields.fail(format!("layer_types has {} entries for {layers} layers", kinds.len())));
    }
    let sliding = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(fields.fail(format!(
            "layer_types has {kind}, which is not supported; `full_attention` and `sliding_attention` are"
        ))),
    };
    kinds.iter().map(sliding).collect::<Result<_>>().map(Some)
}

/// Fails if `layer_types` has a window in other layers than an older field says: versions of transformers read either.
pub(super) fn refuse_other_kinds(
    fields: &Fields,
    layers: i64,
    older: &str,
    has_window: impl Fn(i64) -> bool,
) -> Result<()> {
    let differs = |named: Vec<bool>| named.iter().zip(0..).any(|(named, l)| *named != has_window(l));
    // Files of newer versions lack the older field.
    if fields.present(older).is_some() && kinds(fields, layers)?.is_some_and(differs) {
        let message = format!("layer_types and {older} contradict each other: their windows are in different layers");
        return Err(fields.fail(message));
    }
    Ok(())
}

/// Fails if `layer_types` names a layer with a window, for architectures without windows.
pub(super) fn refuse_windows(fields: &Fields, layers: i64) -> Result<()> {
    if let Some(width) = fields.present("sliding_window") {
        return Err(fields.fail(format!("sliding_window {width} is not supported: attention must be to all tokens")));
    }
    if kinds(fields, layers)?.is_some_and(|kinds| kinds.contains(&true)) {
        return Err(fields.fail("layer_types has \"sliding_attention\", but this architecture has no window"));
    }
    Ok(())
}
