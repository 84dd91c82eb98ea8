//! Least squares for asymmetric kernels, with a coefficient vector for each side of the kernel. Knows no grid.
//!
//! The system is that of He et al., "Learning with asymmetric kernels: least squares and feature interpretation",
//! without biases, as Malladi et al. 2023 use it for the A-SignGD kernel:
//!
//! `[[I/γ, H], [Hᵀ, I/γ]] [α; β] = [1; 1]`, `H = diag(y) K diag(y)`.
//!
//! Its first row requires `Σ_j k(i, j) y_j β_j ≈ y_i`, the second `Σ_j k(j, i) y_j α_j ≈ y_i`. Hence `α` belongs to
//! `k(train, eval)` and `β` to `k(eval, train)`, and the prediction is `λ·Keᵀ(α∘y) + (1 - λ)·Kfᵀ(β∘y)`, `Kf` being the
//! flipped kernel.
//!
//! One singular value decomposition `H = U·diag(σ)·Vᵀ` serves all γ and λ: `[u; ±v]/√2` are the matrix's eigenvectors, with
//! the eigenvalues `1/γ ± σ`. Where `σ = 1/γ` makes the system singular its least-squares solution of least norm is taken.
//! For many rows one reduction to a band serves them (`band.rs`), and the decomposition is made where some `σ` is so close to
//! `1/γ` that it has to be decided whether they differ.

use super::band::{Band, BandSolution};
use super::linear::Singular;
use super::{checks, predict, relative_cutoff};
use crate::error::{Error, Result};
use faer::Mat;
use nalgebra::{DMatrix, DVector};
use std::cell::OnceCell;

/// Maximum number of rows for which singular values are computed directly.
const FEW: usize = 256;

/// If the system's smallest singular value is within this multiple of the cutoff, a decomposition decides: inverse iteration
/// finds it only within a factor of four.
const NEAR: f64 = 8.0;

/// A training kernel and targets, factored once for all γ.
pub struct AsymmetricLeastSquares<'a> {
    kernel: &'a DMatrix<f64>,
    targets: DVector<f64>,
    /// For many rows.
    band: Option<Band>,
    /// For few rows, or once needed.
    decomposed: OnceCell<Singular>,
}

/// The coefficients of both sides, `[n]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct AsymmetricSolution {
    /// Coefficients of `k(train, eval)`, before the multiplication by the targets.
    pub alpha: DVector<f64>,
    /// Coefficients of `k(eval, train)`, before the multiplication by the targets.
    pub beta: DVector<f64>,
    targets: DVector<f64>,
}

impl<'a> AsymmetricLeastSquares<'a> {
    /// Factors `diag(y) K diag(y)` for a training kernel `[n, n]` and targets `[n]` of one output (±1, minus `f₀/s`).
    ///
    /// # Errors
    /// Bad input: mismatched, empty or non-square shapes; `NotFinite` for non-finite entries or a failed decomposition;
    /// `Interrupted`.
    pub fn new(kernel: &'a DMatrix<f64>, targets: &DVector<f64>) -> Result<Self> {
        Self::with_few(kernel, targets, FEW)
    }

    /// The same with another maximum number of rows for direct singular values.
    pub(super) fn with_few(kernel: &'a DMatrix<f64>, targets: &DVector<f64>, few: usize) -> Result<Self> {
        checks::training_kernel(kernel)?;
        checks::vector("training targets", targets.as_slice(), kernel.nrows())?;
        let n = kernel.nrows();
        let band = (n > few)
            .then(|| Band::new(Mat::from_fn(n, n, |i, j| targets[i] * kernel[(i, j)] * targets[j])))
            .transpose()?;
        Ok(Self { kernel, targets: targets.clone(), band, decomposed: OnceCell::new() })
    }

    /// Both coefficient vectors for `γ > 0` (large γ means weak regularization).
    ///
    /// # Errors
    /// Bad input: a γ that is not finite and above zero; `NotFinite` for a solution that is not finite; `Interrupted`.
    pub fn solve(&self, gamma: f64) -> Result<AsymmetricSolution> {
        checks::non_negative("kernel gamma", gamma, true)?;
        let n = self.targets.len();
        let found = match &self.band {
            Some(band) if self.decomposed.get().is_none() => band.solve(gamma)?,
            _ => None,
        };
        let (alpha, beta) = match found {
            Some(BandSolution { alpha, beta, smallest }) if smallest > NEAR * relative_cutoff(2 * n) => {
                (DVector::from_vec(alpha), DVector::from_vec(beta))
            }
            _ => self.of_least_norm(gamma)?,
        };
        checks::vector("alpha of the asymmetric system", alpha.as_slice(), n)?;
        checks::vector("beta of the asymmetric system", beta.as_slice(), n)?;
        Ok(AsymmetricSolution { alpha, beta, targets: self.targets.clone() })
    }

    /// The least-squares solution of least norm, from singular values.
    fn of_least_norm(&self, gamma: f64) -> Result<(DVector<f64>, DVector<f64>)> {
        let n = self.targets.len();
        if self.decomposed.get().is_none() {
            let y = &self.targets;
            let found = Singular::new(&DMatrix::from_fn(n, n, |i, j| y[i] * self.kernel[(i, j)] * y[j]))?;
            self.decomposed.get_or_init(|| found);
        }
        let Singular { values, left, right } = self.decomposed.get().expect("just made");
        let cutoff = relative_cutoff(2 * n) * (1.0 / gamma + values.amax());
        // Ones, along u and along v.
        let ones = Mat::from_fn(n, 1, |_, _| 1.0);
        let (a, b) = (left.transpose() * &ones, right.transpose() * &ones);
        let part = |along: f64, value: f64| if value.abs() > cutoff { 0.5 * along / value } else { 0.0 };
        let plus = |i: usize| part(a[(i, 0)] + b[(i, 0)], 1.0 / gamma + values[i]);
        let minus = |i: usize| part(a[(i, 0)] - b[(i, 0)], 1.0 / gamma - values[i]);
        let alpha = left * Mat::from_fn(n, 1, |i, _| plus(i) + minus(i));
        let beta = right * Mat::from_fn(n, 1, |i, _| plus(i) - minus(i));
        let column = |x: &Mat<f64>| DVector::from_column_slice(x.col_as_slice(0));
        Ok((column(&alpha), column(&beta)))
    }
}

impl AsymmetricSolution {
    /// `λ·Keᵀ(α∘y) + (1 - λ)·Kfᵀ(β∘y)`, `[m]`: `eval[i, e] = k(train i, eval e)`, `flipped[i, e] = k(eval e, train i)`,
    /// both `[n, m]`; λ in `[0, 1]`.
    ///
    /// # Errors
    /// Bad input: mismatched shapes or a λ outside `[0, 1]`; `NotFinite` for non-finite entries.
    pub fn predict(&self, lambda: f64, eval: &DMatrix<f64>, flipped: &DMatrix<f64>) -> Result<DVector<f64>> {
        if !(0.0..=1.0).contains(&lambda) {
            return Err(Error::value("kernel lambda", lambda, "in [0, 1]"));
        }
        if eval.shape() != flipped.shape() {
            let expected = format!("it must have the shape {:?} of the unflipped one", checks::shape(eval));
            return Err(checks::misshapen("the flipped evaluation kernel", flipped, expected));
        }
        let straight = predict(eval, &self.alpha.component_mul(&self.targets))?;
        let back = predict(flipped, &self.beta.component_mul(&self.targets))?;
        Ok(straight * lambda + back * (1.0 - lambda))
    }
}
