//! Kernel regression: `(K + r·‖K‖₂·I) α = y`, predictions `Keᵀα`. Knows no labels and no logits (see `offset.rs`).
//!
//! The regularization is relative to the kernel's operator norm, so that a multiple of a kernel gives the same predictions
//! (Malladi et al. 2023). For a singular system the minimum-norm least-squares solution is used, as in `torch.linalg.lstsq`
//! (LAPACK's `gelsy`); singular values up to [`super::relative_cutoff`] of the largest count as zero.
//!
//! - symmetric kernel of few rows: one spectrum serves the whole grid of regularizations;
//! - symmetric kernel of many rows: one factorization a regularization, together a third of a spectrum's cost; of very many
//!   rows: one factorization for the weakest regularization, conjugate gradients side by side for those that are strong
//!   enough (`lockstep.rs`), to the rounding of a factorization;
//! - a singular symmetric kernel whose rank is beyond doubt: a factorization with pivots, `K = LLᵀ`;
//! - asymmetric kernel: an elimination a regularization;
//! - a system that is nearly singular: its spectrum, which decides on the rank.

use super::checks;
use super::factor::{self, Factor};
use super::leading::Leading;
use super::linear::{self, Singular, Spectrum};
use super::lockstep::{self, System};
use super::narrow::transposed_times;
use crate::error::Result;
use crate::progress::{Monitor, Silent};
use faer::Mat;
use nalgebra::{DMatrix, DVector};
use std::cell::OnceCell;

/// If the smallest singular value is below this fraction of the largest, a spectrum determines the rank.
const NEARLY_SINGULAR: f64 = 1e-10;

/// Maximum number of rows for which a symmetric kernel's spectrum is computed directly.
const FEW: usize = 256;

/// Number of rows beyond which several strong regularizations of a symmetric kernel are solved by conjugate gradients.
const MANY: usize = 6000;

/// Regularizations that count as strong: systems of a condition up to about 1e4.
const STRONG: f64 = 1e-4;

/// Residual of conjugate gradients, relative to norm times solution: a small multiple of a factorization's.
const BACKWARD: f64 = 4.0 * f64::EPSILON;

/// Maximum number of steps of conjugate gradients, and of restarts from the true residual.
const STEPS: usize = 400;
const ROUNDS: usize = 4;

/// A training kernel, for many right-hand sides and regularizations.
pub struct LeastSquares<'a> {
    kernel: &'a DMatrix<f64>,
    symmetric: bool,
    norm: f64,
    /// Spectrum of a symmetric kernel, once needed.
    spectrum: OnceCell<Spectrum>,
    /// Rows beyond which conjugate gradients may serve.
    pub(super) many: usize,
}

impl<'a> LeastSquares<'a> {
    /// Prepares a training kernel `[n, n]`. `symmetric` is checked; the symmetric part is used.
    ///
    /// # Errors
    /// Bad input: an empty, non-square or unexpectedly asymmetric kernel; `NotFinite` for non-finite entries or a
    /// decomposition that fails; `Interrupted`.
    pub fn new(kernel: &'a DMatrix<f64>, symmetric: bool) -> Result<Self> {
        Self::with_few(kernel, symmetric, FEW)
    }

