//! Sizes of the output derivative.

use tch::{Kind, Tensor};

use crate::train::output_derivative;

/// Euclidean norms of χ per example, for outputs \[N, C\] and class indices \[N\].
pub fn output_derivative_norms(outputs: &Tensor, labels: &[usize]) -> Vec<f64> {
    let labels = Tensor::from_slice(&labels.iter().map(|l| *l as i64).collect::<Vec<_>>());
    let chi = output_derivative(&outputs.to_kind(Kind::Double), &labels);
    Vec::try_from((&chi * &chi).sum_dim_intlist(1, false, Kind::Double).sqrt()).expect("a flat f64 tensor")
}

/// `1 - p(y)` per example, for logits \[N, C\], C ≥ 2, and class indices \[N\]: the size of χ's entry for the right class, half
/// the sum of |χ| over the classes, and |χ| itself if the only output is the difference of two classes.
pub fn output_derivative_sizes(logits: &Tensor, labels: &[usize]) -> Vec<f64> {
    let labels = Tensor::from_slice(&labels.iter().map(|l| *l as i64).collect::<Vec<_>>());
    let chi = output_derivative(&logits.to_kind(Kind::Double), &labels);
    Vec::try_from(chi.abs().sum_dim_intlist(1, false, Kind::Double) * 0.5).expect("a flat f64 tensor")
}
