//! Softmax attention over the tap, as described by parts.
//!
//! Written with explicit products: libtorch's fused kernel does not keep what per-example gradients need.

use tch::{Kind, Tensor};

use super::angles::Angles;
use super::layout::{Inputs, LayerMaps, Map};
use super::model::TokenBatch;
use super::operations::{gather, linear, norm};
use super::packing::Packing;
use super::parts::{Attention, Description, Disentangled, Norm, NormKind, Projections, Relative, Span};
use super::relative::{self, Distances};
use super::rotary::Rotary;
use super::single;
use crate::jacobian::{Param, Tap};

/// What attention needs to know about a batch: masks, angles and distances.
pub(super) struct Places<'a> {
    d: &'a Description,
    batch: &'a TokenBatch,
    tokens: i64,
    /// Token counts of the texts.
    lengths: Vec<i64>,
    /// Mask of padding \[B, 1, 1, T\]; not needed for causal models, whose padding follows everything that is read.
    absent: Option<Tensor>,
    angles: Vec<(&'a Rotary, Angles)>,
    /// Where states are those of the tokens alone \[1, N, width\], and not padded.
    packing: Option<Packing>,
}

impl<'a> Places<'a> {
    /// For states of this element type, without padding where `packed` allows it.
    pub fn new(d: &'a Description, batch: &'a TokenBatch, kind: Kind, packed: bool) -> Self {
        let tokens = batch.ids.size()[1];
        let lengths = match &batch.present {
            None => vec![tokens; batch.ids.size()[0] as usize],
            Some(present) => {
                let counts = present.sum_dim_intlist(1, false, Kind::Int64).to_device(tch::Device::Cpu);
                Vec::try_from(counts).expect("a flat tensor of integers")
            }
        };
        let absent = batch.present.as_ref().filter(|_| !d.causal);
        let absent = absent.map(|p| p.logical_not().unsqueeze(1).unsqueeze(1));
        let packing = batch.present.as_ref().filter(|_| packed).and_then(|p| Packing::of(p, &lengths));
        let mut places = Self { d, batch, tokens, lengths, absent, angles: Vec::new(), packing };
        for rotary in d.layers.iter().filter_map(|l| l.attention.rotary.as_ref()) {
            if !places.angles.iter().any(|(known, _)| *known == rotary) {
                let angles = Angles::of(rotary, &places.lengths, tokens, kind, batch.ids.device());
                places.angles.push((rotary, angles));
            }
        }
        places
    }

    /// Padded states \[B, T, width\] as layers read them.
    pub fn packed(&self, x: &Tensor) -> Tensor {
        self.packing.as_ref().map_or_else(|| x.shallow_clone(), |packing| packing.pack(x))
    }

    /// States of a layer as padded ones \[B, T, width\].
    pub fn padded(&self, x: &Tensor) -> Tensor {
        self.packing.as_ref().map_or_else(|| x.shallow_clone(), |packing| packing.unpack(x))
    }

    /// States of a layer at positions \[B, M\], or all of them.
    pub fn read(&self, x: &Tensor, at: Option<&Tensor>) -> Tensor {
        match (at, &self.packing) {
            (None, _) => x.shallow_clone(),
            (Some(at), None) => gather(x, at),
            (Some(at), Some(packing)) => packing.at(x, at),
        }
    }

    fn angles(&self, rotary: &Rotary) -> &Angles {
        &self.angles.iter().find(|(known, _)| *known == rotary).expect("made for every layer").1
    }

    /// Distances from the positions read \[B, M, T\], or from all \[1, T, T\], to all tokens.
    pub fn distances(&self, at: Option<&Tensor>) -> Tensor {
        let numbers = Tensor::arange(self.tokens, (Kind::Int64, self.batch.ids.device()));
        let queries = at.map_or_else(|| numbers.unsqueeze(0), Tensor::shallow_clone);
        queries.unsqueeze(-1) - numbers
    }

    /// Mask of the keys that queries do not attend to \[1 or B, 1, Q, T\]; `None` if they attend to all.
    pub fn blocked(&self, attention: &Attention, at: Option<&Tensor>) -> Option<Tensor> {
        let mut blocked = self.absent.as_ref().map(Tensor::shallow_clone);
        let mut also = |more: Tensor| {
            let more = more.unsqueeze(1);
            blocked = Some(match blocked.take() {
                Some(some) => some.logical_or(&more),
                None => more,
            });
        };
        if self.d.causal || attention.window.is_some() {
            let distances = self.distances(at);
            if self.d.causal {
                also(distances.lt(0));
            }
            if let Some(window) = attention.window {
                also(distances.abs().ge(window));
                // Padding far after a text would otherwise attend to nothing.
                blocked = blocked.map(|b| b.logical_and(&distances.not_equal(0).unsqueeze(1)));
            }
        }
        blocked
    }
}

