//! Differentiable linear maps from products of bf16 parts, or of whole factors.

use std::ffi::{c_char, c_int};
use std::ptr;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::own::taken;
use super::product::{Operand, Product};
use super::{Parts, splits, whole};

type Multiply = unsafe extern "C" fn(product: *const Product);

unsafe extern "C" {
    fn kernelview_linear(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        parts: c_int,
        multiply: Option<Multiply>,
    ) -> *const c_char;
}

/// `x Wᵀ + b` for x \[…, in\], W \[out, in\], b \[out\] from products of bf16 parts, or of whole factors, differentiable once in
/// all three; the backward pass uses the same number of parts.
///
/// Without units for these tensors and so many parts, one part still rounds the factors, and more parts become whole factors.
/// Those are multiplied by libtorch, except where a processor can do that twice as fast (`is_halved_by_mkl`), which depends on the
/// processor and on the sizes. The order of summation may depend on these and on the number of threads.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, parts: Option<Parts>) -> Tensor {
    let single = [Some(x), Some(weight), bias].into_iter().flatten().all(|t| t.kind() == Kind::Float);
    let by_units = |parts| x.device() == Device::Cpu && splits(parts);
    let parts = parts.filter(|parts| single && (*parts == Parts::One || by_units(*parts)));
    let multiply: Option<Multiply> = match parts {
        Some(parts) => by_units(parts).then_some(multiply_parts),
        None if whole::is_faster(x, weight) => Some(multiply_whole),
        None => return x.linear(weight, bias),
    };
    let (bias, count) = (bias.map_or(ptr::null(), Tensor::as_ptr), parts.map_or(0, Parts::count) as c_int);
    // SAFETY: the handles are of live tensors; the callee returns a new tensor or an error.
    unsafe { taken(|out| kernelview_linear(out, x.as_ptr(), weight.as_ptr(), bias, count, multiply)) }
}

/// # Safety
/// The product's pointers must be those of matrices of these sizes, and `out` must not be accessed by anyone else.
unsafe extern "C" fn multiply_whole(product: *const Product) {
    // SAFETY: the caller's promise.
    unsafe {
        let product = &*product;
        if product.is_double { whole::multiply::<f64>(product) } else { whole::multiply::<f32>(product) }
    }
}

/// # Safety
/// The product's pointers must be those of matrices of these sizes in single precision, `out` must not be accessed by anyone
/// else, and the processor must have units for bf16.
#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn multiply_parts(product: *const Product) {
    use kernelview_loops::parts::{Factor, Out, Start, multiply};
    // SAFETY: the caller's promise.
    let product = unsafe { &*product };
    let (rows, columns, length) = (product.rows as usize, product.columns as usize, product.length as usize);
    if rows == 0 || columns == 0 || length == 0 {
        return;
    }
    let factor = |operand: &Operand, rows: usize| {
        let stride = operand.stride as usize;
        let lines = if operand.along { rows } else { length };
        let last = if operand.along { length } else { rows };
        // SAFETY: the matrix has this many rows in memory, of which a share may begin within the first.
        let values = unsafe { std::slice::from_raw_parts(operand.values.cast::<f32>(), (lines - 1) * stride + last) };
        Factor { values, stride, contiguous_along: operand.along }
    };
    let parts = Parts::ALL[(product.parts - 1) as usize];
    let factors = (factor(&product.a, rows), factor(&product.b, columns));
    let out = Out { values: product.out.cast(), stride: product.out_stride as usize };
    let start = if product.bias.is_null() { Start::Zero } else { Start::Row(product.bias.cast()) };
    // SAFETY: the caller's promise.
    unsafe { multiply(parts, factors, (rows, columns, length), out, start) };
}

