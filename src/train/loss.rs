//! The loss and the output derivative χ = ∂ℓ/∂f (the paper's Definition 3.1).

use tch::{Kind, Reduction, Tensor};

use super::rows::{Gradient, RowTap, TableGradients};
use crate::jacobian::{Examples, Parameters};

/// Mean cross-entropy of logits \[B, C\] against class indices \[B\].
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0)
}

/// χ of the cross-entropy over C label words: `softmax(f) - e_y` \[B, C\] for logits f \[B, C\]. For one output (f is the
/// difference of two label words' logits) the loss is logistic with y = ±1, and χ = `-y σ(-y f)` \[B, 1\].
pub fn output_derivative(outputs: &Tensor, labels: &Tensor) -> Tensor {
    if outputs.size()[1] == 1 {
        let y = (labels.to_kind(outputs.kind()) * 2.0 - 1.0).unsqueeze(1);
        return -&y * (-(&y * outputs)).sigmoid();
    }
    let one_hot = labels.one_hot(outputs.size()[1]).to_kind(outputs.kind());
    outputs.softmax(-1, outputs.kind()) - one_hot
}

/// Loss at `parameters` on the examples at `indices`, and its gradient in the parameters marked by `include` (`None` for the
/// others).
pub fn loss_gradient(
    parameters: &Parameters,
    examples: &dyn Examples,
    labels: &Tensor,
    indices: &[usize],
    include: &[bool],
) -> (f64, Vec<Option<Tensor>>) {
    let mut tables = TableGradients::default();
    let (loss, gradients) = loss_gradient_in(&mut tables, parameters, examples, (labels, indices), include);
    let whole = gradients.into_iter().zip(parameters.values()).map(|(g, value)| Some(g?.whole(value)));
    (loss, whole.collect())
}

/// [`loss_gradient`] with tables' gradients by rows, in memory that is kept from step to step: they are valid until the next call.
pub(super) fn loss_gradient_in(
    tables: &mut TableGradients,
    parameters: &Parameters,
    examples: &dyn Examples,
    (labels, indices): (&Tensor, &[usize]),
    include: &[bool],
) -> (f64, Vec<Option<Gradient>>) {
    let mut wanted = include.iter();
    let leaves = parameters.map(|v| v.detach().set_requires_grad(*wanted.next().expect("one flag per parameter")));
    let mut tap = RowTap::new(&leaves);
    let outputs = examples.forward(&mut tap, indices);
    let chosen = Tensor::from_slice(&indices.iter().map(|i| *i as i64).collect::<Vec<_>>()).to_device(labels.device());
    let loss = cross_entropy(&outputs, &labels.index_select(0, &chosen));
    let gradients = tap.gradients(&loss, tables);
    (loss.to_kind(Kind::Double).double_value(&[]), gradients)
}
