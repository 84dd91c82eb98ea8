//! The forward pass of a language model over the tap: one walk over its parts, for encoders and decoders.
//!
//! Knows no architecture by name.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::attention::{Places, Shared, attend};
use super::layout::{AroundMaps, LayerMaps, Layout, layout};
use super::model::{LanguageModel, NetworkFacts, Reads, Roundings, TokenBatch, filler};
use super::operations::{gather, linear, norm};
use super::parts::{Around, Count, Description, FeedForward, FeedKind, Layer, Projection};
use super::rotary::Rotary;
use super::single;
use crate::jacobian::{ParameterSpec, Tap};

/// A language model: description, names and forward pass. Values live in [`crate::jacobian::Parameters`].
pub(super) struct Network {
    description: Description,
    /// The same without rounding.
    exact: Description,
    specs: Arc<[ParameterSpec]>,
    layout: Layout,
}

impl Network {
    /// The network of a description.
    pub fn new(description: Description) -> Self {
        let (specs, layout, _) = layout(&description);
        Self { exact: description.exact(), description, specs, layout }
    }

    /// Its parts.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its parts, with the batch's roundings.
    fn parts(&self, batch: &TokenBatch) -> &Description {
        match batch.roundings {
            Roundings::AsTransformers => &self.description,
            Roundings::None => &self.exact,
        }
    }

    /// Last hidden states at the positions read \[B, M, width\]. Nothing reads the others, so the last layer computes only
    /// these, from the keys and values of all tokens.
    pub fn states(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let (d, layout) = (self.parts(batch), &self.layout);
        let x = self.embed(tap, batch);
        let places = Places::new(d, batch, x.kind(), tap.joins_texts() && !d.steps.is_empty());
        let mut x = places.packed(&x);
        let table = (layout.relative, layout.relative_norm);
        let read = Some(&batch.mask_positions);
        let last = d.steps.len().saturating_sub(1);
        let all = if d.steps.len() > 1 { Shared::new(tap, &places, table, None) } else { Shared::None };
        let mut seen: Option<(Option<i64>, Option<Tensor>)> = None;
        for (number, used) in d.steps.iter().enumerate() {
            let (parts, maps) = (&d.layers[*used], &layout.layers[*used]);
            if number == last {
                let blocked = places.blocked(&parts.attention, read);
                let shared = Shared::new(tap, &places, table, read);
                x = step(tap, &places, (parts, maps), &x, read, (blocked.as_ref(), &shared));
            } else {
                let window = parts.attention.window;
                // Layers with the same window share their masks.
                if seen.as_ref().is_none_or(|(known, _)| *known != window) {
                    seen = Some((window, places.blocked(&parts.attention, None)));
                }
                let blocked = seen.as_ref().and_then(|(_, blocked)| blocked.as_ref());
                x = step(tap, &places, (parts, maps), &x, None, (blocked, &all));
            }
        }
        // Without layers, those of the embeddings.
        let x = if d.steps.is_empty() { gather(&x, &batch.mask_positions) } else { x };
        match (&d.final_norm, layout.final_norm) {
            (Some(n), Some(map)) => norm(tap, &x, n, map),
            _ => x,
        }
    }

    /// The first layer's input \[B, T, width\].
    fn embed(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let (parts, layout) = (&self.parts(batch).embeddings, &self.layout);
        // Not in place: recorded outputs of sites are leaves.
        let mut sum = tap.embedding(layout.tokens, &batch.ids);
        if parts.scale != 1.0 {
            sum = &sum * single::number(parts.scale, parts.scale_rounding, sum.kind());
        }
        let project = |tap: &mut dyn Tap, x: &Tensor| layout.projection.map(|map| linear(tap, x, map));
        if parts.projection == Some(Projection::Tokens) {
            sum = project(tap, &sum).expect("asked for");
        }
        if let Some(segments) = layout.segments {
            sum = &sum + tap.embedding(segments, &batch.segments);
        }
        if let (Some(table), Some(positions)) = (layout.positions, &parts.positions) {
            sum = &sum + tap.embedding(table, &numbers(positions.count, batch));
        }
        if parts.projection == Some(Projection::Sum) {
            sum = project(tap, &sum).expect("asked for");
        }
        if let (Some(n), Some(map)) = (&parts.norm, layout.embedding_norm) {
            sum = norm(tap, &sum, n, map);
        }
        if parts.projection == Some(Projection::Normed) {
            sum = project(tap, &sum).expect("asked for");
        }
        sum
    }

    /// The decoder's input \[B, width\].
    pub fn transformed(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let h = self.features(tap, batch);
        self.transform(tap, &h)
    }

    /// The head's transform between the last hidden states and the decoder.
    fn transform(&self, tap: &mut dyn Tap, h: &Tensor) -> Tensor {
        let head = &self.description.head;
        let h = self.layout.head_projection.map_or_else(|| h.shallow_clone(), |map| linear(tap, h, map));
        match (&head.transform, self.layout.transform) {
            (Some(parts), Some(maps)) => {
                let h = parts.activation.apply(&linear(tap, &h, maps.map));
                norm(tap, &h, &parts.norm, maps.norm)
            }
            _ => h,
        }
    }

