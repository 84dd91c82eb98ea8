//! The product of a gated layer, which keeps only its factors for the backward pass.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use super::own::taken;

/// Activations of gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Gate {
    /// `x σ(x)`
    Silu,
    /// `x Φ(x)` with the exact normal distribution function.
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
}

unsafe extern "C" {
    fn kernelview_gated(out: *mut *mut C_tensor, gate: *const C_tensor, up: *const C_tensor, phi: i64)
    -> *const c_char;
}

/// `φ(gate) ∘ up` for two tensors of one size, differentiable once in both. In the backward pass `φ(gate)` is computed again, which
/// saves a tensor of that size for each layer until then.
pub fn gated(phi: Gate, gate: &Tensor, up: &Tensor) -> Tensor {
    // SAFETY: the handles are of live tensors; the callee returns a new tensor or an error.
    unsafe { taken(|out| kernelview_gated(out, gate.as_ptr(), up.as_ptr(), phi as i64)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Value and gradients are those of the same expression left to libtorch, bit for bit: the same operations in another
    /// order of time. Fails for: another activation, factors exchanged, a derivative that leaves out a factor.
    #[test]
    fn a_gated_product_is_that_of_libtorch() {
        tch::manual_seed(3);
        for kind in [Kind::Float, Kind::Double] {
            let options = (kind, Device::Cpu);
            let draw = || Tensor::randn([3, 5, 17], options);
            let (gate, up, g) = (draw(), draw(), draw());
            for phi in [Gate::Silu, Gate::Gelu, Gate::GeluTanh] {
                let plain = |gate: &Tensor, up: &Tensor| match phi {
                    Gate::Silu => gate.silu() * up,
                    Gate::Gelu => gate.gelu("none") * up,
                    Gate::GeluTanh => gate.gelu("tanh") * up,
                };
                let with = |f: &dyn Fn(&Tensor, &Tensor) -> Tensor| {
                    let leaves = [&gate, &up].map(|t| t.detach().copy().set_requires_grad(true));
                    let y = f(&leaves[0], &leaves[1]);
                    let mut all = Tensor::run_backward(&[(&y * &g).sum(kind)], &leaves, false, false);
                    all.push(y.detach());
                    all
                };
                assert_eq!(with(&|gate, up| gated(phi, gate, up)), with(&plain), "{phi:?}");
            }
        }
    }
}
