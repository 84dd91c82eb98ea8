//! Factorizations of `K + shift·I` for kernels of many rows: a tenth of the cost of a spectrum. Knows no targets.
//!
//! A symmetric system is factored as `L·Lᵀ` if it is positive definite, otherwise as `L·B·Lᵀ` with pivoting (Bunch and
//! Kaufman); an asymmetric one as `L·U` with partial pivoting. None of them determines a rank: if the smallest singular
//! value is near zero, the caller uses a spectrum.

use super::checks::{self, TILE};
use super::linear::{parallelism, product, scale, unless_stopped, view};
use crate::error::Result;
use crate::progress::check_cancelled;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::cholesky::llt_pivoting::factor as pivoting;
use faer::linalg::solvers::{Lblt, PartialPivLu, Solve};
use faer::{Mat, Side};
use nalgebra::DMatrix;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of inverse iteration for the smallest singular value. A random start makes it too large by at most n^(1/8), for
/// which the gap between "near zero" and the cutoff allows.
const INVERSE_STEPS: usize = 4;

/// A factored system.
pub(super) struct Factor {
    form: Form,
    /// The divisor of the system.
    unit: f64,
    rows: usize,
}

enum Form {
    /// L in the lower triangle.
    Definite(Mat<f64>),
    Indefinite(Lblt<f64>),
    General(PartialPivLu<f64>),
}

impl Factor {
    /// Factors `K + shift·I`; for a symmetric kernel, its symmetric part.
    pub fn new(kernel: &DMatrix<f64>, symmetric: bool, shift: f64) -> Result<Self> {
        let (rows, unit) = (kernel.nrows(), scale(kernel).max(shift));
        let form = if !symmetric {
            let mut system = view(kernel) * faer::Scale(1.0 / unit);
            add_to_diagonal(&mut system, shift / unit);
            Form::General(unless_stopped(rows, move || PartialPivLu::new(system.as_ref()))?)
        } else if let Some(lower) = definite(symmetric_system(kernel, shift, unit))? {
            Form::Definite(lower)
        } else {
            let system = symmetric_system(kernel, shift, unit);
            Form::Indefinite(unless_stopped(rows, move || Lblt::new(system.as_ref(), Side::Lower))?)
        };
        Ok(Self { form, unit, rows })
    }

    /// Factors a symmetric system, reading its lower triangle; `None` if it is not positive definite.
    pub fn definite(system: &DMatrix<f64>) -> Result<Option<Self>> {
        let unit = scale(system);
        let lower = definite(view(system) * faer::Scale(1.0 / unit))?;
        Ok(lower.map(|lower| Self { form: Form::Definite(lower), unit, rows: system.nrows() }))
    }

    /// One solution per column of `rhs`, `[n, t]`.
    pub fn solve(&self, rhs: &DMatrix<f64>) -> DMatrix<f64> {
        let mut solution = view(rhs) * faer::Scale(1.0 / self.unit);
        self.solve_in_place(&mut solution);
        DMatrix::from_fn(rhs.nrows(), rhs.ncols(), |i, j| solution[(i, j)])
    }

    /// Solves the system divided by its unit.
    fn solve_in_place(&self, rhs: &mut Mat<f64>) {
        match &self.form {
            Form::Definite(lower) => {
                lower.solve_lower_triangular_in_place(rhs.as_mut());
                lower.transpose().solve_upper_triangular_in_place(rhs.as_mut());
            }
            Form::Indefinite(factor) => factor.solve_in_place(rhs.as_mut()),
            Form::General(factor) => factor.solve_in_place(rhs.as_mut()),
        }
    }

    /// An upper bound on the system's smallest singular value, by inverse iteration from a fixed random vector; zero if the
    /// factorization found a zero pivot.
    pub fn smallest(&self) -> Result<f64> {
        let found = smallest_singular_value(self.rows, |vector| {
            self.solve_in_place(vector);
            if let Form::General(factor) = &self.form {
                factor.solve_transpose_in_place(vector.as_mut());
                return Solves::Twice;
            }
            Solves::Once
        })?;
        Ok(found * self.unit)
    }
}

/// The solver of an inverse iteration step.
pub(super) enum Solves {
    /// The system, which is symmetric.
    Once,
    /// The system and its transpose.
    Twice,
}

/// An upper bound on a system's smallest singular value, by inverse iteration from a fixed random vector; zero if it has a
/// zero pivot.
pub(super) fn smallest_singular_value(rows: usize, solve: impl Fn(&mut Mat<f64>) -> Solves) -> Result<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(rows as u64);
    let mut vector = Mat::from_fn(rows, 1, |_, _| random.random_range(-1.0..1.0));
    let mut smallest = 0.0;
    for _ in 0..INVERSE_STEPS {
        check_cancelled()?;
        let before = vector.norm_l2();
        let solves = solve(&mut vector);
        let length = vector.norm_l2();
        let growth = match solves {
            Solves::Once => length / before,
            Solves::Twice => (length / before).sqrt(),
        };
        if !(growth.is_finite() && growth > 0.0) {
            return Ok(0.0);
        }
        smallest = 1.0 / growth;
        vector *= faer::Scale(1.0 / length);
    }
    Ok(smallest)
}

