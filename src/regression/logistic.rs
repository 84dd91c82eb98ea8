//! Kernel logistic regression: `min_α Σ_i CE(f_i, y_i) + λ/2 αᵀKα`, `f = Kα + f₀`. Knows no grid.
//!
//! With C outputs the cross-entropy is that of a softmax over an example's C entries of `f`; with one output it is that of
//! `σ(f)` and the classes 0 and 1. For a positive semi-definite `K` the objective is convex, and its minimum is where `λα =
//! y - p`: a unique α for any rank of `K`, bounded by `1/λ`, even on separable data.
//!
//! Newton's method on that condition: `(λI + WK) α⁺ = W(f - f₀) + (y - p)`, W the Hessian of the cross-entropy in `f`. An
//! example's block of W is `V·Vᵀ` with one column fewer than outputs (`curvature.rs`), so a step solves the smaller
//! symmetric system `λI + VᵀKV`: by a factorization for few rows, by conjugate gradients for many, where the kernel is
//! only multiplied with, and all minima that are asked for advance side by side (`lockstep.rs`). The step is a descent
//! direction of the objective, so halving it finds a decrease. It stops where `max|λα - (y - p)|` is at most the tolerance; all
//! its entries lie in a range of width 2, so the tolerance is absolute.

mod objective;

use super::curvature::Curvature;
use super::factor::Factor;
use super::leading::Leading;
use super::lockstep::{self, System};
use super::narrow::transposed_times;
use super::{checks, problem};
use crate::error::{Error, Result};
use crate::progress::{Monitor, Silent, check_cancelled};
use faer::Mat;
use nalgebra::{DMatrix, DVector};
use std::borrow::Cow;
use std::cell::OnceCell;

/// See [`Logistic::few`].
const FEW: usize = 256;

/// Maximum number of conjugate gradient steps per Newton step.
const MOST_GRADIENTS: usize = 2000;

/// λ and when to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticSettings {
    /// Strength of the penalty, above zero. Absolute: `c·K` with `c·λ` predicts the same as K with λ, so `r·‖K‖₂` is
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
    /// Maximum number of rows for which a step's system is factored.
    pub(super) few: usize,
    /// The kernel's leading part, once needed.
    leading: OnceCell<Leading>,
}

/// A minimum to find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticTask<'a> {
    /// λ and when to stop.
    pub settings: LogisticSettings,
    /// Whether the problem's offset is added to the outputs; if `false`, it counts as zero.
    pub offset: bool,
    /// The start; zero if absent.
    pub start: Option<&'a DVector<f64>>,
}

/// The state of a descent.
struct Descent {
    at: usize,
    settings: LogisticSettings,
    offset: DVector<f64>,
    alpha: DVector<f64>,
    /// `Kα`.
    change: DVector<f64>,
    objective: f64,
}

/// The data of a Newton step.
struct Turn {
    from: Descent,
    curvature: Curvature,
    rhs: DVector<f64>,
    residual: f64,
}

/// A symmetric kernel of n examples with C outputs.
enum Kernel<'a> {
    /// `[n·C, n·C]`.
    Whole(Cow<'a, DMatrix<f64>>),
    /// `[n, n]`, the same for each output and zero between outputs: the whole is `K ⊗ 1`.
    EachOutput(Cow<'a, DMatrix<f64>>),
}

/// A minimum.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticFit {
    /// Coefficients, `[n·C]`: predictions are `Keᵀα` plus the evaluation set's logits if an offset was given.
    pub alpha: DVector<f64>,
    /// The objective there.
    pub objective: f64,
    /// `max|λα - (y - p)|` there.
    pub residual: f64,
    /// Newton steps taken.
    pub steps: usize,
}