    /// The same with another maximum number of rows for a direct spectrum.
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
        Ok(Self { kernel, symmetric, norm, spectrum, many: MANY })
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
        Ok(self.solve_grid(targets, &[regularization], &Silent)?.remove(0))
    }

    /// [`Self::solve_many`] for several regularizations, in their order. `monitor` advances by one for each.
    ///
    /// # Errors
    /// As [`Self::solve_many`].
    pub fn solve_grid(
        &self,
        targets: &DMatrix<f64>,
        regularizations: &[f64],
        monitor: &dyn Monitor,
    ) -> Result<Vec<DMatrix<f64>>> {
        for regularization in regularizations {
            checks::non_negative("kernel regularization", *regularization, false)?;
        }
        if targets.nrows() != self.size() {
            let expected = format!("[{n}, t] for a [{n}, {n}] training kernel", n = self.size());
            return Err(checks::misshapen("the matrix of targets", targets, format!("it must be {expected}")));
        }
        checks::finite("targets", targets)?;
        let shifts: Vec<f64> = regularizations.iter().map(|r| r * self.norm).collect();
        let found = self.strong(targets, regularizations)?.into_iter().zip(shifts);
        let solutions = found.map(|(found, shift)| {
            let solution = match (found, self.spectrum.get()) {
                (Some(solution), _) => solution,
                (None, Some(spectrum)) => spectrum.solve(targets, shift),
                (None, None) => self.factored(targets, shift)?,
            };
            checks::finite("solution of the kernel regression", &solution)?;
            monitor.advance(1);
            Ok(solution)
        });
        solutions.collect()
    }

    /// Solutions of the strong regularizations by conjugate gradients, if these are worthwhile and converge.
    fn strong(&self, targets: &DMatrix<f64>, regularizations: &[f64]) -> Result<Vec<Option<DMatrix<f64>>>> {
        let mut found: Vec<Option<DMatrix<f64>>> = vec![None; regularizations.len()];
        let strong: Vec<usize> = (0..found.len()).filter(|i| regularizations[*i] >= STRONG).collect();
        if !self.symmetric || self.size() <= self.many || strong.len() < 2 || self.norm <= 0.0 {
            return Ok(found);
        }
        // The kernel itself, without a copy, if it is exactly symmetric, as this program's are.
        let kernel = checks::symmetric_part(self.kernel)?;
        let times = |x: &Mat<f64>| transposed_times(&kernel, x);
        let leading = Leading::new(self.size(), &times)?;
        // By column, with all targets of a regularization adjacent.
        let columns = targets.ncols();
        let all: Vec<(usize, DVector<f64>)> =
            strong.iter().flat_map(|i| (0..columns).map(|c| (*i, targets.column(c).into_owned()))).collect();
        let shift = |i: usize| regularizations[i] * self.norm;
        let mut solutions: Vec<DVector<f64>> = all.iter().map(|(_, y)| DVector::zeros(y.len())).collect();
        let mut failed: Vec<usize> = Vec::new();
        for round in 0..=ROUNDS {
            // The true residuals, from which the recurrence deviates.
            let block = Mat::from_fn(self.size(), solutions.len(), |i, j| solutions[j][i]);
            let images = times(&block)?;
            let mut open = Vec::new();
            for (j, (i, y)) in all.iter().enumerate() {
                let image = DVector::from_column_slice(images.col_as_slice(j));
                let rest = y - image - &solutions[j] * shift(*i);
                let enough = BACKWARD * (self.norm * solutions[j].norm() + y.norm());
                if rest.norm() > enough && !failed.contains(i) {
                    open.push((j, *i, enough, rest));
                }
            }
            if open.is_empty() {
                break;
            }
            if round == ROUNDS {
                failed.extend(open.iter().map(|(_, i, ..)| *i));
                break;
            }
            let system = |(_, i, enough, rest): &(usize, usize, f64, DVector<f64>)| System {
                curvature: None,
                shift: shift(*i),
                rhs: rest.clone(),
                enough: 0.5 * enough,
            };
            let systems: Vec<System<'_>> = open.iter().map(system).collect();
            for ((j, i, ..), step) in open.iter().zip(lockstep::solve(self.size(), &times, &leading, &systems, STEPS)?)
            {
                match step {
                    Some(step) => solutions[*j] += step,
                    None => failed.push(*i),
                }
            }
        }
        for (at, i) in strong.iter().enumerate().filter(|(_, i)| !failed.contains(i)) {
            found[*i] = Some(DMatrix::from_fn(self.size(), columns, |row, c| solutions[at * columns + c][row]));
        }
        Ok(found)
    }

    fn factored(&self, targets: &DMatrix<f64>, shift: f64) -> Result<DMatrix<f64>> {
        if self.norm <= 0.0 {
            // Zeros: the minimum-norm solution.
            return Ok(DMatrix::zeros(targets.nrows(), targets.ncols()));
        }
        let factor = Factor::new(self.kernel, self.symmetric, shift)?;
        if factor.smallest()? > NEARLY_SINGULAR * self.norm {
            return Ok(factor.solve(targets));
        }
        drop(factor);
        if self.symmetric {
            if shift <= 0.0
                && let Some(solution) = factor::of_rank(self.kernel, self.norm, NEARLY_SINGULAR, targets)?
            {
                return Ok(solution);
            }
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
/// `eval[i, e]` must be the contribution of a unit of `α_i` to the prediction of `e`: `k(e, i)` for the training system `Σ_j
/// k(i, j) α_j = y_i`. For an asymmetric kernel that is the flipped evaluation kernel.
///
/// # Errors
/// Bad input: mismatched shapes or no column; `NotFinite` for a non-finite entry.
pub fn predict(eval: &DMatrix<f64>, coefficients: &DVector<f64>) -> Result<DVector<f64>> {
    checks::evaluation_kernel("evaluation", eval, coefficients.len())?;
    let predictions = eval.tr_mul(coefficients);
    checks::vector("predictions", predictions.as_slice(), eval.ncols())?;
    Ok(predictions)
}
