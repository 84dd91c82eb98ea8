//! Model selection on development data over the paper's grids, and predictions on test data. Knows no kernel formula.
//!
//! The best development accuracy wins; ties go to the lower development loss, then to the stronger regularization (larger r,
//! smaller γ), then to the larger f0 scaling (less of the network's own logits), then to the earlier row. Test labels are
//! used only for the final score.

use super::linear::transposed_product;
use super::{AsymmetricLeastSquares, F0Scaling, KernelProblem, LeastSquares, Score, predict, score};
use crate::error::{Error, Result};
use crate::progress::{Monitor, check_cancelled};
use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Settings that plain kernel regression tries; [`Default`] is the grid of Malladi et al. 2023.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Relative regularizations.
    pub regularization: Vec<f64>,
    /// Scalings of the initial logits.
    pub f0_scaling: Vec<F0Scaling>,
}

/// Settings that asymmetric least squares tries; [`Default`] is the grid of Malladi et al. 2023.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AsymmetricGrid {
    /// Inverse regularizations.
    pub gamma: Vec<f64>,
    /// Weights of the side `k(train, eval)`.
    pub lambda: Vec<f64>,
    /// Scalings of the initial logits.
    pub f0_scaling: Vec<F0Scaling>,
}

/// One point of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "solver", rename_all = "snake_case")]
pub enum Setting {
    /// Plain kernel regression.
    LeastSquares {
        /// Relative regularization, r.
        regularization: f64,
        /// Scaling of the initial logits.
        f0_scaling: F0Scaling,
    },
    /// Least squares for asymmetric kernels.
    Asymmetric {
        /// Inverse regularization, γ.
        gamma: f64,
        /// Weight of the side `k(train, eval)`, λ.
        lambda: f64,
        /// Scaling of the initial logits.
        f0_scaling: F0Scaling,
    },
}

/// A setting and its score on the development set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GridRow {
    /// The setting.
    #[serde(flatten)]
    pub setting: Setting,
    /// Its development score.
    pub dev: Score,
}

/// The chosen setting with its score and predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The chosen setting with its development score.
    pub chosen: GridRow,
    /// Every setting tried, in the grid's order.
    pub rows: Vec<GridRow>,
    /// Predictions of the chosen setting on the test set, `[m·C]`.
    pub test_predictions: Vec<f64>,
    /// Their score.
    pub test: Score,
}

fn default_scalings() -> Vec<F0Scaling> {
    [10.0, 100.0, 1000.0, 10_000.0, f64::INFINITY].iter().filter_map(|&s| F0Scaling::new(s).ok()).collect()
}

impl Default for Grid {
    fn default() -> Self {
        Self { regularization: vec![0.0, 0.001, 0.01, 0.1, 1.0], f0_scaling: default_scalings() }
    }
}

impl Default for AsymmetricGrid {
    fn default() -> Self {
        Self { gamma: vec![0.01, 0.1, 1.0, 10.0], lambda: vec![0.0, 0.5, 1.0], f0_scaling: default_scalings() }
    }
}

impl Setting {
    /// Larger is stronger.
    fn strength(&self) -> f64 {
        match self {
            Self::LeastSquares { regularization, .. } => *regularization,
            Self::Asymmetric { gamma, .. } => -gamma,
        }
    }

    fn scaling(&self) -> F0Scaling {
        match self {
            Self::LeastSquares { f0_scaling, .. } | Self::Asymmetric { f0_scaling, .. } => *f0_scaling,
        }
    }
}

impl GridRow {
    /// `Greater` if `self` is preferred.
    fn preference(&self, other: &Self) -> Ordering {
        (self.dev.accuracy.total_cmp(&other.dev.accuracy))
            .then(other.dev.loss.total_cmp(&self.dev.loss))
            .then(self.setting.strength().total_cmp(&other.setting.strength()))
            .then(self.setting.scaling().get().total_cmp(&other.setting.scaling().get()))
    }
}

