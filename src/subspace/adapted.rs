//! A network with its adapters applied.
//!
//! A tap that wraps another tap: wherever the network's forward pass multiplies by an adapted W, the wrapper adds `s B (A
//! x)` through the inner tap, so that A and B are recorded, differentiated and updated like any other parameters.

use std::collections::HashMap;

use tch::Tensor;

use super::adapter::{Adapter, Use};
use crate::jacobian::{Examples, Param, Tap};

/// Adapters by the use of a weight.
pub(super) type ByUse = HashMap<(Param, Use), Adapter>;

/// Norms of a matrix's rows.
pub(super) fn lengths(matrix: &Tensor) -> Tensor {
    matrix.square().sum_dim_intlist([1i64].as_slice(), false, matrix.kind()).sqrt()
}

/// A network with adapters, applied to its examples. Its parameters are those of [`super::Lora::parameters`].
///
/// Only the adapted use of a weight gets the adapter: a table tied to the decoder may have one as embeddings and none as
/// decoder.
pub struct Adapted<'a> {
    network: &'a dyn Examples,
    adapters: ByUse,
}

impl<'a> Adapted<'a> {
    pub(super) fn new(network: &'a dyn Examples, adapters: ByUse) -> Self {
        Self { network, adapters }
    }
}

impl Examples for Adapted<'_> {
    fn len(&self) -> usize {
        self.network.len()
    }

    fn outputs(&self) -> usize {
        self.network.outputs()
    }

    fn cost(&self, index: usize) -> usize {
        self.network.cost(index)
    }

    fn separate(&self) -> bool {
        self.network.separate()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        self.network.forward(&mut AdaptedTap { inner: tap, adapters: &self.adapters }, indices)
    }
}

/// A tap that adds `s B (A x)` to products with adapted weights.
struct AdaptedTap<'a> {
    inner: &'a mut dyn Tap,
    adapters: &'a ByUse,
}

impl AdaptedTap<'_> {
    fn adapter(&self, weight: Param, of: Use) -> Option<Adapter> {
        self.adapters.get(&(weight, of)).copied()
    }
}

impl Tap for AdaptedTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        // The decoder over the whole vocabulary is a product with all its rows.
        let adapter = self.adapter(weight, Use::Linear).or_else(|| self.adapter(weight, Use::Decoder));
        let Some(adapter) = adapter else { return self.inner.linear(x, weight, bias) };
        // With magnitudes the bias is added after them.
        let y = self.inner.linear(x, weight, bias.filter(|_| adapter.magnitude.is_none()));
        let low = self.inner.linear(x, adapter.a, None);
        let y = y + self.inner.linear(&low, adapter.b, None) * adapter.scaling;
        let Some(magnitude) = adapter.magnitude else { return y };
        let value = |p: Param| self.inner.value(p);
        let sum = value(weight) + value(adapter.b).matmul(&value(adapter.a)) * adapter.scaling;
        self.inner.scale_shift(&(y / lengths(&sum)), magnitude, bias)
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        let y = self.inner.embedding(table, ids);
        let Some(adapter) = self.adapter(table, Use::Embedding) else { return y };
        let low = self.inner.embedding(adapter.a, ids);
        y + self.inner.linear(&low, adapter.b, None) * adapter.scaling
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        self.inner.scale_shift(x, weight, bias)
    }

    fn scale_by_one_plus(&mut self, x: &Tensor, weight: Param) -> Tensor {
        self.inner.scale_by_one_plus(x, weight)
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        let y = self.inner.select_rows(h, table, bias, rows);
        let Some(adapter) = self.adapter(table, Use::Decoder) else { return y };
        let low = self.inner.linear(h, adapter.a, None);
        y + self.inner.select_rows(&low, adapter.b, None, rows) * adapter.scaling
    }

    fn value(&self, parameter: Param) -> Tensor {
        self.inner.value(parameter)
    }

    fn joins_texts(&self) -> bool {
        self.inner.joins_texts()
    }
}
