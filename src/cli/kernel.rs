//! `kernelview kernel`.

use std::fs::{self, File};
use std::path::Path;

use super::arguments::{Engine, KernelArgs};
use super::select;
use super::terminal::Terminal;
use crate::analysis::{SplitName, Study};
use crate::error::{Error, Result};
use crate::jacobian::Examples;
use crate::kernel::{FormulaSet, Gram, GramOptions, KernelFile, gram_units, reference_gram, structured_gram};
use crate::progress::Monitor;

/// Computes the kernel and writes its file.
pub(super) fn run(args: &KernelArgs) -> Result<()> {
    check_out(&args.out)?;
    let against = args.against.filter(|s| *s != SplitName::Train);
    if args.shares && against.is_some() {
        return Err(Error::Settings(
            "--shares belongs to the kernel of the training examples; leave --against out".into(),
        ));
    }
    let study = select::study(&args.model, &args.task)?;
    let terminal = Terminal::new();
    let gram = compute(&study, args, against, &terminal)?;
    let mut file = KernelFile::of(
        &gram,
        (study.labels(SplitName::Train), against.map_or(&[], |s| study.labels(s))),
        study.kernel_metadata(against.unwrap_or(SplitName::Train), &args.formula),
    );
    if args.shares {
        for share in &gram.shares {
            if let Some(matrix) = share.sgd.as_ref().filter(|_| study.include[share.parameter]) {
                let name = &study.parameters.specs()[share.parameter].name;
                file.tensors.push((format!("share.{name}"), matrix.shallow_clone()));
            }
        }
    }
    file.write(&args.out)?;
    println!(
        "{}: {} x {} examples, {} output(s), {}",
        args.out.display(),
        gram.left,
        gram.right,
        gram.outputs,
        args.formula.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// Fails before the computation, not after it, where the file cannot be written.
fn check_out(out: &Path) -> Result<()> {
    if out.is_dir() {
        return Err(Error::format(out, "--out names a directory; give a file, e.g. K.safetensors"));
    }
    if let Some(parent) = out.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        return Err(Error::format(parent, "the directory of --out does not exist; make it first"));
    }
    let mut probe = out.file_name().unwrap_or_default().to_os_string();
    probe.push(format!(".part-{}", std::process::id()));
    let probe = out.with_file_name(probe);
    File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(Error::io("write", out))
}

fn compute(study: &Study, args: &KernelArgs, against: Option<SplitName>, monitor: &dyn Monitor) -> Result<Gram> {
    let train = study.examples(SplitName::Train, study.mode)?;
    let other = against.map(|s| study.examples(s, study.mode)).transpose()?;
    let other = other.as_ref().map(|e| e as &dyn Examples);
    let formulas = FormulaSet::of(&args.formula);
    if args.engine == Engine::Reference {
        monitor.note("reference engine: one example at a time");
        return reference_gram(&study.parameters, &train, other, formulas, &study.include);
    }
    let mut options = GramOptions::new(formulas, study.parameters.len());
    options.include.clone_from(&study.include);
    options.batch = select::batch(&args.model, study);
    options.share_matrices = args.shares;
    monitor.begin("kernel", gram_units(train.len(), other.map(Examples::len)));
    let gram = structured_gram(&study.parameters, &train, other, &options, monitor);
    monitor.end();
    gram
}
