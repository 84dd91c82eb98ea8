//! Products of whole factors by `faer`, on processors of whose vectors libtorch's library uses a half.

use faer::linalg::matmul::matmul;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};
use kernelview_loops::instructions::is_halved_by_mkl;
use tch::{Device, Kind, Tensor};

use super::product::{Operand, Product};

/// Multiplications from which a product gains more than a call of another library costs.
const ENOUGH: usize = 1 << 18;

/// Whether [`multiply`] is faster than libtorch at x \[…, in\] times the transpose of W \[out, in\].
pub(super) fn is_faster(x: &Tensor, weight: &Tensor) -> bool {
    is_halved_by_mkl()
        && matches!(x.kind(), Kind::Float | Kind::Double)
        && x.device() == Device::Cpu
        && x.numel() * weight.size()[0] as usize >= ENOUGH
}

/// # Safety
/// The product's pointers must be those of matrices of these sizes with numbers of this type, and `out` must not be accessed by
/// anyone else.
pub(super) unsafe fn multiply<T: ComplexField>(product: &Product) {
    let (rows, columns, length) = (product.rows as usize, product.columns as usize, product.length as usize);
    let factor = |operand: &Operand, rows: usize| {
        let stride = operand.stride as isize;
        let (down, along) = if operand.along { (stride, 1) } else { (1, stride) };
        // SAFETY: the caller's promise.
        unsafe { MatRef::<T>::from_raw_parts(operand.values.cast(), rows, length, down, along) }
    };
    let (a, b) = (factor(&product.a, rows), factor(&product.b, columns).transpose());
    // SAFETY: the caller's promise.
    let out =
        unsafe { MatMut::<T>::from_raw_parts_mut(product.out.cast(), rows, columns, product.out_stride as isize, 1) };
    let before = if product.add { Accum::Add } else { Accum::Replace };
    matmul(out, before, a, b, T::one_impl(), Par::Seq);
}
