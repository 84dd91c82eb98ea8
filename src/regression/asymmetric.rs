//! Least squares for asymmetric kernels: two coefficient vectors, one for each side of the kernel. Knows no grid.
//!
//! The system is that of He et al., "Learning with asymmetric kernels: least squares and feature interpretation",
//! without biases, as Malladi et al. 2023 use it for the A-SignGD kernel:
//!
//! `[[I/γ, H], [Hᵀ, I/γ]] [α; β] = [1; 1]`, `H = diag(y) K diag(y)`.
//!
//! Its first row asks `Σ_j k(i, j) y_j β_j ≈ y_i`, the second `Σ_j k(j, i) y_j α_j ≈ y_i`. Hence `α` belongs to
//! `k(train, eval)` and `β` to `k(eval, train)`, and the prediction is `λ·Keᵀ(α∘y) + (1 - λ)·Kfᵀ(β∘y)`, `Kf` being the
//! flipped kernel.
//!
//! One singular value decomposition `H = U·diag(σ)·Vᵀ` serves all γ and λ: `[u; ±v]/√2` are the matrix's eigenvectors, with
//! the eigenvalues `1/γ ± σ`. Where `σ = 1/γ` makes the system singular its least-squares solution of least norm is taken.

use super::linear::Singular;
use super::{checks, predict, relative_cutoff};
use crate::error::{Error, Result};
use faer::Mat;
use nalgebra::{DMatrix, DVector};

/// A training kernel and targets, decomposed once for all γ.
pub struct AsymmetricLeastSquares {
    targets: DVector<f64>,
    decomposed: Singular,
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

impl AsymmetricLeastSquares {
    /// Decomposes `diag(y) K diag(y)` for a training kernel `[n, n]` and targets `[n]` of one output (±1, less `f₀/s`).
    ///
    /// # Errors
    /// Bad input: mismatched, empty or non-square shapes; `NotFinite` for non-finite entries or a failed decomposition.
    pub fn new(kernel: &DMatrix<f64>, targets: &DVector<f64>) -> Result<Self> {
        checks::training_kernel(kernel)?;
        checks::vector("training targets", targets.as_slice(), kernel.nrows())?;
        let n = kernel.nrows();
        let signed = DMatrix::from_fn(n, n, |i, j| targets[i] * kernel[(i, j)] * targets[j]);
        Ok(Self { targets: targets.clone(), decomposed: Singular::new(&signed)? })
    }

    /// Both coefficient vectors for `γ > 0` (large γ: little regularization).
    ///
    /// # Errors
    /// Bad input: a γ that is not finite and above zero; `NotFinite` for a solution that is not finite.
    pub fn solve(&self, gamma: f64) -> Result<AsymmetricSolution> {
        checks::non_negative("kernel gamma", gamma, true)?;
        let n = self.targets.len();
        let Singular { values, left, right } = &self.decomposed;
        let cutoff = relative_cutoff(2 * n) * (1.0 / gamma + values.amax());
        // Ones, along u and along v.
        let ones = Mat::from_fn(n, 1, |_, _| 1.0);
        let (a, b) = (left.transpose() * &ones, right.transpose() * &ones);
        let part = |along: f64, value: f64| if value.abs() > cutoff { 0.5 * along / value } else { 0.0 };
        let plus = |i: usize| part(a[(i, 0)] + b[(i, 0)], 1.0 / gamma + values[i]);
        let minus = |i: usize| part(a[(i, 0)] - b[(i, 0)], 1.0 / gamma - values[i]);
        let alpha = left * Mat::from_fn(n, 1, |i, _| plus(i) + minus(i));
        let beta = right * Mat::from_fn(n, 1, |i, _| plus(i) - minus(i));
        let alpha = DVector::from_fn(n, |i, _| alpha[(i, 0)]);
        let beta = DVector::from_fn(n, |i, _| beta[(i, 0)]);
        checks::vector("alpha of the asymmetric system", alpha.as_slice(), n)?;
        checks::vector("beta of the asymmetric system", beta.as_slice(), n)?;
        Ok(AsymmetricSolution { alpha, beta, targets: self.targets.clone() })
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
