//! A low-rank approximation of a symmetric kernel, `K ≈ BBᵀ`, as a preconditioner. Knows no targets.
//!
//! A kernel of gradients has a few hundred large eigenvalues and a tail: with the leading part preconditioned, conjugate
//! gradients on `λI + VᵀKV` take a number of steps of about the square root of the tail's size over λ. This is the Nyström
//! approximation on a random range, `B = (KQ)·S·θ^(-1/2)` with `Q` an orthonormal basis of `KΩ` and `QᵀKQ = SθSᵀ`: two
//! products with the kernel. Any B gives a positive definite preconditioner; a poor one costs steps, not accuracy.

use super::linear::product;
use crate::error::{Error, Result};
use crate::progress::check_cancelled;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatRef, Side};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Maximum number of columns of B.
const MOST: usize = 512;

/// Eigenvalues of the range below this fraction of the largest are omitted as rounding.
const SMALLEST: f64 = 1e-10;

/// B, `[n, r]`.
pub(super) struct Leading {
    factor: Mat<f64>,
}

impl Leading {
    /// From products with a symmetric kernel of `n` rows. The range is drawn from a fixed seed.
    ///
    /// # Errors
    /// `NoSolution` where a decomposition of the range does not converge; `Interrupted`.
    pub fn new(n: usize, times: &dyn Fn(&Mat<f64>) -> Result<Mat<f64>>) -> Result<Self> {
        let rank = (n / 16).clamp(1, MOST).min(n);
        let mut random = ChaCha8Rng::seed_from_u64(n as u64);
        let start = Mat::from_fn(n, rank, |_, _| random.random_range(-1.0..1.0));
        let basis = times(&start)?.qr().compute_thin_Q();
        check_cancelled()?;
        let image = times(&basis)?;
        let inner = product(basis.transpose(), image.as_ref());
        let found = inner.self_adjoint_eigen(Side::Lower).map_err(|_| not_found(n, "they did not converge"))?;
        let values = found.S();
        let largest = (0..rank).map(|i| values[i]).fold(0.0, f64::max);
        let kept: Vec<usize> = (0..rank).filter(|i| values[*i] > SMALLEST * largest).collect();
        let turn = Mat::from_fn(rank, kept.len(), |i, j| found.U()[(i, kept[j])] / values[kept[j]].sqrt());
        Ok(Self { factor: product(image.as_ref(), turn.as_ref()) })
    }

    /// `BᵀX`, `[r, t]`.
    pub fn along(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        product(self.factor.transpose(), x)
    }

    /// `BY`, `[n, t]`.
    pub fn image(&self, y: MatRef<'_, f64>) -> Mat<f64> {
        product(self.factor.as_ref(), y)
    }

    /// `(λI + BᵀWB)⁻¹` where `weigh` multiplies a column with W in place.
    pub fn inner(&self, shift: f64, weigh: impl Fn(&mut [f64]) + Sync) -> Result<Llt<f64>> {
        let mut weighted = self.factor.clone();
        for j in 0..weighted.ncols() {
            weigh(weighted.col_as_slice_mut(j));
        }
        let mut inner = product(self.factor.transpose(), weighted.as_ref());
        for i in 0..inner.nrows() {
            inner[(i, i)] += shift;
        }
        inner.llt(Side::Lower).map_err(|_| not_found(weighted.nrows(), "their sums are not positive definite"))
    }
}

fn not_found(n: usize, reason: &str) -> Error {
    Error::no_solution(format!("leading eigenvalues of a [{n}, {n}] kernel"), reason)
}

/// Solves with the factor of [`Leading::inner`], in place.
pub(super) fn solve_inner(inner: &Llt<f64>, column: &mut [f64]) {
    let rows = column.len();
    inner.solve_in_place(faer::MatMut::from_column_major_slice_mut(column, rows, 1));
}
