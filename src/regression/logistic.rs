//! Kernel logistic regression: `min_α Σ_i CE(f_i, y_i) + λ/2 αᵀKα`, `f = Kα + f₀`. Knows no grid.
//!
//! With C outputs the cross-entropy is that of a softmax over an example's C entries of `f`; with one output it is that
//! of `σ(f)` and the classes 0 and 1. For a positive semi-definite `K` the objective is convex, and its minimum is
//! where `λα = y - p`: a unique α whatever the rank of `K`, bounded by `1/λ`, also on separable data.
//!
//! Newton's method on that condition: `(λI + WK) α⁺ = W(f - f₀) + (y - p)`, W the Hessian of the cross-entropy in `f`. An
//! example's block of W is `V·Vᵀ` with one column fewer than outputs (`curvature.rs`), so a step solves the smaller
//! symmetric system `λI + VᵀKV`: by a factorization for few rows, by conjugate gradients for many, where the kernel is
//! only multiplied with. The step is a descent direction of the objective, so halving it finds a decrease. It stops where
//! `max|λα - (y - p)|` is at most the tolerance; all its entries lie in a range of width 2, so the tolerance is absolute.

use super::curvature::Curvature;
use super::factor::Factor;
use super::linear::transposed_product;
use super::{checks, problem};
use crate::error::{Error, Result};
use crate::progress::check_cancelled;
use nalgebra::{DMatrix, DMatrixView, DVector};
use std::borrow::Cow;

/// See [`Logistic::few`].
const FEW: usize = 1024;

/// Most steps of conjugate gradients in one of Newton's.
const MOST_GRADIENTS: usize = 2000;

/// λ and when to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticSettings {
    /// Strength of the penalty, above zero. Absolute: `c·K` with `c·λ` predicts what K with λ does, so `r·‖K‖₂` is
    /// relative.
    pub lambda: f64,
    /// Largest accepted entry of `|λα - (y - p)|`.
    pub tolerance: f64,
    /// Largest number of Newton steps.
    pub max_steps: usize,
}

impl Default for LogisticSettings {
    fn default() -> Self {
        Self { lambda: 1.0, tolerance: 1e-10, max_steps: 200 }
    }
}

/// A validated problem: kernel `[n·C, n·C]`, labels `[n]`, offset `f₀` `[n·C]`.
pub struct Logistic<'a> {
    kernel: Kernel<'a>,
    outputs: usize,
    labels: Vec<usize>,
    /// One-hot for several outputs, 0 or 1 for one.
    wanted: DVector<f64>,
    offset: DVector<f64>,
    /// Rows up to which a step's system is factored.
    pub(super) few: usize,
}

/// A symmetric kernel of n examples with C outputs.
enum Kernel<'a> {
    /// `[n·C, n·C]`.
    Whole(Cow<'a, DMatrix<f64>>),
    /// `[n, n]`, the same for each output, and none between two: the whole is `K ⊗ 1`.
    EachOutput(Cow<'a, DMatrix<f64>>),
}

/// A minimum.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticFit {
    /// Coefficients, `[n·C]`: predictions are `Keᵀα` plus the evaluation set's logits where an offset was given.
    pub alpha: DVector<f64>,
    /// The objective there.
    pub objective: f64,
    /// `max|λα - (y - p)|` there.
    pub residual: f64,
    /// Newton steps taken.
    pub steps: usize,
}

impl Kernel<'_> {
    /// `K·x`, `[n·C]`.
    fn times(&self, x: &DVector<f64>, outputs: usize) -> DVector<f64> {
        match self {
            Self::Whole(kernel) => {
                let x = DMatrix::from_column_slice(x.len(), 1, x.as_slice());
                transposed_product(kernel, &x).column(0).into_owned()
            }
            Self::EachOutput(kernel) => {
                // Column i of `[C, n]` is example i.
                let x = DMatrixView::from_slice(x.as_slice(), outputs, kernel.nrows()).transpose();
                let product = transposed_product(kernel, &x).transpose();
                DVector::from_column_slice(product.as_slice())
            }
        }
    }

    /// `K[ic, jd]`.
    fn entry(&self, row: usize, column: usize, outputs: usize) -> f64 {
        match self {
            Self::Whole(kernel) => kernel[(row, column)],
            Self::EachOutput(kernel) if row % outputs == column % outputs => kernel[(row / outputs, column / outputs)],
            Self::EachOutput(_) => 0.0,
        }
    }
}

impl<'a> Logistic<'a> {
    /// Checks a problem. `logits` is the offset `f₀`; absent means zero.
    ///
    /// # Errors
    /// Bad input: shapes, labels or an asymmetric kernel that do not fit, or a single class; `NotFinite` for non-finite
    /// entries.
    pub fn new(kernel: &'a DMatrix<f64>, outputs: usize, labels: &[usize], logits: Option<&[f64]>) -> Result<Self> {
        checks::training_kernel(kernel)?;
        Self::with(Kernel::Whole(checks::symmetric_part(kernel)?), kernel, outputs, outputs, labels, logits)
    }