/// Scores by distance, shared by all layers.
pub(super) enum Shared<'a> {
    None,
    /// Numbers added to scores \[B, heads, Q, T\].
    Bias(Tensor),
    /// Embeddings of distances, and the index of each pair of tokens into them.
    Vectors {
        parts: &'a Disentangled,
        rows: Tensor,
        distances: Distances,
    },
}

impl<'a> Shared<'a> {
    /// For queries at the positions read, or at all.
    pub fn new(
        tap: &mut dyn Tap,
        places: &Places<'a>,
        (table, table_norm): (Option<Param>, Option<Map>),
        at: Option<&Tensor>,
    ) -> Self {
        let (Some(relative), Some(table)) = (&places.d.relative, table) else { return Self::None };
        let b = places.batch.ids.size()[0];
        match relative {
            Relative::Bias { .. } => {
                let buckets = relative::buckets(&places.distances(at));
                let (queries, tokens) = (buckets.size()[1], buckets.size()[2]);
                let ids = buckets.expand([b, -1, -1], false).reshape([b, -1]);
                let numbers = tap.embedding(table, &ids).view([b, queries, tokens, -1]);
                Self::Bias(numbers.permute([0, 3, 1, 2]))
            }
            Relative::Vectors(parts) => {
                let distances = Distances::new(parts, &places.distances(at), places.tokens);
                let rows = tap.embedding(table, &distances.table_rows(b));
                let rows = match (&parts.norm, table_norm) {
                    (Some(n), Some(map)) => norm(tap, &rows, n, map),
                    _ => rows,
                };
                Self::Vectors { parts, rows, distances }
            }
        }
    }
}

