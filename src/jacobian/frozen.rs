//! Tensors that passes in several threads may read.

use std::ops::Deref;

use tch::Tensor;

/// A tensor that is written nowhere after this: inputs and token ids of examples.
#[derive(Debug)]
pub struct Frozen(Tensor);

// SAFETY: libtorch lets any number of threads read a tensor at a time (its reference count is atomic), and who freezes a
// tensor promises that nobody writes to it, through this handle or another one.
unsafe impl Sync for Frozen {}

impl From<Tensor> for Frozen {
    fn from(tensor: Tensor) -> Self {
        Self(tensor)
    }
}

impl Deref for Frozen {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}
