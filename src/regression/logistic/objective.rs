//! The objective of logistic regression and its derivative, given the outputs.

use nalgebra::DVector;

use super::Logistic;

impl Logistic<'_> {
    /// The objective, given `Kα`.
    pub(super) fn value(&self, alpha: &DVector<f64>, change: &DVector<f64>, offset: &DVector<f64>, lambda: f64) -> f64 {
        0.5 * lambda * alpha.dot(change) + self.cross_entropy(&(change + offset))
    }

    /// `λα - (y - p)`.
    pub(super) fn optimality(&self, alpha: &DVector<f64>, probabilities: &DVector<f64>, lambda: f64) -> DVector<f64> {
        alpha * lambda - &self.wanted + probabilities
    }

    /// `σ(f)` for one output, otherwise the softmax of each example's outputs.
    pub(super) fn probabilities(&self, outputs: &DVector<f64>) -> DVector<f64> {
        if self.outputs == 1 {
            return outputs.map(|f| if f >= 0.0 { 1.0 / (1.0 + (-f).exp()) } else { f.exp() / (1.0 + f.exp()) });
        }
        let mut all = outputs.clone();
        for example in all.as_mut_slice().chunks_mut(self.outputs) {
            let top = example.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for f in &mut *example {
                *f = (*f - top).exp();
            }
            let sum: f64 = example.iter().sum();
            for f in example {
                *f /= sum;
            }
        }
        all
    }

    fn cross_entropy(&self, outputs: &DVector<f64>) -> f64 {
        if self.outputs == 1 {
            let loss = |(f, y): (&f64, &f64)| f.max(0.0) - y * f + (-f.abs()).exp().ln_1p();
            return outputs.iter().zip(self.wanted.iter()).map(loss).sum();
        }
        let examples = outputs.as_slice().chunks(self.outputs).zip(&self.labels);
        let loss = |(example, &label): (&[f64], &usize)| {
            let top = example.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            top + example.iter().map(|f| (f - top).exp()).sum::<f64>().ln() - example[label]
        };
        examples.map(loss).sum()
    }
}
