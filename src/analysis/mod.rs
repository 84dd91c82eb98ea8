//! One analysis: a model, a task, and everything that the paper asks about them. Resumable.
//!
//! Combines the other modules; draws nothing and prints nothing. Every finished result (a kernel, a run, its measures) is
//! stored under the digest of everything that it depends on, so that an interrupted analysis continues where it stopped.

mod adapters;
mod along;
mod engine;
mod examples;
mod facts;
mod fine_tuning;
mod head;
mod kept;
mod kernels;
mod methods;
mod plan;
mod pretrained;
mod regress;
mod room;
mod side_by_side;
mod solve;
mod splits;
mod store;
mod study;

pub use adapters::AdapterRequest;
pub use engine::EngineSettings;
pub use examples::StudyExamples;
pub use facts::split_name;
pub use head::Head;
pub use kernels::train_kernel;
pub use plan::{AnalysisSettings, Measures, OptimizerGrid, Plan};
pub use pretrained::Pretrained;
pub use room::{RegressionCost, check_room, regression_cost};
pub use solve::{SolvedKernel, find_kernels, is_published, read_kernel, solve};
pub use splits::SplitName;
pub use store::ResultStore;
pub use study::{Study, StudyRequest};

use std::path::Path;

use crate::error::{Error, Result};
use crate::evidence::{Accuracy, Analysis, Floor, OutputDerivative, RunFacts, SCHEMA_VERSION, Summary, judge};
use crate::jacobian::{FORWARD_BATCH, all_outputs};
use crate::kernel::Precision;
use crate::lm::OutputMode;
use crate::measure::{layer_shares, output_derivative_norms};
use crate::products;
use crate::progress::Monitor;
use crate::train::{accuracy, answers, f1};

/// Fails if an analysis cannot be made as planned, before anything is computed or replaced.
///
/// # Errors
/// [`Error::Setting`]; [`Error::Memory`].
pub fn check_plan(study: &Study, plan: &Plan) -> Result<()> {
    plan.settings.check_training(study.dtype, study.device)?;
    kernels::check(study, plan)?;
    check_room(&regression_cost(study, &plan.settings.formulas)?, study)
}

/// Computes the results that `directory` does not yet hold, and returns the evidence.
pub fn analyze(study: &Study, plan: &Plan, command: &str, directory: &Path, monitor: &dyn Monitor) -> Result<Analysis> {
    check_plan(study, plan)?;
    let store = ResultStore::open(directory, &study.results_digest())?;
    // Before the long work: a network that overflows on test is told now.
    let test = logits_at_start(study, SplitName::Test)?;
    let grams = kernels::kernels(study, plan, &store, monitor).map_err(|e| by_row(study, e))?;
    let start = LogitsAtStart::of(study, plan, test, &grams)?;
    let kernels = regress::kernel_facts(study, plan, &grams, &store, monitor)?;
    let layers = layer_shares(study.parameters.specs(), &grams.train.shares, &study.include);
    let before = Start { logits: &start, kernel: &grams.train };
    let fine_tuning = fine_tuning::fine_tuning(study, plan, &before, &store, monitor)?;
    let task = study.task_facts();
    let zero_shot = Accuracy {
        dev: accuracy(&start.dev, study.labels(SplitName::Dev)),
        test: accuracy(&start.test, study.labels(SplitName::Test)),
        test_f1: f1(&start.test, study.labels(SplitName::Test)),
    };
    let floor = Floor { majority: task.majority_accuracy, zero_shot: zero_shot.test, examples: task.test };
    let zero_shot_answers = answers(&start.test, study.labels(SplitName::Test));
    let verdicts = judge(&kernels, &fine_tuning, &floor, &zero_shot_answers);
    Ok(Analysis {
        schema_version: SCHEMA_VERSION,
        run: run_facts(study, plan, command),
        model: study.model_facts.clone(),
        task,
        zero_shot,
        zero_shot_answers,
        output_derivative: start.output_derivative(study)?,
        kernels,
        layers,
        fine_tuning,
        verdicts,
    })
}

/// The plan, with the implementation of products of parts, which depends on the processor.
fn plan_facts(plan: &Plan) -> serde_json::Value {
    let mut facts = serde_json::to_value(plan).expect("a plan is plain data");
    let settings = &plan.settings;
    let of_kernels = settings.precision.and_then(Precision::parts);
    for (name, parts) in [("products_by", of_kernels), ("train_products_by", settings.train_precision)] {
        if let (Some(parts), Some(facts)) = (parts, facts.as_object_mut()) {
            facts.insert(name.into(), products::computed_by(parts).into());
        }
    }
    facts
}

/// Facts about the run for the report.
fn run_facts(study: &Study, plan: &Plan, command: &str) -> RunFacts {
    RunFacts {
        program_version: env!("CARGO_PKG_VERSION").into(),
        torch_version: crate::device::TORCH_VERSION.into(),
        device: crate::device::device_name(study.device),
        dtype: study.dtype.to_string(),
        subset: study.subset_name(),
        seed: plan.seed,
        plan: plan_facts(plan),
        command: command.into(),
        digest: plan.digest(&study.digest()),
    }
}

