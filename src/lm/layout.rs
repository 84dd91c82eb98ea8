//! The parameters of a network: their specifications, and their places in the forward pass.

use std::sync::Arc;

use super::names::{LayerNames, Names};
use super::parts::{
    Attention, Description, Disentangled, FeedForward, FeedKind, Head, Norm, Projection, Projections, Relative,
};
use crate::jacobian::{Param, ParameterSpec, Role};

/// A linear map or the affine part of a norm; the bias is optional.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub weight: Param,
    pub bias: Option<Param>,
}

/// The norms of a branch; see [`super::parts::Around`].
pub(super) struct AroundMaps {
    pub before: Option<Map>,
    pub after: Option<Map>,
    pub outer: Option<Map>,
}

/// How a layer computes queries, keys and values.
pub(super) enum Inputs {
    Fused(Map),
    Separate { query: Map, key: Map, value: Map },
}

/// Parameters of one layer.
pub(super) struct LayerMaps {
    pub attention_norms: AroundMaps,
    pub inputs: Inputs,
    /// Norms of queries and of keys.
    pub query_key_norms: Option<(Map, Map)>,
    /// Maps to queries and keys of distances, if they differ from those of tokens.
    pub position_query: Option<Map>,
    pub position_key: Option<Map>,
    pub attention_output: Map,
    pub feed_norms: AroundMaps,
    /// The gate's map, or the combined map of gate and up.
    pub gate: Option<Map>,
    pub up: Option<Map>,
    pub down: Map,
}

/// A masked model's map and norm before the decoder.
#[derive(Clone, Copy)]
pub(super) struct TransformMaps {
    pub map: Map,
    pub norm: Map,
}

/// The index of each parameter of the network.
pub(super) struct Layout {
    pub tokens: Param,
    pub positions: Option<Param>,
    pub segments: Option<Param>,
    pub embedding_norm: Option<Map>,
    pub projection: Option<Map>,
    pub relative: Option<Param>,
    pub relative_norm: Option<Map>,
    pub layers: Vec<LayerMaps>,
    pub final_norm: Option<Map>,
    pub head_projection: Option<Map>,
    pub transform: Option<TransformMaps>,
    pub decoder: Param,
    pub decoder_bias: Option<Param>,
}

/// An axis of a parameter: its length, and the setting that determines it.
#[derive(Clone)]
struct Axis(i64, String);

impl Axis {
    fn of(size: i64, name: &str) -> Self {
        Self(size, name.to_owned())
    }

    fn times(&self, factor: i64) -> Self {
        Self(factor * self.0, format!("{factor} {}", self.1))
    }
}

/// Specifications under construction.
struct Builder<'a> {
    names: &'a Names,
    specs: Vec<ParameterSpec>,
    reasons: Vec<String>,
    role: Role,
    layer: String,
}

impl Builder<'_> {
    fn group(&mut self, role: Role, layer: impl Into<String>) {
        (self.role, self.layer) = (role, layer.into());
    }

    fn add(&mut self, name: String, axes: &[Axis]) -> Param {
        let (shape, role, layer) = (axes.iter().map(|a| a.0).collect(), self.role, self.layer.clone());
        let mut reason: Vec<&str> = axes.iter().map(|a| a.1.as_str()).collect();
        if self.names.transposed && self.role == Role::Body {
            reason.reverse();
        }
        self.reasons.push(reason.join(" x "));
        self.specs.push(ParameterSpec { name, shape, role, layer, structural_zeros: Vec::new() });
        Param(self.specs.len() - 1)
    }

    fn map(&mut self, name: &str, axes: &[Axis], biased: bool) -> Map {
        let weight = self.add(format!("{name}.weight"), axes);
        let bias = biased.then(|| self.add(format!("{name}.bias"), &axes[..1]));
        Map { weight, bias }
    }

    fn norm(&mut self, name: &str, norm: Option<&Norm>, axis: &Axis) -> Option<Map> {
        norm.map(|norm| self.map(name, std::slice::from_ref(axis), norm.has_bias()))
    }
}

/// Sizes common to all layers, with their names.
struct Sizes {
    width: Axis,
    heads: &'static str,
    intermediate: &'static str,
}

impl Sizes {
    /// The rows of a map to some heads.
    fn of_heads(&self, heads: i64, head_size: i64, what: &str) -> Axis {
        let rows = heads * head_size;
        if rows == self.width.0 { self.width.clone() } else { Axis(rows, format!("{what} · head_dim")) }
    }
}

