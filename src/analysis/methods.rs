//! Kernel regression with one kernel: every suitable solver, each over its grid. Knows no model and no files.
//!
//! A solver that fails (such as logistic regression on a kernel with large negative eigenvalues) leaves a note, and the others'
//! results remain valid.

use nalgebra::{DMatrix, DVector};

use crate::error::{Error, Result};
use crate::evidence::{Answers, Failure, MethodResult};
use crate::kernel::Formula;
use crate::progress::Monitor;
use crate::regression::{
    AsymmetricGrid, Grid, KernelProblem, Logistic, LogisticSettings, LogisticTask, OneVsRest, Selection, Setting,
    SvmSettings, classified, score, select_asymmetric, select_least_squares, symmetric_norm,
};

const LEAST_SQUARES: &str = "least squares";
const ASYMMETRIC: &str = "asymmetric least squares";
const LOGISTIC: &str = "logistic regression";
const SVM: &str = "support vector machine";

/// Strengths of logistic regression's penalty, relative to the kernel's norm.
const STRENGTHS: [f64; 4] = [1.0, 0.1, 0.01, 0.001];

/// Largest number of training examples for support vector machines: their library visits pairs of examples one by one.
const FEW: usize = 4096;

/// Results of the solvers for one kernel.
#[derive(Debug, Default)]
pub(super) struct Solved {
    /// Results; summaries quote the first.
    pub methods: Vec<MethodResult>,
    /// Solvers that failed, with the reasons.
    pub failures: Vec<Failure>,
}

impl Solved {
    fn add(&mut self, solver: &str, result: Result<MethodResult>) -> Result<()> {
        match result {
            Ok(result) => self.methods.push(result),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => self.fail(solver, error.to_string()),
        }
        Ok(())
    }

    fn fail(&mut self, solver: &str, reason: String) {
        self.failures.push(Failure { solver: solver.into(), reason });
    }
}

/// Why no support vector machine is fitted to so many training examples; `None` if one is.
fn no_svm(examples: usize) -> Option<String> {
    (examples > FEW)
        .then(|| format!("not fitted: there are {examples} training examples, and its library is for at most {FEW}"))
}

/// Units of progress of [`solve`].
pub(super) fn units(formula: Formula, rows: usize, outputs: usize) -> u64 {
    let least_squares = Grid::default().regularization.len();
    let others = match formula {
        Formula::Asymmetric if outputs == 1 => AsymmetricGrid::default().f0_scaling.len(),
        Formula::Asymmetric => 0,
        _ if no_svm(rows / outputs).is_none() => 2 * STRENGTHS.len() + Grid::default().regularization.len() * outputs,
        _ => 2 * STRENGTHS.len(),
    };
    (least_squares + others) as u64
}

/// Least squares (for one output of the asymmetric formula, the paper's asymmetric solver first), then logistic regression and,
/// if there are not too many examples, support vector machines.
///
/// # Errors
/// A problem whose parts do not match; `NoSolution` if no solver succeeds; `Interrupted`.
pub(super) fn solve(mut problem: KernelProblem, formula: Formula, monitor: &dyn Monitor) -> Result<Solved> {
    problem.validate()?;
    let mut solved = Solved::default();
    let plain =
        select_least_squares(&problem, &Grid::default(), monitor).map(|s| of_selection(LEAST_SQUARES, &s, &problem));
    if formula == Formula::Asymmetric {
        // The paper's asymmetric solver is stated for targets ±1.
        if problem.outputs == 1 {
            // The paper's orientation: signs on the training side, k(a, b) = <sign ∇f_a, ∇f_b>. It only swaps λ and 1 - λ, but
            // makes the reported λ the paper's.
            problem.train.transpose_mut();
            for (straight, flipped) in
                [(&mut problem.dev, &mut problem.dev_flipped), (&mut problem.test, &mut problem.test_flipped)]
            {
                std::mem::swap(straight, flipped.as_mut().expect("an asymmetric problem"));
            }
            let paper = select_asymmetric(&problem, &AsymmetricGrid::default(), monitor);
            solved.add(ASYMMETRIC, paper.map(|s| of_selection(ASYMMETRIC, &s, &problem)))?;
        }
        solved.add(LEAST_SQUARES, plain)?;
    } else {
        solved.add(LEAST_SQUARES, plain)?;
        let zero = "the kernel is zero: it predicts the network's own outputs whatever the labels";
        let is_zero = problem.train.amax() <= 0.0;
        if is_zero {
            solved.fail(LOGISTIC, zero.into());
        } else {
            logistic(&problem, monitor, &mut solved)?;
        }
        match no_svm(problem.train_labels.len()) {
            Some(reason) => solved.fail(SVM, reason),
            None if is_zero => solved.fail(SVM, zero.into()),
            None => solved.add(SVM, svm(&problem, monitor))?,
        }
    }
    match (solved.methods.is_empty(), solved.failures.first()) {
        (true, Some(first)) => {
            let Failure { solver, reason } = first;
            Err(Error::no_solution(
                format!("solver of kernel.{formula} comes to a result"),
                format!("{solver}: {reason}"),
            ))
        }
        _ => Ok(solved),
    }
}

fn of_selection(solver: &str, selection: &Selection, problem: &KernelProblem) -> MethodResult {
    let setting = match selection.chosen.setting {
        Setting::LeastSquares { regularization, f0_scaling } => {
            format!("regularization {regularization}, f0 scaling {f0_scaling}")
        }
        Setting::Asymmetric { gamma, lambda, f0_scaling } => {
            format!("γ {gamma}, λ {lambda}, f0 scaling {f0_scaling}")
        }
    };
    MethodResult {
        solver: solver.into(),
        setting,
        dev_accuracy: selection.chosen.dev.accuracy,
        dev_loss: selection.chosen.dev.loss,
        test_accuracy: selection.test.accuracy,
        test_answers: answers(&selection.test_predictions, problem),
        test_f1: selection.test.f1,
        test_loss: selection.test.loss,
        grid_size: selection.rows.len(),
    }
}

