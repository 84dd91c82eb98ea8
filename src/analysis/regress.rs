//! Facts about the kernels of a study, and kernel regression with each.

use nalgebra::{DMatrix, DVector};
use tch::{Kind, Tensor};

use super::kernels::Grams;
use super::parts::Parts;
use super::plan::Plan;
use super::study::{SplitName, Study};
use crate::error::{Error, Result};
use crate::evidence::{KernelFacts, MatrixPicture, MethodResult};
use crate::kernel::{Formula, Gram};
use crate::progress::{Monitor, check_stop};
use crate::regression::{
    AsymmetricGrid, Grid, KernelProblem, Logistic, LogisticSettings, Selection, Setting, Svm, SvmKind, SvmSettings,
    operator_norm, score, select_asymmetric, select_least_squares, targets,
};

/// Largest side of a picture of a kernel.
const PICTURE: usize = 96;

/// Rows up to which the slower solvers (logistic regression, SVM) are run beside least squares.
const SMALL: i64 = 1024;

/// Rows beyond which kernel regression is refused: its decompositions take time with the cube of the rows.
pub(super) const LARGEST: i64 = 6144;

/// Facts and regressions of every formula of the plan, each a stored part.
pub(super) fn kernel_facts(
    study: &Study,
    plan: &Plan,
    grams: &Grams,
    parts: &Parts,
    monitor: &dyn Monitor,
) -> Result<Vec<KernelFacts>> {
    let rows = grams.train.left * grams.train.outputs;
    if rows > LARGEST {
        return Err(Error::Settings(format!(
            "kernel regression would decompose matrices of {rows} x {rows} ({} training examples x {} outputs); up to \
             {LARGEST} rows are supported: use a smaller --k, or `kernelview kernel` for the kernels alone",
            grams.train.left, grams.train.outputs
        )));
    }
    if rows > SMALL {
        monitor.note(&format!("kernel regression with {rows} rows takes minutes; Ctrl-C acts between two kernels"));
    }
    let formulas: Vec<Formula> = Formula::ALL.into_iter().filter(|f| plan.formulas.contains(f)).collect();
    let errors = super::kernels::precision_errors(study, plan)?;
    monitor.begin("kernel regression", formulas.len() as u64);
    let mut facts = Vec::new();
    for formula in formulas {
        check_stop()?;
        facts.push(parts.json(
            &format!("regression-{formula}"),
            &("regression", formula, plan.precision),
            monitor,
            || one_formula(study, grams, formula, errors.iter().find(|(f, _)| *f == formula).map(|(_, error)| *error)),
        )?);
        monitor.advance(1);
    }
    monitor.end();
    Ok(facts)
}

fn one_formula(study: &Study, grams: &Grams, formula: Formula, precision_error: Option<f64>) -> Result<KernelFacts> {
    let matrix = grams.train.matrix(formula).expect("the formula was computed");
    let per_example = over_outputs(matrix, grams.train.outputs);
    let labels = study.labels(SplitName::Train);
    let problem = problem(study, grams, formula);
    Ok(KernelFacts {
        formula: formula.name().into(),
        title: formula.title().into(),
        rows: grams.train.left * grams.train.outputs,
        mean_diagonal: matrix.diagonal(0, 0, 1).mean(Kind::Double).double_value(&[]),
        class_contrast: class_contrast(&per_example, labels),
        effective_rank: effective_rank(matrix),
        precision_error,
        methods: methods(&problem, formula, grams.train.left * grams.train.outputs)?,
        picture: picture(&per_example, labels, study),
    })
}

pub(super) fn dmatrix(t: &Tensor) -> DMatrix<f64> {
    let (rows, columns) = t.size2().expect("a matrix");
    let numbers = Vec::<f64>::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor");
    DMatrix::from_row_slice(rows as usize, columns as usize, &numbers)
}

pub(super) fn flat(t: &Tensor) -> Vec<f64> {
    Vec::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor")
}