#[cfg(not(target_arch = "x86_64"))]
unsafe extern "C" fn multiply_parts(_: *const Product) {
    unreachable!("no units for bf16")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What threads compute together is what one computes alone, along either side of the result; rows of a large product are those of
    /// the same rows alone. Fails for: shares of threads that overlap or leave a gap, a factor that is read from another place.
    #[test]
    fn threads_share_a_product() {
        tch::manual_seed(5);
        for kind in [Kind::Float, Kind::Double] {
            for (rows, outputs) in [(700, 410), (60, 410), (200, 65), (8000, 1)] {
                let (x, w) = (
                    Tensor::randn([rows, 300], (kind, Device::Cpu)),
                    Tensor::randn([outputs, 300], (kind, Device::Cpu)),
                );
                let bias = Tensor::randn([outputs], (kind, Device::Cpu));
                for parts in [None, Some(Parts::One), Some(Parts::Three)] {
                    let before = tch::get_num_threads();
                    let with = |threads, x: &Tensor| {
                        tch::set_num_threads(threads);
                        let leaves = [x, &w].map(|t| t.detach().copy().set_requires_grad(true));
                        let y = linear(&leaves[0], &leaves[1], Some(&bias), parts);
                        let mut all = Tensor::run_backward(&[y.square().sum(kind)], &leaves, false, false);
                        tch::set_num_threads(before);
                        all.push(y.detach());
                        all
                    };
                    // In another order of summation where a library chooses it by the sizes.
                    let bound = if kind == Kind::Float { 2e-6 } else { 1e-14 };
                    // Units sum an entry's products in one order, whoever has it.
                    let same = kind == Kind::Float && parts.is_some_and(splits);
                    let near = |a: &Tensor, b: &Tensor| {
                        assert!(!same || a.equal(b), "{rows} x {outputs}, {parts:?}");
                        assert!(
                            ((a - b).norm() / b.norm()).double_value(&[]) < bound,
                            "{kind:?}, {rows} x {outputs}, {parts:?}"
                        );
                    };
                    let (one, three) = (with(1, &x), with(3, &x));
                    one.iter().zip(&three).for_each(|(a, b)| near(a, b));
                    let last = with(3, &x.narrow(0, rows - 10, 10));
                    near(&last[2], &one[2].narrow(0, rows - 10, 10));
                }
            }
        }
    }

    /// Output and all three gradients of a linear map over several axes, of sizes that are multiplied here and by libtorch, against
    /// double precision. One part against double precision of
    /// rounded factors: it is a rounding, with units or without. Fails for: a gradient of another factor, a bias that is left out or
    /// summed over the wrong axis, a backward pass that does not round.
    #[test]
    fn a_linear_map_and_its_gradients_equal_double_precision() {
        tch::manual_seed(7);
        let options = (Kind::Float, Device::Cpu);
        let rounded = |t: &Tensor| t.to_kind(Kind::BFloat16).to_kind(Kind::Double);
        let wide = |t: &Tensor| t.to_kind(Kind::Double);
        let off = |found: &Tensor, exact: &Tensor| ((found - exact).norm() / exact.norm()).double_value(&[]);
        for (size, inputs, outputs) in [(vec![3, 40], 96, 130), (vec![150], 70, 33), (vec![1], 8, 1)] {
            let (x, w) =
                (Tensor::randn([&size[..], &[inputs]].concat(), options), Tensor::randn([outputs, inputs], options));
            let (b, g) = (Tensor::randn([outputs], options), Tensor::randn([&size[..], &[outputs]].concat(), options));
            for parts in [None].into_iter().chain(Parts::ALL.map(Some)) {
                let leaves = [&x, &w, &b].map(|t| t.detach().copy().set_requires_grad(true));
                let y = linear(&leaves[0], &leaves[1], Some(&leaves[2]), parts);
                let gradients = Tensor::run_backward(&[(&y * &g).sum(Kind::Float)], &leaves, false, false);
                let of = |take: &dyn Fn(&Tensor) -> Tensor| {
                    let (x, w, g) = (take(&x), take(&w), take(&g));
                    let flat = |t: &Tensor, width: i64| t.reshape([-1, width]);
                    [x.linear(&w, Some(&wide(&b))), g.matmul(&w), flat(&g, outputs).tr().mm(&flat(&x, inputs))]
                };
                let exact = if parts == Some(Parts::One) { of(&rounded) } else { of(&wide) };
                // Two parts leave out about 2⁻¹⁶ of a product; sums in single precision are off by less than 2⁻²⁰ here.
                let bound = if parts == Some(Parts::Two) { 1e-5 } else { 1e-6 };
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

    /// A network in double precision is not rounded: sizes that are multiplied by libtorch and here, if the processor is one where that
    /// gains.
    #[test]
    fn double_precision_is_not_rounded() {
        let options = (Kind::Double, Device::Cpu);
        for rows in [40, 400] {
            let (x, w) = (Tensor::randn([rows, 64], options), Tensor::randn([50, 64], options));
            let plain = x.linear(&w, None::<Tensor>);
            for parts in [None].into_iter().chain(Parts::ALL.map(Some)) {
                let error = (linear(&x, &w, None, parts) - &plain).norm() / plain.norm();
                assert!(error.double_value(&[]) < 1e-15, "{rows}, {parts:?}: {error:?}");
            }
        }
    }

    /// What is not a number, or infinite, is not hidden by its parts.
    #[test]
    fn what_is_not_finite_stays_so() {
        let options = (Kind::Float, Device::Cpu);
        for bad in [f64::NAN, f64::INFINITY] {
            let (x, w) = (Tensor::ones([140, 64], options), Tensor::ones([50, 64], options));
            let _ = x.get(3).get(5).fill_(bad);
            for parts in [None].into_iter().chain(Parts::ALL.map(Some)) {
                let finite = linear(&x, &w, None, parts).isfinite();
                assert_eq!(finite.get(3).any().int64_value(&[]), 0, "{parts:?}");
                assert_eq!(finite.narrow(0, 4, 136).all().int64_value(&[]), 1, "{parts:?}");
            }
        }
    }
}
