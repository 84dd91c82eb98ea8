//! A handful of numbers in place of many.

use tch::{Kind, Tensor};

use crate::train::output_derivative;

/// Mean, quartiles and extremes of a sample.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Number of values.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest value.
    pub min: f64,
    /// Lower quartile (linear interpolation between order statistics).
    pub q25: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub q75: f64,
    /// Largest value.
    pub max: f64,
}

impl Summary {
    /// Summarizes a sample; `None` when it is empty or holds a value that is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let position = q * (sorted.len() - 1) as f64;
            let (low, part) = (position.floor() as usize, position.fract());
            let high = (low + 1).min(sorted.len() - 1);
            sorted[low] + part * (sorted[high] - sorted[low])
        };
        Some(Self {
            count: sorted.len(),
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            min: at(0.0),
            q25: at(0.25),
            median: at(0.5),
            q75: at(0.75),
            max: at(1.0),
        })
    }
}

/// Euclidean norms of χ per example, for outputs \[N, C\] and class indices \[N\].
pub fn output_derivative_norms(outputs: &Tensor, labels: &[usize]) -> Vec<f64> {
    let labels = Tensor::from_slice(&labels.iter().map(|l| *l as i64).collect::<Vec<_>>());
    let chi = output_derivative(&outputs.to_kind(Kind::Double), &labels);
    Vec::try_from((&chi * &chi).sum_dim_intlist(1, false, Kind::Double).sqrt()).expect("a flat f64 tensor")
}