fn add_to_diagonal(system: &mut Mat<f64>, shift: f64) {
    for i in 0..system.nrows() {
        system[(i, i)] += shift;
    }
}

/// The lower triangle of `((K + Kᵀ)/2 + shift·I)/unit`.
fn symmetric_system(kernel: &DMatrix<f64>, shift: f64, unit: f64) -> Mat<f64> {
    let n = kernel.nrows();
    let mut system = Mat::zeros(n, n);
    // By tiles, because the other triangle is read across columns.
    for (rows, columns) in checks::lower_tiles(n, TILE) {
        for j in columns {
            for i in rows.start.max(j)..rows.end {
                system[(i, j)] = 0.5 * (kernel[(i, j)] + kernel[(j, i)]) / unit;
            }
        }
    }
    add_to_diagonal(&mut system, shift / unit);
    system
}

/// Fraction of the norm up to which the residual of a pivoted factorization counts as rounding.
const ROUNDING: f64 = 1e-13;

/// The minimum-norm solution of `K x = rhs` for a positive semi-definite kernel with an unambiguous rank: `K = LLᵀ` with
/// pivots up to `ROUNDING·norm`, and the eigenvalues that remain, those of `LᵀL`, above `clear·norm`. Then the solution is
/// `L (LᵀL)⁻² Lᵀ rhs`. `None` otherwise.
pub(super) fn of_rank(
    kernel: &DMatrix<f64>,
    norm: f64,
    clear: f64,
    rhs: &DMatrix<f64>,
) -> Result<Option<DMatrix<f64>>> {
    let (n, unit) = (kernel.nrows(), scale(kernel));
    let mut system = symmetric_system(kernel, 0.0, unit);
    let (lower, order, rank) = match unless_stopped(n, move || {
        let (mut order, mut inverse) = (vec![0usize; n], vec![0usize; n]);
        let threads = parallelism();
        let mut memory =
            MemBuffer::new(pivoting::cholesky_in_place_scratch::<usize, f64>(n, threads, faer::prelude::default()));
        let stack = MemStack::new(&mut memory);
        let found = pivoting::cholesky_in_place(
            system.as_mut(),
            &mut order,
            &mut inverse,
            threads,
            stack,
            faer::prelude::default(),
        );
        let rank = found.ok().map(|(info, _)| info.rank);
        rank.map(|rank| (system, order, rank))
    })? {
        Some((lower, order, rank)) if rank > 0 && rank < n => (lower, order, rank),
        _ => return Ok(None),
    };
    check_cancelled()?;
    // Row i of L belongs to row order[i] of the kernel.
    let lower = Mat::from_fn(n, rank, |i, j| if i >= j { lower[(i, j)] } else { 0.0 });
    let rest: f64 = (rank..n)
        .map(|i| {
            let known: f64 = (0..rank).map(|j| lower[(i, j)] * lower[(i, j)]).sum();
            (kernel[(order[i], order[i])] / unit - known).abs()
        })
        .sum();
    if rest > ROUNDING * norm / unit * (n as f64).sqrt() {
        return Ok(None);
    }
    let inner = product(lower.transpose(), lower.as_ref());
    let inner = DMatrix::from_fn(rank, rank, |i, j| inner[(i, j)]);
    let Some(factor) = Factor::definite(&inner)?.filter(|factor| factor.unit > 0.0) else { return Ok(None) };
    if factor.smallest()? <= clear * norm / unit {
        return Ok(None);
    }
    let sorted = Mat::from_fn(n, rhs.ncols(), |i, j| rhs[(order[i], j)] / unit);
    let along = product(lower.transpose(), sorted.as_ref());
    let along = DMatrix::from_fn(rank, rhs.ncols(), |i, j| along[(i, j)]);
    let solved = product(lower.as_ref(), view(&factor.solve(&factor.solve(&along))));
    let mut solution = DMatrix::zeros(n, rhs.ncols());
    for (i, row) in order.into_iter().enumerate() {
        for j in 0..rhs.ncols() {
            solution[(row, j)] = solved[(i, j)];
        }
    }
    Ok(Some(solution))
}

/// L of a system given by its lower triangle; `None` if it is not positive definite.
fn definite(mut system: Mat<f64>) -> Result<Option<Mat<f64>>> {
    let n = system.nrows();
    unless_stopped(n, move || {
        let threads = parallelism();
        let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, threads, faer::prelude::default()));
        let stack = MemStack::new(&mut memory);
        let done =
            cholesky_in_place(system.as_mut(), LltRegularization::default(), threads, stack, faer::prelude::default());
        done.is_ok().then_some(system)
    })
}