/// Specifications of a network's parameters, their layout, and for each the settings that determine its shape.
pub(super) fn layout(d: &Description) -> (Arc<[ParameterSpec]>, Layout, Vec<String>) {
    let names = d.names;
    let fields = names.fields;
    let sizes =
        Sizes { width: Axis::of(d.width, fields.hidden), heads: fields.heads, intermediate: fields.intermediate };
    let (h, v) = (sizes.width.clone(), Axis::of(d.vocab_size, "vocab_size"));
    let narrow = |size: i64| if size == d.width { h.clone() } else { Axis::of(size, "embedding_size") };
    let e = narrow(d.embeddings.width);
    let mut b = Builder { names, specs: vec![], reasons: vec![], role: Role::Embedding, layer: "embeddings".into() };
    let tokens = b.add(names.at(&format!("{}.weight", names.tokens)), &[v.clone(), e.clone()]);
    // The width to which the table is added and over which the norm is taken.
    let summed = if d.embeddings.projection == Some(Projection::Tokens) { &h } else { &e };
    let positions = d.embeddings.positions.map(|p| {
        let rows = Axis::of(p.rows, fields.positions);
        b.add(names.at(&format!("{}.weight", names.positions)), &[rows, summed.clone()])
    });
    let segments = d.embeddings.segments.map(|rows| {
        b.add(names.at(&format!("{}.weight", names.segments)), &[Axis::of(rows, "type_vocab_size"), e.clone()])
    });
    let normed = if d.embeddings.projection == Some(Projection::Normed) { &e } else { &h };
    let embedding_norm = b.norm(&names.at(names.embedding_norm), d.embeddings.norm.as_ref(), normed);
    let projection = d
        .embeddings
        .projection
        .map(|p| b.map(&names.at(names.projection), &[h.clone(), e.clone()], p == Projection::Normed));
    let (relative, relative_norm) = relative(d, &mut b, &h);
    let layers = (0..d.layers.len()).map(|number| layer(d, number, &mut b, &sizes)).collect();
    b.group(Role::Body, "final norm");
    let final_norm = b.norm(&names.at(names.final_norm), d.final_norm.as_ref(), &h);
    let head = head(&d.head, &mut b, tokens, (&v, &h, &narrow(d.head.width)));
    let layout = Layout {
        tokens,
        positions,
        segments,
        embedding_norm,
        projection,
        relative,
        relative_norm,
        layers,
        final_norm,
        head_projection: head.projection,
        transform: head.transform,
        decoder: head.decoder,
        decoder_bias: head.bias,
    };
    (b.specs.into(), layout, b.reasons)
}

fn relative(d: &Description, b: &mut Builder<'_>, h: &Axis) -> (Option<Param>, Option<Map>) {
    let Some(relative) = &d.relative else { return (None, None) };
    b.group(Role::Body, "distances");
    let (columns, rows, norm) = match relative {
        Relative::Bias { rows } => {
            let heads = d.layers.first().map_or(0, |l| l.attention.heads);
            let rows = Axis::of(*rows, "relative_attention_num_buckets");
            (Axis::of(heads, b.names.fields.heads), rows, None)
        }
        Relative::Vectors(v) => {
            let bound = if v.buckets.is_some() { "position_buckets" } else { "max_relative_positions" };
            (h.clone(), Axis::of(v.span, bound).times(2), v.norm)
        }
    };
    let table = b.add(b.names.at(&format!("{}.weight", b.names.relative)), &[rows, columns]);
    let norm = b.norm(&b.names.at(b.names.relative_norm), norm.as_ref(), h);
    // If only queries read it, a vector common to all distances adds the same number to all scores of a query.
    if let (Relative::Vectors(Disentangled { key_position: false, .. }), Some(bias)) =
        (relative, norm.and_then(|n| n.bias))
    {
        b.specs[bias.0].structural_zeros = std::iter::once(0..d.width).collect();
    }
    (Some(table), norm)
}

fn layer(d: &Description, number: usize, b: &mut Builder<'_>, sizes: &Sizes) -> LayerMaps {
    let (path, label) = b.names.layer_at(d.sharing, number);
    let names = b.names.layer;
    let at = |part: &str| format!("{path}.{part}");
    b.group(Role::Body, label);
    let (attention, feed, h) = (&d.layers[number].attention, &d.layers[number].feed, &sizes.width);
    let before = b.norm(&at(names.attention_before), attention.norms.before.as_ref(), h);
    let queries = sizes.of_heads(attention.heads, attention.head_size, sizes.heads);
    let keys = sizes.of_heads(attention.kv_heads, attention.head_size, "num_key_value_heads");
    let (inputs, query_key_norms) = inputs(d, attention, b, (&at, &names), (&queries, &keys, h));
    let of_positions = match &d.relative {
        Some(Relative::Vectors(v)) if !v.shared => (v.key_position, v.query_position),
        _ => (false, false),
    };
    let position_query = of_positions.0.then(|| b.map(&at(names.position_query), &[queries.clone(), h.clone()], true));
    let position_key = of_positions.1.then(|| {
        let map = b.map(&at(names.position_key), &[keys.clone(), h.clone()], true);
        let bias = map.bias.expect("it has one");
        b.specs[bias.0].structural_zeros = std::iter::once(0..keys.0).collect();
        map
    });
    let attention_output = b.map(&at(names.attention_output), &[h.clone(), queries.clone()], attention.output_biased);
    let after = b.norm(&at(names.attention_after), attention.norms.after.as_ref(), h);
    let outer = b.norm(&at(names.attention_outer), attention.norms.outer.as_ref(), h);
    let attention_norms = AroundMaps { before, after, outer };
    let before = b.norm(&at(names.feed_before), feed.norms.before.as_ref(), h);
    let (gate, up, down) = feed_maps(feed, b, (&at, &names), (h, sizes.intermediate));
    let after = b.norm(&at(names.feed_after), feed.norms.after.as_ref(), h);
    let outer = b.norm(&at(names.feed_outer), feed.norms.outer.as_ref(), h);
    LayerMaps {
        attention_norms,
        inputs,
        query_key_norms,
        position_query,
        position_key,
        attention_output,
        feed_norms: AroundMaps { before, after, outer },
        gate,
        up,
        down,
    }
}

