//! Norms, spectra and factorizations of kernels with `faer`, and the criterion for zero singular values. Knows no targets.
//!
//! Each decomposition is scaled by a power of two, to avoid overflow and underflow, and checked by multiplying it out: one
//! that does not reproduce its matrix is an error, never a wrong prediction.

use super::checks;
use crate::error::{Error, Result};
use crate::progress::{check_cancelled, interruptible};
use faer::linalg::solvers::{SelfAdjointEigen, Svd};
use faer::{Accum, Mat, MatRef, Par, Side, linalg::matmul::matmul};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest accepted relative Frobenius error of a decomposition: a backward stable one is near 1e-14, even at n = 4000.
const RECONSTRUCTION_TOLERANCE: f64 = 1e-12;

/// Maximum number of rows for which all singular values are computed to find the largest.
const FEW: usize = 64;

/// Maximum number of Lanczos steps for a norm; kernels need ten to fifty.
const LANCZOS_STEPS: usize = 400;

/// Residual, relative to the eigenvalue, at which the iteration stops; it bounds the eigenvalue's error.
const LANCZOS_TOLERANCE: f64 = 1e-13;

/// Singular values up to this fraction of the largest count as zero: `ε·max(n, 10)`, ε the distance of 1 to the next
/// float64.
///
/// `ε·n` is the rule of LAPACK's `gelsy` as `torch.linalg.lstsq` calls it. The minimum of 10 is for tiny matrices: null
/// eigenvalues of exactly singular Gram matrices are computed as a few ε of the largest at any size, which `ε·n` alone would
/// count as nonzero for n = 2 or 3.
pub fn relative_cutoff(n: usize) -> f64 {
    f64::EPSILON * n.max(10) as f64
}

/// Number of threads of the factorizations.
pub(super) fn parallelism() -> Par {
    faer::get_global_parallelism()
}

/// A faer view of a matrix, without a copy.
pub(super) fn view(matrix: &DMatrix<f64>) -> MatRef<'_, f64> {
    MatRef::from_column_major_slice(matrix.as_slice(), matrix.nrows(), matrix.ncols())
}

fn back(matrix: MatRef<'_, f64>) -> DMatrix<f64> {
    DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)])
}

pub(super) fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut all = Mat::zeros(left.nrows(), right.ncols());
    matmul(&mut all, Accum::Replace, left, right, 1.0, parallelism());
    all
}

/// `leftᵀ·right`, `[m, t]` of `[n, m]` and `[n, t]`.
pub(super) fn transposed_product(left: &DMatrix<f64>, right: &DMatrix<f64>) -> DMatrix<f64> {
    back(product(view(left).transpose(), view(right)).as_ref())
}

/// Maximum number of rows for which a decomposition takes a fraction of a second and needs no separate thread.
const SHORT: usize = 256;

/// Runs a decomposition of this many rows, a single call that may take minutes.
///
/// # Errors
/// `Interrupted`.
pub(super) fn unless_stopped<T: Send + 'static>(rows: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if rows > SHORT { interruptible(work) } else { check_cancelled().map(|()| work()) }
}

/// The power of two just above the largest entry; 1 for a matrix of zeros.
pub(super) fn scale(matrix: &DMatrix<f64>) -> f64 {
    let largest = matrix.amax();
    // Beyond 2^±1000 the reciprocal would overflow.
    if largest > 0.0 { largest.log2().ceil().clamp(-1000.0, 1000.0).exp2() } else { 1.0 }
}

/// `‖K‖₂`, the largest singular value of a finite, non-empty matrix.
///
/// # Errors
/// `NotFinite` for a non-finite entry, `Shape` for an empty matrix, `Interrupted`.
pub fn operator_norm(matrix: &DMatrix<f64>) -> Result<f64> {
    if matrix.is_empty() {
        return Err(checks::misshapen("a matrix", matrix, "an empty matrix has no operator norm"));
    }
    checks::finite("matrix", matrix)?;
    let unit = scale(matrix);
    if matrix.nrows().min(matrix.ncols()) > FEW {
        let apply = |v: &Mat<f64>| {
            let image = product(view(matrix), v.as_ref()) * faer::Scale(1.0 / unit);
            product(view(matrix).transpose(), image.as_ref()) * faer::Scale(1.0 / unit)
        };
        if let Some(square) = largest_eigenvalue(matrix.ncols(), apply)? {
            return Ok(unit * square.sqrt());
        }
    }
    Ok(singular_values(matrix)?.amax())
}

