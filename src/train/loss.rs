//! The loss and the output derivative χ = ∂ℓ/∂f (the paper's Definition 3.1).

use tch::{Kind, Reduction, Tensor};

use crate::jacobian::{Examples, Parameters, PlainTap};

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
    let mut wanted = include.iter();
    let leaves = parameters.map(|v| v.detach().set_requires_grad(*wanted.next().expect("one flag per parameter")));
    let outputs = examples.forward(&mut PlainTap::new(&leaves), indices);
    let chosen = Tensor::from_slice(&indices.iter().map(|i| *i as i64).collect::<Vec<_>>()).to_device(labels.device());
    let loss = cross_entropy(&outputs, &labels.index_select(0, &chosen));
    let inputs: Vec<&Tensor> = leaves.values().iter().zip(include).filter(|(_, k)| **k).map(|(v, _)| v).collect();
    let mut gradients = Tensor::run_backward(&[&loss], &inputs, false, false).into_iter();
    let gradients = include.iter().map(|k| if *k { gradients.next() } else { None }).collect();
    (loss.to_kind(Kind::Double).double_value(&[]), gradients)
}