/// The regression problem of one formula. For the asymmetric one k(a, b) = <∇f_a, sign ∇f_b>.
fn problem(study: &Study, grams: &Grams, formula: Formula) -> KernelProblem {
    let matrix = |g: &Gram| dmatrix(g.matrix(formula).expect("the formula was computed"));
    let flipped = |g: &Gram| (formula == Formula::Asymmetric).then(|| dmatrix(reversed(g)));
    KernelProblem {
        outputs: grams.train.outputs as usize,
        train: matrix(&grams.train),
        dev: matrix(&grams.dev),
        test: matrix(&grams.test),
        dev_flipped: flipped(&grams.dev),
        test_flipped: flipped(&grams.test),
        train_labels: study.labels(SplitName::Train).to_vec(),
        dev_labels: study.labels(SplitName::Dev).to_vec(),
        test_labels: study.labels(SplitName::Test).to_vec(),
        train_logits: flat(&grams.train.left_outputs),
        dev_logits: flat(&grams.dev.right_outputs),
        test_logits: flat(&grams.test.right_outputs),
        symmetric: formula != Formula::Asymmetric,
    }
}

fn reversed(gram: &Gram) -> &Tensor {
    gram.asymmetric_reversed.as_ref().expect("computed with the asymmetric kernel")
}

/// Least squares (and for one output the paper's asymmetric solver first), then logistic regression and SVM where they
/// are affordable.
pub(super) fn methods(problem: &KernelProblem, formula: Formula, rows: i64) -> Result<Vec<MethodResult>> {
    let plain = of_selection("least squares", &select_least_squares(problem, &Grid::default())?);
    if formula == Formula::Asymmetric {
        if problem.outputs != 1 {
            // The paper's asymmetric solver is stated for targets ±1.
            return Ok(vec![plain]);
        }
        // The paper's orientation: signs on the training side, k(a, b) = <sign ∇f_a, ∇f_b>. It only exchanges the roles
        // of λ and 1 - λ, but the reported λ is then the paper's.
        let swapped = KernelProblem {
            train: problem.train.transpose(),
            dev: problem.dev_flipped.clone().expect("an asymmetric problem"),
            test: problem.test_flipped.clone().expect("an asymmetric problem"),
            dev_flipped: Some(problem.dev.clone()),
            test_flipped: Some(problem.test.clone()),
            ..problem.clone()
        };
        let asymmetric = select_asymmetric(&swapped, &AsymmetricGrid::default())?;
        return Ok(vec![of_selection("asymmetric least squares", &asymmetric), plain]);
    }
    let mut methods = vec![plain];
    if rows <= SMALL {
        methods.push(logistic(problem)?);
        if problem.outputs == 1 {
            methods.push(svm(problem)?);
        }
    }
    Ok(methods)
}

fn of_selection(solver: &str, selection: &Selection) -> MethodResult {
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
        test_f1: selection.test.f1,
        test_loss: selection.test.loss,
        grid_size: selection.rows.len(),
    }
}

/// Kernel logistic regression with the model's own logits as offset or without, λ relative to the operator norm.
fn logistic(problem: &KernelProblem) -> Result<MethodResult> {
    let norm = operator_norm(&problem.train)?;
    let mut best: Option<MethodResult> = None;
    let strengths = [1.0, 0.1, 0.01, 0.001];
    for offset in [false, true] {
        let train = offset.then_some(problem.train_logits.as_slice());
        let solver = Logistic::new(&problem.train, problem.outputs, &problem.train_labels, train)?;
        for strength in strengths {
            let settings = LogisticSettings { lambda: strength * norm, ..LogisticSettings::default() };
            let alpha = solver.fit(&settings, None)?.alpha;
            let outputs = |kernel: &DMatrix<f64>, logits: &[f64]| {
                let f = kernel.tr_mul(&alpha);
                if offset { f + DVector::from_column_slice(logits) } else { f }
            };
            let dev = outputs(&problem.dev, &problem.dev_logits);
            let test = outputs(&problem.test, &problem.test_logits);
            let test_score = score(&test, &problem.test_labels, problem.outputs)?;
            let dev_loss = cross_entropy(&dev, &problem.dev_labels, problem.outputs);
            let result = MethodResult {
                solver: "logistic regression".into(),
                setting: format!("λ {strength}·‖K‖, offset f0 {}", if offset { "yes" } else { "no" }),
                dev_accuracy: score(&dev, &problem.dev_labels, problem.outputs)?.accuracy,
                dev_loss,
                test_accuracy: test_score.accuracy,
                test_f1: test_score.f1,
                test_loss: cross_entropy(&test, &problem.test_labels, problem.outputs),
                grid_size: 2 * strengths.len(),
            };
            if best.as_ref().is_none_or(|b| is_better(&result, b)) {
                best = Some(result);
            }
        }
    }
    Ok(best.expect("the grid is not empty"))
}

/// Mean cross-entropy of flattened outputs \[m·C\]; logistic loss with labels ±1 for one output.
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

