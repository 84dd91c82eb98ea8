//! Gradients and outputs of synthetic networks, for any output derivative.

use tch::{Kind, Tensor};

use crate::jacobian::{Examples, Parameters, PlainTap};

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

/// Outputs \[N, C\] of all examples, in one batch and without gradients.
pub(super) fn outputs(parameters: &Parameters, examples: &dyn Examples) -> Tensor {
    crate::jacobian::outputs(parameters, examples, examples.len())
}

/// Root mean square of a tensor's entries.
pub(super) fn rms(t: &Tensor) -> f64 {
    (t * t).mean(Kind::Double).sqrt().double_value(&[])
}