type LayerAt<'a> = (&'a dyn Fn(&str) -> String, &'a LayerNames);

/// The maps to queries, keys and values, and the norms of queries and keys.
fn inputs(
    d: &Description,
    attention: &Attention,
    b: &mut Builder<'_>,
    (at, names): LayerAt<'_>,
    (queries, keys, h): (&Axis, &Axis, &Axis),
) -> (Inputs, Option<(Map, Map)>) {
    let map =
        |b: &mut Builder<'_>, name: &str, rows: &Axis| b.map(&at(name), &[rows.clone(), h.clone()], attention.biased);
    let (inputs, key_bias) = if attention.projections == Projections::Separate {
        let query = map(b, names.query, queries);
        let key = map(b, names.key, keys);
        (Inputs::Separate { query, key, value: map(b, names.value, keys) }, key.bias)
    } else {
        let rows = if queries.0 == keys.0 {
            queries.times(3)
        } else {
            Axis(queries.0 + 2 * keys.0, format!("{} + 2 {}", queries.1, keys.1))
        };
        let fused = map(b, names.fused, &rows);
        (Inputs::Fused(fused), fused.bias)
    };
    let by_position = matches!(&d.relative, Some(Relative::Vectors(v)) if v.key_position);
    if let Some(bias) = key_bias {
        // Converts rows of the keys to rows of the map that computes them, head by head if these are interleaved.
        let unseen = attention.unseen_key_rows(by_position).into_iter();
        b.specs[bias.0].structural_zeros = unseen.flat_map(|rows| attention.rows_in_map(rows)).collect();
    }
    let norms = attention.query_key_norm.map(|(norm, span)| {
        let axis = |all: &Axis| match span {
            super::parts::Span::All => all.clone(),
            super::parts::Span::Head => Axis::of(attention.head_size, "head_dim"),
        };
        let (queries, keys) = (axis(queries), axis(keys));
        let query = b.norm(&at(names.query_norm), Some(&norm), &queries).expect("asked for");
        (query, b.norm(&at(names.key_norm), Some(&norm), &keys).expect("asked for"))
    });
    (inputs, norms)
}

fn feed_maps(
    feed: &FeedForward,
    b: &mut Builder<'_>,
    (at, names): LayerAt<'_>,
    (h, field): (&Axis, &'static str),
) -> (Option<Map>, Option<Map>, Map) {
    let i = Axis::of(feed.width, field);
    let mut map =
        |name: &str, rows: &Axis, columns: &Axis| b.map(&at(name), &[rows.clone(), columns.clone()], feed.biased);
    let (gate, up) = match feed.kind {
        FeedKind::Plain => (None, Some(map(names.up, &i, h))),
        FeedKind::Gated => (Some(map(names.gate, &i, h)), Some(map(names.up, &i, h))),
        FeedKind::GatedFused => (Some(map(names.gate, &i.times(2), h)), None),
    };
    (gate, up, map(names.down, h, &i))
}

struct HeadMaps {
    projection: Option<Map>,
    transform: Option<TransformMaps>,
    decoder: Param,
    bias: Option<Param>,
}

fn head(head: &Head, b: &mut Builder<'_>, tokens: Param, (v, h, e): (&Axis, &Axis, &Axis)) -> HeadMaps {
    let names = b.names.head;
    b.group(Role::Head, "head");
    let bias = head.biased.then(|| b.add(names.bias.into(), std::slice::from_ref(v)));
    let projection = head.projection.then(|| b.map(names.projection, &[e.clone(), h.clone()], false));
    let transform = head.transform.map(|t| TransformMaps {
        map: b.map(names.transform, &[e.clone(), h.clone()], t.biased),
        norm: b.norm(names.norm, Some(&t.norm), e).expect("asked for"),
    });
    let decoder = if head.tied { tokens } else { b.add(format!("{}.weight", names.decoder), &[v.clone(), e.clone()]) };
    HeadMaps { projection, transform, decoder, bias }
}
