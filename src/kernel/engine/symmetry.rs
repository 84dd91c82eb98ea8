//! Symmetric matrices of which only one triangle is computed.

use tch::Tensor;

/// A symmetric matrix from its upper triangle.
pub(super) fn mirrored(t: &Tensor) -> Tensor {
    t.triu(0) + t.triu(1).tr()
}