/// Which test examples are answered correctly.
fn answers(predictions: &[f64], problem: &KernelProblem) -> Answers {
    Answers::of(classified(predictions, &problem.test_labels, problem.outputs))
}

/// Kernel logistic regression with or without the model's own logits as offset; λ is relative to the operator norm. Settings
/// without a minimum are left out, with a note.
fn logistic(problem: &KernelProblem, monitor: &dyn Monitor, solved: &mut Solved) -> Result<()> {
    let norm = symmetric_norm(&problem.train)?;
    let logits = Some(problem.train_logits.as_slice());
    let solver = Logistic::new(&problem.train, problem.outputs, &problem.train_labels, logits)?;
    let strengths = |offset: bool| STRENGTHS.map(|strength| (strength, offset));
    let tried = [strengths(false), strengths(true)].concat();
    // Starts from zero, where the curvature is largest, which reveals a kernel with eigenvalues below -4λ; started from another
    // setting's solution, the solver might take one of several stationary points for the minimum.
    let task = |&(strength, offset): &(f64, bool)| LogisticTask {
        settings: LogisticSettings { lambda: strength * norm, ..LogisticSettings::default() },
        offset,
        start: None,
    };
    let fits = solver.fit_all(&tried.iter().map(task).collect::<Vec<_>>(), monitor)?;
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for ((strength, offset), fit) in tried.into_iter().zip(fits) {
        match fit {
            Ok(fit) => found.push(logistic_result(problem, &fit.alpha, strength, offset)?),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => refused.push(error.to_string()),
        }
    }
    let count = found.len() + refused.len();
    if let Some(first) = refused.first() {
        solved.fail(LOGISTIC, format!("{} of {count} settings: {first}", refused.len()));
    }
    let grid_size = found.len();
    if let Some(best) = best(found) {
        solved.methods.push(MethodResult { grid_size, ..best });
    }
    Ok(())
}

fn logistic_result(problem: &KernelProblem, alpha: &DVector<f64>, strength: f64, offset: bool) -> Result<MethodResult> {
    let outputs = |kernel: &DMatrix<f64>, logits: &[f64]| {
        let f = kernel.tr_mul(alpha);
        if offset { f + DVector::from_column_slice(logits) } else { f }
    };
    let dev = outputs(&problem.dev, &problem.dev_logits);
    let test = outputs(&problem.test, &problem.test_logits);
    let test_score = score(&test, &problem.test_labels, problem.outputs)?;
    Ok(MethodResult {
        solver: LOGISTIC.into(),
        setting: format!("λ {strength}·‖K‖, offset f0 {}", if offset { "yes" } else { "no" }),
        dev_accuracy: score(&dev, &problem.dev_labels, problem.outputs)?.accuracy,
        dev_loss: cross_entropy(&dev, &problem.dev_labels, problem.outputs),
        test_accuracy: test_score.accuracy,
        test_answers: answers(test.as_slice(), problem),
        test_f1: test_score.f1,
        test_loss: cross_entropy(&test, &problem.test_labels, problem.outputs),
        grid_size: 0,
    })
}

/// Mean cross-entropy of flattened outputs \[m·C\]; for one output, logistic loss with labels ±1.
fn cross_entropy(outputs: &DVector<f64>, labels: &[usize], count: usize) -> f64 {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let total: f64 = labels
        .iter()
        .enumerate()
        .map(|(i, label)| {
            if count == 1 {
                let f = outputs[i];
                return softplus(if *label == 1 { -f } else { f });
            }
            let row = outputs.rows(i * count, count);
            let top = row.max();
            top + row.iter().map(|f| (f - top).exp()).sum::<f64>().ln() - row[*label]
        })
        .sum();
    total / labels.len() as f64
}

/// Support vector classification with cost 1; the kernel's regularization is chosen on dev from the paper's grid.
fn svm(problem: &KernelProblem, monitor: &dyn Monitor) -> Result<MethodResult> {
    let grid = Grid::default().regularization;
    let settings = SvmSettings::default();
    let all = OneVsRest::fit_all(&problem.train, &problem.train_labels, problem.outputs, (&grid, &settings), monitor)?;
    let mut found = Vec::new();
    for (machines, regularization) in all.iter().zip(&grid) {
        let dev = score(&machines.predict(&problem.dev)?, &problem.dev_labels, problem.outputs)?;
        let outputs = machines.predict(&problem.test)?;
        let test = score(&outputs, &problem.test_labels, problem.outputs)?;
        found.push(MethodResult {
            solver: SVM.into(),
            setting: format!("regularization {regularization}, cost {}", settings.cost),
            dev_accuracy: dev.accuracy,
            dev_loss: dev.loss,
            test_accuracy: test.accuracy,
            test_answers: answers(outputs.as_slice(), problem),
            test_f1: test.f1,
            test_loss: test.loss,
            grid_size: grid.len(),
        });
    }
    Ok(best(found).expect("the grid is not empty"))
}

/// Higher dev accuracy; ties by lower dev loss, then by order.
fn best(results: Vec<MethodResult>) -> Option<MethodResult> {
    results.into_iter().reduce(|best, next| {
        let better = next.dev_accuracy > best.dev_accuracy
            || (next.dev_accuracy == best.dev_accuracy && next.dev_loss < best.dev_loss);
        if better { next } else { best }
    })
}
