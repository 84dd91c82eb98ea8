//! Gradients and outputs of synthetic networks, for any output derivative.

use tch::{Kind, Tensor};

use crate::jacobian::{Examples, Parameters, PlainTap};
use crate::train::Optimizer;

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
    // Adding 0·Σθ makes every parameter part of the graph, so that parameters not used by the outputs have gradient zero.
    let anchor =
        leaves.values().iter().map(|p| p.sum(Kind::Double)).reduce(|a, b| a + b).expect("a network has parameters");
    Tensor::run_backward(&[total + anchor * 0.0], leaves.values(), false, false).into_iter().map(Some).collect()
}

/// Outputs \[N, C\] of all examples, in one batch and without gradients.
pub(super) fn outputs(parameters: &Parameters, examples: &dyn Examples) -> Tensor {
    crate::jacobian::outputs(parameters, examples, examples.len())
}

/// `<∇f, direction>` \[N, C\] of all examples, from outputs along the line alone: the central difference of fourth order, in
/// which no tensor moves by more than a fifty-thousandth of its size, because layer norms of few entries are strongly curved.
/// Its error is 1e-19 times a fifth derivative, plus round-off over 1e-5. Parameters without a direction do not move.
pub(super) fn first_order(parameters: &Parameters, examples: &dyn Examples, direction: &[Option<Tensor>]) -> Tensor {
    // A nearly zero tensor counts as having entries of 0.1.
    let sizes = parameters.values().iter().map(|value| rms(value).max(0.1));
    let moves = direction.iter().zip(sizes).filter_map(|(d, size)| d.as_ref().map(|d| rms(d) / size));
    let step = 2e-5 / moves.fold(0.0, f64::max);
    let at = |factor: f64| {
        let mut direction = direction.iter();
        let there = parameters.map(|value| match direction.next() {
            Some(Some(d)) => value + d * (factor * step),
            _ => value.shallow_clone(),
        });
        outputs(&there, examples)
    };
    ((at(1.0) - at(-1.0)) * 8.0 - (at(2.0) - at(-2.0))) / (12.0 * step)
}

/// First-order change of all outputs \[N·C\] in an optimizer's step on the loss with output derivative χ \[B, C\] on the
/// examples at `indices`.
pub(super) fn moved_by_step(
    mut optimizer: Optimizer,
    parameters: &Parameters,
    examples: &dyn Examples,
    (indices, chi): (&[usize], &Tensor),
) -> Tensor {
    let gradients = loss_gradient(parameters, examples, indices, chi);
    let updates = optimizer.updates(parameters, &gradients, 1.0);
    first_order(parameters, examples, &updates).reshape([-1])
}

/// Expands one number per tensor to all of its entries \[P\].
pub(super) fn entries(parameters: &Parameters, of_tensors: &[f64]) -> Tensor {
    let parts = parameters.values().iter().zip(of_tensors);
    let parts: Vec<Tensor> =
        parts.map(|(v, number)| Tensor::full([v.numel() as i64], *number, (Kind::Double, v.device()))).collect();
    Tensor::cat(&parts, 0)
}

/// Root mean square of a tensor's entries.
pub(super) fn rms(t: &Tensor) -> f64 {
    (t * t).mean(Kind::Double).sqrt().double_value(&[])
}
