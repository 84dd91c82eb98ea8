//! Tensors that several threads may read.

use std::ops::Deref;

use tch::Tensor;

/// A copy of a tensor that is never written: inputs and token ids of examples.
#[derive(Debug)]
pub struct Frozen(Tensor);

// SAFETY: libtorch allows concurrent reads of a tensor (its reference count is atomic). Nobody else has a handle on the
// copy, and borrowers do not write to it.
unsafe impl Sync for Frozen {}

impl From<Tensor> for Frozen {
    fn from(tensor: Tensor) -> Self {
        Self(tensor.detach().copy())
    }
}

impl Deref for Frozen {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}
