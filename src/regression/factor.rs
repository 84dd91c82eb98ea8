//! Factorizations of `K + shift·I` for kernels of many rows: a tenth of the cost of a spectrum. Knows no targets.
//!
//! A symmetric system is factored as `L·Lᵀ` where it is positive definite and as `L·B·Lᵀ` with pivots (Bunch and Kaufman)
//! where not; one without symmetry as `L·U` with partial pivoting. None of them decides on a rank: where the smallest
//! singular value is near zero the caller takes a spectrum.

use super::checks::{self, TILE};
use super::linear::{parallelism, scale, unless_stopped, view};
use crate::error::Result;
use crate::progress::check_cancelled;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::solvers::{Lblt, PartialPivLu, Solve};
use faer::{Mat, Side};
use nalgebra::DMatrix;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of inverse iteration for the smallest singular value. It comes out too large by at most n^(1/8) for what a random
/// start misses, which the distance between "near zero" and the cutoff allows for.
const INVERSE_STEPS: usize = 4;

/// A factored system.
pub(super) struct Factor {
    form: Form,
    /// The system was divided by it.
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
    /// Factors `K + shift·I`; for a symmetric kernel its symmetric part is taken.
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

    /// Factors a symmetric system, of which the lower triangle is read; `None` where it is not positive definite.
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

    /// The smallest singular value of the system, from above, by inverse iteration from a fixed random vector; zero where
    /// the factorization met a pivot of zero.
    pub fn smallest(&self) -> Result<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(self.rows as u64);
        let mut vector = Mat::from_fn(self.rows, 1, |_, _| random.random_range(-1.0..1.0));
        let mut smallest = 0.0;
        for _ in 0..INVERSE_STEPS {
            check_cancelled()?;
            let before = vector.norm_l2();
            self.solve_in_place(&mut vector);
            let mut growth = vector.norm_l2() / before;
            if let Form::General(factor) = &self.form {
                factor.solve_transpose_in_place(vector.as_mut());
                growth = (vector.norm_l2() / before).sqrt();
            }
            if !(growth.is_finite() && growth > 0.0) {
                return Ok(0.0);
            }
            smallest = 1.0 / growth;
            let length = vector.norm_l2();
            vector *= faer::Scale(1.0 / length);
        }
        Ok(smallest * self.unit)
    }
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
    // By tiles: the other triangle is read across columns.
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

/// L of a system whose lower triangle is given; `None` where it is not positive definite.
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
