//! Kernel logistic regression: `min_α Σ_i CE(f_i, y_i) + λ/2 αᵀKα`, `f = Kα + f₀`. Knows no grid.
//!
//! With C outputs the cross-entropy is that of a softmax over an example's C entries of `f`; with one output it is that
//! of `σ(f)` and the classes 0 and 1. For a positive semi-definite `K` the objective is convex, and its minimum is
//! where `λα = y - p`: a unique α whatever the rank of `K`, bounded by `1/λ`, also on separable data.
//!
//! Newton's method on that condition: `(λI + WK) α⁺ = W(f - f₀) + (y - p)`, W the block-diagonal Hessian of the
//! cross-entropy in `f`. Its step is a descent direction of the objective, so halving it finds a decrease. It stops
//! where `max|λα - (y - p)|` is at most the tolerance; all its entries lie in a range of width 2, so the tolerance is
//! absolute.

use super::{checks, problem};
use crate::error::{Error, Result};
use nalgebra::{DMatrix, DVector};

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
pub struct Logistic {
    kernel: DMatrix<f64>,
    outputs: usize,
    labels: Vec<usize>,
    /// One-hot for several outputs, 0 or 1 for one.
    wanted: DVector<f64>,
    offset: DVector<f64>,
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

impl Logistic {
    /// Checks and keeps a problem. `logits` is the offset `f₀`; absent means zero.
    ///
    /// # Errors
    /// `Settings` for shapes, labels or an asymmetric kernel that do not fit, or a single class; `Numeric` for non-finite
    /// entries.
    pub fn new(kernel: &DMatrix<f64>, outputs: usize, labels: &[usize], logits: Option<&[f64]>) -> Result<Self> {
        checks::training_kernel(kernel)?;
        problem::check_labels("training labels", labels, outputs)?;
        let size = labels.len() * outputs;
        if size != kernel.nrows() {
            return Err(Error::Settings(format!(
                "{} labels with {outputs} outputs each do not match a training kernel of shape {:?}",
                labels.len(),
                checks::shape(kernel)
            )));
        }
        if labels.iter().all(|&label| label == labels[0]) {
            return Err(Error::Settings(format!("all {} training examples have class {}", labels.len(), labels[0])));
        }
        let offset = logits.map_or_else(|| DVector::zeros(size), DVector::from_column_slice);
        checks::vector("training logits", offset.as_slice(), size)?;
        let wanted = match outputs {
            1 => DVector::from_iterator(size, labels.iter().map(|&label| label as f64)),
            _ => problem::targets(labels, outputs)?,
        };
        Ok(Self { kernel: checks::symmetric_part(kernel)?, outputs, labels: labels.to_vec(), wanted, offset })
    }

    /// `Σ CE(Kα + f₀) + λ/2 αᵀKα`.
    pub fn objective(&self, alpha: &DVector<f64>, lambda: f64) -> f64 {
        let change = &self.kernel * alpha;
        0.5 * lambda * alpha.dot(&change) + self.cross_entropy(&(change + &self.offset))
    }

    /// The objective's gradient in α: `K(p - y + λα)`.
    pub fn gradient(&self, alpha: &DVector<f64>, lambda: f64) -> DVector<f64> {
        &self.kernel * self.optimality(alpha, &self.probabilities(&self.outputs_at(alpha)), lambda)
    }

    /// The minimum, from `start` (zero if absent).
    ///
    /// # Errors
    /// `Settings` for settings or a start that do not fit; `Numeric` where the kernel is not positive semi-definite enough
    /// for λ or the tolerance is out of reach of float64.
    pub fn fit(&self, settings: &LogisticSettings, start: Option<&DVector<f64>>) -> Result<LogisticFit> {
        let (lambda, size) = (settings.lambda, self.wanted.len());
        checks::non_negative("logistic lambda", lambda, true)?;
        checks::non_negative("logistic tolerance", settings.tolerance, true)?;
        let mut alpha = start.map_or_else(|| DVector::zeros(size), Clone::clone);
        checks::vector("logistic start", alpha.as_slice(), size)?;
        let mut objective = self.objective(&alpha, lambda);
        for steps in 0..=settings.max_steps {
            let outputs = self.outputs_at(&alpha);
            let probabilities = self.probabilities(&outputs);
            let residual = largest(&self.optimality(&alpha, &probabilities, lambda));
            if residual <= settings.tolerance {
                return Ok(LogisticFit { alpha, objective, residual, steps });
            }
            let mut system = self.curvature_times(&probabilities, &self.kernel);
            for i in 0..size {
                system[(i, i)] += lambda;
            }
            let change = DMatrix::from_column_slice(size, 1, (outputs - &self.offset).as_slice());
            let rhs = self.curvature_times(&probabilities, &change).column(0) + &self.wanted - &probabilities;
            let newton = system.lu().solve(&rhs).filter(|found| found.iter().all(|x| x.is_finite()));
            let Some(newton) = newton else { return Err(self.stuck(steps, residual, lambda)) };
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

    fn stuck(&self, steps: usize, residual: f64, lambda: f64) -> Error {
        Error::Numeric(format!(
            "kernel logistic regression (kernel {:?}, lambda {lambda:e}) stopped after {steps} Newton steps at residual \
             {residual:.3e}; the kernel may have negative eigenvalues beyond lambda: raise lambda or the tolerance",
            checks::shape(&self.kernel)
        ))
    }

    fn outputs_at(&self, alpha: &DVector<f64>) -> DVector<f64> {
        &self.kernel * alpha + &self.offset
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

    /// `W·X` for `X` of `[n·C, t]`: per example `diag(p) - ppᵀ`, for one output `p(1 - p)`.
    fn curvature_times(&self, probabilities: &DVector<f64>, matrix: &DMatrix<f64>) -> DMatrix<f64> {
        let (c, p) = (self.outputs, probabilities.as_slice());
        let mut product = matrix.clone();
        for mut column in product.column_iter_mut() {
            for (i, x) in column.as_mut_slice().chunks_mut(c).enumerate() {
                let p = &p[i * c..(i + 1) * c];
                if let ([x], [p]) = (&mut *x, p) {
                    *x *= p * (1.0 - p);
                    continue;
                }
                let mean: f64 = p.iter().zip(&*x).map(|(p, x)| p * x).sum();
                x.iter_mut().zip(p).for_each(|(x, p)| *x = p * (*x - mean));
            }
        }
        product
    }
}

/// The largest absolute entry; infinite where one is not a number, which `amax` would pass over.
fn largest(values: &DVector<f64>) -> f64 {
    values.iter().fold(0.0, |most: f64, x| if x.is_nan() { f64::INFINITY } else { most.max(x.abs()) })
}