/// Support vector classification with cost 1, the kernel's regularization chosen on dev from the paper's grid.
fn svm(problem: &KernelProblem) -> Result<MethodResult> {
    let y = targets(&problem.train_labels, 1)?;
    let grid = Grid::default().regularization;
    let mut best: Option<MethodResult> = None;
    for regularization in &grid {
        let settings = SvmSettings { regularization: *regularization, ..SvmSettings::default() };
        let machine = Svm::fit(SvmKind::Classification, &problem.train, &y, &settings)?;
        let dev = score(&machine.decision(&problem.dev)?, &problem.dev_labels, 1)?;
        let test = score(&machine.decision(&problem.test)?, &problem.test_labels, 1)?;
        let result = MethodResult {
            solver: "support vector machine".into(),
            setting: format!("regularization {regularization}, cost {}", settings.cost),
            dev_accuracy: dev.accuracy,
            dev_loss: dev.loss,
            test_accuracy: test.accuracy,
            test_f1: test.f1,
            test_loss: test.loss,
            grid_size: grid.len(),
        };
        if best.as_ref().is_none_or(|b| is_better(&result, b)) {
            best = Some(result);
        }
    }
    Ok(best.expect("the grid is not empty"))
}

/// Higher dev accuracy, ties by lower dev loss.
fn is_better(a: &MethodResult, b: &MethodResult) -> bool {
    a.dev_accuracy > b.dev_accuracy || (a.dev_accuracy == b.dev_accuracy && a.dev_loss < b.dev_loss)
}

/// Sums a kernel \[NC, NC\] over equal outputs: `k(i,j) = Σ_c K(ic, jc)` \[N, N\].
fn over_outputs(matrix: &Tensor, outputs: i64) -> Tensor {
    let n = matrix.size()[0] / outputs;
    matrix.view([n, outputs, n, outputs]).diagonal(0, 1, 3).sum_dim_intlist(-1, false, Kind::Double)
}

/// Mean kernel within classes over mean between classes, off the diagonal.
fn class_contrast(kernel: &Tensor, labels: &[usize]) -> Option<f64> {
    let k = dmatrix(kernel);
    let (mut within, mut between) = ((0.0, 0usize), (0.0, 0usize));
    for i in 0..labels.len() {
        for j in (0..labels.len()).filter(|j| *j != i) {
            let sum = if labels[i] == labels[j] { &mut within } else { &mut between };
            sum.0 += k[(i, j)];
            sum.1 += 1;
        }
    }
    if within.1 == 0 || between.1 == 0 {
        return None;
    }
    let (a, b) = (within.0 / within.1 as f64, between.0 / between.1 as f64);
    (a > 0.0 && b > 0.0).then(|| a / b)
}

/// `exp` of the entropy of the normalized singular values: square roots of the eigenvalues of `KᵀK`, which are accurate
/// to 1e-8 of the largest, far below what the entropy notices.
fn effective_rank(matrix: &Tensor) -> f64 {
    let k = dmatrix(matrix);
    let values: Vec<f64> = k.tr_mul(&k).symmetric_eigenvalues().iter().map(|v| v.max(0.0).sqrt()).collect();
    let total: f64 = values.iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let entropy: f64 = values.iter().map(|v| v / total).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    entropy.exp()
}

/// The kernel with examples ordered by class, averaged down to at most [`PICTURE`] cells per side.
fn picture(kernel: &Tensor, labels: &[usize], study: &Study) -> MatrixPicture {
    let k = dmatrix(kernel);
    let words = &study.task.definition.label_words;
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|i| (labels[*i], *i));
    let size = labels.len().min(PICTURE);
    let bounds = |cell: usize| cell * labels.len() / size..(cell + 1) * labels.len() / size;
    let mut cells = Vec::with_capacity(size * size);
    for r in 0..size {
        for c in 0..size {
            let (rows, columns) = (bounds(r), bounds(c));
            let count = rows.len() * columns.len();
            let sum: f64 =
                rows.flat_map(|i| columns.clone().map(move |j| (i, j))).map(|(i, j)| k[(order[i], order[j])]).sum();
            cells.push(sum / count as f64);
        }
    }
    let first_cell = |class: usize| (0..size).find(|c| labels[order[bounds(*c).start]] >= class).unwrap_or(size);
    MatrixPicture {
        size,
        cells,
        class_starts: (0..words.len()).map(first_cell).collect(),
        class_names: words.iter().map(|w| w.word.clone()).collect(),
    }
}
