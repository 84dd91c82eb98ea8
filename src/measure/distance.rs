//! How far one symmetric kernel matrix is from another.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::evidence::KernelDistance;
use crate::progress::interruptible;

/// Distance of a symmetric kernel from another of the same shape, relative to the other's size. `None` if either is zero or not
/// finite.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn kernel_distance(kernel: &Tensor, to: &Tensor) -> Result<Option<KernelDistance>> {
    let (a, b) = (kernel.to_kind(Kind::Double), to.to_kind(Kind::Double));
    let norm = |t: &Tensor| t.norm().double_value(&[]);
    let (size, target) = (norm(&a), norm(&b));
    if !(size.is_finite() && target.is_finite()) || size == 0.0 || target == 0.0 {
        return Ok(None);
    }
    let difference = &a - &b;
    Ok(Some(KernelDistance {
        frobenius: norm(&difference) / target,
        operator: operator_norm(&difference)? / operator_norm(&b)?,
        alignment: (&a * &b).sum(Kind::Double).double_value(&[]) / (size * target),
    }))
}

/// Largest magnitude of a symmetric matrix's eigenvalues; with thousands of rows the one call takes minutes.
fn operator_norm(symmetric: &Tensor) -> Result<f64> {
    let (matrix, threads) = (symmetric.shallow_clone(), tch::get_num_threads());
    interruptible(move || {
        tch::set_num_threads(threads);
        matrix.linalg_eigvalsh("L").abs().max().double_value(&[])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_diagonal_kernels() {
        let diagonal = |v: &[f64]| Tensor::from_slice(v).diag(0);
        let found = |a: &[f64], b: &[f64]| kernel_distance(&diagonal(a), &diagonal(b)).expect("nothing stops it");
        let d = found(&[3.0, 1.0], &[4.0, 3.0]).expect("finite");
        assert!((d.frobenius - 5f64.sqrt() / 5.0).abs() < 1e-15);
        assert!((d.operator - 2.0 / 4.0).abs() < 1e-15);
        assert!((d.alignment - 15.0 / (10f64.sqrt() * 5.0)).abs() < 1e-15);
        // The distance of the first kernel's best multiple from the second follows from the angle between them.
        let best = 15.0 / 10.0;
        let scaled = found(&[3.0 * best, best], &[4.0, 3.0]).expect("finite");
        assert!((d.at_best_rate() - scaled.frobenius).abs() < 1e-15);
        assert!(found(&[0.0, 0.0], &[1.0, 1.0]).is_none());
    }
}
