//! A network in other coordinates: every parameter tensor θ_p written as `factor_p · w_p`.
//!
//! Gradient descent on w with one learning rate η moves θ_p with the rate `η factor_p²`, sign descent with `η factor_p`: so
//! kernels, drifts and Taylor expansions of a network with a learning rate per tensor are the ordinary ones in these
//! coordinates.

use tch::Tensor;

use super::{Examples, Param, Parameters, Tap};

/// Examples of a network over rescaled parameters.
pub struct Rescaled<'a> {
    inner: &'a dyn Examples,
    factors: &'a [f64],
}

impl<'a> Rescaled<'a> {
    /// `inner` over w, with a positive factor per parameter tensor.
    pub fn new(inner: &'a dyn Examples, factors: &'a [f64]) -> Self {
        Self { inner, factors }
    }

    /// The parameters w of a network's own parameters θ.
    pub fn parameters(own: &Parameters, factors: &[f64]) -> Parameters {
        let mut factor = factors.iter();
        own.map(|value| value / *factor.next().expect("a factor per parameter"))
    }
}

impl Examples for Rescaled<'_> {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn outputs(&self) -> usize {
        self.inner.outputs()
    }

    fn cost(&self, index: usize) -> usize {
        self.inner.cost(index)
    }

    fn separate(&self) -> bool {
        self.inner.separate()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        self.inner.forward(&mut RescalingTap { inner: tap, factors: self.factors }, indices)
    }
}

/// Scales an operation's input and output so that weight and bias get their factors.
struct RescalingTap<'a> {
    inner: &'a mut dyn Tap,
    factors: &'a [f64],
}

impl RescalingTap<'_> {
    fn factor(&self, p: Param) -> f64 {
        self.factors[p.0]
    }

    /// Factors for the input and output of an operation with these two parameters.
    fn around(&self, weight: Param, bias: Option<Param>) -> (f64, f64) {
        let outer = bias.map_or(1.0, |b| self.factor(b));
        (self.factor(weight) / outer, outer)
    }
}

fn times(x: &Tensor, factor: f64) -> Tensor {
    if factor == 1.0 { x.shallow_clone() } else { x * factor }
}

impl Tap for RescalingTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let (before, after) = self.around(weight, bias);
        times(&self.inner.linear(&times(x, before), weight, bias), after)
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        times(&self.inner.embedding(table, ids), self.factor(table))
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let (before, after) = self.around(weight, bias);
        times(&self.inner.scale_shift(&times(x, before), weight, bias), after)
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        let (before, after) = self.around(table, bias);
        times(&self.inner.select_rows(&times(h, before), table, bias, rows), after)
    }

    fn value(&self, parameter: Param) -> Tensor {
        times(&self.inner.value(parameter), self.factor(parameter))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::jacobian::{ParameterSpec, outputs};
    use crate::kernel::{FormulaSet, GramOptions, structured_gram};
    use crate::lm::{Architecture, MaskedLm, OutputMode, PromptExample, PromptExamples, random};
    use crate::progress::Silent;

    /// The kernel in rescaled coordinates is the sum of the tensors' shares times their squared factors, the outputs
    /// are the same.
    #[test]
    fn shares_are_weighted_by_squared_factors() {
        let model = MaskedLm::new(random::tiny(Architecture::Roberta, 40));
        let own = random::parameters(&model, 3, 1.0, Kind::Double, Device::Cpu);
        let prompts = (0..3).map(|i| PromptExample {
            input_ids: vec![0, 7 + i, 9, 4, 12 + i, 2],
            segment_ids: vec![0; 6],
            mask_position: 3,
        });
        let examples = PromptExamples::new(&model, prompts.collect(), &[8, 11], OutputMode::Difference, Device::Cpu)
            .expect("valid");
        let factor = |(i, _): (usize, &ParameterSpec)| 0.5 + (i % 5) as f64 / 2.0;
        let factors: Vec<f64> = own.specs().iter().enumerate().map(factor).collect();
        let (rescaled, w) = (Rescaled::new(&examples, &factors), Rescaled::parameters(&own, &factors));
        let difference = (outputs(&w, &rescaled, 3) - outputs(&own, &examples, 3)).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{difference}");
        let mut options = GramOptions::new(FormulaSet::SGD, own.len());
        let kernel = structured_gram(&w, &rescaled, None, &options, &Silent).expect("a kernel").sgd.expect("asked for");
        let mut expected = kernel.zeros_like();
        for (p, factor) in factors.iter().enumerate() {
            options.include = (0..own.len()).map(|q| q == p).collect();
            let share = structured_gram(&own, &examples, None, &options, &Silent).expect("a kernel").sgd;
            expected += share.expect("asked for") * factor.powi(2);
        }
        let error = ((&kernel - &expected).norm() / expected.norm()).double_value(&[]);
        assert!(error < 1e-12, "{error}");
    }
}
