//! The kernels of a study: train x train, train x dev, train x test, each stored as a kernel file when finished.

use std::ops::Range;
use std::path::Path;

use tch::Tensor;

use super::examples::StudyExamples;
use super::plan::Plan;
use super::splits::SplitName;
use super::store::ResultStore;
use super::study::Study;
use crate::error::Result;
use crate::jacobian::{Examples, Parameters};
use crate::kernel::{self, Formula, FormulaSet, Gram, GramMatrix, GramsOf, KernelFile, ParameterShare, gram_units};
use crate::progress::Monitor;

/// Test examples per stored piece of the train x test kernel: an interruption loses at most one piece.
const PIECE: usize = 200;

/// The kernels of a study.
pub(super) struct Grams {
    pub train: Gram,
    pub dev: Gram,
    pub test: Gram,
}

/// Fails if the engine cannot compute the kernels as planned: by its precision, or by its limit of memory.
pub(super) fn check(study: &Study, plan: &Plan) -> Result<()> {
    if plan.settings.precision.is_none() && plan.settings.memory.is_none() {
        return Ok(());
    }
    let formulas = FormulaSet::of(&plan.settings.formulas);
    let [train, dev, test] =
        [SplitName::Train, SplitName::Dev, SplitName::Test].map(|split| study.examples(split, study.mode));
    let (train, dev, test) = (train?, dev?, test?);
    let fits = |right: Option<&dyn Examples>| {
        plan.engine().options(study, &study.parameters, formulas, &train, right).map(drop)
    };
    fits(None)?;
    fits(Some(&dev))?;
    crate::jacobian::blocks(test.len(), PIECE)
        .try_for_each(|piece| fits(Some(&test.select(&piece.collect::<Vec<_>>()))))
}

/// Computes or reads the three kernels.
pub(super) fn kernels(study: &Study, plan: &Plan, store: &ResultStore, monitor: &dyn Monitor) -> Result<Grams> {
    let kernels = KernelStore { study, plan, store, monitor };
    let tests = study.labels(SplitName::Test).len();
    let examples = study.examples(SplitName::Train, study.mode)?;
    let mut of_train = OfTrain { study, plan, examples: &examples, grams: GramsOf::new(&study.parameters, &examples) };
    let train = kernels.kernel(&store.kernel_path("train"), "train", (SplitName::Train, None), || {
        of_train.with_itself("kernel of train", monitor)
    })?;
    let dev = kernels.kernel(&store.kernel_path("dev"), "dev", (SplitName::Dev, None), || {
        of_train.with(SplitName::Dev, None, monitor)
    })?;
    let piece_path = |i: usize| store.path(&format!("kernel-test-{i}.safetensors"));
    let test = kernels.kernel(&store.kernel_path("test"), "test", (SplitName::Test, None), || {
        let mut pieces = Vec::new();
        for (i, range) in crate::jacobian::blocks(tests, PIECE).enumerate() {
            let columns = (SplitName::Test, Some(range.clone()));
            let indices: Vec<usize> = range.collect();
            pieces.push(kernels.kernel(&piece_path(i), &format!("test, piece {i}"), columns, || {
                of_train.with(SplitName::Test, Some(&indices), monitor)
            })?);
        }
        Ok(join_columns(&pieces))
    })?;
    // The pieces are now part of the whole; a leftover that cannot be removed only wastes space.
    for i in 0..tests.div_ceil(PIECE) {
        let _ = std::fs::remove_file(piece_path(i));
    }
    Ok(Grams { train, dev, test })
}

/// Where finished kernels are stored.
struct KernelStore<'a> {
    study: &'a Study,
    plan: &'a Plan,
    store: &'a ResultStore,
    monitor: &'a dyn Monitor,
}

