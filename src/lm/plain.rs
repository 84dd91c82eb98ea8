//! Attention against a plain computation: loops over texts, heads and tokens in double precision, for drawn parts.
//!
//! Tests alone. What a file says of windows, groups of heads, caps, partial angles and norms is compared with transformers
//! elsewhere; here any combination of them is, at every position and with padding.
//!
//! Tolerance: 1e-12 relative to the largest entry: sums of some dozens of products at 1e-16, in another order.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::attention::{Places, Shared, attend};
use super::layout::{Inputs, Layout, Map, layout};
use super::model::{Roundings, TokenBatch};
use super::operations::gather;
use super::parts::{Around, Attention, Description, Layer, Norm, NormKind, Projections, Span};
use super::random;
use super::rotary::Rotary;
use super::rounding::Rounding;
use super::{CausalArchitecture, CausalConfig};
use crate::jacobian::{Parameters, PlainTap};
use kernelview_loops::draws::Draws;

const WIDTH: i64 = 12;
const EPS: f64 = 1e-3;

type Row = Vec<f64>;

/// An attention of a network, texts of these lengths, and a seed for weights and states.
#[derive(Clone, Debug)]
struct Case {
    attention: Attention,
    causal: bool,
    lengths: Vec<i64>,
    seed: u64,
}

fn attention() -> impl Strategy<Value = Attention> {
    let heads = (1..=3i64, 1..=2i64, 1..=3i64).prop_map(|(kv, group, half)| (kv * group, kv, 2 * half));
    let norm = (prop_oneof![Just(NormKind::Layer), Just(NormKind::Rms), Just(NormKind::RmsCentred)], any::<bool>());
    let parts = (
        heads,
        0..3usize,
        any::<[bool; 2]>(),
        0.2..1.5f64,
        prop::option::of(1..=3i64),
        prop::option::of(1..=6i64),
        prop::option::of(0.3..3.0f64),
        prop::option::of(norm),
    );
    parts.prop_map(|((heads, kv_heads, head_size), projections, biases, scale, turned, window, cap, normed)| {
        let projections = match projections {
            0 => Projections::Separate,
            1 => Projections::Blocks,
            // Rows head by head suppose as many heads of keys as of queries.
            _ if heads == kv_heads => Projections::Heads,
            _ => Projections::Separate,
        };
        let rotary =
            turned.map(|pairs| Rotary { rounding: Rounding::None, ..Rotary::plain((2 * pairs).min(head_size), 20.0) });
        let query_key_norm = normed.map(|(kind, each)| {
            let norm = Norm { kind, eps: EPS, rounding: Rounding::None };
            (norm, if each { Span::Head } else { Span::All })
        });
        Attention {
            norms: Around::outer(Norm::layer(EPS)),
            heads,
            kv_heads,
            head_size,
            projections,
            biased: biases[0],
            output_biased: biases[1],
            scale,
            rotary,
            window,
            cap,
            rounding: Rounding::None,
            query_key_norm,
        }
    })
}

fn case() -> impl Strategy<Value = Case> {
    (attention(), any::<bool>(), prop::collection::vec(1..=9i64, 1..=3), any::<u64>())
        .prop_map(|(attention, causal, lengths, seed)| Case { attention, causal, lengths, seed })
}

impl Case {
    /// A network of one layer with this attention.
    fn description(&self) -> Description {
        let config =
            CausalConfig { hidden_size: WIDTH, layers: 1, ..random::tiny_causal(CausalArchitecture::Llama, 7) };
        let llama = config.describe();
        let layer = Layer { attention: self.attention.clone(), ..llama.layers[0].clone() };
        Description { causal: self.causal, layers: vec![layer], ..llama }
    }

