//! Differentiable linear maps from products of bf16 parts.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::{Parts, splits};
use crate::device::threads;

/// A factor of a [`Product`]: entry k of row i is at `i·stride + k` if `along`, else at `k·stride + i`.
#[repr(C)]
struct Operand {
    values: *const f32,
    stride: i64,
    along: bool,
}

/// `out[i, j] = Σ_k a[i, k] b[j, k]`, or `+=`, as requested by `linear.cpp`.
#[repr(C)]
struct Product {
    parts: c_int,
    a: Operand,
    b: Operand,
    rows: i64,
    columns: i64,
    length: i64,
    out: *mut f32,
    add: bool,
}

type Multiply = unsafe extern "C" fn(product: *const Product);

unsafe extern "C" {
    fn kernelview_split_linear(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        parts: c_int,
        multiply: Option<Multiply>,
    ) -> *const c_char;
}

/// `x Wᵀ + b` for x \[…, in\], W \[out, in\], b \[out\] from products of bf16 parts, differentiable once in all three; the
/// backward pass uses the same number of parts.
///
/// Without units for these tensors and so many parts, one part still rounds the factors, and more parts become libtorch's single
/// precision.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, parts: Parts) -> Tensor {
    let single = [Some(x), Some(weight), bias].into_iter().flatten().all(|t| t.kind() == Kind::Float);
    let units = single && x.device() == Device::Cpu && splits(parts);
    let multiply = units.then_some(multiply as Multiply);
    if !single || (multiply.is_none() && parts != Parts::One) {
        return x.linear(weight, bias);
    }
    let mut out = ptr::null_mut();
    // SAFETY: the handles are of live tensors; the callee returns a new tensor or an error.
    let failure = unsafe {
        let bias = bias.map_or(ptr::null(), Tensor::as_ptr);
        kernelview_split_linear(&raw mut out, x.as_ptr(), weight.as_ptr(), bias, parts.count() as c_int, multiply)
    };
    if failure.is_null() {
        // SAFETY: a new tensor without another owner.
        return unsafe { Tensor::from_ptr(out) };
    }
    // SAFETY: a NUL-terminated text that lives until this thread's next call.
    let text = unsafe { CStr::from_ptr(failure) }.to_string_lossy().into_owned();
    // A panic, as the bindings report libtorch's failures: engines catch shortages of memory.
    panic!("{text}");
}

/// # Safety
/// The product's pointers must be those of matrices of these sizes, `out` must not be accessed by anyone else, and the
/// processor must have units for bf16.
#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn multiply(product: *const Product) {
    use kernelview_loops::parts::{Factor, Out, multiply};
    // SAFETY: the caller's promise.
    let product = unsafe { &*product };
    let (rows, columns, length) = (product.rows as usize, product.columns as usize, product.length as usize);
    if rows == 0 || columns == 0 || length == 0 {
        return;
    }
    let factor = |operand: &Operand, rows: usize| {
        let stride = operand.stride as usize;
        let lines = if operand.along { rows } else { length };
        // SAFETY: the matrix has this many rows in memory.
        let values = unsafe { std::slice::from_raw_parts(operand.values, lines * stride) };
        Factor { values, stride, contiguous_along: operand.along }
    };
    let parts = Parts::ALL[(product.parts - 1) as usize];
    let factors = (factor(&product.a, rows), factor(&product.b, columns));
    let out = Out { values: product.out, stride: columns };
    // SAFETY: the caller's promise.
    unsafe { multiply(parts, threads(), factors, (rows, columns, length), out, product.add) };
}