impl Kernel<'_> {
    /// `K·X`, `[n·C, t]`; can be cancelled.
    fn times(&self, x: &Mat<f64>, outputs: usize) -> Result<Mat<f64>> {
        match self {
            Self::Whole(kernel) => transposed_times(kernel, x),
            Self::EachOutput(kernel) => {
                // Row i·C + c of column j is row i of column j·C + c.
                let apart = Mat::from_fn(kernel.nrows(), outputs * x.ncols(), |i, j| {
                    x[(i * outputs + j % outputs, j / outputs)]
                });
                let product = transposed_times(kernel, &apart)?;
                Ok(Mat::from_fn(x.nrows(), x.ncols(), |i, j| product[(i / outputs, j * outputs + i % outputs)]))
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

    /// The same for a kernel `[n, n]` of the examples common to all outputs, `K ⊗ 1`.
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
        Ok(Self { kernel, outputs, labels: labels.to_vec(), wanted, offset, few: FEW, leading: OnceCell::new() })
    }

    /// `Σ CE(Kα + f₀) + λ/2 αᵀKα`.
    ///
    /// # Errors
    /// `Interrupted`.
    pub fn objective(&self, alpha: &DVector<f64>, lambda: f64) -> Result<f64> {
        let change = self.times(&[alpha])?.remove(0);
        Ok(self.value(alpha, &change, &self.offset, lambda))
    }

    /// The objective's gradient in α: `K(p - y + λα)`.
    ///
    /// # Errors
    /// `Interrupted`.
    pub fn gradient(&self, alpha: &DVector<f64>, lambda: f64) -> Result<DVector<f64>> {
        let outputs = self.times(&[alpha])?.remove(0) + &self.offset;
        let optimality = self.optimality(alpha, &self.probabilities(&outputs), lambda);
        Ok(self.times(&[&optimality])?.remove(0))
    }

    /// The minimum, from `start` (zero if absent).
    ///
    /// # Errors
    /// Bad input: settings or a start that do not fit; `NoSolution` where the kernel is not positive semi-definite enough
    /// for λ or the tolerance is out of reach of float64; `Interrupted`.
    pub fn fit(&self, settings: &LogisticSettings, start: Option<&DVector<f64>>) -> Result<LogisticFit> {
        self.fit_all(&[LogisticTask { settings: *settings, offset: true, start }], &Silent)?.remove(0)
    }

    /// Several minima in the order of `tasks`, each as [`Self::fit`]; products with the kernel are shared. `monitor` advances
    /// by one for each.
    ///
    /// # Errors
    /// Bad input: settings or a start that do not fit; `Interrupted`. What one minimum alone fails for is its own.
    pub fn fit_all(&self, tasks: &[LogisticTask<'_>], monitor: &dyn Monitor) -> Result<Vec<Result<LogisticFit>>> {
        let size = self.wanted.len();
        let mut descents = Vec::new();
        for (at, task) in tasks.iter().enumerate() {
            let settings = task.settings;
            checks::non_negative("logistic lambda", settings.lambda, true)?;
            checks::non_negative("logistic tolerance", settings.tolerance, true)?;
            let alpha = task.start.map_or_else(|| DVector::zeros(size), Clone::clone);
            checks::vector("logistic start", alpha.as_slice(), size)?;
            let offset = if task.offset { self.offset.clone() } else { DVector::zeros(size) };
            descents.push(Descent { at, settings, offset, alpha, change: DVector::zeros(size), objective: 0.0 });
        }
        let alphas: Vec<&DVector<f64>> = descents.iter().map(|one| &one.alpha).collect();
        for (change, one) in self.times(&alphas)?.into_iter().zip(&mut descents) {
            one.objective = self.value(&one.alpha, &change, &one.offset, one.settings.lambda);
            one.change = change;
        }
        let mut found: Vec<Option<Result<LogisticFit>>> = tasks.iter().map(|_| None).collect();
        let mut steps = 0;
        while !descents.is_empty() {
            check_cancelled()?;
            let open = descents.len();
            let mut turns = Vec::new();
            for one in std::mem::take(&mut descents) {
                let at = one.at;
                match self.turn(one, steps) {
                    Ok(turn) => turns.push(turn),
                    Err(end) => found[at] = Some(end),
                }
            }
            if turns.is_empty() {
                monitor.advance(open as u64);
                break;
            }
            let newton = self.newton(&turns)?;
            let mut changes = self.times(&newton.iter().flatten().collect::<Vec<_>>())?.into_iter();
            for (turn, next) in turns.into_iter().zip(newton) {
                let at = turn.from.at;
                let (residual, lambda) = (turn.residual, turn.from.settings.lambda);
                let next = next.and_then(|alpha| self.halve(turn, &alpha, &changes.next()?));
                match next {
                    Some(next) => descents.push(next),
                    None => found[at] = Some(Err(self.stuck(steps, residual, lambda))),
                }
            }
            steps += 1;
            monitor.advance((open - descents.len()) as u64);
        }
        Ok(found.into_iter().map(|end| end.expect("every descent ends")).collect())
    }

    /// The data of a descent's next Newton step, or its end.
    fn turn(&self, from: Descent, steps: usize) -> std::result::Result<Turn, Result<LogisticFit>> {
        let lambda = from.settings.lambda;
        let probabilities = self.probabilities(&(&from.change + &from.offset));
        let residual = largest(&self.optimality(&from.alpha, &probabilities, lambda));
        if residual <= from.settings.tolerance {
            let Descent { alpha, objective, .. } = from;
            return Err(Ok(LogisticFit { alpha, objective, residual, steps }));
        }
        if steps == from.settings.max_steps {
            return Err(Err(self.stuck(steps, residual, lambda)));
        }
        let curvature = Curvature::new(&probabilities, self.outputs);
        let rhs = curvature.times(&from.change) + &self.wanted - &probabilities;
        Ok(Turn { from, curvature, rhs, residual })
    }

    /// The longest of the steps 1, 1/2, 1/4, … that lowers the objective; within the objective's rounding (relative 1e-12) a
    /// step is also accepted if it halves the residual, which stays accurate when differences of the objective do not.
    fn halve(&self, turn: Turn, next: &DVector<f64>, next_change: &DVector<f64>) -> Option<Descent> {
        let Turn { from, residual, .. } = turn;
        let lambda = from.settings.lambda;
        let noise = 1e-12 * (1.0 + from.objective.abs());
        for halvings in 0..60 {
            let share = 0.5_f64.powi(halvings);
            // By linearity, steps need no additional products.
            let between =
                |a: &DVector<f64>, b: &DVector<f64>| if halvings == 0 { b.clone() } else { a + (b - a) * share };
            let (alpha, change) = (between(&from.alpha, next), between(&from.change, next_change));
            let objective = self.value(&alpha, &change, &from.offset, lambda);
            let lower = objective < from.objective - noise;
            let closer = || {
                let probabilities = self.probabilities(&(&change + &from.offset));
                largest(&self.optimality(&alpha, &probabilities, lambda)) <= 0.5 * residual
            };
            if lower || (objective <= from.objective + noise && closer()) {
                return Some(Descent { alpha, change, objective, ..from });
            }
        }
        None
    }

    /// Newton's next α of each: `(λI + WK) α⁺ = rhs`, hence `λα⁺ = rhs - V·z` with `(λI + VᵀKV) z = VᵀK·rhs`. `None` if that
    /// system is not positive definite.
    fn newton(&self, turns: &[Turn]) -> Result<Vec<Option<DVector<f64>>>> {
        let images = self.times(&turns.iter().map(|turn| &turn.rhs).collect::<Vec<_>>())?;
        let inner = turns.iter().zip(images).map(|(turn, image)| turn.curvature.reduce(image.as_slice()));
        let found = if self.wanted.len() <= self.few {
            inner.zip(turns).map(|(inner, turn)| self.factored(turn, &inner)).collect::<Result<Vec<_>>>()?
        } else {
            let systems: Vec<System<'_>> = inner
                .zip(turns)
                .map(|(rhs, turn)| System {
                    curvature: Some(&turn.curvature),
                    shift: turn.from.settings.lambda,
                    rhs,
                    // V·rest/λ is the optimality residual of an inexact step: a fraction that decreases as the steps
                    // converge.
                    enough: turn.from.settings.lambda * turn.residual * turn.residual.clamp(1e-4, 1e-2),
                })
                .collect();
            let times = |x: &Mat<f64>| self.kernel.times(x, self.outputs);
            let rows = self.wanted.len();
            if self.leading.get().is_none() {
                let leading = Leading::new(rows, &times)?;
                self.leading.get_or_init(|| leading);
            }
            lockstep::solve(rows, &times, self.leading.get().expect("just made"), &systems, MOST_GRADIENTS)?
        };
        let next = found.into_iter().zip(turns).map(|(z, turn)| {
            let alpha = (&turn.rhs - turn.curvature.expand(&z?)) / turn.from.settings.lambda;
            alpha.iter().all(|x| x.is_finite()).then_some(alpha)
        });
        Ok(next.collect())
    }

    /// Solves `(λI + VᵀKV) z = rhs` by a factorization.
    fn factored(&self, turn: &Turn, rhs: &DVector<f64>) -> Result<Option<DVector<f64>>> {
        let mut system = turn.curvature.reduced(|row, column| self.kernel.entry(row, column, self.outputs));
        for i in 0..system.nrows() {
            system[(i, i)] += turn.from.settings.lambda;
        }
        let solve = |factor: Factor| factor.solve(&DMatrix::from_column_slice(rhs.len(), 1, rhs.as_slice()));
        Ok(Factor::definite(&system)?.map(|factor| solve(factor).column(0).into_owned()))
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

    /// `K` times each.
    fn times(&self, columns: &[&DVector<f64>]) -> Result<Vec<DVector<f64>>> {
        let block = Mat::from_fn(self.wanted.len(), columns.len(), |i, j| columns[j][i]);
        let product = self.kernel.times(&block, self.outputs)?;
        Ok((0..columns.len()).map(|j| DVector::from_column_slice(product.col_as_slice(j))).collect())
    }
}

/// The largest absolute entry; infinite if one is NaN, which `amax` would ignore.
fn largest(values: &DVector<f64>) -> f64 {
    values.iter().fold(0.0, |most: f64, x| if x.is_nan() { f64::INFINITY } else { most.max(x.abs()) })
}
