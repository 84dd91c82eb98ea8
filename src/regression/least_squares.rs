//! Kernel regression: `(K + r·‖K‖₂·I) α = y`, predictions `Keᵀα`. Knows no labels and no logits (see `offset.rs`).
//!
//! The regularization is relative to the kernel's operator norm, so that a kernel and its multiple predict alike
//! (Malladi et al. 2023). Where the system is singular the least-squares solution of least norm is taken, as
//! `torch.linalg.lstsq` (LAPACK's `gelsy`) does; singular values up to [`super::relative_cutoff`] of the largest count
//! as zero.
//!
//! - symmetric kernel: one eigendecomposition serves the whole grid of regularizations;
//! - asymmetric kernel: one decomposition of its dilation gives the norm and the solution at `r = 0`; each `r > 0` is solved by
//!   elimination with full pivoting, or by its own decomposition where the pivots come near zero.

use super::linear::{self, Dilation};
use super::{checks, relative_cutoff};
use crate::error::{Error, Result};
use nalgebra::{DMatrix, DVector, Dyn, SymmetricEigen};

/// Pivots below this share of the largest leave the decision on the rank to the singular values.
const SMALL_PIVOT: f64 = 1e-10;

/// A training kernel, decomposed once for many right-hand sides and regularizations.
pub struct LeastSquares {
    norm: f64,
    form: Form,
}

enum Form {
    Symmetric(SymmetricEigen<f64, Dyn>),
    General { kernel: DMatrix<f64>, dilation: Dilation },
}

impl LeastSquares {
    /// Decomposes a training kernel `[n, n]`. `symmetric` is a promise that is checked: its symmetric part is used.
    ///
    /// # Errors
    /// `Settings` for an empty or non-square kernel or a broken promise of symmetry; `Numeric` for non-finite entries or a
    /// decomposition that fails.
    pub fn new(kernel: &DMatrix<f64>, symmetric: bool) -> Result<Self> {
        checks::training_kernel(kernel)?;
        if symmetric {
            let eigen = linear::eigen(&checks::symmetric_part(kernel)?)?;
            return Ok(Self { norm: eigen.eigenvalues.amax(), form: Form::Symmetric(eigen) });
        }
        let dilation = Dilation::new(kernel)?;
        Ok(Self { norm: dilation.norm(), form: Form::General { kernel: kernel.clone(), dilation } })
    }

    /// Number of rows, `n`.
    pub fn size(&self) -> usize {
        match &self.form {
            Form::Symmetric(eigen) => eigen.eigenvalues.len(),
            Form::General { kernel, .. } => kernel.nrows(),
        }
    }

    /// `‖K‖₂`, the unit of the regularization.
    pub fn operator_norm(&self) -> f64 {
        self.norm
    }

    /// `α`, `[n]`, for targets `[n]` and relative regularization `r ≥ 0`.
    ///
    /// # Errors
    /// As [`Self::solve_many`].
    pub fn solve(&self, targets: &DVector<f64>, regularization: f64) -> Result<DVector<f64>> {
        let many =
            self.solve_many(&DMatrix::from_column_slice(targets.len(), 1, targets.as_slice()), regularization)?;
        Ok(many.column(0).into_owned())
    }

    /// One `α` per column of `targets`, `[n, t]`, for relative regularization `r ≥ 0`; the result is `[n, t]`.
    ///
    /// # Errors
    /// `Settings` for a wrong number of rows or a negative or infinite `r`; `Numeric` for non-finite targets or solutions.
    pub fn solve_many(&self, targets: &DMatrix<f64>, regularization: f64) -> Result<DMatrix<f64>> {
        checks::non_negative("kernel regularization", regularization, false)?;
        if targets.nrows() != self.size() {
            return Err(Error::Settings(format!(
                "targets have shape {:?} for a [{n}, {n}] training kernel; they must be [{n}, t]",
                checks::shape(targets),
                n = self.size()
            )));
        }
        checks::finite("targets", targets)?;
        let shift = regularization * self.norm;
        let solution = match &self.form {
            Form::Symmetric(eigen) => {
                let mut inner = eigen.eigenvectors.tr_mul(targets);
                linear::divide_rows(&mut inner, &eigen.eigenvalues.add_scalar(shift), relative_cutoff(self.size()));
                &eigen.eigenvectors * inner
            }
            Form::General { dilation, .. } if shift <= 0.0 => dilation.pseudo_solve(targets),
            Form::General { kernel, .. } => solve_shifted(kernel, shift, targets)?,
        };
        checks::finite("solution of the kernel regression", &solution)?;
        Ok(solution)
    }
}

/// `(K + shift·I) α = targets` for a kernel without symmetry.
fn solve_shifted(kernel: &DMatrix<f64>, shift: f64, targets: &DMatrix<f64>) -> Result<DMatrix<f64>> {
    let mut shifted = kernel.clone();
    for i in 0..shifted.nrows() {
        shifted[(i, i)] += shift;
    }
    let elimination = shifted.clone().full_piv_lu();
    let pivots = elimination.u().diagonal().abs();
    if pivots.min() > SMALL_PIVOT * pivots.max()
        && let Some(solution) = elimination.solve(targets)
    {
        return Ok(solution);
    }
    Ok(Dilation::new(&shifted)?.pseudo_solve(targets))
}

/// Predictions `Σ_i eval[i, e]·α_i`, `[m]`, from an evaluation kernel `[n, m]` and coefficients `[n]`.
///
/// `eval[i, e]` must be what a unit of `α_i` adds to the prediction of `e`: `k(e, i)` for the training system
/// `Σ_j k(i, j) α_j = y_i`. For an asymmetric kernel that is the flipped evaluation kernel.
///
/// # Errors
/// `Settings` for mismatched shapes or no column; `Numeric` for a non-finite entry.
pub fn predict(eval: &DMatrix<f64>, coefficients: &DVector<f64>) -> Result<DVector<f64>> {
    checks::evaluation_kernel("evaluation", eval, coefficients.len())?;
    let predictions = eval.tr_mul(coefficients);
    checks::vector("predictions", predictions.as_slice(), eval.ncols())?;
    Ok(predictions)
}