/// Softmax attention of the positions `at` \[B, M\], or of all, to the tokens in their view: from normalized states x \[B,
/// T, width\] and those of the queries \[B, Q, width\] to \[B, Q, width\]. States of all tokens may be packed.
pub(super) fn attend(
    tap: &mut dyn Tap,
    places: &Places<'_>,
    (attention, maps): (&Attention, &LayerMaps),
    (asking, x): (&Tensor, &Tensor),
    at: Option<&Tensor>,
    (blocked, shared): (Option<&Tensor>, &Shared<'_>),
) -> Tensor {
    let Attention { heads, kv_heads, head_size, .. } = *attention;
    let b = places.batch.ids.size()[0];
    let (q, k, v) = inputs(tap, places, (attention, maps), (asking, x), at);
    let q = if at.is_some() { q } else { places.padded(&q) };
    let (mut q, mut k) = (by_head(&q, heads), by_head(&places.padded(&k), kv_heads));
    let v = by_head(&places.padded(&v), kv_heads);
    if let Some(rotary) = &attention.rotary {
        let angles = places.angles(rotary);
        q = at.map_or_else(|| angles.turn(&q), |at| angles.turn_at(&q, at));
        k = angles.turn(&k);
    }
    let queries = q.size()[2];
    // Heads with the same keys are rows of one product: a product for each head would need a copy of the keys for each.
    let rows = heads / kv_heads * queries;
    let mut scores = if heads == kv_heads {
        q.matmul(&k.transpose(-2, -1))
    } else {
        q.reshape([b, kv_heads, rows, head_size]).matmul(&k.transpose(-2, -1)).view([b, heads, queries, -1])
    };
    if let Shared::Vectors { parts, rows, distances } = shared {
        // Not in place: a recording tap keeps its results.
        scores = &scores + of_distances(tap, maps, parts, (&q, &k), rows, distances, (heads, kv_heads));
    }
    scores = &scores * attention.scale;
    if let Shared::Bias(bias) = shared {
        scores = &scores + bias;
    }
    if let Some(cap) = attention.cap {
        scores = (scores / cap).tanh() * cap;
    }
    if let Some(blocked) = blocked {
        scores = scores.masked_fill(blocked, f64::NEG_INFINITY);
    }
    let weights = single::softmax(&scores, attention.rounding);
    let mixed = if heads == kv_heads {
        weights.matmul(&v)
    } else {
        weights.view([b, kv_heads, rows, -1]).matmul(&v).view([b, heads, queries, head_size])
    };
    let mixed = mixed.transpose(1, 2).reshape([b, queries, heads * head_size]);
    linear(tap, &if at.is_some() { mixed } else { places.packed(&mixed) }, maps.attention_output)
}

/// \[B, T, heads · d\] → \[B, heads, T, d\]
fn by_head(x: &Tensor, heads: i64) -> Tensor {
    let (b, t, width) = x.size3().expect("states have three axes");
    x.view([b, t, heads, width / heads]).transpose(1, 2)
}

/// Queries, keys and values, side by side for all heads, normalized if the architecture does so.
fn inputs(
    tap: &mut dyn Tap,
    places: &Places<'_>,
    (attention, maps): (&Attention, &LayerMaps),
    (asking, x): (&Tensor, &Tensor),
    at: Option<&Tensor>,
) -> (Tensor, Tensor, Tensor) {
    let here = |y: Tensor| places.read(&y, at);
    let (b, t, _) = x.size3().expect("states have three axes");
    let (queries, keys) = (attention.heads * attention.head_size, attention.kv_heads * attention.head_size);
    // In single precision, sums over all tokens differ from those over the queries alone.
    let sums_in_single = |(n, span): &(Norm, Span)| {
        *span == Span::Head && n.kind == NormKind::RmsCentred && single::is_rounded(n.rounding, x.kind())
    };
    let all = attention.query_key_norm.as_ref().is_some_and(sums_in_single);
    let (mut q, mut k, v) = match maps.inputs {
        Inputs::Separate { query, key, value } => {
            (linear(tap, if all { x } else { asking }, query), linear(tap, x, key), linear(tap, x, value))
        }
        Inputs::Fused(map) => {
            let y = linear(tap, x, map);
            let (q, k, v) = if attention.projections == Projections::Heads {
                let parts = y.view([b, t, attention.heads, 3, attention.head_size]);
                let part = |i: i64| parts.select(3, i).reshape([b, t, queries]);
                (part(0), part(1), part(2))
            } else {
                let part = |from: i64, size: i64| y.narrow(-1, from, size).contiguous();
                (part(0, queries), part(queries, keys), part(queries + keys, keys))
            };
            (here(q), k, v)
        }
    };
    if let (Some((n, span)), Some((query, key))) = (&attention.query_key_norm, maps.query_key_norms) {
        q = normed(tap, &q, n, query, (*span, attention.head_size));
        k = normed(tap, &k, n, key, (*span, attention.head_size));
    }
    (if all { here(q) } else { q }, k, v)
}

/// The norm of queries or keys: a per-head norm treats heads as tokens, in transformers' order, which determines the order
/// of summation.
fn normed(tap: &mut dyn Tap, x: &Tensor, n: &Norm, map: Map, (span, head_size): (Span, i64)) -> Tensor {
    let rows = |y: Tensor| if single::is_rounded(n.rounding, y.kind()) { single::with_rows_in_gradient(&y) } else { y };
    match span {
        Span::All => rows(norm(tap, x, n, map)),
        Span::Head => {
            let (b, t, width) = x.size3().expect("states have three axes");
            let heads = width / head_size;
            let by_head = by_head(x, heads).reshape([b, heads * t, head_size]);
            let y = rows(norm(tap, &by_head, n, map));
            y.view([b, heads, t, head_size]).transpose(1, 2).reshape([b, t, width])
        }
    }
}

/// Products of queries with keys of distances, and of keys with queries of distances \[B, heads, Q, T\].
fn of_distances(
    tap: &mut dyn Tap,
    maps: &LayerMaps,
    parts: &Disentangled,
    (q, k): (&Tensor, &Tensor),
    rows: &Tensor,
    distances: &Distances,
    (heads, kv_heads): (i64, i64),
) -> Tensor {
    let own = |map: Option<Map>, shared: fn(&Inputs) -> Map| map.unwrap_or_else(|| shared(&maps.inputs));
    let key = |inputs: &Inputs| match inputs {
        Inputs::Separate { key, .. } | Inputs::Fused(key) => *key,
    };
    let query = |inputs: &Inputs| match inputs {
        Inputs::Separate { query, .. } | Inputs::Fused(query) => *query,
    };
    let mut sum: Option<Tensor> = None;
    let mut add = |t: Tensor| {
        sum = Some(match sum.take() {
            Some(s) => s + t,
            None => t,
        });
    };
    if parts.query_position {
        let keys = by_head(&linear(tap, rows, own(maps.position_key, key)), kv_heads);
        add(distances.of_queries(&q.matmul(&keys.transpose(-2, -1))));
    }
    if parts.key_position {
        let queries = by_head(&linear(tap, rows, own(maps.position_query, query)), heads);
        add(distances.of_keys(&k.matmul(&queries.transpose(-2, -1))));
    }
    sum.expect("distances are read by queries or by keys")
}
