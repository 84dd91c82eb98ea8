//! Answers of several tokens against PyTorch's values: the tiny networks of `fixtures/answers`, in double precision throughout,
//! with one sequence per answer (see `make.py`).
//!
//! Tolerances: 1e-12 of the largest output (a few layers of rounding at 1e-16), 1e-10 of a kernel's largest entry and of
//! trained outputs; sign kernels are integers and must be equal. In single precision 1e-5 for outputs and 2e-5 for kernels,
//! plus the effect of entries with doubtful signs (`kernel_cases/bounds.rs`).

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::kernel_cases::bounds::agrees_in_single_precision;
use crate::common::command::Scratch;
use crate::common::{Golden, golden_prompts, one_thread, read_tensors, relative_error};
use kernelview::analysis::Pretrained;
use kernelview::device::Dtype;
use kernelview::jacobian::{Examples, Parameters, outputs, record};
use kernelview::kernel::{
    Arithmetic, Formula, FormulaSet, Gram, GramOptions, KernelFile, Method, estimate_gram, reference_gram,
    structured_gram,
};
use kernelview::lm::{
    self, AnswerExamples, AnsweredExample, LanguageModel, OutputMode, PeftAdapter, PromptExample, PromptExamples,
    Roundings,
};
use kernelview::measure::{gradient_drift, taylor};
use kernelview::progress::Silent;
use kernelview::subspace::{Projection, Streaming, Trained, projected_gradients};
use kernelview::task::{Overrides, Prompt, PromptedTask, demo, demo_definition};
use kernelview::train::{FineTuning, LabelledExamples, OptimizerKind, Watch, fine_tune};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const NETWORKS: [&str; 4] = ["gpt2", "llama", "bert", "roberta"];
const CASES: [&str; 5] = ["words", "equal", "common", "lengths", "choices"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/answers").join(name)
}

/// A network, with its cases and values.
struct Fixture {
    name: &'static str,
    model: Box<dyn LanguageModel>,
    parameters: Parameters,
    cases: Value,
    values: BTreeMap<String, Tensor>,
}

impl Fixture {
    fn read(name: &'static str, kind: Kind) -> Self {
        one_thread();
        let (model, parameters) = lm::load(&folder(name), kind, Device::Cpu).expect("a checkpoint");
        let cases = fs::read_to_string(folder(name).join("cases.json")).expect("cases");
        let cases = serde_json::from_str(&cases).expect("JSON");
        Self { name, model, parameters, cases, values: read_tensors(&folder(name).join("golden.safetensors")) }
    }

    fn prompts(&self) -> Vec<PromptExample> {
        let prompts = self.cases["prompts"].as_array().expect("prompts");
        let prompt = |p: &Value| {
            let input_ids: Vec<i64> = serde_json::from_value(p["ids"].clone()).expect("ids");
            let mask_position = p["position"].as_u64().expect("a position") as usize;
            PromptExample { segment_ids: vec![0; input_ids.len()], input_ids, mask_position }
        };
        prompts.iter().map(prompt).collect()
    }

    fn answered(&self, answers: impl Fn(usize) -> Vec<Vec<i64>>, mode: OutputMode) -> AnswerExamples<'_> {
        let prompts = self.prompts().into_iter().enumerate();
        let examples: Vec<_> = prompts.map(|(i, prompt)| AnsweredExample { prompt, answers: answers(i) }).collect();
        AnswerExamples::new(&*self.model, &examples, mode, Device::Cpu)
            .expect("valid examples")
            .rounded(Roundings::None)
    }

    fn examples(&self, case: &str) -> AnswerExamples<'_> {
        let case = &self.cases["cases"][case];
        let answers: Vec<Vec<Vec<i64>>> = serde_json::from_value(case["answers"].clone()).expect("answers");
        let mode = if case["kind"] == "difference" { OutputMode::Difference } else { OutputMode::Logits };
        self.answered(|i| answers[i].clone(), mode)
    }

    /// A golden [N,C,N,C] kernel as [NC,NC].
    fn kernel(&self, case: &str, formula: Formula) -> Tensor {
        let rows = self.values[&format!("{case}.outputs")].numel() as i64;
        self.values[&format!("{case}.{formula}")].view([rows, rows])
    }

    fn check(&self, case: &str, gram: &Gram, (sums, signs): (f64, f64), what: &str) {
        for (formula, tolerance) in [(Formula::Sgd, sums), (Formula::Asymmetric, sums), (Formula::Signgd, signs)] {
            let error = relative_error(gram.matrix(formula).expect("computed"), &self.kernel(case, formula));
            assert!(error <= tolerance, "{} {case} {what} {formula}: {error:.2e}", self.name);
        }
    }
}

