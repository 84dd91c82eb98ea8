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
        && x.kind() == weight.kind()
        && [x.device(), weight.device()] == [Device::Cpu; 2]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Products of factors in every form, within wider rows of the result, written and added, against double precision summed in
    /// order; on any processor. Fails for: strides exchanged, a result that is not added, numbers beside it that are written.
    #[test]
    fn products_equal_their_definition() {
        fn check<T: ComplexField + Copy + Into<f64>>(number: fn(f64) -> T) {
            for (rows, columns, length) in [(7, 130, 90), (1, 40, 64), (33, 1, 70), (5, 6, 1), (4, 3, 0)] {
                for (forms, add) in (0..4).flat_map(|forms| [(forms, false), (forms, true)]) {
                    let of = |i: usize, k: usize, shift: usize| ((i * 31 + k * 17 + shift) % 23) as f64 / 8.0 - 1.25;
                    let factor = |lines: usize, along: bool, shift: usize| -> Vec<T> {
                        let at = |place: usize| {
                            let (i, k) =
                                if along { (place / length, place % length) } else { (place % lines, place / lines) };
                            number(of(i, k, shift))
                        };
                        (0..lines * length).map(at).collect()
                    };
                    let (a, b) = (factor(rows, forms & 1 == 0, 0), factor(columns, forms & 2 == 0, 5));
                    let operand = |values: &[T], lines: usize, along: bool| Operand {
                        values: values.as_ptr().cast(),
                        stride: if along { length } else { lines } as i64,
                        along,
                    };
                    let wide = columns + 3;
                    let mut out = vec![number(0.5); rows * wide];
                    let product = Product {
                        parts: 0,
                        is_double: size_of::<T>() == 8,
                        a: operand(&a, rows, forms & 1 == 0),
                        b: operand(&b, columns, forms & 2 == 0),
                        rows: rows as i64,
                        columns: columns as i64,
                        length: length as i64,
                        out: out.as_mut_ptr().cast(),
                        out_stride: wide as i64,
                        bias: std::ptr::null(),
                        add,
                    };
                    // SAFETY: matrices of these sizes, this test's own.
                    unsafe { multiply::<T>(&product) };
                    for (place, found) in out.into_iter().enumerate() {
                        let (i, j) = (place / wide, place % wide);
                        let sum: f64 = (0..length).map(|k| of(i, k, 0) * of(j, k, 5)).sum();
                        let exact = if j >= columns { 0.5 } else { sum + if add { 0.5 } else { 0.0 } };
                        assert_eq!(found.into(), exact, "{rows} x {columns} x {length}, {forms}, {add}");
                    }
                }
            }
        }
        // Numbers of few bits, whose sums are exact in both.
        check::<f32>(|x| x as f32);
        check::<f64>(|x| x);
    }
}
