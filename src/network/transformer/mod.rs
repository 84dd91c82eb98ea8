//! A small pre-layer-norm transformer encoder in any abc-parametrization, written over the tap: token and position
//! tables, layers of softmax attention and perceptron, a readout of one position. Knows no data, no checkpoint and no
//! training.

mod layout;
mod scales;

pub use scales::{Exponents, Heads, Kind, TransformerAbc, TransformerShape};

use std::sync::Arc;

use tch::{Device, Kind as Element, Tensor};

use self::layout::{Affine, Entry, Layer, Layout, Start};
use super::random::normal_tensor;
use crate::jacobian::{Examples, Frozen, Param, ParameterSpec, Parameters, PlainTap, Tap};

/// Added to variances by layer norms.
const NORM_EPSILON: f64 = 1e-5;

/// A transformer encoder: shape, parametrization and forward pass. Values live in [`Parameters`].
///
/// `x = m_e (token + position)`; per layer `x += attention(norm(x))`, `x += perceptron(norm(x))`;
/// `f = m_o w·norm(x)` at one position, with multipliers m by kind of parameter.
#[derive(Debug)]
pub struct Transformer {
    shape: TransformerShape,
    abc: TransformerAbc,
    entries: Vec<Entry>,
    specs: Arc<[ParameterSpec]>,
    layout: Layout,
}

impl Transformer {
    /// The network of a shape in a parametrization.
    ///
    /// # Panics
    /// If heads do not divide the width.
    pub fn new(shape: TransformerShape, abc: TransformerAbc) -> Self {
        assert!(shape.head_dimension() > 0, "a head has at least one dimension");
        let (entries, layout) = layout::layout(&shape);
        let specs = entries.iter().map(|e| e.spec.clone()).collect();
        Self { shape, abc, entries, specs, layout }
    }

    /// The shape.
    pub fn shape(&self) -> &TransformerShape {
        &self.shape
    }

    /// Specifications of the parameters, in order.
    pub fn specs(&self) -> Arc<[ParameterSpec]> {
        Arc::clone(&self.specs)
    }

    /// Kind of every parameter, in order.
    pub fn kinds(&self) -> Vec<Kind> {
        self.entries.iter().map(|e| e.kind).collect()
    }

    /// Initial parameters: Gaussian matrices and tables, each from a separate random stream (see [`normal_tensor`]); gains
    /// whose product with their multiplier is 1; biases and shifts of 0.
    pub fn parameters(&self, seed: u64, kind: Element, device: Device) -> Parameters {
        let values = self
            .entries
            .iter()
            .enumerate()
            .map(|(i, entry)| match entry.start {
                Start::Random => {
                    let deviation = self.fan(entry).powf(-self.abc.of(entry.kind).b);
                    normal_tensor(&entry.spec.shape, deviation, seed, i as u64, kind, device)
                }
                Start::Constant(value) => {
                    Tensor::full(&entry.spec.shape, value / self.multiplier(Param(i)), (kind, device))
                }
            })
            .collect();
        Parameters::new(self.specs(), values)
    }

    /// Learning rates η n^-c, one per parameter.
    pub fn learning_rates(&self, eta: f64) -> Vec<f64> {
        self.entries.iter().map(|e| eta * self.fan(e).powf(-self.abc.of(e.kind).c)).collect()
    }

