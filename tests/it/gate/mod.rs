//! The regression gate: what it must notice, and when it must be silent.
//!
//! All runs are of a tiny random network on rows of words, in single precision on one thread. Every detection has a control:
//! the same run unchanged, which must pass the gate.

mod command;
mod detection;
mod files;
mod silence;

use std::path::Path;

use crate::common::command::Scratch;
use kernelview::analysis::{AnalysisSettings, Measures, OptimizerGrid, Plan, Pretrained, Study, StudyRequest, analyze};
use kernelview::device::Dtype;
use kernelview::evidence::Analysis;
use kernelview::gate::{Baseline, Comparison, Options, compare};
use kernelview::kernel::Formula;
use kernelview::progress::Silent;
use kernelview::task::{OwnSplit, Splits, TaskDefinition};
use kernelview::train::OptimizerKind;
use tch::Device;

const TEMPLATE: &str = "*cls**sent_0*_It_was*mask*.*sep+*";

/// The settings of a run, apart from the seed.
#[derive(Clone, Copy)]
struct Setting {
    template: &'static str,
    words: &'static str,
    dtype: Dtype,
}

const AS_BEFORE: Setting = Setting { template: TEMPLATE, words: "terrible,great", dtype: Dtype::F32 };

/// A directory with the network in `model` and, in `rows.tsv`, 40 rows of words from which a seed draws its examples.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let adjectives = ["slow", "warm", "long", "dull", "fine", "loud", "sad", "odd"];
    let row = |i: usize| format!("a {} and {} film\t{}\n", adjectives[i % 8], adjectives[(i * 5 + i / 8) % 8], i % 2);
    scratch.write("rows.tsv", format!("text\tlabel\n{}", (0..40).map(row).collect::<String>()));
    scratch
}

/// Two kernels and four steps of SGD.
pub fn few_steps(measures: Measures) -> AnalysisSettings {
    AnalysisSettings {
        formulas: vec![Formula::Sgd, Formula::Signgd],
        memory: None,
        precision: None,
        optimizers: vec![OptimizerGrid { kind: OptimizerKind::Sgd, learning_rates: vec![1e-2] }],
        batch_size: 4,
        steps: 4,
        eval_every: 2,
        measures,
        measure_steps: None,
        probes: None,
        train_precision: None,
    }
}

/// An analysis with this seed of split and mini-batches.
fn analysis(scratch: &Scratch, setting: Setting, seed: u64) -> Analysis {
    crate::common::one_thread();
    let definition = TaskDefinition::new("rows", setting.template, setting.words).expect("a task");
    let own = OwnSplit { k: 4, seed, test_limit: Some(16), dev: None, test: None };
    let splits = Splits::from_file(scratch.path("rows.tsv"), &definition, &own).expect("a split");
    let network = Pretrained::load(&scratch.path("model"), setting.dtype, Device::Cpu).expect("a network");
    let study = Study::new(StudyRequest {
        source: "rows.tsv".into(),
        k: Some(4),
        split_seed: Some(seed),
        ..StudyRequest::new(&network, &definition, &splits)
    });
    let plan = Plan { settings: few_steps(Measures::Full), batch: 8, seed };
    // Every run has a separate directory, so that nothing is reused.
    let out = tempfile::tempdir().expect("a temporary directory");
    analyze(&study.expect("a study"), &plan, "kernelview analyze", out.path(), &Silent).expect("an analysis")
}

fn baseline(runs: &[Analysis]) -> Baseline {
    Baseline::of_analyses(runs).expect("a baseline")
}

fn compared(old: &Baseline, new: &Baseline) -> Comparison {
    compare(old, new, &Options::default()).expect("comparable")
}

/// Names of metrics that moved, appeared or vanished.
fn findings(comparison: &Comparison) -> Vec<&str> {
    comparison.findings().map(|r| r.name.as_str()).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}
