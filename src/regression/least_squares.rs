//! Kernel regression: `(K + r·‖K‖₂·I) α = y`, predictions `Keᵀα`. Knows no labels and no logits (see `offset.rs`).
//!
//! The regularization is relative to the kernel's operator norm, so that a kernel and its multiple predict alike
//! (Malladi et al. 2023). Where the system is singular the least-squares solution of least norm is taken, as
//! `torch.linalg.lstsq` (LAPACK's `gelsy`) does; singular values up to [`super::relative_cutoff`] of the largest count
//! as zero.
//!
//! - symmetric kernel of few rows: one spectrum serves the whole grid of regularizations;
//! - symmetric kernel of many rows: one factorization a regularization, together a third of a spectrum's cost;
//! - asymmetric kernel: an elimination a regularization;
//! - a system that is nearly singular: its spectrum, which decides on the rank.

use super::checks;
use super::factor::Factor;
use super::linear::{self, Singular, Spectrum};
use crate::error::Result;
use nalgebra::{DMatrix, DVector};
use std::cell::OnceCell;

/// Smallest singular values below this share of the largest leave the decision on the rank to a spectrum.
const NEARLY_SINGULAR: f64 = 1e-10;

/// Rows up to which a symmetric kernel's spectrum is computed at once.
const FEW: usize = 1024;

/// A training kernel, for many right-hand sides and regularizations.
pub struct LeastSquares<'a> {
    kernel: &'a DMatrix<f64>,
    symmetric: bool,
    norm: f64,
    /// Of a symmetric kernel, once it was needed.
    spectrum: OnceCell<Spectrum>,
}

impl<'a> LeastSquares<'a> {
    /// Prepares a training kernel `[n, n]`. `symmetric` is a promise that is checked: its symmetric part is used.
    ///
    /// # Errors
    /// Bad input: an empty or non-square kernel or a broken promise of symmetry; `NotFinite` for non-finite entries or a
    /// decomposition that fails; `Interrupted`.
    pub fn new(kernel: &'a DMatrix<f64>, symmetric: bool) -> Result<Self> {
        Self::with_few(kernel, symmetric, FEW)
    }

    /// The same with another number of rows up to which a spectrum is computed at once.
    pub(super) fn with_few(kernel: &'a DMatrix<f64>, symmetric: bool, few: usize) -> Result<Self> {
        checks::training_kernel(kernel)?;
        if symmetric {
            checks::symmetric(kernel)?;
        }
        let spectrum = OnceCell::new();
        let norm = if symmetric && kernel.nrows() <= few {
            let found = Spectrum::new(checks::symmetric_part(kernel)?.as_ref())?;
            spectrum.get_or_init(|| found).values.amax()
        } else if symmetric {
            linear::symmetric_norm(kernel)?
        } else {
            linear::operator_norm(kernel)?
        };
        Ok(Self { kernel, symmetric, norm, spectrum })
    }

    /// Number of rows, `n`.
    pub fn size(&self) -> usize {
        self.kernel.nrows()
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
    /// Bad input: a wrong number of rows or a negative or infinite `r`; `NotFinite` for non-finite targets or solutions;
    /// `Interrupted`.
    pub fn solve_many(&self, targets: &DMatrix<f64>, regularization: f64) -> Result<DMatrix<f64>> {
        checks::non_negative("kernel regularization", regularization, false)?;
        if targets.nrows() != self.size() {
            let expected = format!("[{n}, t] for a [{n}, {n}] training kernel", n = self.size());
            return Err(checks::misshapen("the matrix of targets", targets, format!("it must be {expected}")));
        }
        checks::finite("targets", targets)?;
        let shift = regularization * self.norm;
        let solution = match self.spectrum.get() {
            Some(spectrum) => spectrum.solve(targets, shift),
            None => self.factored(targets, shift)?,
        };
        checks::finite("solution of the kernel regression", &solution)?;
        Ok(solution)
    }

    fn factored(&self, targets: &DMatrix<f64>, shift: f64) -> Result<DMatrix<f64>> {
        if self.norm <= 0.0 {
            // Nothing but zeros: the solution of least norm.
            return Ok(DMatrix::zeros(targets.nrows(), targets.ncols()));
        }
        let factor = Factor::new(self.kernel, self.symmetric, shift)?;
        if factor.smallest()? > NEARLY_SINGULAR * self.norm {
            return Ok(factor.solve(targets));
        }
        drop(factor);
        if self.symmetric {
            let found = Spectrum::new(checks::symmetric_part(self.kernel)?.as_ref())?;
            return Ok(self.spectrum.get_or_init(|| found).solve(targets, shift));
        }
        let mut shifted = self.kernel.clone();
        for i in 0..shifted.nrows() {
            shifted[(i, i)] += shift;
        }
        Ok(Singular::new(&shifted)?.solve(targets))
    }
}

/// Predictions `Σ_i eval[i, e]·α_i`, `[m]`, from an evaluation kernel `[n, m]` and coefficients `[n]`.
///
/// `eval[i, e]` must be what a unit of `α_i` adds to the prediction of `e`: `k(e, i)` for the training system
/// `Σ_j k(i, j) α_j = y_i`. For an asymmetric kernel that is the flipped evaluation kernel.
///
/// # Errors
/// Bad input: mismatched shapes or no column; `NotFinite` for a non-finite entry.
pub fn predict(eval: &DMatrix<f64>, coefficients: &DVector<f64>) -> Result<DVector<f64>> {
    checks::evaluation_kernel("evaluation", eval, coefficients.len())?;
    let predictions = eval.tr_mul(coefficients);
    checks::vector("predictions", predictions.as_slice(), eval.ncols())?;
    Ok(predictions)
}