/// The model before training, with which fine-tuning is compared.
pub(crate) struct Start<'a> {
    logits: &'a LogitsAtStart,
    kernel: &'a crate::kernel::Gram,
}

/// Label-word logits \[N, C\] of the model before training; those of train and dev up to a constant per example.
pub(crate) struct LogitsAtStart {
    train: tch::Tensor,
    dev: tch::Tensor,
    test: tch::Tensor,
}

impl LogitsAtStart {
    /// From those on test, and from the kernels' outputs on train and dev, unless kernels have a precision of their own (`--precision`).
    fn of(study: &Study, plan: &Plan, test: tch::Tensor, grams: &kernels::Grams) -> Result<Self> {
        let (train, dev) = if plan.settings.precision.is_some() {
            (logits_at_start(study, SplitName::Train)?, logits_at_start(study, SplitName::Dev)?)
        } else {
            (class_logits(&grams.train.left_outputs), class_logits(&grams.dev.right_outputs))
        };
        Ok(Self { train, dev, test })
    }

    fn output_derivative(&self, study: &Study) -> Result<OutputDerivative> {
        output_derivative(study, &self.train, &self.test)
    }
}

/// Label-word logits \[N, C\] of a split, all of them finite.
fn logits_at_start(study: &Study, split: SplitName) -> Result<tch::Tensor> {
    let logits = all_outputs(&study.parameters, &study.examples(split, OutputMode::Logits)?, FORWARD_BATCH)?;
    study.check_finite(&logits, split)?;
    Ok(logits)
}

/// The error of kernels; where outputs are not finite, the one that names split and row, which kernels do not know.
fn by_row(study: &Study, error: Error) -> Error {
    if !matches!(error, Error::NotFinite { .. }) {
        return error;
    }
    let splits = [SplitName::Train, SplitName::Dev];
    splits.into_iter().find_map(|split| logits_at_start(study, split).err()).unwrap_or(error)
}

/// Label-word logits \[N, C\] from a kernel's outputs, up to a constant per example, which changes neither answers nor the output
/// derivative.
fn class_logits(outputs: &tch::Tensor) -> tch::Tensor {
    let is_difference = outputs.size()[1] == 1;
    if is_difference { tch::Tensor::cat(&[&outputs.zeros_like(), outputs], 1) } else { outputs.shallow_clone() }
}

/// |χ| on train and test, from their logits.
fn output_derivative(study: &Study, train: &tch::Tensor, test: &tch::Tensor) -> Result<OutputDerivative> {
    let summary = |logits: &tch::Tensor, split: SplitName| {
        Summary::of(&output_derivative_norms(logits, study.labels(split))).ok_or_else(|| Error::NotFinite {
            what: "the output derivative".into(),
            place: split.name().into(),
            advice: String::new(),
        })
    };
    Ok(OutputDerivative { train: summary(train, SplitName::Train)?, test: summary(test, SplitName::Test)? })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::device::Dtype;
    use crate::kernel::{Formula, FormulaSet, GramOptions, structured_gram};
    use crate::measure::output_derivative_norms;
    use crate::pretrain::family_directory;
    use crate::progress::Silent;
    use crate::task::{demo, demo_definition};

    /// What a report says of outputs before training, from kernels' outputs of either kind and from a pass over logits. Fails for: a
    /// difference of the other sign, rows of other examples, a kernel's outputs that are not the network's.
    #[test]
    fn kernels_know_the_outputs_before_training() {
        let network = Pretrained::load(&family_directory().join("prose-64"), Dtype::F32, Device::Cpu);
        let (network, task, splits) = (network.expect("a network"), demo_definition().expect("a task"), demo());
        let splits = splits.expect("its examples");
        let of_mode = |output_mode| {
            let request =
                StudyRequest { output_mode: Some(output_mode), ..StudyRequest::new(&network, &task, &splits) };
            Study::new(request).expect("a study")
        };
        for mode in [OutputMode::Difference, OutputMode::Logits] {
            let study = of_mode(mode);
            let examples = |split| study.examples(split, study.mode).expect("examples");
            let options = GramOptions::new(FormulaSet::of(&[Formula::Sgd]), study.parameters.len());
            let (train, dev) = (examples(SplitName::Train), examples(SplitName::Dev));
            let gram = structured_gram(&study.parameters, &train, Some(&dev), &options, &Silent).expect("a kernel");
            for (split, outputs) in [(SplitName::Train, &gram.left_outputs), (SplitName::Dev, &gram.right_outputs)] {
                let (labels, logits) = (study.labels(split), logits_at_start(&study, split).expect("logits"));
                let found = class_logits(outputs);
                assert_eq!(accuracy(&found, labels), accuracy(&logits, labels), "{mode:?}");
                let size = |logits: &Tensor| Tensor::from_slice(&output_derivative_norms(logits, labels));
                let off = (size(&found) - size(&logits)).abs().max().to_kind(Kind::Double).double_value(&[]);
                assert!(off < 1e-5, "{mode:?}: {off:.1e}");
            }
        }
    }
}