    /// The network applied to token ids \[N, T\] (int64, on the parameters' device), read out at the last position.
    ///
    /// # Panics
    /// If sequences are longer than the position table.
    pub fn examples(&self, ids: Tensor) -> TransformerExamples<'_> {
        let last = ids.size()[1] - 1;
        TransformerExamples {
            network: self,
            readout: ids.select(1, 0).full_like(last).into(),
            ids: self.checked(ids).into(),
        }
    }

    /// The residual stream \[N, T, n\] after the embeddings and after every layer, of token ids \[N, T\]; without
    /// gradients.
    ///
    /// # Panics
    /// If sequences are longer than the position table.
    pub fn hidden(&self, parameters: &Parameters, ids: &Tensor) -> Vec<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut hidden = Vec::with_capacity(self.shape.layers + 1);
        let ids = self.checked(ids.shallow_clone());
        let _ = self.encode(&mut PlainTap::new(parameters), &ids, |x| hidden.push(x.shallow_clone()));
        hidden
    }

    fn checked(&self, ids: Tensor) -> Tensor {
        let (tokens, positions) = (ids.size()[1], self.shape.positions);
        assert!(tokens > 0 && tokens <= positions, "sequences of {tokens} tokens, positions for {positions}");
        ids
    }

    /// The width n for a parameter's scaling.
    fn fan(&self, entry: &Entry) -> f64 {
        (if entry.kind == Kind::Hidden { entry.spec.shape[1] } else { self.shape.width }) as f64
    }

    fn multiplier(&self, p: Param) -> f64 {
        let entry = &self.entries[p.0];
        self.fan(entry).powf(-self.abc.of(entry.kind).a)
    }

    /// Outputs \[B, C\] of token ids \[B, T\], read out at the positions \[B\].
    fn forward(&self, tap: &mut dyn Tap, ids: &Tensor, readout: &Tensor) -> Tensor {
        let x = self.encode(tap, ids, |_| ());
        let place = readout.view([-1, 1, 1]).expand([-1, 1, self.shape.width], false);
        let at_readout = x.gather(1, &place, false).squeeze_dim(1);
        let normed = self.norm(tap, &at_readout, self.layout.final_norm);
        tap.linear(&normed, self.layout.output, None) * self.multiplier(self.layout.output)
    }

    /// The last residual stream \[B, T, n\]; `visit` sees every one.
    fn encode(&self, tap: &mut dyn Tap, ids: &Tensor, mut visit: impl FnMut(&Tensor)) -> Tensor {
        let (batch, length) = (ids.size()[0], ids.size()[1]);
        let places = Tensor::arange(length, (Element::Int64, ids.device())).unsqueeze(0);
        let places = places.expand([batch, length], false).contiguous();
        let embedded = tap.embedding(self.layout.tokens, ids) + tap.embedding(self.layout.positions, &places);
        let mut x = embedded * self.multiplier(self.layout.tokens);
        visit(&x);
        for layer in &self.layout.layers {
            let normed = self.norm(tap, &x, layer.attention_norm);
            x = self.attention(tap, &normed, layer) + &x;
            let normed = self.norm(tap, &x, layer.perceptron_norm);
            let inner = self.shape.activation.apply(&self.linear(tap, &normed, layer.up));
            x = self.linear(tap, &inner, layer.down) + &x;
            visit(&x);
        }
        x
    }

    /// Softmax attention with explicit products: libtorch's fused kernel does not keep what per-example gradients need.
    fn attention(&self, tap: &mut dyn Tap, x: &Tensor, layer: &Layer) -> Tensor {
        let (batch, length, width) = x.size3().expect("hidden states have three axes");
        let (heads, dimension) = (self.shape.head_count(), self.shape.head_dimension());
        let split = |y: Tensor| y.view([batch, length, heads, dimension]).transpose(1, 2);
        let q = split(self.linear(tap, x, layer.query));
        let k = split(self.linear(tap, x, layer.key));
        let v = split(self.linear(tap, x, layer.value));
        let scores = q.matmul(&k.transpose(-2, -1)) * (dimension as f64).powf(-self.abc.attention);
        let mixed = scores.softmax(-1, scores.kind()).matmul(&v);
        self.linear(tap, &mixed.transpose(1, 2).reshape([batch, length, width]), layer.attention_output)
    }

    /// `m_w xWᵀ + m_b b`: the tap has one linear map, so the weight's multiplier goes into x and the bias's out of the
    /// sum.
    fn linear(&self, tap: &mut dyn Tap, x: &Tensor, affine: Affine) -> Tensor {
        let (weight, bias) = (self.multiplier(affine.weight), self.multiplier(affine.bias));
        tap.linear(&(x * (weight / bias)), affine.weight, Some(affine.bias)) * bias
    }

    fn norm(&self, tap: &mut dyn Tap, x: &Tensor, affine: Affine) -> Tensor {
        let none: Option<&Tensor> = None;
        let normed = x.layer_norm([self.shape.width], none, none, NORM_EPSILON, false);
        tap.scale_shift(&normed, affine.weight, Some(affine.bias)) * self.multiplier(affine.weight)
    }
}

/// A [`Transformer`] applied to N sequences.
pub struct TransformerExamples<'a> {
    network: &'a Transformer,
    ids: Frozen,
    readout: Frozen,
}

impl TransformerExamples<'_> {
    /// The same sequences read out at these positions \[N\] (int64), such as those of a mask token.
    ///
    /// # Panics
    /// If there is not one position per sequence.
    #[must_use]
    pub fn read_at(self, positions: Tensor) -> Self {
        assert_eq!(positions.size(), [self.ids.size()[0]], "one position per sequence");
        Self { readout: positions.into(), ..self }
    }
}

impl Examples for TransformerExamples<'_> {
    fn len(&self) -> usize {
        self.ids.size()[0] as usize
    }

    fn outputs(&self) -> usize {
        self.network.shape.outputs as usize
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let rows: Vec<i64> = indices.iter().map(|i| *i as i64).collect();
        let rows = Tensor::from_slice(&rows).to_device(self.ids.device());
        self.network.forward(tap, &self.ids.index_select(0, &rows), &self.readout.index_select(0, &rows))
    }
}