    /// The same for a kernel `[n, n]` of the examples that every output has alike, `K ⊗ 1`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn each_output(kernel: &'a DMatrix<f64>, outputs: usize, labels: &[usize]) -> Result<Self> {
        checks::training_kernel(kernel)?;
        Self::with(Kernel::EachOutput(checks::symmetric_part(kernel)?), kernel, 1, outputs, labels, None)
    }

    fn with(
        kernel: Kernel<'a>,
        given: &DMatrix<f64>,
        rows_of_example: usize,
        outputs: usize,
        labels: &[usize],
        logits: Option<&[f64]>,
    ) -> Result<Self> {
        problem::check_labels("training labels", labels, outputs)?;
        if labels.len() * rows_of_example != given.nrows() {
            let what = format!("training rows of {} labels with {outputs} outputs each", labels.len());
            return Err(Error::Length { what, found: labels.len() * rows_of_example, expected: given.nrows() });
        }
        if labels.iter().all(|&label| label == labels[0]) {
            return Err(Error::OneClass { examples: labels.len(), class: labels[0].to_string() });
        }
        let size = labels.len() * outputs;
        let offset = logits.map_or_else(|| DVector::zeros(size), DVector::from_column_slice);
        checks::vector("training logits", offset.as_slice(), size)?;
        let wanted = match outputs {
            1 => DVector::from_iterator(size, labels.iter().map(|&label| label as f64)),
            _ => problem::targets(labels, outputs)?,
        };
        Ok(Self { kernel, outputs, labels: labels.to_vec(), wanted, offset, few: FEW })
    }

    /// `Σ CE(Kα + f₀) + λ/2 αᵀKα`.
    pub fn objective(&self, alpha: &DVector<f64>, lambda: f64) -> f64 {
        let change = self.times(alpha);
        0.5 * lambda * alpha.dot(&change) + self.cross_entropy(&(change + &self.offset))
    }

    /// The objective's gradient in α: `K(p - y + λα)`.
    pub fn gradient(&self, alpha: &DVector<f64>, lambda: f64) -> DVector<f64> {
        self.times(&self.optimality(alpha, &self.probabilities(&self.outputs_at(alpha)), lambda))
    }

    /// The minimum, from `start` (zero if absent).
    ///
    /// # Errors
    /// Bad input: settings or a start that do not fit; `NoSolution` where the kernel is not positive semi-definite enough
    /// for λ or the tolerance is out of reach of float64; `Interrupted`.
    pub fn fit(&self, settings: &LogisticSettings, start: Option<&DVector<f64>>) -> Result<LogisticFit> {
        let (lambda, size) = (settings.lambda, self.wanted.len());
        checks::non_negative("logistic lambda", lambda, true)?;
        checks::non_negative("logistic tolerance", settings.tolerance, true)?;
        let mut alpha = start.map_or_else(|| DVector::zeros(size), Clone::clone);
        checks::vector("logistic start", alpha.as_slice(), size)?;
        let mut objective = self.objective(&alpha, lambda);
        for steps in 0..=settings.max_steps {
            check_cancelled()?;
            let outputs = self.outputs_at(&alpha);
            let probabilities = self.probabilities(&outputs);
            let residual = largest(&self.optimality(&alpha, &probabilities, lambda));
            if residual <= settings.tolerance {
                return Ok(LogisticFit { alpha, objective, residual, steps });
            }
            let curvature = Curvature::new(&probabilities, self.outputs);
            let rhs = curvature.times(&(outputs - &self.offset)) + &self.wanted - &probabilities;
            let Some(newton) = self.newton(&curvature, &rhs, lambda, residual)? else {
                return Err(self.stuck(steps, residual, lambda));
            };
            match self.halve(&alpha, &(newton - &alpha), objective, residual, lambda) {
                Some(next) => (alpha, objective) = next,
                None => return Err(self.stuck(steps, residual, lambda)),
            }
        }
        Err(self.stuck(settings.max_steps, self.residual(&alpha, lambda), lambda))
    }

    /// `max|λα - (y - p)|`, zero exactly at the minimum.
    pub fn residual(&self, alpha: &DVector<f64>, lambda: f64) -> f64 {
        largest(&self.optimality(alpha, &self.probabilities(&self.outputs_at(alpha)), lambda))
    }

    /// The longest of the steps 1, 1/2, 1/4, … that lowers the objective; within the objective's rounding (1e-12 of it)
    /// a step counts as well if it halves the residual, which stays exact where differences of the objective drown.
    fn halve(
        &self,
        alpha: &DVector<f64>,
        step: &DVector<f64>,
        objective: f64,
        residual: f64,
        lambda: f64,
    ) -> Option<(DVector<f64>, f64)> {
        (0..60).find_map(|halvings| {
            let next = alpha + step * 0.5_f64.powi(halvings);
            let value = self.objective(&next, lambda);
            let noise = 1e-12 * (1.0 + objective.abs());
            let lower = value < objective - noise;
            let closer = value <= objective + noise && self.residual(&next, lambda) <= 0.5 * residual;
            (lower || closer).then_some((next, value))
        })
    }

    /// Newton's next α: `(λI + WK) α⁺ = rhs`, hence `λα⁺ = rhs - V·z` with `(λI + VᵀKV) z = VᵀK·rhs`. `None` where that system
    /// is not positive definite.
    fn newton(
        &self,
        curvature: &Curvature,
        rhs: &DVector<f64>,
        lambda: f64,
        residual: f64,
    ) -> Result<Option<DVector<f64>>> {
        let inner = curvature.reduce(&self.times(rhs));
        let found = if self.wanted.len() <= self.few {
            let mut system = curvature.reduced(|row, column| self.kernel.entry(row, column, self.outputs));
            for i in 0..system.nrows() {
                system[(i, i)] += lambda;
            }
            Factor::definite(&system)?
                .map(|factor| factor.solve(&DMatrix::from_column_slice(inner.len(), 1, inner.as_slice())))
                .map(|solution| solution.column(0).into_owned())
        } else {
            // Newton's steps converge quadratically where each is as exact as its residual is small.
            self.conjugate_gradients(curvature, &inner, lambda, (0.1 * residual).clamp(1e-13, 1e-2))?
        };
        let next = found.map(|z| (rhs - curvature.expand(&z)) / lambda);
        Ok(next.filter(|alpha| alpha.iter().all(|x| x.is_finite())))
    }

    /// Solves `(λI + VᵀKV) z = rhs` up to a residual of `tolerance` of the right-hand side.
    fn conjugate_gradients(
        &self,
        curvature: &Curvature,
        rhs: &DVector<f64>,
        lambda: f64,
        tolerance: f64,
    ) -> Result<Option<DVector<f64>>> {
        let mut solution = DVector::zeros(rhs.len());
        let mut rest = rhs.clone();
        let mut direction = rest.clone();
        let mut size = rest.norm_squared();
        let enough = size * tolerance * tolerance;
        for _ in 0..MOST_GRADIENTS {
            check_cancelled()?;
            if size <= enough {
                return Ok(Some(solution));
            }
            let image = &direction * lambda + curvature.reduce(&self.times(&curvature.expand(&direction)));
            let along = direction.dot(&image);
            if along.is_nan() || along <= 0.0 {
                return Ok(None);
            }
            let step = size / along;
            solution.axpy(step, &direction, 1.0);
            rest.axpy(-step, &image, 1.0);
            let before = std::mem::replace(&mut size, rest.norm_squared());
            direction = &rest + direction * (size / before);
        }
        Ok(None)
    }

    fn stuck(&self, steps: usize, residual: f64, lambda: f64) -> Error {
        let reason = format!(
            "stopped after {steps} Newton steps at residual {residual:.3e}. The kernel may have eigenvalues below -λ, for which \
             there is no minimum; or the tolerance is beyond float64"
        );
        Error::no_solution(
            format!("minimum of kernel logistic regression at λ = {lambda:.3e} ({} rows)", self.wanted.len()),
            reason,
        )
    }

    fn times(&self, x: &DVector<f64>) -> DVector<f64> {
        self.kernel.times(x, self.outputs)
    }

    fn outputs_at(&self, alpha: &DVector<f64>) -> DVector<f64> {
        self.times(alpha) + &self.offset
    }

    /// `λα - (y - p)`.
    fn optimality(&self, alpha: &DVector<f64>, probabilities: &DVector<f64>, lambda: f64) -> DVector<f64> {
        alpha * lambda - &self.wanted + probabilities
    }

    /// `σ(f)` for one output, the softmax of each example's outputs for more.
    fn probabilities(&self, outputs: &DVector<f64>) -> DVector<f64> {
        if self.outputs == 1 {
            return outputs.map(|f| if f >= 0.0 { 1.0 / (1.0 + (-f).exp()) } else { f.exp() / (1.0 + f.exp()) });
        }
        let mut all = outputs.clone();
        for example in all.as_mut_slice().chunks_mut(self.outputs) {
            let top = example.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for f in &mut *example {
                *f = (*f - top).exp();
            }
            let sum: f64 = example.iter().sum();
            for f in example {
                *f /= sum;
            }
        }
        all
    }

    fn cross_entropy(&self, outputs: &DVector<f64>) -> f64 {
        if self.outputs == 1 {
            let loss = |(f, y): (&f64, &f64)| f.max(0.0) - y * f + (-f.abs()).exp().ln_1p();
            return outputs.iter().zip(self.wanted.iter()).map(loss).sum();
        }
        let examples = outputs.as_slice().chunks(self.outputs).zip(&self.labels);
        let loss = |(example, &label): (&[f64], &usize)| {
            let top = example.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            top + example.iter().map(|f| (f - top).exp()).sum::<f64>().ln() - example[label]
        };
        examples.map(loss).sum()
    }
}

/// The largest absolute entry; infinite where one is not a number, which `amax` would pass over.
fn largest(values: &DVector<f64>) -> f64 {
    values.iter().fold(0.0, |most: f64, x| if x.is_nan() { f64::INFINITY } else { most.max(x.abs()) })
}
