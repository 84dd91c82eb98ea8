//! Support vector regression and classification on a kernel, with `libsvm-rs`. Knows no grid and no logits.
//!
//! The kernel is regularized as elsewhere, `K + r·‖K‖₂·I`; `C`, the tube's half-width and the stopping tolerance default to
//! scikit-learn's. The decision function is `Σ_i c_i k(i, e) + b`; the solver stops when the optimality conditions are
//! violated by less than its tolerance, 1e-3, so two correct implementations agree on decision values only to about that.

use std::borrow::Cow;

use super::linear::unless_stopped;
use super::problem::check_labels;
use super::{checks, predict, symmetric_norm};
use crate::error::{Error, Result};
use crate::progress::Monitor;
use libsvm_rs::{KernelType, SvmNode, SvmParameter, SvmProblem, SvmType, check_parameter, train::svm_train};
use nalgebra::{DMatrix, DVector};

/// The kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SvmKind {
    /// ε-insensitive regression (SVR).
    Regression,
    /// Classification into -1 and 1 (C-SVC).
    Classification,
}

/// The settings of the machine; [`Default`] is scikit-learn's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SvmSettings {
    /// Relative regularization of the kernel, `r ≥ 0`.
    pub regularization: f64,
    /// Bound of each dual coefficient.
    pub cost: f64,
    /// Half-width of the tube within which regression errors do not count.
    pub tube: f64,
    /// Largest violation of the optimality conditions at which the solver stops.
    pub tolerance: f64,
}

impl Default for SvmSettings {
    fn default() -> Self {
        Self { regularization: 0.0, cost: 1.0, tube: 0.1, tolerance: 1e-3 }
    }
}

/// A fitted machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Svm {
    /// The kind of machine, which determines [`Svm::predict`].
    pub kind: SvmKind,
    /// Signed dual coefficient per training row, `[n]`; zero for all but the support vectors.
    pub coefficients: DVector<f64>,
    /// Constant of the decision function.
    pub bias: f64,
}

impl Svm {
    /// Fits a symmetric training kernel `[n, n]` and targets `[n]` (±1 for classification, any number for regression).
    ///
    /// # Errors
    /// Bad input: shapes, settings, targets or an asymmetric kernel that do not fit; `NotFinite` for non-finite entries;
    /// `Interrupted`.
    pub fn fit(kind: SvmKind, kernel: &DMatrix<f64>, targets: &DVector<f64>, settings: &SvmSettings) -> Result<Self> {
        Prepared::new(kernel)?.fit(kind, targets, settings)
    }

    /// `Σ_i c_i eval[i, e] + b`, `[m]`, from an evaluation kernel `[n, m]`.
    ///
    /// # Errors
    /// As [`predict`].
    pub fn decision(&self, eval: &DMatrix<f64>) -> Result<DVector<f64>> {
        Ok(predict(eval, &self.coefficients)?.add_scalar(self.bias))
    }

    /// The decision value for regression; its sign, ±1, for classification (zero counts as -1).
    ///
    /// # Errors
    /// As [`predict`].
    pub fn predict(&self, eval: &DMatrix<f64>) -> Result<DVector<f64>> {
        let decision = self.decision(eval)?;
        Ok(match self.kind {
            SvmKind::Regression => decision,
            SvmKind::Classification => decision.map(|value| if value > 0.0 { 1.0 } else { -1.0 }),
        })
    }
}

/// A machine for every output, which separates the output's class from all others by the kernel between examples of that
/// output alone.
#[derive(Debug, Clone, PartialEq)]
pub struct OneVsRest {
    /// One per output; of one output, the machine that separates class 1 from class 0.
    pub machines: Vec<Svm>,
}

impl OneVsRest {
    /// Fits machines to a symmetric training kernel `[n·C, n·C]` and classes `[n]` for each of these relative regularizations,
    /// in place of the settings' own; they are relative to each machine's own kernel `[n, n]`. The machine of a class without
    /// examples is the constant -1. Reports one unit of progress per machine.
    ///
    /// # Errors
    /// As [`Svm::fit`]; bad input if the classes do not fit the outputs.
    pub fn fit_all(
        kernel: &DMatrix<f64>,
        labels: &[usize],
        outputs: usize,
        (regularizations, settings): (&[f64], &SvmSettings),
        monitor: &dyn Monitor,
    ) -> Result<Vec<Self>> {
        check_labels("train", labels, outputs)?;
        let rows = labels.len() * outputs;
        if kernel.nrows() != rows {
            let what = format!("rows of a kernel of {} labels with {outputs} outputs each", labels.len());
            return Err(Error::Length { what, found: kernel.nrows(), expected: rows });
        }
        let mut all = vec![Self { machines: Vec::with_capacity(outputs) }; regularizations.len()];
        for output in 0..outputs {
            let class = if outputs == 1 { 1 } else { output };
            let sign = |label: &usize| if *label == class { 1.0 } else { -1.0 };
            let targets = DVector::from_iterator(labels.len(), labels.iter().map(sign));
            let mut prepared =
                if labels.contains(&class) { Some(Prepared::new(&of_output(kernel, output, outputs))?) } else { None };
            for (found, regularization) in all.iter_mut().zip(regularizations) {
                let settings = SvmSettings { regularization: *regularization, ..*settings };
                found.machines.push(match &mut prepared {
                    Some(prepared) => prepared.fit(SvmKind::Classification, &targets, &settings)?,
                    None => {
                        Svm { kind: SvmKind::Classification, coefficients: DVector::zeros(labels.len()), bias: -1.0 }
                    }
                });
                monitor.advance(1);
            }
        }
        Ok(all)
    }