#[cfg(not(target_arch = "x86_64"))]
unsafe extern "C" fn multiply(_: *const Product) {
    unreachable!("no units for bf16")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::has_units;

    /// Rows of the last rows of a large product are those of the same rows alone, with one thread and two. Fails for: shares of
    /// threads that overlap or leave a gap.
    #[test]
    fn threads_share_a_product() {
        if !has_units() {
            eprintln!("skipped: this processor has no units for bf16, or they are switched off");
            return;
        }
        let parts = if splits(Parts::Three) { Parts::Three } else { Parts::One };
        tch::manual_seed(5);
        let options = (Kind::Float, Device::Cpu);
        let (x, w) = (Tensor::randn([700, 300], options), Tensor::randn([410, 300], options));
        let before = tch::get_num_threads();
        let with = |threads| {
            tch::set_num_threads(threads);
            let out = linear(&x, &w, None, parts);
            tch::set_num_threads(before);
            out
        };
        assert_eq!(with(1), with(2));
        assert_eq!(with(1).narrow(0, 690, 10), linear(&x.narrow(0, 690, 10), &w, None, parts));
    }

    /// Output and all three gradients of a linear map over several axes, against double precision. One part against double precision of
    /// rounded factors: it is a rounding, with units or without. Fails for: a gradient of another factor, a bias that is left out or
    /// summed over the wrong axis, a backward pass that does not round.
    #[test]
    fn a_linear_map_and_its_gradients_equal_double_precision() {
        tch::manual_seed(7);
        let options = (Kind::Float, Device::Cpu);
        let rounded = |t: &Tensor| t.to_kind(Kind::BFloat16).to_kind(Kind::Double);
        let wide = |t: &Tensor| t.to_kind(Kind::Double);
        let off = |found: &Tensor, exact: &Tensor| ((found - exact).norm() / exact.norm()).double_value(&[]);
        for (size, inputs, outputs) in [(vec![3, 40], 96, 130), (vec![50], 70, 33), (vec![1], 8, 1)] {
            let (x, w) =
                (Tensor::randn([&size[..], &[inputs]].concat(), options), Tensor::randn([outputs, inputs], options));
            let (b, g) = (Tensor::randn([outputs], options), Tensor::randn([&size[..], &[outputs]].concat(), options));
            for parts in Parts::ALL {
                let leaves = [&x, &w, &b].map(|t| t.detach().copy().set_requires_grad(true));
                let y = linear(&leaves[0], &leaves[1], Some(&leaves[2]), parts);
                let gradients = Tensor::run_backward(&[(&y * &g).sum(Kind::Float)], &leaves, false, false);
                let of = |take: &dyn Fn(&Tensor) -> Tensor| {
                    let (x, w, g) = (take(&x), take(&w), take(&g));
                    let flat = |t: &Tensor, width: i64| t.reshape([-1, width]);
                    [x.linear(&w, Some(&wide(&b))), g.matmul(&w), flat(&g, outputs).tr().mm(&flat(&x, inputs))]
                };
                let exact = if parts == Parts::One { of(&rounded) } else { of(&wide) };
                // Two parts leave out products of 2⁻¹⁶; sums in single precision are off by less than 2⁻²⁰ here.
                let bound = if parts == Parts::Two { 1e-5 } else { 1e-6 };
                for (found, exact) in [&y, &gradients[0], &gradients[1]].into_iter().zip(&exact) {
                    assert_eq!(found.size(), exact.size());
                    let error = off(&wide(found), exact);
                    assert!(error < bound, "{parts:?}, {size:?}: {error:e}");
                }
                let sums = wide(&g).reshape([-1, outputs]).sum_dim_intlist(0, false, Kind::Double);
                assert!(off(&wide(&gradients[2]), &sums) < 1e-6);
            }
        }
    }

    /// A network in double precision is not rounded.
    #[test]
    fn double_precision_is_left_alone() {
        let options = (Kind::Double, Device::Cpu);
        let (x, w) = (Tensor::randn([40, 64], options), Tensor::randn([50, 64], options));
        for parts in Parts::ALL {
            assert_eq!(linear(&x, &w, None, parts), x.linear(&w, None::<Tensor>));
        }
    }

    /// What is not a number, or infinite, is not hidden by its parts.
    #[test]
    fn what_is_not_finite_stays_so() {
        let options = (Kind::Float, Device::Cpu);
        for bad in [f64::NAN, f64::INFINITY] {
            let (x, w) = (Tensor::ones([40, 64], options), Tensor::ones([50, 64], options));
            let _ = x.get(3).get(5).fill_(bad);
            for parts in Parts::ALL {
                let finite = linear(&x, &w, None, parts).isfinite();
                assert_eq!(finite.get(3).any().int64_value(&[]), 0, "{parts:?}");
                assert_eq!(finite.narrow(0, 4, 36).all().int64_value(&[]), 1, "{parts:?}");
            }
        }
    }
}