/// `‖K‖₂` of a matrix that is assumed to be symmetric.
///
/// # Errors
/// `NoSolution` if eigenvalues do not converge; `Interrupted`.
pub fn symmetric_norm(matrix: &DMatrix<f64>) -> Result<f64> {
    let unit = scale(matrix);
    if matrix.nrows() > FEW {
        let apply = |v: &Mat<f64>| product(view(matrix), v.as_ref()) * faer::Scale(1.0 / unit);
        if let Some(found) = largest_eigenvalue(matrix.nrows(), apply)? {
            return Ok(unit * found);
        }
    }
    Ok(eigenvalues(matrix)?.amax())
}

/// The largest absolute eigenvalue of a symmetric operator, by Lanczos' iteration with full orthogonalization from a fixed
/// random vector; `None` if it does not converge, e.g. with thousands of clustered extreme eigenvalues.
fn largest_eigenvalue(n: usize, apply: impl Fn(&Mat<f64>) -> Mat<f64>) -> Result<Option<f64>> {
    let mut random = ChaCha8Rng::seed_from_u64(n as u64);
    let mut next = Mat::from_fn(n, 1, |_, _| random.random_range(-1.0..1.0));
    let mut length = next.norm_l2();
    let mut basis = Mat::<f64>::zeros(n, 0);
    let (mut diagonal, mut below): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for step in 0..LANCZOS_STEPS.min(n) {
        check_cancelled()?;
        let vector = next * faer::Scale(1.0 / length);
        next = apply(&vector);
        diagonal.push((vector.transpose() * &next)[(0, 0)]);
        basis.resize_with(n, step + 1, |i, _| vector[(i, 0)]);
        // Twice is enough (Kahan, Parlett).
        for _ in 0..2 {
            let along = basis.transpose() * &next;
            next -= &basis * along;
        }
        length = next.norm_l2();
        if step < 16 || step % 8 == 0 || step + 1 == n {
            let small = SymmetricEigen::new(DMatrix::from_fn(step + 1, step + 1, |i, j| match i.abs_diff(j) {
                0 => diagonal[i],
                1 => below[i.min(j)],
                _ => 0.0,
            }));
            let at = small.eigenvalues.iamax();
            let (found, share) = (small.eigenvalues[at].abs(), small.eigenvectors[(step, at)].abs());
            if length * share <= LANCZOS_TOLERANCE * found || step + 1 == n {
                return Ok(Some(found));
            }
        }
        below.push(length);
    }
    Ok(None)
}

/// All eigenvalues of a symmetric matrix, `[n]`.
pub(super) fn eigenvalues(matrix: &DMatrix<f64>) -> Result<DVector<f64>> {
    let (n, unit) = (matrix.nrows(), scale(matrix));
    let scaled = view(matrix) * faer::Scale(1.0 / unit);
    let values = unless_stopped(n, move || scaled.self_adjoint_eigenvalues(Side::Lower))?;
    let values = values.map_err(|_| not_converged("eigenvalues", [n, n]))?;
    Ok(DVector::from_vec(values) * unit)
}

/// All singular values, `[min(n, m)]`.
pub(super) fn singular_values(matrix: &DMatrix<f64>) -> Result<DVector<f64>> {
    let unit = scale(matrix);
    let scaled = view(matrix) * faer::Scale(1.0 / unit);
    let values = unless_stopped(matrix.nrows(), move || scaled.singular_values())?;
    let values = values.map_err(|_| not_converged("singular values", checks::shape(matrix)))?;
    Ok(DVector::from_vec(values) * unit)
}

/// Effective rank: `exp` of the entropy of the normalized singular values, from 1 to n; 0 for a kernel of zeros.
///
/// # Errors
/// `NotFinite` for a non-finite entry, `NoSolution` for values that do not converge, `Interrupted`.
pub fn effective_rank(matrix: &DMatrix<f64>, symmetric: bool) -> Result<f64> {
    checks::finite("kernel", matrix)?;
    let values = if symmetric { eigenvalues(matrix)?.abs() } else { singular_values(matrix)? };
    let total = values.sum();
    if total <= 0.0 {
        return Ok(0.0);
    }
    let entropy: f64 = values.iter().map(|v| v / total).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    Ok(entropy.exp())
}

fn not_converged(what: &str, shape: [usize; 2]) -> Error {
    Error::no_solution(what, format!("it did not converge for a {shape:?} kernel"))
}

