//! The description of a language model by its parts: made from a `config.json`, walked by the network. Plain data; knows no
//! file and no tensor.

#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::Serialize;

use super::activation::Activation;
use super::config::Sharing;
use super::names::Names;
use super::rotary::Rotary;
use super::rounding::Rounding;

/// A transformer, from token ids to logits.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Description {
    /// Its `model_type`.
    pub architecture: &'static str,
    /// Names of its parameters in checkpoints.
    #[serde(skip)]
    pub names: &'static Names,
    /// Vocabulary size V.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub width: i64,
    /// Longest sequence.
    pub max_tokens: i64,
    /// Token id that fills up a batch.
    pub pad_token_id: i64,
    /// Whether tokens attend only to themselves and earlier ones, and the output is read at the last one.
    pub causal: bool,
    pub embeddings: Embeddings,
    /// Scores by the distance of query and key, shared by all layers.
    pub relative: Option<Relative>,
    /// Layers with their own parameters.
    pub layers: Vec<Layer>,
    /// For each step through the network, the layer whose parameters it uses.
    pub steps: Vec<usize>,
    /// How steps share layers, if they do.
    pub sharing: Option<Sharing>,
    /// Norm of the last hidden states.
    pub final_norm: Option<Norm>,
    pub head: Head,
    /// The base width of a network pre-trained by this program in muP.
    pub mup_base_width: Option<i64>,
}

impl Description {
    /// The same network without rounding.
    pub fn exact(&self) -> Self {
        let mut exact = self.clone();
        let plain = |norm: &mut Option<Norm>| norm.iter_mut().for_each(|n| n.rounding = Rounding::None);
        let around = |norms: &mut Around| {
            [&mut norms.before, &mut norms.after, &mut norms.outer].into_iter().for_each(plain);
        };
        exact.embeddings.scale_rounding = Rounding::None;
        for layer in &mut exact.layers {
            let attention = &mut layer.attention;
            attention.rounding = Rounding::None;
            attention.rotary.iter_mut().for_each(|r| r.rounding = Rounding::None);
            attention.query_key_norm.iter_mut().for_each(|(n, _)| n.rounding = Rounding::None);
            around(&mut attention.norms);
            around(&mut layer.feed.norms);
        }
        plain(&mut exact.final_norm);
        exact
    }
}

/// From token ids to the first layer's input.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Embeddings {
    /// Width of the token table.
    pub width: i64,
    /// Factor of token embeddings.
    pub scale: f64,
    /// Precision of that factor.
    pub scale_rounding: Rounding,
    pub positions: Option<Positions>,
    /// Rows of the segment table, if there is one.
    pub segments: Option<i64>,
    pub norm: Option<Norm>,
    /// The map from the embeddings to the residual stream, if widths differ.
    pub projection: Option<Projection>,
}

/// A table of position embeddings.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Positions {
    /// Rows.
    pub rows: i64,
    pub count: Count,
}

/// How tokens are numbered.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum Count {
    /// Starting at this number.
    From(i64),
    /// Tokens other than padding are numbered from this padding id + 1; padding has its id as number.
    BehindPadding(i64),
}

/// Which embeddings are mapped to the residual stream's width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Projection {
    /// The normalized sum, with a bias.
    Normed,
    /// The sum before the norm, without a bias.
    Sum,
    /// Only the token embeddings, without a bias; the position table has the residual stream's width.
    Tokens,
}

/// A normalization of the last axis.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Norm {
    pub kind: NormKind,
    /// Added to the variance or the mean square.
    pub eps: f64,
    /// Precision of the root mean square and, if weights are offsets from one, of the product with them.
    pub rounding: Rounding,
}

/// Which normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum NormKind {
    /// Mean and variance, with a bias.
    Layer,
    /// Mean and variance, without a bias.
    LayerUnbiased,
    /// Root mean square.
    Rms,
    /// Root mean square, multiplied by one plus the weight.
    RmsCentred,
}

impl Norm {
    /// Mean and variance, with a bias: torch's class, without rounding.
    pub fn layer(eps: f64) -> Self {
        Self { kind: NormKind::Layer, eps, rounding: Rounding::None }
    }

    /// A root mean square norm: transformers' class, which computes it in single precision.
    pub fn rms(eps: f64) -> Self {
        Self { kind: NormKind::Rms, eps, rounding: Rounding::Single }
    }

    /// Whether its affine part has a bias.
    pub fn has_bias(&self) -> bool {
        self.kind == NormKind::Layer
    }
}

/// The norms of a layer's branch: `outer(x + multiplier · after(branch(before(x))))`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Around {
    pub before: Option<Norm>,
    pub after: Option<Norm>,
    pub outer: Option<Norm>,
}

impl Around {
    /// Before the branch.
    pub fn before(norm: Norm) -> Self {
        Self { before: Some(norm), after: None, outer: None }
    }

    /// On the branch's output, before the sum.
    pub fn after(norm: Norm) -> Self {
        Self { before: None, after: Some(norm), outer: None }
    }

    /// On the sum.
    pub fn outer(norm: Norm) -> Self {
        Self { before: None, after: None, outer: Some(norm) }
    }
}

/// Attention and a feed-forward network, each a branch added to the residual stream.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Layer {
    pub attention: Attention,
    pub feed: FeedForward,
    /// Whether both branches read the layer's input.
    pub parallel: bool,
    /// Factor of branches before they are added.
    pub multiplier: f64,
}

