//! Kernel regression on kernel files, this program's or the paper's.
//!
//! Knows no model and no task: three files with one set of training examples, against themselves, a development set and a test
//! set. Files that do not belong together are refused, by their metadata and by the rows that they share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::Kind;

use super::methods::{self, Solved};
use super::regress::{dmatrix, flat};
use super::room::{self, RegressionCost};
use crate::error::{Error, Result};
use crate::evidence::{Failure, MethodResult};
use crate::kernel::{Formula, KernelFile, KernelHeader, PublishedKernel, logits_path, read_logits};
use crate::progress::Monitor;
use crate::regression::{KernelProblem, effort};
use crate::setting::Field;

/// Results of the solvers for one kernel.
#[derive(Debug, Serialize)]
pub struct SolvedKernel {
    /// The formula; the paper's files do not say which of the symmetric ones they hold.
    pub formula: Formula,
    /// Training examples.
    pub train: usize,
    /// Development examples.
    pub dev: usize,
    /// Test examples.
    pub test: usize,
    /// Outputs per example.
    pub outputs: usize,
    /// Whether the network's own logits were available.
    pub logits: bool,
    /// The solvers' results, with settings chosen on dev.
    pub methods: Vec<MethodResult>,
    /// Solvers that failed, with the reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

/// Whether a file is one of the paper's, by its name.
pub fn is_published(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["pt", "pth", "bin"].iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// Reads a kernel file of either kind. For one of the paper's, `formula` says what it holds, unless it has two orientations,
/// which makes it asymmetric; its logits are read from the file beside it.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`], also for a formula that contradicts the file.
pub fn read_kernel(path: &Path, formula: Option<Formula>) -> Result<KernelFile> {
    if !is_published(path) {
        return KernelFile::read(path);
    }
    let kernel = PublishedKernel::read(path)?;
    let both = kernel.reversed.is_some();
    let formula = formula.unwrap_or(if both { Formula::Asymmetric } else { Formula::Sgd });
    if both != (formula == Formula::Asymmetric) {
        let found = if both { "two orientations: the asymmetric formula" } else { "one: sgd or signgd" };
        return Err(Error::format(path, format!("cannot be {formula}: the kernel has {found}")));
    }
    let outputs = kernel.kernel.size()[1];
    let logits = logits_path(path).filter(|beside| beside.is_file());
    let logits = logits.map(|beside| read_logits(&beside, outputs, &kernel.classes)).transpose()?;
    Ok(kernel.into_file(formula, logits))
}

/// The three kernel files of one task in a directory of the paper's program: `{train,dev,test}_kernels_TASK.pt`.
///
/// # Errors
/// [`Error::Format`] if there is none, if there are several and no task is given, or if one of the three is missing.
pub fn find_kernels(directory: &Path, task: Option<&str>) -> Result<[PathBuf; 3]> {
    let entries = fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut tasks: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix("train_kernels_")?.strip_suffix(".pt")?.to_owned()))
        .filter(|found| task.is_none_or(|task| task.eq_ignore_ascii_case(found)))
        .collect();
    tasks.sort();
    let wrong = |problem: String| Err(Error::format(directory, problem));
    let task = match tasks.as_slice() {
        [one] => one,
        [] => {
            let task = task.unwrap_or("TASK");
            return wrong(format!("has no train_kernels_{task}.pt; give the three files by their names"));
        }
        _ => return wrong(format!("has kernels of several tasks ({}); choose one: {}", tasks.join(", "), Field::Task)),
    };
    let path = |set: &str| directory.join(format!("{set}_kernels_{task}.pt"));
    let files = [path("train"), path("dev"), path("test")];
    match files.iter().find(|file| !file.is_file()) {
        Some(missing) => Err(Error::format(missing, "is missing: a task needs its train, dev and test kernels")),
        None => Ok(files),
    }
}

/// Metadata that must agree in the three files; the columns' split and versions may differ.
const SHARED: [&str; 12] = [
    "model_digest",
    "task",
    "source",
    "source_digest",
    "template",
    "label_words",
    "k",
    "seed",
    "rows",
    "head",
    "output_mode",
    "subset",
];