impl KernelStore<'_> {
    /// The kernel in a file if it is the required one; otherwise computes and stores it. `columns` are the right examples: a
    /// split, or some of it.
    fn kernel(
        &self,
        path: &Path,
        name: &str,
        columns: (SplitName, Option<Range<usize>>),
        compute: impl FnOnce() -> Result<Gram>,
    ) -> Result<Gram> {
        let digest = self.store.digest(&(name, &self.plan.settings.formulas, self.plan.settings.precision));
        if let Ok(file) = KernelFile::read(path)
            && file.metadata.get("digest").is_some_and(|d| *d == digest)
            && let Some(gram) = file.to_gram()
        {
            self.monitor.note(&format!("kernel {name}: already there"));
            return Ok(gram);
        }
        let gram = compute()?;
        let right = self.study.labels(columns.0);
        let right = columns.1.clone().map_or(right, |range| &right[range]);
        let mut metadata = self.study.kernel_metadata(columns, &self.plan.settings.formulas);
        metadata.insert("digest".into(), digest);
        if !gram.shares.is_empty() {
            metadata.insert("shares".into(), shares_json(self.study, &gram.shares));
        }
        KernelFile::of(&gram, (self.study.labels(SplitName::Train), right), metadata).write(path)?;
        Ok(gram)
    }
}

/// Kernels of the training examples with others, at some parameters.
struct OfTrain<'a> {
    study: &'a Study,
    plan: &'a Plan,
    examples: &'a StudyExamples<'a>,
    grams: GramsOf<'a>,
}

impl OfTrain<'_> {
    fn with_itself(&mut self, stage: &str, monitor: &dyn Monitor) -> Result<Gram> {
        self.gram(None, stage, monitor)
    }

    /// With a split, or with some of its examples.
    fn with(&mut self, split: SplitName, indices: Option<&[usize]>, monitor: &dyn Monitor) -> Result<Gram> {
        let mut other = self.study.examples(split, self.study.mode)?;
        if let Some(indices) = indices {
            other = other.select(indices);
        }
        self.gram(Some(&other), &format!("kernel of train x {}", split.name()), monitor)
    }

    fn gram(&mut self, right: Option<&dyn Examples>, stage: &str, monitor: &dyn Monitor) -> Result<Gram> {
        let formulas = FormulaSet::of(&self.plan.settings.formulas);
        let parameters = self.grams.parameters();
        let options = self.plan.engine().options(self.study, parameters, formulas, self.examples, right)?;
        monitor.begin(stage, gram_units(self.examples.len(), right.map(Examples::len)));
        let gram = self.grams.with(right, &options, monitor);
        monitor.end();
        gram
    }
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
    let grams = GramsOf::new(parameters, &examples);
    OfTrain { study, plan, examples: &examples, grams }.with_itself(stage, monitor)
}

/// Errors caused by the plan's precision, by formula; empty if it sets none.
pub(super) fn precision_errors(study: &Study, plan: &Plan) -> Result<Vec<(Formula, f64)>> {
    if plan.settings.precision.is_none() {
        return Ok(Vec::new());
    }
    let examples = study.examples(SplitName::Train, study.mode)?;
    let formulas = FormulaSet::of(&plan.settings.formulas);
    let options = plan.engine().options(study, &study.parameters, formulas, &examples, None)?;
    kernel::precision_errors(&study.parameters, &examples, &options)
}

/// Traces per parameter as JSON: `[[name, trace of sgd, trace of signgd], …]`.
fn shares_json(study: &Study, shares: &[ParameterShare]) -> String {
    let rows: Vec<(&str, f64, Option<f64>)> = shares
        .iter()
        .map(|s| (study.parameters.specs()[s.parameter].name.as_str(), s.trace_sgd, s.trace_signgd))
        .collect();
    serde_json::to_string(&rows).expect("names and numbers")
}

/// Concatenates Gram matrices with the same left examples along their right ones.
fn join_columns(pieces: &[Gram]) -> Gram {
    let join = |which: GramMatrix| {
        let found: Option<Vec<&Tensor>> = pieces.iter().map(|piece| piece.get(which)).collect();
        found.map(|matrices| Tensor::cat(&matrices, 1))
    };
    let right = Tensor::cat(&pieces.iter().map(|p| &p.right_outputs).collect::<Vec<_>>(), 0);
    Gram::new(pieces[0].left_outputs.shallow_clone(), Some(right), join, Vec::new())
}
