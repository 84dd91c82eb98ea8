//! The kernels of a study: train x train, train x dev, train x test, each stored as a kernel file when finished.

use std::collections::HashMap;
use std::path::Path;

use tch::Tensor;

use super::parts::Parts;
use super::plan::Plan;
use super::study::{SplitName, Study};
use crate::error::Result;
use crate::jacobian::{Examples, Parameters};
use crate::kernel::{FormulaSet, Gram, GramOptions, KernelFile, ParameterShare, gram_units, structured_gram};
use crate::progress::Monitor;

/// Test examples per stored piece of the train x test kernel: an interruption loses at most one piece.
const PIECE: usize = 200;

/// The kernels of a study.
pub(super) struct Grams {
    pub train: Gram,
    pub dev: Gram,
    pub test: Gram,
}

/// Computes or reads the three kernels.
pub(super) fn kernels(study: &Study, plan: &Plan, parts: &Parts, monitor: &dyn Monitor) -> Result<Grams> {
    let train = stored(study, plan, parts, monitor, "train", || {
        train_kernel(study, &study.parameters, plan, "kernel of train", monitor)
    })?;
    let dev = stored(study, plan, parts, monitor, "dev", || between(study, plan, SplitName::Dev, None, monitor))?;
    let test = stored(study, plan, parts, monitor, "test", || {
        let total = study.prompts(SplitName::Test).len();
        let mut pieces = Vec::new();
        for (i, range) in crate::jacobian::blocks(total, PIECE).enumerate() {
            let indices: Vec<usize> = range.collect();
            let name = format!("kernel-test-{i}");
            let path = parts.part_path(&format!("{name}.safetensors"));
            let digest = digest(plan, parts, &name);
            pieces.push(load_or(&path, &digest, &name, study, monitor, || {
                between(study, plan, SplitName::Test, Some(&indices), monitor)
            })?);
        }
        Ok(join_columns(&pieces))
    })?;
    // The pieces are part of the whole now; a leftover that cannot be removed only costs space.
    for i in 0..study.prompts(SplitName::Test).len().div_ceil(PIECE) {
        let _ = std::fs::remove_file(parts.part_path(&format!("kernel-test-{i}.safetensors")));
    }
    Ok(Grams { train, dev, test })
}

/// The training kernel at any parameters.
pub fn train_kernel(
    study: &Study,
    parameters: &Parameters,
    plan: &Plan,
    stage: &str,
    monitor: &dyn Monitor,
) -> Result<Gram> {
    let examples = study.examples(SplitName::Train, study.mode)?;
    let options = options(study, plan);
    monitor.begin(stage, gram_units(examples.len(), None, options.batch));
    let gram = structured_gram(parameters, &examples, None, &options, monitor);
    monitor.end();
    gram
}

fn options(study: &Study, plan: &Plan) -> GramOptions {
    let mut options = GramOptions::new(FormulaSet::of(&plan.formulas), study.parameters.len());
    options.include.clone_from(&study.include);
    options.batch = plan.batch;
    options
}

fn between(
    study: &Study,
    plan: &Plan,
    split: SplitName,
    indices: Option<&[usize]>,
    monitor: &dyn Monitor,
) -> Result<Gram> {
    let train = study.examples(SplitName::Train, study.mode)?;
    let mut other = study.examples(split, study.mode)?;
    if let Some(indices) = indices {
        other = other.select(indices);
    }
    let options = options(study, plan);
    monitor.begin(
        &format!("kernel of train x {}", split.name()),
        gram_units(train.len(), Some(other.len()), options.batch),
    );
    let gram = structured_gram(&study.parameters, &train, Some(&other), &options, monitor);
    monitor.end();
    gram
}

fn digest(plan: &Plan, parts: &Parts, name: &str) -> String {
    parts.digest(&(name, &plan.formulas))
}

fn stored(
    study: &Study,
    plan: &Plan,
    parts: &Parts,
    monitor: &dyn Monitor,
    name: &str,
    compute: impl FnOnce() -> Result<Gram>,
) -> Result<Gram> {
    load_or(&parts.kernel_path(name), &digest(plan, parts, name), name, study, monitor, compute)
}

/// The kernel in a file of this digest, or a newly computed one, which is then written.
fn load_or(
    path: &Path,
    digest: &str,
    name: &str,
    study: &Study,
    monitor: &dyn Monitor,
    compute: impl FnOnce() -> Result<Gram>,
) -> Result<Gram> {
    if let Ok(file) = KernelFile::read(path)
        && file.metadata.get("digest").is_some_and(|d| d == digest)
        && let Some(gram) = file.to_gram()
    {
        monitor.note(&format!("kernel {name}: already there"));
        return Ok(gram);
    }
    let gram = compute()?;
    let split = if name.contains("test") { SplitName::Test } else { SplitName::Dev };
    let right = study.labels(split);
    let right = if gram.right as usize == right.len() { right } else { &[] };
    let mut metadata = HashMap::from([
        ("digest".to_owned(), digest.to_owned()),
        ("model".to_owned(), study.model_facts.name.clone()),
        ("task".to_owned(), study.task.definition.name.clone()),
        ("output_mode".to_owned(), study.task_facts().output_mode),
        ("subset".to_owned(), study.subset_name()),
        ("dtype".to_owned(), study.dtype.to_string()),
        ("program_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    if !gram.shares.is_empty() {
        metadata.insert("shares".into(), shares_json(study, &gram.shares));
    }
    KernelFile::of(&gram, (study.labels(SplitName::Train), right), metadata).write(path)?;
    Ok(gram)
}

/// Traces per parameter as JSON: `[[name, trace of sgd, trace of signgd], …]`.
fn shares_json(study: &Study, shares: &[ParameterShare]) -> String {
    let rows: Vec<(&str, f64, f64)> = shares
        .iter()
        .map(|s| (study.parameters.specs()[s.parameter].name.as_str(), s.trace_sgd, s.trace_signgd))
        .collect();
    serde_json::to_string(&rows).expect("names and numbers")
}

/// Joins Gram matrices with the same left examples along the right ones.
fn join_columns(pieces: &[Gram]) -> Gram {
    let join = |f: fn(&Gram) -> Option<&Tensor>| -> Option<Tensor> {
        let parts: Option<Vec<&Tensor>> = pieces.iter().map(f).collect();
        parts.map(|p| Tensor::cat(&p, 1))
    };
    Gram {
        left: pieces[0].left,
        right: pieces.iter().map(|p| p.right).sum(),
        outputs: pieces[0].outputs,
        symmetric: false,
        sgd: join(|g| g.sgd.as_ref()),
        asymmetric: join(|g| g.asymmetric.as_ref()),
        asymmetric_reversed: join(|g| g.asymmetric_reversed.as_ref()),
        signgd: join(|g| g.signgd.as_ref()),
        left_outputs: pieces[0].left_outputs.shallow_clone(),
        right_outputs: Tensor::cat(&pieces.iter().map(|p| &p.right_outputs).collect::<Vec<_>>(), 0),
        shares: Vec::new(),
    }
}