/// Lists in the metadata with one entry per row, which must also agree, and the name of an entry.
const SHARED_LISTS: [(&str, &str); 2] = [("row_numbers", "number"), ("row_text_digests", "text digest")];

/// Largest difference of one example's logits in two files, relative to the largest logit: another machine or batch changes the
/// last digits of single precision, another example all digits.
const SAME_LOGITS: f64 = 1e-3;

/// A kernel file. Its kernels may be large and are read one at a time.
struct Source<'a> {
    path: &'a Path,
    /// The split that its columns must belong to.
    columns: &'static str,
    /// Shapes of all tensors.
    shapes: BTreeMap<String, Vec<i64>>,
    /// Labels and logits; for a file of the paper's, the kernel too.
    file: KernelFile,
    /// Where the kernels are in the file.
    header: Option<KernelHeader>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path, columns: &'static str, asked: Option<Formula>) -> Result<Self> {
        if is_published(path) {
            let file = read_kernel(path, asked)?;
            let shapes = file.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
            return Ok(Self { path, columns, shapes, file, header: None });
        }
        let header = KernelHeader::read(path)?;
        let file = header.tensors(|name| name.starts_with("labels") || name.starts_with("logits"))?;
        Ok(Self { path, columns, shapes: header.shapes.clone(), file, header: Some(header) })
    }

    fn wrong(&self, problem: &str) -> Error {
        Error::format(self.path, problem)
    }

    /// Whether it is the kernel of examples with themselves.
    fn is_square(&self) -> bool {
        !self.shapes.contains_key("labels_right")
    }

    /// Labels under a suffix: none for the rows, `_right` for the columns of a kernel between two sets.
    fn labels(&self, suffix: &str) -> Result<Vec<usize>> {
        let labels = self.file.get(&format!("labels{suffix}")).ok_or_else(|| self.wrong("holds no labels"))?;
        let labels = Vec::<i64>::try_from(labels.to_kind(Kind::Int64).contiguous().view(-1)).unwrap_or_default();
        let labels: Option<Vec<usize>> = labels.into_iter().map(|label| usize::try_from(label).ok()).collect();
        labels.ok_or_else(|| self.wrong("holds a negative label"))
    }

    fn logits(&self, suffix: &str) -> Option<Vec<f64>> {
        self.file.get(&format!("logits{suffix}")).map(flat)
    }

    /// Fails if the file cannot take its place among the three.
    fn check_place(&self) -> Result<()> {
        let square = self.columns == "train";
        if self.is_square() != square {
            return Err(self.wrong(if square {
                "is not the kernel of the training examples with themselves, but given as that"
            } else {
                "is the kernel of examples with themselves, but given as one against dev or test examples"
            }));
        }
        match self.file.metadata.get("columns") {
            Some(found) if found != self.columns => {
                let columns = self.columns;
                Err(self
                    .wrong(&format!("its columns are those of {found}; the kernel against {columns} is needed here")))
            }
            _ => Ok(()),
        }
    }

    /// Fails if the file's rows are not those of `train`.
    fn check_rows(&self, train: &Self) -> Result<()> {
        let other = train.path.display();
        let field = |source: &Self, field: &str| source.file.metadata.get(field).cloned();
        for name in SHARED {
            let (Some(own), Some(wanted)) = (field(self, name), field(train, name)) else { continue };
            if own != wanted {
                let message =
                    format!("{name} is {own}, and {wanted} in {other}: the files belong to different kernels");
                return Err(self.wrong(&message));
            }
        }
        for (name, entry) in SHARED_LISTS {
            let (Some(own), Some(wanted)) = (field(self, name), field(train, name)) else { continue };
            let mut pairs = own.split(',').zip(wanted.split(',')).enumerate();
            if let Some((at, (own, wanted))) = pairs.find(|(_, (own, wanted))| own != wanted) {
                return Err(self.wrong(&format!(
                    "row {at} has {entry} {own}, and {wanted} in {other}: the rows are other examples or in another order"
                )));
            }
        }
        if self.file.get("labels").is_some() {
            let (own, wanted) = (self.labels("")?, train.labels("")?);
            if own.len() != wanted.len() {
                let message = format!("has {} rows of training examples, {other} has {}", own.len(), wanted.len());
                return Err(self.wrong(&message));
            }
            if let Some(at) = (0..own.len()).find(|at| own[*at] != wanted[*at]) {
                return Err(self.wrong(&format!(
                    "row {at} has label {}, and {} in {other}: the rows are other examples or in another order",
                    own[at], wanted[at]
                )));
            }
        }
        let (Some(own), Some(wanted)) = (self.logits(""), train.logits("")) else { return Ok(()) };
        let largest = wanted.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let same = |(a, b): (&f64, &f64)| (a - b).abs() <= SAME_LOGITS * largest;
        match own.iter().zip(&wanted).position(|pair| !same(pair)) {
            None if own.len() == wanted.len() => Ok(()),
            None => Err(self.wrong(&format!("has {} logits of rows, {other} has {}", own.len(), wanted.len()))),
            Some(at) => Err(self.wrong(&format!(
                "logit {at} of the rows is {:.6}, and {:.6} in {other}: the rows are other examples or in another order",
                own[at], wanted[at]
            ))),
        }
    }

    /// Number of columns of a kernel, after checking its shape against the rows.
    fn check_shape(&self, name: &str, rows: i64, outputs: i64) -> Result<usize> {
        let shape = self.shapes.get(name).ok_or_else(|| self.wrong(&format!("holds no {name}")))?;
        let (found, columns) = match shape[..] {
            [n, c, m, d] => ([n, c, d], m),
            _ => return Err(self.wrong(&format!("{name} has shape {shape:?}, expected [N, C, M, C]"))),
        };
        if found != [rows, outputs, outputs] {
            let expected = format!("expected [{rows}, {outputs}, M, {outputs}] as in the training kernel");
            return Err(self.wrong(&format!("{name} has shape {shape:?}, {expected}")));
        }
        Ok((columns * outputs) as usize)
    }

    /// A kernel as a matrix.
    fn matrix(&self, name: &str, rows: i64, outputs: i64) -> Result<nalgebra::DMatrix<f64>> {
        let columns = self.check_shape(name, rows, outputs)? as i64;
        let read = self.header.as_ref().map(|header| header.tensors(|found| found == name)).transpose()?;
        let tensor =
            read.as_ref().unwrap_or(&self.file).get(name).ok_or_else(|| self.wrong("changed while it was read"))?;
        Ok(dmatrix(&tensor.contiguous().view([rows * outputs, columns])))
    }
}