/// Fails if a decomposition differs from its matrix by more than round-off.
fn check_error(what: &str, n: usize, error: f64, size: f64) -> Result<()> {
    if error <= RECONSTRUCTION_TOLERANCE * size {
        return Ok(());
    }
    let reason =
        format!("that of a {:?} kernel misses it by {:.3e} of its norm; rescale the kernel", [n, n], error / size);
    Err(Error::no_solution(what, reason))
}

/// `Q·diag(λ)·Qᵀ` of a symmetric matrix.
pub(super) struct Spectrum {
    /// λ, `[n]`.
    pub values: DVector<f64>,
    vectors: Mat<f64>,
}

impl Spectrum {
    /// Decomposes a matrix given by its lower triangle.
    pub fn new(matrix: &DMatrix<f64>) -> Result<Self> {
        let (n, unit) = (matrix.nrows(), scale(matrix));
        let mut scaled = view(matrix) * faer::Scale(1.0 / unit);
        let found = unless_stopped(n, move || {
            let found = SelfAdjointEigen::new(scaled.as_ref(), Side::Lower)?;
            let size = scaled.norm_l2();
            let weighted = found.U() * found.S();
            matmul(&mut scaled, Accum::Add, &weighted, found.U().transpose(), -1.0, parallelism());
            Ok::<_, faer::linalg::evd::EvdError>((found, scaled.norm_l2(), size))
        })?;
        let (found, error, size) = found.map_err(|_| not_converged("eigendecomposition", [n, n]))?;
        check_error("eigendecomposition", n, error, size)?;
        let values = DVector::from_fn(n, |i, _| found.S()[i] * unit);
        Ok(Self { values, vectors: found.U().to_owned() })
    }

    /// The minimum-norm solution of `(K + shift·I) x = rhs`, one column per column of `rhs`, `[n, t]`.
    pub fn solve(&self, rhs: &DMatrix<f64>, shift: f64) -> DMatrix<f64> {
        let mut inner = back(product(self.vectors.transpose(), view(rhs)).as_ref());
        divide_rows(&mut inner, &self.values.add_scalar(shift), relative_cutoff(rhs.nrows()));
        back(product(self.vectors.as_ref(), view(&inner)).as_ref())
    }
}

/// `U·diag(σ)·Vᵀ` of a square matrix.
pub(super) struct Singular {
    /// σ, `[n]`, in descending order.
    pub values: DVector<f64>,
    /// U, `[n, n]`.
    pub left: Mat<f64>,
    /// V, `[n, n]`.
    pub right: Mat<f64>,
}

impl Singular {
    /// Decomposes a matrix.
    pub fn new(matrix: &DMatrix<f64>) -> Result<Self> {
        let (n, unit) = (matrix.nrows(), scale(matrix));
        let mut scaled = view(matrix) * faer::Scale(1.0 / unit);
        let found = unless_stopped(n, move || {
            let found = Svd::new(scaled.as_ref())?;
            let size = scaled.norm_l2();
            let weighted = found.U() * found.S();
            matmul(&mut scaled, Accum::Add, &weighted, found.V().transpose(), -1.0, parallelism());
            Ok::<_, faer::linalg::svd::SvdError>((found, scaled.norm_l2(), size))
        })?;
        let (found, error, size) = found.map_err(|_| not_converged("singular value decomposition", [n, n]))?;
        check_error("singular value decomposition", n, error, size)?;
        let values = DVector::from_fn(n, |i, _| found.S()[i] * unit);
        Ok(Self { values, left: found.U().to_owned(), right: found.V().to_owned() })
    }

    /// The minimum-norm least-squares solution of `K x = rhs`, one column per column of `rhs`, `[n, t]`.
    pub fn solve(&self, rhs: &DMatrix<f64>) -> DMatrix<f64> {
        let mut inner = back(product(self.left.transpose(), view(rhs)).as_ref());
        divide_rows(&mut inner, &self.values, relative_cutoff(rhs.nrows()));
        back(product(self.right.as_ref(), view(&inner)).as_ref())
    }
}

/// Divides row `i` by `values[i]`; rows whose value is at most `cutoff` times the largest become zero (pseudo-inverse).
pub(super) fn divide_rows(rows: &mut DMatrix<f64>, values: &DVector<f64>, cutoff: f64) {
    let zero = cutoff * values.amax();
    for (mut row, &value) in rows.row_iter_mut().zip(values.iter()) {
        if value.abs() > zero { row.unscale_mut(value) } else { row.fill(0.0) }
    }
}