    /// Which tokens there are \[B, T\], and the states \[B, T, width\].
    fn batch(&self) -> (TokenBatch, Tensor) {
        let (texts, tokens) = (self.lengths.len() as i64, *self.lengths.iter().max().expect("a text"));
        let lengths = Tensor::from_slice(&self.lengths).unsqueeze(1);
        let present = Tensor::arange(tokens, (Kind::Int64, Device::Cpu)).unsqueeze(0).lt_tensor(&lengths);
        let ids = Tensor::zeros([texts, tokens], (Kind::Int64, Device::Cpu));
        let batch = TokenBatch {
            segments: ids.shallow_clone(),
            ids,
            present: Some(present),
            mask_positions: lengths - 1,
            roundings: Roundings::None,
        };
        let count = (texts * tokens * WIDTH) as usize;
        let states = Draws::new(self.seed, 1).normal(0.0, 1.0, count);
        (batch, Tensor::from_slice(&states).view([texts, tokens, WIDTH]))
    }
}

/// The weights of the attention as rows of numbers.
struct Plain<'a> {
    attention: &'a Attention,
    causal: bool,
    parameters: &'a Parameters,
    layout: &'a Layout,
}

fn numbers(t: &Tensor) -> Row {
    Row::try_from(t.reshape([-1])).expect("doubles")
}

