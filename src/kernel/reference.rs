//! The reference engine: one example at a time, ordinary autograd, the whole Jacobian in memory. Slow and simple on
//! purpose: the other engines must agree with it.

use tch::{Kind, Tensor};

use super::formula::FormulaSet;
use super::gram::{Gram, ParameterShare};
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Parameters, PlainTap};

/// The Jacobian \[N·C, P\] of all outputs with respect to all parameters, by autograd, in the parameters' precision.
///
/// Memory N·C·P; meant for tests and small networks.
pub fn dense_jacobian(parameters: &Parameters, examples: &dyn Examples) -> Tensor {
    let leaves = parameters.map(|v| v.detach().set_requires_grad(true));
    let mut rows = Vec::new();
    for i in 0..examples.len() {
        let outputs = examples.forward(&mut PlainTap::new(&leaves), &[i]);
        for c in 0..examples.outputs() {
            let output = outputs.get(0).get(c as i64);
            let gradients = gradient_or_zero(&output, leaves.values());
            rows.push(Tensor::cat(&gradients.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0));
        }
    }
    Tensor::stack(&rows, 0)
}

/// Gradients of a scalar, zero where it does not depend on a parameter (libtorch would fail there).
fn gradient_or_zero(output: &Tensor, leaves: &[Tensor]) -> Vec<Tensor> {
    // Adding 0·Σθ makes every parameter part of the graph without changing any value.
    let anchor = leaves.iter().map(|p| p.sum(p.kind())).reduce(|a, b| a + b).expect("a network has parameters");
    let anchored = output + anchor * 0.0;
    Tensor::run_backward(&[anchored], leaves, true, false)
}

/// Signs of Jacobian rows by the project's rule: zero where the gradient is exactly zero, and zero for parameters whose
/// gradient is zero in exact arithmetic (their computed gradients are round-off noise).
pub fn sign_rows(parameters: &Parameters, jacobian: &Tensor) -> Tensor {
    let signs = jacobian.sign();
    let mut start = 0;
    for spec in parameters.specs() {
        if spec.structural_zero {
            let _ = signs.narrow(1, start, spec.numel()).zero_();
        }
        start += spec.numel();
    }
    signs
}

/// All kernels between examples and themselves (`right` absent) or others, from dense Jacobians.
///
/// # Errors
/// [`Error::Numeric`] when outputs or gradients are not finite.
pub fn reference_gram(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    formulas: FormulaSet,
    include: &[bool],
) -> Result<Gram> {
    if left.is_empty() || right.is_some_and(Examples::is_empty) {
        return Err(Error::Settings("a kernel needs at least one example on each side".into()));
    }
    let dense = |examples: &dyn Examples| {
        let j = dense_jacobian(parameters, examples);
        let mut start = 0;
        for (spec, keep) in parameters.specs().iter().zip(include) {
            if !keep {
                let _ = j.narrow(1, start, spec.numel()).zero_();
            }
            start += spec.numel();
        }
        let signs = sign_rows(parameters, &j);
        (j.to_kind(Kind::Double), signs.to_kind(Kind::Double))
    };
    let outputs = |e: &dyn Examples| crate::jacobian::outputs(parameters, e, 1);
    let (jl, sl) = dense(left);
    let other = right.map(dense);
    let (jr, sr) = other.as_ref().map_or((&jl, &sl), |(j, s)| (j, s));
    let product = |wanted: bool, a: &Tensor, b: &Tensor| wanted.then(|| a.matmul(&b.tr()).to_device(tch::Device::Cpu));
    let mut shares = Vec::new();
    if right.is_none() {
        let mut start = 0;
        for (i, spec) in parameters.specs().iter().enumerate() {
            let j = jl.narrow(1, start, spec.numel());
            let s = sl.narrow(1, start, spec.numel());
            shares.push(ParameterShare {
                parameter: i,
                trace_sgd: (&j * &j).sum(Kind::Double).double_value(&[]),
                trace_signgd: s.abs().sum(Kind::Double).double_value(&[]),
                sgd: Some(j.matmul(&j.tr())),
            });
            start += spec.numel();
        }
    }
    let gram = Gram {
        left: left.len() as i64,
        right: right.map_or(left.len(), Examples::len) as i64,
        outputs: left.outputs() as i64,
        symmetric: right.is_none(),
        sgd: product(formulas.sgd, &jl, jr),
        asymmetric: product(formulas.asymmetric, &jl, sr),
        asymmetric_reversed: product(formulas.asymmetric, &sl, jr),
        signgd: product(formulas.signgd, &sl, sr),
        left_outputs: outputs(left),
        right_outputs: outputs(right.unwrap_or(left)),
        shares,
    };
    gram.check_finite()?;
    Ok(gram)
}