fn options(p: &Parameters, (batch, block, keep): (usize, i64, usize)) -> GramOptions {
    let mut options = GramOptions::new(FormulaSet::ALL, p.len());
    (options.batch, options.block_entries, options.keep_bytes) = (batch, block, keep);
    options
}

#[test]
fn log_probabilities_equal_pytorchs_in_any_batch() {
    for name in NETWORKS {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
            let fixture = Fixture::read(name, kind);
            for case in CASES {
                for batch in [1, 3, 4] {
                    let f = outputs(&fixture.parameters, &fixture.examples(case), batch);
                    let error = relative_error(&f, &fixture.values[&format!("{case}.outputs")]);
                    assert!(error <= tolerance, "{name} {case} {kind:?} batch {batch}: {error:.2e}");
                }
            }
        }
    }
}

#[test]
fn kernels_of_both_engines_equal_those_of_torch_func() {
    for name in NETWORKS {
        let fixture = Fixture::read(name, Kind::Double);
        let p = &fixture.parameters;
        for case in CASES {
            let examples = fixture.examples(case);
            let reference = reference_gram(p, &examples, None, FormulaSet::ALL, &vec![true; p.len()]);
            fixture.check(case, &reference.expect("reference"), (1e-10, 0.0), "reference");
            for settings in [(4, 1 << 22, 1 << 30), (3, 500, 1 << 30), (1, 100_000, 0)] {
                for arithmetic in [Arithmetic::Cores, Arithmetic::Matrices] {
                    let options = GramOptions { arithmetic: Some(arithmetic), ..options(p, settings) };
                    let gram = structured_gram(p, &examples, None, &options, &Silent).expect("structured");
                    fixture.check(case, &gram, (1e-10, 0.0), &format!("batch {} {arithmetic:?}", settings.0));
                    let f = &fixture.values[&format!("{case}.outputs")];
                    assert!(relative_error(&gram.left_outputs, f) <= 1e-12, "{name} {case}");
                    let counted: f64 = gram.shares.iter().filter_map(|s| s.trace_signgd).sum();
                    let expected = fixture.values[&format!("{case}.nonzero")].sum(Kind::Double).double_value(&[]);
                    assert_eq!(counted, expected, "{name} {case}: entries that are not zero");
                }
            }
        }
    }
}

/// One batch has rows whose two answers are read in one sequence, and rows that need two.
#[test]
fn differences_of_rows_with_and_without_common_beginnings() {
    for name in NETWORKS {
        let fixture = Fixture::read(name, Kind::Double);
        let p = &fixture.parameters;
        let answers: Vec<Vec<Vec<i64>>> =
            serde_json::from_value(fixture.cases["cases"]["choices"]["answers"].clone()).expect("answers");
        let examples = fixture.answered(|i| answers[i].clone(), OutputMode::Difference);
        let each = &fixture.values["choices.outputs"];
        let expected = each.narrow(1, 1, 1) - each.narrow(1, 0, 1);
        assert!(relative_error(&outputs(p, &examples, 4), &expected) <= 1e-11, "{name}");
        let reference = reference_gram(p, &examples, None, FormulaSet::ALL, &vec![true; p.len()]).expect("reference");
        let gram = structured_gram(p, &examples, None, &options(p, (4, 700, 1 << 30)), &Silent).expect("structured");
        for (formula, tolerance) in [(Formula::Sgd, 1e-10), (Formula::Asymmetric, 1e-10), (Formula::Signgd, 0.0)] {
            let (found, expected) = (gram.matrix(formula), reference.matrix(formula));
            let error = relative_error(found.expect("computed"), expected.expect("computed"));
            assert!(error <= tolerance, "{name} {formula}: {error:.2e}");
        }
    }
}

