//! Facts about the kernels of a study, and kernel regression with each.

use nalgebra::DMatrix;
use tch::{Kind, Tensor};

use super::kernels::Grams;
use super::methods::{self, Solved};
use super::plan::Plan;
use super::splits::SplitName;
use super::store::ResultStore;
use super::study::Study;
use crate::error::Result;
use crate::evidence::{KernelFacts, MatrixPicture};
use crate::jacobian::blocks;
use crate::kernel::{Formula, Gram};
use crate::progress::{Monitor, check_cancelled};
use crate::regression::{KernelProblem, effective_rank};

/// Largest side of a kernel's picture.
const PICTURE: usize = 96;

/// Facts and regressions for every formula of the plan, each stored.
pub(super) fn kernel_facts(
    study: &Study,
    plan: &Plan,
    grams: &Grams,
    store: &ResultStore,
    monitor: &dyn Monitor,
) -> Result<Vec<KernelFacts>> {
    let formulas: Vec<Formula> = Formula::ALL.into_iter().filter(|f| plan.settings.formulas.contains(f)).collect();
    let errors = super::kernels::precision_errors(study, plan)?;
    let (rows, outputs) = ((grams.train.left * grams.train.outputs) as usize, grams.train.outputs as usize);
    let units = |formula: &Formula| methods::units(*formula, rows, outputs) + 1;
    monitor.begin("kernel regression", formulas.iter().map(units).sum());
    let mut facts = Vec::new();
    for formula in formulas {
        check_cancelled()?;
        facts.push(store.get_or_compute(
            &format!("regression-{formula}"),
            &("regression", formula, plan.settings.precision),
            monitor,
            || {
                let error = errors.iter().find(|(f, _)| *f == formula).map(|(_, error)| *error);
                one_formula(study, grams, formula, error, monitor)
            },
        )?);
    }
    monitor.end();
    Ok(facts)
}

fn one_formula(
    study: &Study,
    grams: &Grams,
    formula: Formula,
    precision_error: Option<f64>,
    monitor: &dyn Monitor,
) -> Result<KernelFacts> {
    let matrix = grams.train.matrix(formula).expect("the formula was computed");
    let per_example = over_outputs(matrix, grams.train.outputs);
    let labels = study.labels(SplitName::Train);
    let problem = problem(study, grams, formula);
    let effective_rank = effective_rank(&problem.train, problem.symmetric)?;
    monitor.advance(1);
    let Solved { methods, failures } = methods::solve(problem, formula, monitor)?;
    Ok(KernelFacts {
        formula: formula.name().into(),
        title: formula.title().into(),
        rows: grams.train.left * grams.train.outputs,
        mean_diagonal: matrix.diagonal(0, 0, 1).mean(Kind::Double).double_value(&[]),
        class_contrast: class_contrast(&per_example, labels),
        effective_rank,
        precision_error,
        methods,
        failures,
        picture: picture(&per_example, labels, study),
    })
}

pub(super) fn dmatrix(t: &Tensor) -> DMatrix<f64> {
    let (rows, columns) = t.size2().expect("a matrix");
    let mut numbers = Vec::with_capacity((rows * columns) as usize);
    // By columns, in the matrix's order, and few at a time: a kernel may take most of the memory.
    for range in blocks(columns as usize, 256) {
        numbers.extend(flat(&t.narrow(1, range.start as i64, range.len() as i64).tr()));
    }
    DMatrix::from_vec(rows as usize, columns as usize, numbers)
}

pub(super) fn flat(t: &Tensor) -> Vec<f64> {
    Vec::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor")
}

/// The regression problem for one formula; k(a, b) = <∇f_a, sign ∇f_b> for the asymmetric one.
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

/// Sums a kernel \[NC, NC\] over equal outputs: `k(i,j) = Σ_c K(ic, jc)` \[N, N\].
fn over_outputs(matrix: &Tensor, outputs: i64) -> Tensor {
    let n = matrix.size()[0] / outputs;
    matrix.view([n, outputs, n, outputs]).diagonal(0, 1, 3).sum_dim_intlist(-1, false, Kind::Double)
}

/// Mean of the kernel within classes over its mean between classes, off the diagonal.
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
    let line = |at: usize| study.prompts(SplitName::Train)[order[at]].row;
    let first_cell = |class: usize| (0..size).find(|c| labels[order[bounds(*c).start]] >= class).unwrap_or(size);
    MatrixPicture {
        size,
        cells,
        class_starts: (0..words.len()).map(first_cell).collect(),
        class_names: words.iter().map(|w| w.word.clone()).collect(),
        rows: (0..size).map(|cell| bounds(cell).map(line).collect()).collect(),
    }
}
