//! The kernel files of the paper's program: `torch.save` of a tuple of a kernel and the targets of its columns.
//!
//! The kernel is \[N, C, M, C\], rows of training examples; for the asymmetric formula \[2, N, C, M, C\], signs on the rows
//! first, then signs on the columns. Targets are classes, or -1 and 1 where the output is the difference of two logits.
//! Logits are in a separate file, a tuple of \[M, C\] and the same targets, whose name has `_logits_` in place of
//! `_kernels_`. Neither states its formula, model or task.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::file::{KernelFile, check_finite, check_source};
use super::formula::Formula;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::pickle::{self, Archive, Value};

/// One kernel between training examples and a set of examples.
#[derive(Debug)]
pub struct PublishedKernel {
    /// \[N, C, M, C\] in double precision; an asymmetric one has plain gradients on its rows and signs on its columns.
    pub kernel: Tensor,
    /// For an asymmetric kernel, the orientation with signs on its rows.
    pub reversed: Option<Tensor>,
    /// The class of each column's example, \[M\].
    pub classes: Vec<usize>,
}

impl PublishedKernel {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not a tuple of a kernel and targets, or an entry is not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let (kernel, targets) = pair(path, "a kernel")?;
        let shape = kernel.size();
        let both = shape.len() == 5 && shape[0] == 2;
        let wrong = || {
            Error::format(
                path,
                format!(
                    "the kernel has shape {shape:?}, expected [N, C, M, C], or [2, N, C, M, C] for the asymmetric formula"
                ),
            )
        };
        let axes = if both { &shape[1..] } else { shape.as_slice() };
        let [_, rows_out, columns, columns_out] = axes else { return Err(wrong()) };
        if rows_out != columns_out || axes.contains(&0) {
            return Err(wrong());
        }
        check_finite(path, "the kernel", &kernel)?;
        let classes = classes(path, &targets, *rows_out)?;
        if classes.len() as i64 != *columns {
            let message = format!("{} targets for a kernel with {columns} columns of examples", classes.len());
            return Err(Error::format(path, message));
        }
        if both {
            return Ok(Self { kernel: kernel.get(1), reversed: Some(kernel.get(0)), classes });
        }
        Ok(Self { kernel, reversed: None, classes })
    }

    /// The kernel of one formula from a kernel file.
    ///
    /// # Errors
    /// `None` if the file lacks it.
    pub fn of(file: &KernelFile, formula: Formula) -> Option<Self> {
        let kernel = file.get(&format!("kernel.{formula}"))?.shallow_clone();
        let labels = file.get("labels_right").or_else(|| file.get("labels"))?;
        let labels = Vec::<i64>::try_from(labels.to_kind(Kind::Int64).view(-1)).ok()?;
        let reversed = (formula == Formula::Asymmetric).then(|| {
            let other = file.get("kernel.asymmetric_reversed").map(Tensor::shallow_clone);
            other.unwrap_or_else(|| kernel.permute([2, 3, 0, 1]).contiguous())
        });
        Some(Self { kernel, reversed, classes: labels.into_iter().map(|label| label as usize).collect() })
    }

    /// Whether rows and columns are the same examples: `K[ic, jd] = K[jd, ic]` up to round-off, for the asymmetric formula
    /// with the other orientation.
    pub fn is_square(&self) -> bool {
        let other = self.reversed.as_ref().unwrap_or(&self.kernel);
        let turned = other.permute([2, 3, 0, 1]);
        if turned.size() != self.kernel.size() {
            return false;
        }
        let scale = self.kernel.abs().max().double_value(&[]);
        (&self.kernel - turned).abs().max().double_value(&[]) <= 1e-5 * scale
    }

    /// Its tensors under the names of a kernel file, with the kernel as `formula`.
    pub fn into_file(self, formula: Formula, logits: Option<Tensor>) -> KernelFile {
        let square = self.is_square();
        let mut tensors = vec![(format!("kernel.{formula}"), self.kernel)];
        let side = if square { "" } else { "_right" };
        if let Some(reversed) = self.reversed.filter(|_| !square) {
            tensors.push(("kernel.asymmetric_reversed".into(), reversed));
        }
        let classes: Vec<i64> = self.classes.iter().map(|class| *class as i64).collect();
        tensors.push((format!("labels{side}"), Tensor::from_slice(&classes)));
        if let Some(logits) = logits {
            tensors.push((format!("logits{side}"), logits));
        }
        KernelFile::with(tensors, [("formula".to_owned(), formula.name().to_owned())].into())
    }

    /// Writes the file in the format of the paper's program, atomically.
    pub fn write(&self, path: &Path) -> Result<()> {
        let kernel = match &self.reversed {
            Some(reversed) => Tensor::stack(&[reversed, &self.kernel], 0),
            None => self.kernel.shallow_clone(),
        };
        self.write_pair(path, &kernel)
    }

    /// Writes the logits \[M, C\] of the columns' examples in the format of the paper's program.
    pub fn write_logits(&self, path: &Path, logits: &Tensor) -> Result<()> {
        self.write_pair(path, logits)
    }

    fn write_pair(&self, path: &Path, first: &Tensor) -> Result<()> {
        let outputs = self.kernel.size()[1];
        let targets: Vec<i64> = self.classes.iter().map(|class| *class as i64).collect();
        let targets = Tensor::from_slice(&targets);
        let targets = if outputs == 1 { (targets * 2 - 1).to_kind(Kind::Float) } else { targets };
        write_atomic(path, &pickle::tuple(&[&first.to_kind(Kind::Double), &targets]))
    }
}