/// Solves every formula in the training kernel's file, or the requested one.
///
/// # Errors
/// [`Error::Format`] for files that do not match; [`Error::Memory`] if memory is insufficient; those of the solvers.
pub fn solve(
    train: &Path,
    dev: &Path,
    test: &Path,
    asked: Option<Formula>,
    monitor: &dyn Monitor,
) -> Result<Vec<SolvedKernel>> {
    let train = Source::open(train, "train", asked)?;
    let others = [Source::open(dev, "dev", asked)?, Source::open(test, "test", asked)?];
    let formulas: Vec<Formula> = Formula::ALL
        .into_iter()
        .filter(|formula| asked.is_none_or(|asked| asked == *formula))
        .filter(|formula| train.shapes.contains_key(&format!("kernel.{formula}")))
        .collect();
    if formulas.is_empty() {
        return Err(train.wrong(&match asked {
            Some(formula) => format!("holds no kernel.{formula}"),
            None => "holds no kernel".into(),
        }));
    }
    train.check_place()?;
    for other in &others {
        other.check_place()?;
        other.check_rows(&train)?;
    }
    // Everything that can be checked before the first kernel is read.
    for formula in &formulas {
        let shape = Shape::of(&train, &others, *formula)?;
        room::check(&shape.cost(*formula), &format!("{}, kernel.{formula}", train.path.display()), ADVICE)?;
    }
    formulas.into_iter().map(|formula| one(&train, &others, formula, monitor)).collect()
}

