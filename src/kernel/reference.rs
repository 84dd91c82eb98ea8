//! The reference engine: one example at a time, ordinary autograd, the whole Jacobian in memory. Deliberately slow and
//! simple: the structured engine must agree with it.

use tch::{Kind, Tensor};

use super::formula::FormulaSet;
use super::gram::{Gram, GramMatrix, ParameterShare, no_examples};
use crate::error::Result;
use crate::jacobian::{Examples, Parameters, PlainTap};
use crate::progress::check_cancelled;

/// The Jacobian \[N·C, P\] of all outputs with respect to all parameters, by autograd, in the parameters' precision.
///
/// Memory N·C·P; meant for tests and small networks.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted) between examples.
pub fn dense_jacobian(parameters: &Parameters, examples: &dyn Examples) -> Result<Tensor> {
    let leaves = parameters.map(|v| v.detach().set_requires_grad(true));
    let count = examples.outputs() as i64;
    let shape = [examples.len() as i64 * count, parameters.numel()];
    let jacobian = Tensor::zeros(shape, (parameters.kind(), parameters.device()));
    for i in 0..examples.len() {
        check_cancelled()?;
        let outputs = examples.forward(&mut PlainTap::new(&leaves), &[i]);
        for c in 0..examples.outputs() {
            let output = outputs.get(0).get(c as i64);
            let gradients = gradient_or_zero(&output, leaves.values());
            let row = Tensor::cat(&gradients.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
            jacobian.get(i as i64 * count + c as i64).copy_(&row);
        }
    }
    Ok(jacobian)
}

/// Gradients of a scalar, with zeros for parameters on which it does not depend (where libtorch would fail).
fn gradient_or_zero(output: &Tensor, leaves: &[Tensor]) -> Vec<Tensor> {
    // Adding 0·Σθ puts every parameter into the graph without changing the value.
    let anchor = leaves.iter().map(|p| p.sum(p.kind())).reduce(|a, b| a + b).expect("a network has parameters");
    let anchored = output + anchor * 0.0;
    Tensor::run_backward(&[anchored], leaves, true, false)
}

/// Signs of Jacobian rows by the project's rule: zero where the gradient is exactly zero, and zero for parameters whose
/// gradient is zero in exact arithmetic (their computed gradients are round-off noise).
pub fn sign_rows(parameters: &Parameters, jacobian: &Tensor) -> Tensor {
    without_round_off(parameters, jacobian.sign())
}

/// Sets entries of rows \[rows, P\] to zero, in place, where gradients are zero in exact arithmetic and computed values are
/// round-off.
pub fn without_round_off(parameters: &Parameters, rows: Tensor) -> Tensor {
    let mut start = 0;
    for spec in parameters.specs() {
        for zeros in spec.zero_entries() {
            let _ = rows.narrow(1, start + zeros.start, zeros.end - zeros.start).zero_();
        }
        start += spec.numel();
    }
    rows
}

/// Number of parameter entries multiplied at a time, in double precision.
const CHUNK: i64 = 1 << 20;

/// All kernels between examples and themselves (`right` absent) or others, from dense Jacobians, over the parameters marked
/// by `include`. Memory N·P for each side.
///
/// # Errors
/// [`Error::Missing`](crate::error::Error::Missing) without examples, [`Error::NotFinite`](crate::error::Error::NotFinite)
/// if outputs or gradients are not finite.
pub fn reference_gram(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    formulas: FormulaSet,
    include: &[bool],
) -> Result<Gram> {
    if left.is_empty() || right.is_some_and(Examples::is_empty) {
        return Err(no_examples());
    }
    let jl = dense_jacobian(parameters, left)?;
    let other = right.map(|r| dense_jacobian(parameters, r)).transpose()?;
    let jr = other.as_ref().unwrap_or(&jl);
    let zeros = || Tensor::zeros([jl.size()[0], jr.size()[0]], (Kind::Double, jl.device()));
    let matrix = |wanted: bool| wanted.then(zeros);
    let (mut sgd, mut signgd) = (matrix(formulas.sgd), matrix(formulas.signgd));
    let (mut asymmetric, mut reversed) = (matrix(formulas.asymmetric), matrix(formulas.asymmetric));
    let mut shares = Vec::new();
    let mut start = 0;
    for (i, spec) in parameters.specs().iter().enumerate() {
        let (mut trace_sgd, mut trace_signgd, mut share) = (0.0, 0.0, zeros());
        let mut at = 0;
        while include[i] && at < spec.numel() {
            let width = CHUNK.min(spec.numel() - at);
            let part = |j: &Tensor| j.narrow(1, start + at, width).to_kind(Kind::Double);
            let signs = |g: &Tensor| {
                let signs = g.sign();
                for zeros in spec.zero_entries() {
                    let (from, to) = (zeros.start.clamp(at, at + width), zeros.end.clamp(at, at + width));
                    let _ = signs.narrow(1, from - at, to - from).zero_();
                }
                signs
            };
            let (gl, gr) = (part(&jl), part(jr));
            let (sl, sr) = (signs(&gl), signs(&gr));
            let products =
                [(&mut sgd, &gl, &gr), (&mut asymmetric, &gl, &sr), (&mut reversed, &sl, &gr), (&mut signgd, &sl, &sr)];
            for (sum, a, b) in products {
                if let Some(sum) = sum {
                    *sum += a.matmul(&b.tr());
                }
            }
            if right.is_none() {
                trace_sgd += (&gl * &gl).sum(Kind::Double).double_value(&[]);
                trace_signgd += sl.abs().sum(Kind::Double).double_value(&[]);
                share += gl.matmul(&gl.tr());
            }
            at += width;
        }
        if right.is_none() {
            shares.push(ParameterShare { parameter: i, trace_sgd, trace_signgd: Some(trace_signgd), sgd: Some(share) });
        }
        start += spec.numel();
    }
    let on_cpu = |t: Option<Tensor>| t.map(|t| t.to_device(tch::Device::Cpu));
    let outputs = |e: &dyn Examples| crate::jacobian::outputs(parameters, e, 1);
    let right_outputs = right.map(outputs);
    let mut matrix = |which| {
        on_cpu(match which {
            GramMatrix::Sgd => sgd.take(),
            GramMatrix::Asymmetric => asymmetric.take(),
            GramMatrix::AsymmetricReversed => reversed.take(),
            GramMatrix::Signgd => signgd.take(),
        })
    };
    let gram = Gram::new(outputs(left), right_outputs, &mut matrix, shares);
    gram.check_finite()?;
    Ok(gram)
}