/// The logits \[M, C\] in a file of logits.
///
/// # Errors
/// [`Error::Format`] if it is not a tuple of logits and targets of these classes.
pub fn read_logits(path: &Path, outputs: i64, classes: &[usize]) -> Result<Tensor> {
    let (logits, targets) = pair(path, "logits")?;
    let shape = logits.size();
    if shape != [classes.len() as i64, outputs] {
        let message =
            format!("the logits have shape {shape:?}, expected [{}, {outputs}] as for the kernel", classes.len());
        return Err(Error::format(path, message));
    }
    check_finite(path, "the logits", &logits)?;
    if self::classes(path, &targets, outputs)? != classes {
        return Err(Error::format(
            path,
            "its targets differ from the kernel's: the two files belong to different examples",
        ));
    }
    Ok(logits)
}

/// The name of the logits file that belongs to a kernel file; `None` if its name does not follow the paper's pattern.
pub fn logits_path(kernel: &Path) -> Option<PathBuf> {
    let name = kernel.file_name()?.to_str()?;
    name.contains("_kernels_").then(|| kernel.with_file_name(name.replacen("_kernels_", "_logits_", 1)))
}

/// A tuple of a floating-point tensor, in double precision, and a second one.
fn pair(path: &Path, what: &str) -> Result<(Tensor, Tensor)> {
    check_source(path)?;
    let (mut archive, value) = Archive::open(path)?;
    let Value::Tuple(items) = value else {
        return Err(archive.wrong(&format!("the pickled value is not a tuple of {what} and targets")));
    };
    let [first, second] = items.as_slice() else {
        return Err(archive.wrong(&format!("a tuple of {} values, expected {what} and targets", items.len())));
    };
    let not_tensors = format!("the pickled value is not a tuple of two tensors, {what} and targets");
    let (Some(first), Some(second)) = (archive.tensor(what, first)?, archive.tensor("targets", second)?) else {
        return Err(archive.wrong(&not_tensors));
    };
    if !matches!(first.kind(), Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16) {
        let kind = first.kind();
        return Err(archive.wrong(&format!("it holds {kind:?}, expected {what} of floating-point numbers")));
    }
    Ok((first.to_device(Device::Cpu).to_kind(Kind::Double), second))
}

/// Classes from targets, which are classes, or -1 and 1 for one output.
fn classes(path: &Path, targets: &Tensor, outputs: i64) -> Result<Vec<usize>> {
    let numbers = Vec::<f64>::try_from(targets.to_kind(Kind::Double).contiguous().view(-1)).expect("flat doubles");
    let signs = outputs == 1 && numbers.contains(&-1.0);
    let count = outputs.max(2);
    let class = |(at, x): (usize, &f64)| {
        let class = if signs { (x + 1.0) / 2.0 } else { *x };
        if class.fract() == 0.0 && class >= 0.0 && class < count as f64 {
            return Ok(class as usize);
        }
        let expected = if outputs == 1 { "-1 and 1, or 0 and 1".into() } else { format!("classes 0 to {}", count - 1) };
        Err(Error::format(path, format!("target {at} is {x}; with {outputs} output(s) they must be {expected}")))
    };
    numbers.iter().enumerate().map(class).collect()
}