    /// Predictions `[m·C]` on the scale of [`targets`](super::targets), from an evaluation kernel `[n·C, m·C]`: the decision
    /// value for one output, for several `(1 + decision)/2`, so that the targets -1 and 1 of a machine are 0 and 1.
    ///
    /// # Errors
    /// As [`Svm::decision`].
    pub fn predict(&self, eval: &DMatrix<f64>) -> Result<DVector<f64>> {
        let outputs = self.machines.len();
        let mut predictions = DVector::zeros(eval.ncols());
        for (output, machine) in self.machines.iter().enumerate() {
            let decisions = machine.decision(&of_output(eval, output, outputs))?;
            for (i, decision) in decisions.iter().enumerate() {
                predictions[i * outputs + output] =
                    if outputs == 1 { *decision } else { f64::midpoint(1.0, *decision) };
            }
        }
        Ok(predictions)
    }
}

/// The kernel between one output of every example, of all C: every C-th row and column.
fn of_output(kernel: &DMatrix<f64>, output: usize, outputs: usize) -> Cow<'_, DMatrix<f64>> {
    if outputs == 1 {
        return Cow::Borrowed(kernel);
    }
    let at = |i: usize, j: usize| kernel[(i * outputs + output, j * outputs + output)];
    Cow::Owned(DMatrix::from_fn(kernel.nrows() / outputs, kernel.ncols() / outputs, at))
}

/// A kernel in the library's form, for several fits.
struct Prepared {
    /// Rows `0:serial 1:k(i, 1) 2:k(i, 2) …`.
    rows: Vec<Vec<SvmNode>>,
    /// The diagonal without regularization.
    diagonal: Vec<f64>,
    norm: f64,
}

impl Prepared {
    fn new(kernel: &DMatrix<f64>) -> Result<Self> {
        checks::training_kernel(kernel)?;
        let kernel = checks::symmetric_part(kernel)?;
        let row = |(i, column): (usize, nalgebra::DVectorView<'_, f64>)| {
            let serial = std::iter::once(SvmNode { index: 0, value: (i + 1) as f64 });
            // Symmetric: a column is a row.
            serial.chain(column.iter().zip(1..).map(|(value, index)| SvmNode { index, value: *value })).collect()
        };
        let rows = kernel.column_iter().enumerate().map(row).collect();
        Ok(Self { rows, diagonal: kernel.diagonal().as_slice().to_vec(), norm: symmetric_norm(&kernel)? })
    }

    /// Fits a machine to targets, with the regularization of the settings.
    fn fit(&mut self, kind: SvmKind, targets: &DVector<f64>, settings: &SvmSettings) -> Result<Svm> {
        checks::vector("training targets", targets.as_slice(), self.rows.len())?;
        checks::non_negative("kernel regularization", settings.regularization, false)?;
        checks::non_negative("SVM cost", settings.cost, true)?;
        checks::non_negative("SVM tube", settings.tube, false)?;
        checks::non_negative("SVM tolerance", settings.tolerance, true)?;
        if kind == SvmKind::Classification {
            checks::signs(targets)?;
        }
        let shift = settings.regularization * self.norm;
        for (i, (row, own)) in self.rows.iter_mut().zip(&self.diagonal).enumerate() {
            row[i + 1].value = own + shift;
        }
        let problem = SvmProblem { labels: targets.as_slice().to_vec(), instances: std::mem::take(&mut self.rows) };
        let (machine, rows) = train(kind, problem, settings)?;
        self.rows = rows;
        Ok(machine)
    }
}

/// Trains a machine, and gives the kernel's rows back.
fn train(kind: SvmKind, problem: SvmProblem, settings: &SvmSettings) -> Result<(Svm, Vec<Vec<SvmNode>>)> {
    let n = problem.labels.len();
    let parameters = SvmParameter {
        svm_type: match kind {
            SvmKind::Regression => SvmType::EpsilonSvr,
            SvmKind::Classification => SvmType::CSvc,
        },
        kernel_type: KernelType::Precomputed,
        c: settings.cost,
        p: settings.tube,
        eps: settings.tolerance,
        ..SvmParameter::default()
    };
    check_parameter(&problem, &parameters)
        .map_err(|e| Error::value("a setting of the SVM", format!("refused ({e})"), "one that libsvm accepts"))?;
    libsvm_rs::set_quiet(true);
    let (model, rows) = unless_stopped(n, move || (svm_train(&problem, &parameters), problem.instances))?;
    // A two-class model is positive for its first label; of -1 and 1 the library puts 1 first.
    let mut coefficients = DVector::zeros(n);
    for (&index, &coefficient) in model.sv_indices.iter().zip(&model.sv_coef[0]) {
        coefficients[index - 1] = coefficient;
    }
    let bias = -model.rho[0];
    checks::vector("SVM coefficients", coefficients.as_slice(), n)?;
    checks::vector("SVM bias", &[bias], 1)?;
    Ok((Svm { kind, coefficients, bias }, rows))
}
