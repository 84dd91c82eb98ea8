//! Conjugate gradients for many systems of one kernel side by side, `(λ_j·I + V_jᵀ K V_j) z_j = b_j`. Knows no labels.
//!
//! A product with a large kernel is memory-bound: with ten vectors it takes hardly longer than with one. Converged systems
//! drop out. Each is preconditioned by the kernel's leading part ([`Leading`]), which Woodbury's identity inverts: `(λI +
//! AᵀA)⁻¹ = (I - Aᵀ(λI + AAᵀ)⁻¹A)/λ` with `A = BᵀV`.

use super::curvature::Curvature;
use super::leading::{Leading, solve_inner};
use crate::error::Result;
use crate::progress::check_cancelled;
use faer::Mat;
use faer::linalg::solvers::Llt;
use nalgebra::DVector;

/// One system.
pub(super) struct System<'a> {
    /// Whose V; `None` for `V = I`.
    pub curvature: Option<&'a Curvature>,
    /// λ.
    pub shift: f64,
    /// b.
    pub rhs: DVector<f64>,
    /// Residual norm at which it counts as solved, if rounding permits.
    pub enough: f64,
}

impl System<'_> {
    fn expand(&self, z: &DVector<f64>, to: &mut [f64]) {
        match self.curvature {
            Some(curvature) => curvature.expand_to(z.as_slice(), to),
            None => to.copy_from_slice(z.as_slice()),
        }
    }

    fn reduce(&self, x: &[f64]) -> DVector<f64> {
        match self.curvature {
            Some(curvature) => curvature.reduce(x),
            None => DVector::from_column_slice(x),
        }
    }
}

/// The state of a system.
struct Running<'a> {
    at: usize,
    system: &'a System<'a>,
    inner: Llt<f64>,
    solution: DVector<f64>,
    rest: DVector<f64>,
    direction: DVector<f64>,
    /// `restᵀ·M⁻¹·rest`.
    size: f64,
    /// Sufficient residual norm.
    enough: f64,
}

/// A product with the kernel, `[n, t]` of `[n, t]`.
pub(super) type Times<'a> = &'a dyn Fn(&Mat<f64>) -> Result<Mat<f64>>;

/// Solutions in the order of `systems`; `None` for a system that is not positive definite or takes more than `most` steps.
///
/// # Errors
/// `Interrupted`.
pub(super) fn solve(
    rows: usize,
    times: Times<'_>,
    leading: &Leading,
    systems: &[System<'_>],
    most: usize,
) -> Result<Vec<Option<DVector<f64>>>> {
    let mut found: Vec<Option<DVector<f64>>> = systems.iter().map(|_| None).collect();
    let mut running = Vec::new();
    for (at, system) in systems.iter().enumerate() {
        check_cancelled()?;
        let inner = leading.inner(system.shift, |column| {
            if let Some(curvature) = system.curvature {
                let reduced = curvature.reduce(column);
                curvature.expand_to(reduced.as_slice(), column);
            }
        })?;
        running.push(Running {
            at,
            inner,
            solution: DVector::zeros(system.rhs.len()),
            rest: system.rhs.clone(),
            direction: DVector::zeros(system.rhs.len()),
            size: 0.0,
            enough: system.enough.max(4.0 * f64::EPSILON * system.rhs.norm()),
            system,
        });
    }
    for step in 0..=most {
        check_cancelled()?;
        // Solved systems leave; one with a NaN norm never counts as solved.
        running.retain_mut(|one| {
            let solved = one.rest.norm() <= one.enough;
            if solved {
                found[one.at] = Some(std::mem::take(&mut one.solution));
            }
            !solved
        });
        if running.is_empty() || step == most {
            break;
        }
        turn(rows, leading, &mut running);
        let mut block = Mat::zeros(rows, running.len());
        for (j, one) in running.iter().enumerate() {
            one.system.expand(&one.direction, block.col_as_slice_mut(j));
        }
        let images = times(&block)?;
        let mut j = 0;
        running.retain_mut(|one| {
            let image = &one.direction * one.system.shift + one.system.reduce(images.col_as_slice(j));
            j += 1;
            let along = one.direction.dot(&image);
            let definite = along > 0.0 && one.size > 0.0;
            if definite {
                let step = one.size / along;
                one.solution.axpy(step, &one.direction, 1.0);
                one.rest.axpy(-step, &image, 1.0);
            }
            definite
        });
    }
    Ok(found)
}

/// The next directions: preconditioned residuals, made conjugate to the previous directions.
fn turn(rows: usize, leading: &Leading, running: &mut [Running<'_>]) {
    let mut block = Mat::zeros(rows, running.len());
    for (j, one) in running.iter().enumerate() {
        one.system.expand(&one.rest, block.col_as_slice_mut(j));
    }
    let mut inner = leading.along(block.as_ref());
    for (j, one) in running.iter().enumerate() {
        solve_inner(&one.inner, inner.col_as_slice_mut(j));
    }
    let images = leading.image(inner.as_ref());
    for (j, one) in running.iter_mut().enumerate() {
        let turned = (&one.rest - one.system.reduce(images.col_as_slice(j))) / one.system.shift;
        let before = std::mem::replace(&mut one.size, one.rest.dot(&turned));
        let share = if before > 0.0 { one.size / before } else { 0.0 };
        one.direction.axpy(1.0, &turned, share);
    }
}