    /// Logits from the decoder's products.
    fn finish(&self, logits: Tensor) -> Tensor {
        let head = &self.description.head;
        let logits = if head.scale == 1.0 { logits } else { logits * head.scale };
        match head.cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}

/// One layer: x \[B, T, width\], or its packed tokens, → the same, or only the positions read \[B, M, width\].
fn step(
    tap: &mut dyn Tap,
    places: &Places<'_>,
    (parts, maps): (&Layer, &LayerMaps),
    x: &Tensor,
    at: Option<&Tensor>,
    seen: (Option<&Tensor>, &Shared<'_>),
) -> Tensor {
    let here = |y: &Tensor| places.read(y, at);
    let around = (&parts.attention.norms, &maps.attention_norms);
    let normed = before(tap, x, around);
    let residual = here(x);
    let asking = normed.as_ref().map_or_else(|| residual.shallow_clone(), here);
    let keys = normed.as_ref().unwrap_or(x);
    let attended = attend(tap, places, (&parts.attention, maps), (&asking, keys), at, seen);
    let attended = after(tap, attended, around, parts.multiplier);
    let around = (&parts.feed.norms, &maps.feed_norms);
    if parts.parallel {
        let fed = before(tap, &residual, around);
        let fed = feed(tap, fed.as_ref().unwrap_or(&residual), &parts.feed, maps);
        return residual + attended + after(tap, fed, around, parts.multiplier);
    }
    let x = outer(tap, attended + residual, (&parts.attention.norms, &maps.attention_norms));
    let fed = before(tap, &x, around);
    let fed = feed(tap, fed.as_ref().unwrap_or(&x), &parts.feed, maps);
    let fed = after(tap, fed, around, parts.multiplier);
    outer(tap, fed + &x, around)
}

fn feed(tap: &mut dyn Tap, x: &Tensor, parts: &FeedForward, maps: &LayerMaps) -> Tensor {
    let inner = match (parts.kind, maps.gate, maps.up) {
        (FeedKind::GatedFused, Some(both), _) => {
            let both = linear(tap, x, both).chunk(2, -1);
            parts.activation.gate(&both[0], &both[1])
        }
        (_, Some(gate), Some(up)) => parts.activation.gate(&linear(tap, x, gate), &linear(tap, x, up)),
        (_, _, Some(up)) => parts.activation.apply(&linear(tap, x, up)),
        _ => unreachable!("a layout has the maps of its description"),
    };
    linear(tap, &inner, maps.down)
}

/// Position numbers \[B, T\].
fn numbers(count: Count, batch: &TokenBatch) -> Tensor {
    match count {
        Count::From(first) => {
            let size = batch.ids.size();
            let numbers = Tensor::arange_start(first, first + size[1], (Kind::Int64, batch.ids.device()));
            numbers.unsqueeze(0).expand(&size, false).contiguous()
        }
        Count::BehindPadding(pad) => {
            let token = batch.ids.not_equal(pad).to_kind(Kind::Int64);
            token.cumsum(1, Kind::Int64) * token + pad
        }
    }
}

type Branch<'a> = (&'a Around, &'a AroundMaps);

fn before(tap: &mut dyn Tap, x: &Tensor, (norms, maps): Branch<'_>) -> Option<Tensor> {
    Some(norm(tap, x, norms.before.as_ref()?, maps.before?))
}

fn after(tap: &mut dyn Tap, y: Tensor, (norms, maps): Branch<'_>, multiplier: f64) -> Tensor {
    let y = match (&norms.after, maps.after) {
        (Some(n), Some(map)) => norm(tap, &y, n, map),
        _ => y,
    };
    if multiplier == 1.0 { y } else { y * multiplier }
}

fn outer(tap: &mut dyn Tap, sum: Tensor, (norms, maps): Branch<'_>) -> Tensor {
    match (&norms.outer, maps.outer) {
        (Some(n), Some(map)) => norm(tap, &sum, n, map),
        _ => sum,
    }
}

impl LanguageModel for Network {
    fn specs(&self) -> &Arc<[ParameterSpec]> {
        &self.specs
    }

    fn facts(&self) -> NetworkFacts {
        let d = &self.description;
        NetworkFacts {
            architecture: d.architecture,
            vocab_size: d.vocab_size,
            max_tokens: d.max_tokens,
            segments: d.embeddings.segments.unwrap_or(1),
            pad_token_id: filler(d.pad_token_id, d.vocab_size),
            layers: d.steps.len() as i64 / d.sharing.map_or(1, |s| s.inner),
            width: d.width,
            reads: if d.causal { Reads::LastToken } else { Reads::Mask },
            looks_ahead: !d.causal
                || d.layers.iter().any(|l| l.attention.rotary.as_ref().is_some_and(Rotary::by_length)),
            mup_base_width: d.mup_base_width,
        }
    }

    fn settings(&self) -> String {
        serde_json::to_string(&self.description).expect("a description is plain data")
    }

    fn features(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        self.states(tap, batch).squeeze_dim(1)
    }

    fn label_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch, label_ids: &Tensor) -> Tensor {
        let h = self.transformed(tap, batch);
        self.finish(tap.select_rows(&h, self.layout.decoder, self.layout.decoder_bias, label_ids))
    }

    fn vocabulary_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let h = self.states(tap, batch);
        let h = self.transform(tap, &h);
        self.finish(tap.linear(&h, self.layout.decoder, self.layout.decoder_bias))
    }
}