/// By either method, and between a set whose answers share a sequence and one whose answers do not.
#[test]
fn kernels_between_sets_are_parts_of_the_whole() {
    for name in NETWORKS {
        let fixture = Fixture::read(name, Kind::Double);
        let p = &fixture.parameters;
        for case in ["words", "choices", "common"] {
            let examples = fixture.examples(case);
            let (left, right) = (examples.select(&[3, 2]), examples.select(&[0, 1, 3]));
            for method in [None, Some(Method::Tiles), Some(Method::Ghost)] {
                let options = GramOptions { method, ..options(p, (2, 700, 1 << 30)) };
                let gram = structured_gram(p, &left, Some(&right), &options, &Silent).expect("structured");
                let c = examples.outputs() as i64;
                let rows = |of: &[i64]| {
                    let rows: Vec<i64> = of.iter().flat_map(|i| (0..c).map(move |k| i * c + k)).collect();
                    Tensor::from_slice(&rows)
                };
                for (formula, tolerance) in
                    [(Formula::Sgd, 1e-10), (Formula::Asymmetric, 1e-10), (Formula::Signgd, 0.0)]
                {
                    let whole = fixture.kernel(case, formula);
                    let expected = whole.index_select(0, &rows(&[3, 2])).index_select(1, &rows(&[0, 1, 3]));
                    let error = relative_error(gram.matrix(formula).expect("computed"), &expected);
                    assert!(error <= tolerance, "{name} {case} {method:?} {formula}: {error:.2e}");
                }
            }
        }
    }
}

#[test]
fn single_precision_kernels_agree_with_double() {
    for name in NETWORKS {
        let (fixture, double) = (Fixture::read(name, Kind::Float), Fixture::read(name, Kind::Double));
        let p = &fixture.parameters;
        for case in CASES {
            let gram = structured_gram(p, &fixture.examples(case), None, &options(p, (4, 1 << 22, 1 << 30)), &Silent);
            let (gram, exact) = (gram.expect("structured"), (&double.parameters, &double.examples(case)));
            let what = format!("{name} {case}");
            agrees_in_single_precision(&what, &gram, |f| fixture.kernel(case, f), (exact.0, exact.1), 2e-5);
        }
    }
}

/// Fine-tuning, its first-order expansion and the drift of gradients.
#[test]
fn training_and_its_linearization_equal_pytorchs() {
    for name in NETWORKS {
        let fixture = Fixture::read(name, Kind::Double);
        let (p, examples) = (&fixture.parameters, fixture.examples("words"));
        let labels: Vec<usize> = serde_json::from_value(fixture.cases["labels"].clone()).expect("labels");
        let steps = fixture.cases["steps"].as_u64().expect("a number") as usize;
        let settings = FineTuning {
            optimizer: OptimizerKind::Sgd,
            learning_rate: fixture.cases["rate"].as_f64().expect("a rate"),
            batch_size: 4,
            steps,
            eval_every: steps,
            seed: 1,
            parts: None,
        };
        let data = || LabelledExamples { examples: &examples, labels: &labels };
        let include = vec![true; p.len()];
        let mut last = p.detached_copy();
        fine_tune(
            p,
            &data(),
            &data(),
            &include,
            &settings,
            &Silent,
            Some(Watch::every(&mut |step| {
                last = step.after.detached_copy();
                Ok(())
            })),
        )
        .expect("a run");
        let error = relative_error(&outputs(&last, &examples, 2), &fixture.values["steps.outputs"]);
        assert!(error <= 1e-10, "{name} outputs: {error:.2e}");
        let expansion = taylor(p, &last.minus(p), &examples, &include, 3).expect("an expansion");
        let error = relative_error(&expansion.linearized(), &fixture.values["steps.linearized"]);
        assert!(error <= 1e-10, "{name} linearized: {error:.2e}");
        // Distances of gradients do not depend on the batch.
        let drift = |batch| gradient_drift(p, &last, &examples, &include, batch).expect("a drift").expect("gradients");
        let (one, all) = (drift(1), drift(4));
        assert!((one.total - all.total).abs() <= 1e-10 * all.total && all.total > 0.0, "{name}: {one:?} {all:?}");
    }
}

