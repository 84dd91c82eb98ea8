//! Updates of large networks on the CPU in one pass over their entries. libtorch takes a dozen passes for them, each limited by
//! memory bandwidth. The operations and their order are the same, and so are the results.

use tch::Tensor;

use crate::entries::{are, each};

/// Factors of Adam's step.
#[derive(Clone, Copy)]
pub(super) struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Factor of the root of the second moment.
    pub root: f64,
    /// Factor of the quotient: minus the learning rate, over the first moment's bias correction.
    pub rate: f64,
}

/// Whether this module updates tensors of this kind.
pub(super) fn takes(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| are::<f32>(t) && t.numel() == tensors[0].numel())
}

/// Replaces a value by `value - rate·g`.
pub(super) fn descend(value: &Tensor, g: &Tensor, rate: f64) {
    let rate = -rate as f32;
    let one = |[value]: [&mut [f32]; 1], [g]: [&[f32]; 1]| {
        for (value, g) in value.iter_mut().zip(g) {
            *value += *g * rate;
        }
    };
    each([value], [g], &one);
}

/// Replaces a value and its moments by those after the step.
pub(super) fn adam((value, m, v): (&Tensor, &Tensor, &Tensor), g: &Tensor, with: Adam) {
    let (b1, b2, epsilon) = (with.beta1 as f32, with.beta2 as f32, with.epsilon as f32);
    let (c1, c2) = ((1.0 - with.beta1) as f32, (1.0 - with.beta2) as f32);
    let (root, rate) = (with.root as f32, with.rate as f32);
    let one = |[value, m, v]: [&mut [f32]; 3], [g]: [&[f32]; 1]| {
        for (((value, m), v), g) in value.iter_mut().zip(m).zip(v).zip(g) {
            *m = *m * b1 + *g * c1;
            *v = *v * b2 + *g * *g * c2;
            let denominator = v.sqrt() * root + epsilon;
            // An entry that never had a gradient gives 0/0 if ε is 0: it does not move.
            let quotient = if denominator == 0.0 { 0.0 } else { *m / denominator };
            *value += quotient * rate;
        }
    };
    each([value, m, v], [g], &one);
}
