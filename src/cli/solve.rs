//! `kernelview solve` and `kernelview convert`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::output::outln;
use super::places::check_out;
use super::terminal::Terminal;
use crate::analysis::{SolvedKernel, find_kernels, is_published, read_kernel, solve};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::kernel::{Formula, KernelFile, PublishedKernel, logits_path};

#[derive(Args)]
pub(super) struct SolveArgs {
    /// Kernel of the training examples with themselves
    #[arg(long, value_name = "FILE", requires_all = ["dev", "test"])]
    pub train: Option<PathBuf>,
    /// Kernel between training and development examples
    #[arg(long, value_name = "FILE", requires = "train")]
    pub dev: Option<PathBuf>,
    /// Kernel between training and test examples
    #[arg(long, value_name = "FILE", requires = "train")]
    pub test: Option<PathBuf>,
    /// Directory of the paper's program with {train,dev,test}_kernels_TASK.pt, instead of the three files
    #[arg(long, value_name = "DIR", conflicts_with = "train", required_unless_present = "train")]
    pub kernels: Option<PathBuf>,
    /// Task, if the directory has several
    #[arg(long, value_name = "NAME", requires = "kernels")]
    pub task: Option<String>,
    /// The formula to solve, and the formula of the kernel in a .pt file [default: all that the files hold]
    #[arg(long, value_enum)]
    pub formula: Option<Formula>,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct ConvertArgs {
    /// The file to read
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write: .safetensors, or .pt, .pth or .bin for the paper's format
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Which kernel of a .safetensors file to convert, or the formula of the kernel in a .pt file [default: the only one;
    /// for .pt, sgd, or asymmetric if it holds two orientations]
    #[arg(long, value_enum)]
    pub formula: Option<Formula>,
}

/// Version of the schema of `--json`.
const SCHEMA_VERSION: &str = "1";

#[derive(Serialize)]
struct Document<'a> {
    schema_version: &'a str,
    kernels: &'a [SolvedKernel],
}

/// Solves kernels given as files and prints a table.
pub(super) fn run(args: &SolveArgs) -> Result<()> {
    if let Some(json) = &args.json {
        check_out("--json", json, "solved.json")?;
    }
    let [train, dev, test] = match (&args.kernels, &args.train, &args.dev, &args.test) {
        (Some(directory), ..) => find_kernels(directory, args.task.as_deref())?,
        (None, Some(train), Some(dev), Some(test)) => [train.clone(), dev.clone(), test.clone()],
        _ => return Err(Error::argument("--train", "give it with --dev and --test, or a directory with --kernels")),
    };
    let solved = solve(&train, &dev, &test, args.formula, &Terminal::new())?;
    for kernel in &solved {
        outln!(
            "{}: {} training, {} dev and {} test examples, {} output(s), {}",
            title(kernel, &train, args.formula),
            kernel.train,
            kernel.dev,
            kernel.test,
            kernel.outputs,
            if kernel.logits { "with the network's logits" } else { "without logits" }
        )?;
        outln!("  {:24} {:>6} {:>6}  settings chosen on dev", "solver", "dev", "test")?;
        for method in &kernel.methods {
            let percent = |share: f64| format!("{:.1}", 100.0 * share);
            let (dev, test) = (percent(method.dev_accuracy), percent(method.test_accuracy));
            outln!("  {:24} {dev:>6} {test:>6}  {}", method.solver, method.setting)?;
        }
        for failure in &kernel.failures {
            outln!("  note: kernel.{}, {}: {}", kernel.formula, failure.solver, failure.reason)?;
        }
    }
    if let Some(json) = &args.json {
        let document = Document { schema_version: SCHEMA_VERSION, kernels: &solved };
        let mut text = serde_json::to_string_pretty(&document).expect("plain data");
        text.push('\n');
        write_atomic(json, text.as_bytes())?;
    }
    Ok(())
}

fn title(kernel: &SolvedKernel, train: &Path, asked: Option<Formula>) -> String {
    if asked.is_none() && is_published(train) && kernel.formula != Formula::Asymmetric {
        return "K, symmetric (the file does not say which)".into();
    }
    kernel.formula.title().into()
}

/// Converts a kernel file to the other format.
pub(super) fn convert(args: &ConvertArgs) -> Result<()> {
    let published = is_published(&args.out);
    let ours = args.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    if published == is_published(&args.input) || !(published || ours) {
        let problem = "IN and OUT must be of different kinds: one name ends in .pt, .pth or .bin (the paper's format), \
                       the other in .safetensors (this program's)";
        return Err(Error::format(&args.out, problem));
    }
    check_out("OUT", &args.out, "K.safetensors")?;
    let file = read_kernel(&args.input, args.formula)?;
    if published {
        write_published(&args.input, &file, args.formula, &args.out)
    } else {
        write_kernel(&file, &args.out)
    }
}

fn write_kernel(file: &KernelFile, out: &Path) -> Result<()> {
    file.write(out)?;
    let names: Vec<&str> = file.tensors.iter().map(|(name, _)| name.as_str()).collect();
    outln!("{}: {}", out.display(), names.join(", "))?;
    Ok(())
}

/// Writes the single kernel that a file in the paper's format holds, and its logits next to it if the name follows the
/// paper's pattern.
pub(super) fn write_published(source: &Path, file: &KernelFile, asked: Option<Formula>, out: &Path) -> Result<()> {
    let there: Vec<Formula> =
        Formula::ALL.into_iter().filter(|formula| file.get(&format!("kernel.{formula}")).is_some()).collect();
    let formula = match (asked, there.as_slice()) {
        (Some(formula), _) => formula,
        (None, [only]) => *only,
        (None, _) => {
            let problem = format!("{} holds one kernel, {} several; choose one", out.display(), source.display());
            return Err(Error::argument("--formula", problem));
        }
    };
    let kernel = PublishedKernel::of(file, formula)
        .ok_or_else(|| Error::format(source, format!("holds no kernel.{formula} with labels")))?;
    kernel.write(out)?;
    outln!("{}: {formula} {:?}", out.display(), kernel.kernel.size())?;
    let logits = if file.get("labels_right").is_some() { "logits_right" } else { "logits" };
    if let (Some(beside), Some(logits)) = (logits_path(out), file.get(logits)) {
        kernel.write_logits(&beside, logits)?;
        outln!("{}: logits {:?}", beside.display(), logits.size())?;
    }
    Ok(())
}