/// A kernel of random projections estimates the kernel of all gradients; with as many dimensions as this within 20%.
#[test]
fn projected_gradients_have_their_rows_in_order() {
    let fixture = Fixture::read("gpt2", Kind::Double);
    let (p, examples) = (&fixture.parameters, fixture.examples("words"));
    let streaming = Streaming { include: vec![true; p.len()], batch: 3, keep_bytes: 1 << 30 };
    let rows = projected_gradients(&Projection::new(4000, 1), p, &examples, &streaming, &Silent).expect("gradients");
    let kernel = rows.matmul(&rows.tr());
    let expected = fixture.kernel("words", Formula::Sgd);
    let scale = kernel.trace() / expected.trace();
    let error = relative_error(&(&kernel / scale), &expected);
    assert!(error <= 0.2, "{error:.2e}");
}

/// With one token each and the words of all examples, differences of log-probabilities are differences of logits: bit for bit
/// the same terms, because the normalizing constants cancel exactly.
#[test]
fn differences_of_single_tokens_are_those_of_logits() {
    for name in NETWORKS {
        let fixture = Fixture::read(name, Kind::Double);
        let p = &fixture.parameters;
        let prompts = fixture.prompts();
        let plain = PromptExamples::new(&*fixture.model, prompts, &[17, 22], OutputMode::Difference, Device::Cpu);
        let plain = plain.expect("valid examples").rounded(Roundings::None);
        let answered = fixture.answered(|_| vec![vec![17], vec![22]], OutputMode::Difference);
        let options = options(p, (4, 1 << 22, 1 << 30));
        let of = |e: &dyn Examples| structured_gram(p, e, None, &options, &Silent).expect("structured");
        let (a, b) = (of(&plain), of(&answered));
        for formula in Formula::ALL {
            let error = relative_error(b.matrix(formula).expect("computed"), a.matrix(formula).expect("computed"));
            assert!(error <= if formula == Formula::Signgd { 0.0 } else { 1e-12 }, "{name} {formula}: {error:.2e}");
        }
    }
}

/// The bytes assumed by a plan are about those that a pass leaves, as for prompts answered by one token.
#[test]
fn plans_know_what_answers_cost() {
    for name in NETWORKS {
        let fixture = Fixture::read(name, Kind::Double);
        let p = &fixture.parameters;
        let ratio = |examples: &dyn Examples| {
            let plan = estimate_gram(p, examples, None, &options(p, (1, 1 << 22, 1 << 30)));
            let planned: f64 = plan.layers.iter().map(|l| l.bytes).sum();
            planned / record(p, examples, &[0]).bytes() as f64
        };
        let prompts = fixture.prompts().split_off(3);
        let plain = PromptExamples::new(&*fixture.model, prompts, &[17, 22], OutputMode::Logits, Device::Cpu);
        let plain = ratio(&plain.expect("valid examples"));
        for case in CASES {
            let found = ratio(&fixture.examples(case).select(&[3]));
            assert!((found - 1.0).abs() < 0.2, "{name} {case}: {found}, {plain} for one token");
        }
        assert!((plain - 1.0).abs() < 0.2, "{name}: {plain}");
    }
}

#[test]
fn answers_that_do_not_fit_are_refused_by_name() {
    let fixture = Fixture::read("gpt2", Kind::Double);
    let prompt = fixture.prompts().remove(0);
    let refused = |answers: &[&[i64]], more: &[&[i64]], mode| {
        let of = |answers: &[&[i64]]| AnsweredExample {
            prompt: prompt.clone(),
            answers: answers.iter().map(|a| a.to_vec()).collect(),
        };
        AnswerExamples::new(&*fixture.model, &[of(answers), of(more)], mode, Device::Cpu)
            .err()
            .map_or_else(|| panic!("{answers:?}"), |error| error.to_string())
    };
    let two: &[&[i64]] = &[&[5], &[6, 7]];
    for (message, expected) in [
        (refused(two, &[&[5]], OutputMode::Logits), "example 1: it has 1 answers, but the first example has 2"),
        (refused(two, &[&[5], &[]], OutputMode::Logits), "example 1: answer 1 has no tokens"),
        (refused(two, &[&[5], &[40]], OutputMode::Logits), "has token id 40"),
        (
            refused(two, &[&[5], &[6; 30]], OutputMode::Difference),
            "example 1 has 36 tokens, but the model has only 24 positions",
        ),
        (refused(&[&[5]], &[&[5]], OutputMode::Difference), "the task has 1 classes, but a difference needs two"),
    ] {
        assert!(message.contains(expected), "{message}");
    }
}
