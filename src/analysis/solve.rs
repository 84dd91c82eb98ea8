//! Kernel regression on kernels given as files, this program's or the paper's.
//!
//! Knows no model and no task: three files of one set of training examples, against themselves, a development and a test
//! set.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::{Kind, Tensor};

use super::regress::{LARGEST, dmatrix, flat, methods};
use crate::error::{Error, Result};
use crate::evidence::MethodResult;
use crate::kernel::{Formula, KernelFile, PublishedKernel, logits_path, read_logits};
use crate::regression::KernelProblem;

/// What the solvers make of one kernel.
#[derive(Debug, Serialize)]
pub struct SolvedKernel {
    /// The formula; a file of the paper does not say which of the symmetric ones it has.
    pub formula: Formula,
    /// Training examples.
    pub train: usize,
    /// Development examples.
    pub dev: usize,
    /// Test examples.
    pub test: usize,
    /// Outputs per example.
    pub outputs: usize,
    /// Whether the network's own logits were at hand.
    pub logits: bool,
    /// The solvers, each with the settings chosen on dev.
    pub methods: Vec<MethodResult>,
}

/// Whether a file is one of the paper's, by its name.
pub fn is_published(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["pt", "pth", "bin"].iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// Reads a kernel file of either kind. What one of the paper holds is called `formula`, or the asymmetric formula where
/// it has two orientations; logits are read from the file beside it.
///
/// # Errors
/// [`Error::Io`], [`Error::Format`]; `Settings` for a formula that cannot be what the file holds.
pub fn read_kernel(path: &Path, formula: Option<Formula>) -> Result<KernelFile> {
    if !is_published(path) {
        return KernelFile::read(path);
    }
    let kernel = PublishedKernel::read(path)?;
    let both = kernel.reversed.is_some();
    let formula = formula.unwrap_or(if both { Formula::Asymmetric } else { Formula::Sgd });
    if both != (formula == Formula::Asymmetric) {
        let found = if both { "two orientations: the asymmetric formula" } else { "one: sgd or signgd" };
        return Err(Error::Settings(format!("{}: cannot be {formula}: the kernel has {found}", path.display())));
    }
    let outputs = kernel.kernel.size()[1];
    let logits = logits_path(path).filter(|beside| beside.is_file());
    let logits = logits.map(|beside| read_logits(&beside, outputs, &kernel.classes)).transpose()?;
    Ok(kernel.into_file(formula, logits))
}

/// The three kernel files of one task in a directory of the paper's program: `{train,dev,test}_kernels_TASK.pt`.
///
/// # Errors
/// [`Error::Format`] where there is none, several and no task was named, or one of the three is missing.
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
            return wrong(format!("has no train_kernels_{task}.pt; give the files with --train, --dev and --test"));
        }
        _ => return wrong(format!("has kernels of several tasks ({}); name one with --task", tasks.join(", "))),
    };
    let path = |set: &str| directory.join(format!("{set}_kernels_{task}.pt"));
    let files = [path("train"), path("dev"), path("test")];
    match files.iter().find(|file| !file.is_file()) {
        Some(missing) => Err(Error::format(missing, "is missing: a task needs its train, dev and test kernels")),
        None => Ok(files),
    }
}

/// A kernel file and its name in messages.
struct Named<'a> {
    path: &'a Path,
    file: &'a KernelFile,
}

