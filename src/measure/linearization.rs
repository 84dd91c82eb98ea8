//! The first-order Taylor expansion of a network in its parameters, from gradients, and the network's distance from it.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::jacobian::{Examples, Parameters, batches_by_cost, in_order, record};
use crate::progress::check_cancelled;

/// First-order expansion around a parameter vector along one direction, on N examples.
pub struct Taylor {
    /// f at the expansion point \[N, C\].
    pub value: Tensor,
    /// `<∇f, direction>` \[N, C\].
    pub slope: Tensor,
}

impl Taylor {
    /// The linearized model's outputs `f(θ_0) + <∇f(θ_0), θ - θ_0>` \[N, C\].
    pub fn linearized(&self) -> Tensor {
        &self.value + &self.slope
    }
}

/// Expands f around `at` along `direction`, over the parameters marked by `include`. In double precision on the CPU; gradients
/// are never materialized.
pub fn taylor(
    at: &Parameters,
    direction: &Parameters,
    examples: &dyn Examples,
    include: &[bool],
    batch: usize,
) -> Result<Taylor> {
    let (mut values, mut slopes) = (Vec::new(), Vec::new());
    let batches = batches_by_cost(examples, batch);
    for indices in &batches {
        check_cancelled()?;
        let recorded = record(at, examples, indices);
        values.push(recorded.outputs().to_device(tch::Device::Cpu));
        slopes.push(recorded.dot(direction, include).to_device(tch::Device::Cpu));
    }
    let whole = |parts: &[Tensor]| in_order(&Tensor::cat(parts, 0), &batches);
    Ok(Taylor { value: whole(&values), slope: whole(&slopes) })
}

/// `|actual - predicted| / |actual|` in the Frobenius norm; `None` if nothing moved, or not by a finite distance.
pub fn relative_residual(actual: &Tensor, predicted: &Tensor) -> Option<f64> {
    let size = norm(actual);
    (size > 0.0).then(|| norm(&(actual - predicted)) / size).filter(|residual| residual.is_finite())
}

/// Frobenius norm, in double precision.
pub(super) fn norm(t: &Tensor) -> f64 {
    t.to_kind(Kind::Double).norm().double_value(&[])
}