/// Plain kernel regression, chosen on the development set. `monitor` advances by one for every regularization.
///
/// An asymmetric problem predicts with its flipped kernels (see the module's documentation).
///
/// # Errors
/// Those of [`KernelProblem::validate`] and [`LeastSquares`]; Bad input: an empty grid or missing flipped kernels;
/// `Interrupted`.
pub fn select_least_squares(problem: &KernelProblem, grid: &Grid, monitor: &dyn Monitor) -> Result<Selection> {
    problem.validate()?;
    not_empty(&[grid.regularization.len(), grid.f0_scaling.len()])?;
    let (dev, test) = problem.influence()?;
    let solver = LeastSquares::new(&problem.train, problem.symmetric)?;
    let targets = problem.train_targets()?;
    let columns: Vec<DVector<f64>> =
        grid.f0_scaling.iter().map(|s| s.fit_targets(&targets, &problem.train_logits)).collect::<Result<_>>()?;
    let columns = stack(&columns);
    let (mut rows, mut solutions) = (Vec::new(), Vec::new());
    let solved = solver.solve_grid(&columns, &grid.regularization, monitor)?;
    for (&regularization, coefficients) in grid.regularization.iter().zip(solved) {
        let predictions = transposed_product(dev, &coefficients);
        for ((&f0_scaling, raw), alpha) in
            grid.f0_scaling.iter().zip(predictions.column_iter()).zip(coefficients.column_iter())
        {
            let setting = Setting::LeastSquares { regularization, f0_scaling };
            rows.push(dev_row(problem, setting, &raw.into_owned())?);
            solutions.push(alpha.into_owned());
        }
    }
    let best = best(&rows);
    finish(problem, rows, best, &predict(test, &solutions[best])?)
}

/// Least squares for asymmetric kernels, chosen on the development set. `monitor` advances by one for every f0 scaling.
///
/// # Errors
/// Those of [`KernelProblem::validate`] and [`AsymmetricLeastSquares`]; Bad input: more than one output, an empty grid or
/// missing flipped kernels; `Interrupted`.
pub fn select_asymmetric(problem: &KernelProblem, grid: &AsymmetricGrid, monitor: &dyn Monitor) -> Result<Selection> {
    problem.validate()?;
    not_empty(&[grid.gamma.len(), grid.lambda.len(), grid.f0_scaling.len()])?;
    if problem.outputs != 1 {
        let expected = "1 for asymmetric least squares (a difference of two logits)";
        return Err(Error::value("outputs of an example", problem.outputs, expected));
    }
    let (dev, test) = problem.flipped()?;
    let targets = problem.train_targets()?;
    let (mut rows, mut solutions) = (Vec::new(), Vec::new());
    for &f0_scaling in &grid.f0_scaling {
        let fitted = f0_scaling.fit_targets(&targets, &problem.train_logits)?;
        let solver = AsymmetricLeastSquares::new(&problem.train, &fitted)?;
        for &gamma in &grid.gamma {
            check_cancelled()?;
            let solution = solver.solve(gamma)?;
            for &lambda in &grid.lambda {
                let setting = Setting::Asymmetric { gamma, lambda, f0_scaling };
                rows.push(dev_row(problem, setting, &solution.predict(lambda, &problem.dev, dev)?)?);
                solutions.push((solution.clone(), lambda));
            }
        }
        monitor.advance(1);
    }
    let best = best(&rows);
    let (solution, lambda) = &solutions[best];
    finish(problem, rows, best, &solution.predict(*lambda, &problem.test, test)?)
}

fn not_empty(sides: &[usize]) -> Result<()> {
    if sides.contains(&0) {
        return Err(Error::value(
            "the grid of kernel settings",
            format!("of sizes {sides:?}"),
            "without an empty side",
        ));
    }
    Ok(())
}

fn stack(columns: &[DVector<f64>]) -> DMatrix<f64> {
    let rows = columns.first().map_or(0, DVector::len);
    DMatrix::from_fn(rows, columns.len(), |i, j| columns[j][i])
}

fn dev_row(problem: &KernelProblem, setting: Setting, raw: &DVector<f64>) -> Result<GridRow> {
    let predictions = setting.scaling().predictions(raw, &problem.dev_logits)?;
    Ok(GridRow { setting, dev: score(&predictions, &problem.dev_labels, problem.outputs)? })
}

/// The index of the preferred row, the earliest among ties.
fn best(rows: &[GridRow]) -> usize {
    (1..rows.len()).fold(0, |best, i| if rows[i].preference(&rows[best]).is_gt() { i } else { best })
}

fn finish(problem: &KernelProblem, rows: Vec<GridRow>, best: usize, raw: &DVector<f64>) -> Result<Selection> {
    let chosen = rows[best];
    let predictions = chosen.setting.scaling().predictions(raw, &problem.test_logits)?;
    let test = score(&predictions, &problem.test_labels, problem.outputs)?;
    Ok(Selection { chosen, rows, test_predictions: predictions.as_slice().to_vec(), test })
}