impl Named<'_> {
    fn wrong(&self, problem: &str) -> Error {
        Error::format(self.path, problem)
    }

    /// Labels and, where there are any, logits of the columns' examples. `square` asks for a kernel of examples with
    /// themselves, whose rows they are.
    fn columns(&self, square: bool) -> Result<(Vec<usize>, Option<Vec<f64>>)> {
        let found_square = self.file.get("labels_right").is_none();
        if found_square != square {
            return Err(self.wrong(if square {
                "is not the kernel of the training examples with themselves, which --train needs"
            } else {
                "is the kernel of examples with themselves; --dev and --test need those against other examples"
            }));
        }
        let name = |stem: &str| if square { stem.to_owned() } else { format!("{stem}_right") };
        let labels = self.file.get(&name("labels")).ok_or_else(|| self.wrong("holds no labels"))?;
        let labels = Vec::<i64>::try_from(labels.to_kind(Kind::Int64).contiguous().view(-1)).unwrap_or_default();
        let labels: Option<Vec<usize>> = labels.into_iter().map(|label| usize::try_from(label).ok()).collect();
        let labels = labels.ok_or_else(|| self.wrong("holds a negative label"))?;
        Ok((labels, self.file.get(&name("logits")).map(flat)))
    }

    /// A kernel as a matrix, checked against the others' rows.
    fn matrix(&self, name: &str, rows: i64, outputs: i64) -> Result<nalgebra::DMatrix<f64>> {
        let tensor = self.file.get(name).ok_or_else(|| self.wrong(&format!("holds no {name}")))?;
        let (shape, columns) = match tensor.size()[..] {
            [n, c, m, d] => ([n, c, d], m),
            _ => return Err(self.wrong(&format!("{name} has shape {:?}, expected [N, C, M, C]", tensor.size()))),
        };
        if shape != [rows, outputs, outputs] {
            let expected = format!("expected [{rows}, {outputs}, M, {outputs}] as in --train");
            return Err(self.wrong(&format!("{name} has shape {:?}, {expected}", tensor.size())));
        }
        Ok(dmatrix(&tensor.contiguous().view([rows * outputs, columns * outputs])))
    }
}

/// Solves every formula that the three files share, or those asked for.
///
/// # Errors
/// [`Error::Format`] for files that do not fit each other; those of the solvers.
pub fn solve(train: &Path, dev: &Path, test: &Path, asked: Option<Formula>) -> Result<Vec<SolvedKernel>> {
    let files = [train, dev, test].map(|path| read_kernel(path, asked));
    let [train_file, dev_file, test_file] = files;
    let (train_file, dev_file, test_file) = (train_file?, dev_file?, test_file?);
    let train = Named { path: train, file: &train_file };
    let others = [Named { path: dev, file: &dev_file }, Named { path: test, file: &test_file }];
    let formulas: Vec<Formula> = Formula::ALL
        .into_iter()
        .filter(|formula| asked.is_none_or(|asked| asked == *formula))
        .filter(|formula| train_file.get(&format!("kernel.{formula}")).is_some())
        .collect();
    if formulas.is_empty() {
        return Err(train.wrong(&match asked {
            Some(formula) => format!("holds no kernel.{formula}"),
            None => "holds no kernel".into(),
        }));
    }
    formulas.into_iter().map(|formula| one(&train, &others, formula)).collect()
}

fn one(train: &Named<'_>, [dev, test]: &[Named<'_>; 2], formula: Formula) -> Result<SolvedKernel> {
    let name = format!("kernel.{formula}");
    let shape = train.file.get(&name).map(Tensor::size).unwrap_or_default();
    let [rows, outputs, _, _] = shape[..] else {
        return Err(train.wrong(&format!("{name} has shape {shape:?}, expected [N, C, N, C]")));
    };
    if rows.saturating_mul(outputs) > LARGEST {
        let message = format!("kernel regression takes up to {LARGEST} rows; {name} has {rows} x {outputs}");
        return Err(train.wrong(&message));
    }
    let (train_labels, train_logits) = train.columns(true)?;
    let (dev_labels, dev_logits) = dev.columns(false)?;
    let (test_labels, test_logits) = test.columns(false)?;
    let logits = train_logits.is_some() && dev_logits.is_some() && test_logits.is_some();
    // Logits of zero play no part, whatever they are scaled by.
    let used = |found: Option<Vec<f64>>, labels: &[usize]| {
        found.filter(|_| logits).unwrap_or_else(|| vec![0.0; labels.len() * outputs as usize])
    };
    let flipped = |set: &Named<'_>| {
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
    Ok(SolvedKernel {
        formula,
        train: problem.train_labels.len(),
        dev: problem.dev_labels.len(),
        test: problem.test_labels.len(),
        outputs: problem.outputs,
        logits,
        methods: methods(&problem, formula, rows * outputs)?,
    })
}