/// Softmax attention.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Attention {
    pub norms: Around,
    /// Heads of queries.
    pub heads: i64,
    /// Heads of keys and values; each serves `heads / kv_heads` heads of queries.
    pub kv_heads: i64,
    /// Width of a head.
    pub head_size: i64,
    pub projections: Projections,
    /// Biases of the maps to queries, keys and values.
    pub biased: bool,
    /// Bias of the output map.
    pub output_biased: bool,
    /// Factor of the products of queries and keys.
    pub scale: f64,
    /// Rotary positions of queries and keys.
    pub rotary: Option<Rotary>,
    /// Keys farther away are masked: `|i - j| < window`.
    pub window: Option<i64>,
    /// Scores s become `cap tanh(s / cap)`.
    pub cap: Option<f64>,
    /// Precision of softmax.
    pub rounding: Rounding,
    /// Norms of queries and keys, before rotation.
    pub query_key_norm: Option<(Norm, Span)>,
}

/// How queries, keys and values are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Projections {
    /// Three maps.
    Separate,
    /// One map, whose rows are all queries, all keys, all values.
    Blocks,
    /// One map, whose rows are, head by head, its query, key and value.
    Heads,
}

/// The axes of a norm of queries or keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Span {
    /// Each head separately, with one weight for all.
    Head,
    /// All heads together.
    All,
}

impl Attention {
    /// Ranges of rows of the keys' bias (`kv_heads · head_size` rows) in which gradients are zero in exact arithmetic. An
    /// entry that reaches scores as a product with the query alone adds the same number to all scores of that query, which
    /// softmax ignores. This fails if keys are rotated by position, normalized or read by position (`by_position`), or if
    /// scores are capped.
    pub fn unseen_key_rows(&self, by_position: bool) -> Vec<Range<i64>> {
        if by_position || self.query_key_norm.is_some() || self.cap.is_some() {
            return Vec::new();
        }
        let turned = self.rotary.as_ref().map_or(0, |r| r.width);
        match turned {
            0 => std::iter::once(0..self.kv_heads * self.head_size).collect(),
            all if all >= self.head_size => Vec::new(),
            some => (0..self.kv_heads).map(|h| h * self.head_size + some..(h + 1) * self.head_size).collect(),
        }
    }

    /// Rows of the keys in the map that computes them.
    pub fn rows_in_map(&self, rows: Range<i64>) -> Vec<Range<i64>> {
        let d = self.head_size;
        match self.projections {
            Projections::Separate => std::iter::once(rows).collect(),
            Projections::Blocks => {
                let before = self.heads * d;
                std::iter::once(before + rows.start..before + rows.end).collect()
            }
            Projections::Heads => (rows.start / d..=(rows.end - 1) / d)
                .map(|head| {
                    let (from, to) = (rows.start.max(head * d), rows.end.min((head + 1) * d));
                    let moved = (2 * head + 1) * d;
                    moved + from..moved + to
                })
                .collect(),
        }
    }
}

/// Scores that depend on the distance of query and key.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum Relative {
    /// A number for each bucket of distances and each head.
    Bias {
        /// Rows of the table.
        rows: i64,
    },
    /// A vector for each bucket of distances, multiplied with queries and keys (DeBERTa's disentangled attention).
    Vectors(Disentangled),
}

/// DeBERTa's additional terms of a score.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Disentangled {
    /// Half the rows of the table: larger distances share the outermost row.
    pub span: i64,
    /// Distances from half of this on are bucketed by their logarithm.
    pub buckets: Option<i64>,
    /// The distance at which the last bucket ends.
    pub furthest: i64,
    /// Queries with the keys of distances.
    pub query_position: bool,
    /// Keys with the queries of distances.
    pub key_position: bool,
    /// Whether distances use the tokens' query and key maps, or separate ones.
    pub shared: bool,
    /// Norm of the table.
    pub norm: Option<Norm>,
}

/// The feed-forward network.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct FeedForward {
    pub norms: Around,
    /// Inner width.
    pub width: i64,
    pub kind: FeedKind,
    pub activation: Activation,
    /// Whether its maps have biases.
    pub biased: bool,
}

/// The form of a feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum FeedKind {
    /// `down(φ(up(x)))`
    Plain,
    /// `down(φ(gate(x)) ∘ up(x))`
    Gated,
    /// The same with one map, whose rows are the gate's followed by up's.
    GatedFused,
}

/// From the hidden states to logits.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Head {
    /// Width of the decoder's rows.
    pub width: i64,
    /// A map to that width without a bias, if it differs from the residual stream's.
    pub projection: bool,
    /// A masked model's map, activation and norm before the decoder.
    pub transform: Option<Transform>,
    /// Whether the decoder is tied to the token embeddings.
    pub tied: bool,
    /// Whether logits have biases.
    pub biased: bool,
    /// Factor of the logits.
    pub scale: f64,
    /// Logits f become `cap tanh(f / cap)`.
    pub cap: Option<f64>,
}

impl Head {
    /// A causal model's head: only the decoder.
    pub fn plain(width: i64, tied: bool) -> Self {
        Self { width, projection: false, transform: None, tied, biased: false, scale: 1.0, cap: None }
    }
}

/// A masked model's head before its decoder.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Transform {
    pub biased: bool,
    pub activation: Activation,
    pub norm: Norm,
}