/// Advice for a kernel that is too large.
const ADVICE: &str = "make the kernels of fewer examples, or solve them on a machine with more memory";

/// Sizes of the kernels of one formula.
struct Shape {
    rows: i64,
    outputs: i64,
    columns: usize,
}

impl Shape {
    fn of(train: &Source<'_>, others: &[Source<'_>; 2], formula: Formula) -> Result<Self> {
        let name = format!("kernel.{formula}");
        let shape = train.shapes.get(&name).cloned().unwrap_or_default();
        let [rows, outputs, _, _] = shape[..] else {
            return Err(train.wrong(&format!("{name} has shape {shape:?}, expected [N, C, N, C]")));
        };
        train.check_shape(&name, rows, outputs)?;
        let mut columns = 0;
        for other in others {
            columns += other.check_shape(&name, rows, outputs)?;
            if formula == Formula::Asymmetric {
                other.check_shape("kernel.asymmetric_reversed", rows, outputs)?;
            }
        }
        Ok(Self { rows, outputs, columns })
    }

    fn cost(&self, formula: Formula) -> RegressionCost {
        let rows = (self.rows * self.outputs) as usize;
        let effort = effort(rows, self.columns, self.outputs as usize, formula != Formula::Asymmetric);
        // While a kernel is read there are two copies: as in the file, and as the solvers need it.
        let read = 8.0 * (rows * rows.max(self.columns)) as f64;
        RegressionCost { operations: effort.operations, bytes: effort.bytes.max(effort.kernels + read), rows }
    }
}

fn one(
    train: &Source<'_>,
    [dev, test]: &[Source<'_>; 2],
    formula: Formula,
    monitor: &dyn Monitor,
) -> Result<SolvedKernel> {
    let name = format!("kernel.{formula}");
    let shape = train.shapes.get(&name).cloned().unwrap_or_default();
    let [rows, outputs, _, _] = shape[..] else { unreachable!("the shape was checked") };
    let (train_labels, train_logits) = (train.labels("")?, train.logits(""));
    let (dev_labels, dev_logits) = (dev.labels("_right")?, dev.logits("_right"));
    let (test_labels, test_logits) = (test.labels("_right")?, test.logits("_right"));
    let logits = train_logits.is_some() && dev_logits.is_some() && test_logits.is_some();
    // Logits of zero have no effect, whatever their scale.
    let used = |found: Option<Vec<f64>>, labels: &[usize]| {
        found.filter(|_| logits).unwrap_or_else(|| vec![0.0; labels.len() * outputs as usize])
    };
    let flipped = |set: &Source<'_>| {
        (formula == Formula::Asymmetric).then(|| set.matrix("kernel.asymmetric_reversed", rows, outputs)).transpose()
    };
    let problem = KernelProblem {
        outputs: outputs as usize,
        train: train.matrix(&name, rows, outputs)?,
        dev: dev.matrix(&name, rows, outputs)?,
        test: test.matrix(&name, rows, outputs)?,
        dev_flipped: flipped(dev)?,
        test_flipped: flipped(test)?,
        train_logits: used(train_logits, &train_labels),
        dev_logits: used(dev_logits, &dev_labels),
        test_logits: used(test_logits, &test_labels),
        train_labels,
        dev_labels,
        test_labels,
        symmetric: formula != Formula::Asymmetric,
    };
    let (train, dev, test) = (problem.train_labels.len(), problem.dev_labels.len(), problem.test_labels.len());
    monitor.begin(&format!("regression, {name}"), methods::units(formula, problem.train.nrows(), problem.outputs));
    let solved = methods::solve(problem, formula, monitor);
    monitor.end();
    let Solved { methods, failures } = solved?;
    Ok(SolvedKernel { formula, train, dev, test, outputs: outputs as usize, logits, methods, failures })
}