impl Plain<'_> {
    fn linear(&self, map: Map, x: &[f64]) -> Row {
        let weight = numbers(self.parameters.get(map.weight));
        let bias = map.bias.map(|b| numbers(self.parameters.get(b)));
        let row = |(r, row): (usize, &[f64])| dot(row, x) + bias.as_ref().map_or(0.0, |b| b[r]);
        weight.chunks(x.len()).enumerate().map(row).collect()
    }

    /// One norm of the whole row, or one of each head.
    fn norm(&self, map: Map, x: &[f64]) -> Row {
        let Some((norm, span)) = &self.attention.query_key_norm else { return x.to_vec() };
        let weight = numbers(self.parameters.get(map.weight));
        let bias = map.bias.map(|b| numbers(self.parameters.get(b)));
        let length = if *span == Span::Head { self.attention.head_size as usize } else { x.len() };
        let each = |part: &[f64]| -> Row {
            let n = part.len() as f64;
            let mean = if norm.kind == NormKind::Layer { part.iter().sum::<f64>() / n } else { 0.0 };
            let square = part.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let one = f64::from(u8::from(norm.kind == NormKind::RmsCentred));
            let entry = |(i, x): (usize, &f64)| {
                (x - mean) / (square + norm.eps).sqrt() * (weight[i] + one) + bias.as_ref().map_or(0.0, |b| b[i])
            };
            part.iter().enumerate().map(entry).collect()
        };
        x.chunks(length).flat_map(each).collect()
    }

    /// Pairs (k, k + w/2) of the first w entries of each head turned by `t θ^(-2k/w)`.
    fn turned(&self, x: &[f64], t: usize) -> Row {
        let Some(rotary) = &self.attention.rotary else { return x.to_vec() };
        let (d, w) = (self.attention.head_size as usize, rotary.width as usize);
        let mut out = x.to_vec();
        for head in out.chunks_mut(d) {
            for k in 0..w / 2 {
                let (sine, cosine) = (t as f64 / rotary.theta.powf(2.0 * k as f64 / w as f64)).sin_cos();
                let (a, b) = (head[k], head[k + w / 2]);
                (head[k], head[k + w / 2]) = (a * cosine - b * sine, b * cosine + a * sine);
            }
        }
        out
    }

    /// Queries, keys and values of the token at `t`.
    fn inputs(&self, x: &[f64], t: usize) -> [Row; 3] {
        let a = self.attention;
        let (heads, d) = (a.heads as usize, a.head_size as usize);
        let maps = &self.layout.layers[0];
        let [q, k, v] = match maps.inputs {
            Inputs::Separate { query, key, value } => [query, key, value].map(|m| self.linear(m, x)),
            Inputs::Fused(map) => {
                let all = self.linear(map, x);
                if a.projections == Projections::Heads {
                    let part = |i: usize| (0..heads).flat_map(|h| all[(3 * h + i) * d..][..d].to_vec()).collect();
                    [part(0), part(1), part(2)]
                } else {
                    let (queries, keys) = (heads * d, a.kv_heads as usize * d);
                    let part = |from: usize, size: usize| all[from..from + size].to_vec();
                    [part(0, queries), part(queries, keys), part(queries + keys, keys)]
                }
            }
        };
        let (q, k) = match maps.query_key_norms {
            Some((query, key)) => (self.norm(query, &q), self.norm(key, &k)),
            None => (q, k),
        };
        [self.turned(&q, t), self.turned(&k, t), v]
    }

    /// What each token of a text attends to, through the output map.
    fn attend(&self, states: &[Row]) -> Vec<Row> {
        let a = self.attention;
        let (heads, d) = (a.heads as usize, a.head_size as usize);
        let group = heads / a.kv_heads as usize;
        let made: Vec<[Row; 3]> = states.iter().enumerate().map(|(t, x)| self.inputs(x, t)).collect();
        let sees = |t: usize, s: usize| {
            (!self.causal || s <= t) && a.window.is_none_or(|window| (t.abs_diff(s) as i64) < window)
        };
        let of_token = |t: usize| -> Row {
            let head = |h: usize| -> Row {
                let of = |s: usize, part: usize, head: usize| &made[s][part][head * d..][..d];
                let seen: Vec<usize> = (0..states.len()).filter(|s| sees(t, *s)).collect();
                let score = |s: &usize| {
                    let product = dot(of(t, 0, h), of(*s, 1, h / group)) * a.scale;
                    a.cap.map_or(product, |cap| cap * (product / cap).tanh()).exp()
                };
                let weights: Row = seen.iter().map(score).collect();
                let total: f64 = weights.iter().sum();
                let entry =
                    |i: usize| seen.iter().zip(&weights).map(|(s, w)| w * of(*s, 2, h / group)[i]).sum::<f64>() / total;
                (0..d).map(entry).collect()
            };
            let mixed: Row = (0..heads).flat_map(head).collect();
            self.linear(self.layout.layers[0].attention_output, &mixed)
        };
        (0..states.len()).map(of_token).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// All tokens asking, and the last ones alone; states padded, and packed where there is padding.
    #[test]
    fn attention_is_that_of_a_plain_computation(case in case()) {
        let description = case.description();
        let (specs, layout, _) = layout(&description);
        let mut draws = Draws::new(case.seed, 0);
        let weights = specs.iter().map(|spec| {
            let numbers = draws.normal(0.0, 0.6, spec.numel() as usize);
            Tensor::from_slice(&numbers).view(spec.shape.as_slice())
        });
        let parameters = Parameters::new(specs.clone(), weights.collect());
        let (batch, states) = case.batch();
        let parts = (&description.layers[0].attention, &layout.layers[0]);
        let mut tap = PlainTap::new(&parameters);
        let at = Some(&batch.mask_positions);
        let asking = gather(&states, &batch.mask_positions);
        let mut attended = |packed: bool| {
            let places = Places::new(&description, &batch, Kind::Double, packed);
            let states = places.packed(&states);
            let blocked = places.blocked(parts.0, None);
            let all = attend(&mut tap, &places, parts, (&states, &states), None, (blocked.as_ref(), &Shared::None));
            let blocked = places.blocked(parts.0, at);
            let last = attend(&mut tap, &places, parts, (&asking, &states), at, (blocked.as_ref(), &Shared::None));
            (places.padded(&all), last)
        };
        let both = [attended(false), attended(true)];
        let plain = Plain { attention: parts.0, causal: case.causal, parameters: &parameters, layout: &layout };
        for (text, length) in (0i64..).zip(&case.lengths) {
            let state = |t: i64| numbers(&states.get(text).get(t));
            let expected = plain.attend(&(0..*length).map(state).collect::<Vec<Row>>());
            let scale = expected.iter().flatten().fold(0.0f64, |m, x| m.max(x.abs()));
            let distance = |found: Tensor, expected: &Row| {
                let pairs = numbers(&found).into_iter().zip(expected);
                pairs.fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / scale
            };
            for (all, last) in &both {
                for (t, expected) in (0i64..).zip(&expected) {
                    let error = distance(all.get(text).get(t), expected);
                    prop_assert!(error <= 1e-12, "text {text}, token {t}: {error:.1e}");
                }
                let error = distance(last.get(text).get(0), expected.last().expect("a token"));
                prop_assert!(error <= 1e-12, "text {text}, read: {error:.1e}");
            }
        }
    }
}
