//! Training steps of synthetic networks: any output derivative, any update rule, a learning rate per parameter tensor.

use tch::{Kind, Tensor};

use crate::jacobian::{Examples, Parameters, PlainTap};
use crate::train::{Optimizer, OptimizerKind};

/// `Σ_i χ_i ∇f_i`, the gradient of any loss with output derivative χ \[B, C\] on the examples at `indices`.
pub(super) fn loss_gradient(
    parameters: &Parameters,
    examples: &dyn Examples,
    indices: &[usize],
    chi: &Tensor,
) -> Vec<Option<Tensor>> {
    let leaves = parameters.map(|v| v.detach().set_requires_grad(true));
    let outputs = examples.forward(&mut PlainTap::new(&leaves), indices);
    let total = (outputs * chi.to_device(parameters.device())).sum(Kind::Double);
    // Adding 0·Σθ makes every parameter part of the graph, so that one the outputs do not reach has gradient zero.
    let anchor =
        leaves.values().iter().map(|p| p.sum(Kind::Double)).reduce(|a, b| a + b).expect("a network has parameters");
    Tensor::run_backward(&[total + anchor * 0.0], leaves.values(), false, false).into_iter().map(Some).collect()
}

/// An update rule with a learning rate per parameter tensor.
pub(super) struct Trainer {
    optimizer: Optimizer,
    rates: Vec<f64>,
}

impl Trainer {
    pub(super) fn new(kind: OptimizerKind, rates: Vec<f64>) -> Self {
        Self { optimizer: Optimizer::new(kind, 1.0, rates.len()), rates }
    }

    /// The parameters after one step along these gradients.
    pub(super) fn step(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>]) -> Parameters {
        self.scaled_step(parameters, gradients, 1.0)
    }

    /// The same with all learning rates multiplied by a factor in this step.
    pub(super) fn scaled_step(
        &mut self,
        parameters: &Parameters,
        gradients: &[Option<Tensor>],
        factor: f64,
    ) -> Parameters {
        let _guard = tch::no_grad_guard();
        let mut updates = self.optimizer.updates(parameters, gradients).into_iter().zip(&self.rates);
        parameters.map(|value| match updates.next() {
            Some((Some(update), rate)) => value + update * (*rate * factor),
            _ => value.shallow_clone(),
        })
    }
}

/// Outputs \[N, C\] of all examples, in one batch and without gradients.
pub(super) fn outputs(parameters: &Parameters, examples: &dyn Examples) -> Tensor {
    crate::jacobian::outputs(parameters, examples, examples.len())
}

/// Root mean square of a tensor's entries.
pub(super) fn rms(t: &Tensor) -> f64 {
    (t * t).mean(Kind::Double).sqrt().double_value(&[])
}
