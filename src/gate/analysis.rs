//! An analysis as named metrics.
//!
//! Figures that follow from others, such as chosen learning rates and plots, are left out: they would report everything
//! twice. Answers to the paper's questions follow from figures too, and are reported as notes when they change.

use serde_json::Value as Json;

use super::metric::{Reading, Rule, Scale, Value};
use super::rounding::{Resolution, Rounding};
use crate::evidence::{Analysis, FineTuningResult, KernelFacts, LayerShare, Verdict};

/// What two analyses must share to be comparable.
pub fn analysis_identity(analysis: &Analysis) -> Vec<(String, String)> {
    let (model, task) = (&analysis.model, &analysis.task);
    let entry = |name: &str, value: &dyn std::fmt::Display| (name.to_owned(), value.to_string());
    vec![
        entry("task", &task.name),
        entry("architecture", &model.architecture),
        entry("model's layers", &model.layers),
        entry("model's width", &model.width),
        entry("model's parameters", &model.parameters),
    ]
}

/// The metrics of an analysis.
pub fn analysis_metrics(analysis: &Analysis) -> Vec<Reading> {
    let precision = analysis.run.plan.get("precision").and_then(Json::as_str);
    let mut into = Readings { found: Vec::new(), rounding: Rounding::of(&analysis.run.dtype, precision) };
    into.settings(analysis);
    into.start(analysis);
    for kernel in &analysis.kernels {
        into.kernel(analysis, kernel);
    }
    let trace = trace_of_sgd(&analysis.kernels);
    for layer in &analysis.layers {
        into.layer(layer, trace);
    }
    for run in &analysis.fine_tuning {
        into.fine_tuning(analysis, run);
    }
    for verdict in &analysis.verdicts {
        into.answer(verdict);
    }
    into.found
}

/// Trace of the SGD kernel of the training examples.
fn trace_of_sgd(kernels: &[KernelFacts]) -> Option<f64> {
    kernels.iter().find(|k| k.formula == "sgd").map(|k| k.mean_diagonal * k.rows as f64)
}

/// Resolution of a class contrast c = a/b: means a and b of entries that may nearly cancel, each resolved to `relative`
/// times the entries' size.
fn contrast(kernel: &KernelFacts, relative: f64) -> Resolution {
    let cells = &kernel.picture.cells;
    let mean = |size: fn(f64) -> f64| cells.iter().map(|c| size(*c)).sum::<f64>() / cells.len().max(1) as f64;
    let (signed, absolute) = (mean(|c| c), mean(f64::abs));
    let c = kernel.class_contrast.unwrap_or(1.0);
    // About half the entries are of one class: their mean is (a + b)/2, so that 1/a + 1/b is this over it.
    let of_both = (c + 1.0).powi(2) / (2.0 * c);
    let cancelled = if signed > 0.0 { absolute / signed } else { f64::INFINITY };
    Resolution { relative: (relative * cancelled * of_both).min(1.0), absolute: 0.0 }
}

/// Collects readings.
struct Readings {
    found: Vec<Reading>,
    rounding: Rounding,
}

impl Readings {
    fn push(&mut self, name: String, rule: Rule, optional: bool, value: Value) {
        self.found.push(Reading { name, rule, optional, value });
    }

    fn text(&mut self, rule: Rule, name: impl Into<String>, value: impl std::fmt::Display) {
        self.push(name.into(), rule, false, Value::Text(value.to_string()));
    }

    fn count(&mut self, name: impl Into<String>, value: f64) {
        self.push(name.into(), Rule::Exact, false, Value::number(value));
    }

    fn computed(&mut self, name: impl Into<String>, relative: f64, absolute: f64, value: f64) {
        self.push(name.into(), Rule::Computed { relative, absolute }, false, Value::number(value));
    }

    /// A fraction of `count` examples.
    fn accuracy(&mut self, name: impl Into<String>, count: usize, value: f64) {
        let step = 1.0 / count.max(1) as f64;
        self.push(name.into(), Rule::Random { scale: Scale::Share, step }, false, Value::number(value));
    }

    /// A positive figure after training or regression, if a run has it.
    fn positive(&mut self, name: impl Into<String>, value: Option<f64>, resolution: Resolution) {
        if let Some(value) = value {
            let (scale, step) = resolution.step(value);
            self.push(name.into(), Rule::Random { scale, step }, true, Value::number(value));
        }
    }

    fn settings(&mut self, analysis: &Analysis) {
        let Analysis { run, model, task, .. } = analysis;
        self.text(Rule::Exact, "run.dtype", &run.dtype);
        self.text(Rule::Exact, "run.subset", &run.subset);
        self.text(Rule::Exact, "model.digest", &model.digest);
        self.count("model.parameters_in_subset", model.parameters_in_subset as f64);
        self.text(Rule::Exact, "task.head", &task.head);
        self.text(Rule::Exact, "task.template", &task.template);
        let words = task.label_words.iter().map(|w| {
            // A new head on the first token has no label words.
            let several = || w.token_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let none = if w.token_ids.is_empty() { "no token".to_owned() } else { several() };
            let id = w.token_id.map_or(none, |id| id.to_string());
            format!("{}={} ({id})", w.label, w.word)
        });
        self.text(Rule::Exact, "task.label_words", words.collect::<Vec<_>>().join(", "));
        self.text(Rule::Exact, "task.output_mode", &task.output_mode);
        self.text(Rule::Exact, "task.k", task.k.map_or_else(|| "none".to_owned(), |k| k.to_string()));
        for (name, count) in [("train", task.train), ("dev", task.dev), ("test", task.test)] {
            self.count(format!("task.{name}"), count as f64);
        }
        // Empty in reports of older programs.
        if !task.tokenizer_digest.is_empty() {
            self.text(Rule::Exact, "task.tokenizer_digest", &task.tokenizer_digest);
        }
        if !task.prompts_digest.is_empty() {
            self.text(Rule::SameSeed, "task.prompts_digest", &task.prompts_digest);
        }
        // The engine's batch size only affects rounding, and the seed differs between runs.
        for (name, value) in run.plan.as_object().into_iter().flatten() {
            if !["batch", "seed"].contains(&name.as_str()) {
                self.text(Rule::Exact, format!("plan.{name}"), value);
            }
        }
        self.text(Rule::Note, "run.device", &run.device);
        self.text(Rule::Note, "run.program_version", &run.program_version);
        self.text(Rule::Note, "run.torch_version", &run.torch_version);
        self.text(Rule::Note, "model.name", &model.name);
    }

    /// A question's answer, which may change with the seed if its interval is near the threshold.
    fn answer(&mut self, verdict: &Verdict) {
        let name = format!("verdicts.{}.{}", verdict.optimizer, verdict.question.name());
        self.push(name, Rule::Note, true, Value::Text(verdict.outcome.name().to_owned()));
    }

    /// The model before any training.
    fn start(&mut self, analysis: &Analysis) {
        let Analysis { zero_shot, output_derivative: chi, task, .. } = analysis;
        // Rounding may change one answer if two classes are tied.
        for (name, accuracy, count) in [("dev", zero_shot.dev, task.dev), ("test", zero_shot.test, task.test)] {
            self.computed(format!("zero_shot.{name}"), 0.0, 1.001 / count.max(1) as f64, accuracy);
        }
        let relative = self.rounding.smooth;
        self.computed("output_derivative.train", relative, 0.0, chi.train.mean);
        self.computed("output_derivative.test", relative, 0.0, chi.test.mean);
    }

    fn kernel(&mut self, analysis: &Analysis, kernel: &KernelFacts) {
        let name = |what: &str| format!("kernels.{}.{what}", kernel.formula);
        let relative = self.rounding.kernel(&kernel.formula);
        let trained = self.rounding.trained.max(relative);
        self.count(name("rows"), kernel.rows as f64);
        self.computed(name("mean_diagonal"), relative, 0.0, kernel.mean_diagonal);
        let cells = &kernel.picture.cells;
        let square = cells.iter().map(|c| c * c).sum::<f64>() / cells.len().max(1) as f64;
        self.computed(name("mean_square_root"), relative, 0.0, square.sqrt());
        self.computed(name("effective_rank"), relative, 0.0, kernel.effective_rank);
        self.positive(name("class_contrast"), kernel.class_contrast, contrast(kernel, relative));
        for method in &kernel.methods {
            let name = |what: &str| format!("kernels.{}.{}.{what}", kernel.formula, method.solver);
            self.accuracy(name("test_accuracy"), analysis.task.test, method.test_accuracy);
            self.positive(name("test_loss"), Some(method.test_loss), Resolution::of_loss(method.test_loss, trained));
        }
    }

    fn layer(&mut self, layer: &LayerShare, trace: Option<f64>) {
        let name = |what: &str| format!("layers.{}.{what}", layer.layer);
        self.count(name("parameters"), layer.parameters as f64);
        let relative = self.rounding.smooth;
        match trace {
            // Not the share: if one layer dominates the kernel, its share hardly moves.
            Some(trace) => self.computed(name("sgd_trace"), relative, 0.0, layer.sgd * trace),
            None => self.computed(name("sgd_share"), relative, 0.0, layer.sgd),
        }
        if let Some(share) = layer.signgd {
            self.computed(name("signgd_share"), self.rounding.signs, 0.0, share);
        }
    }

    fn fine_tuning(&mut self, analysis: &Analysis, run: &FineTuningResult) {
        let name = |what: &str| format!("fine_tuning.{}.{what}", run.optimizer);
        let (dev, test) = (analysis.task.dev, analysis.task.test);
        let trained = self.rounding.run(&run.optimizer);
        let relative = Resolution { relative: trained, absolute: 0.0 };
        let loss = |value: f64| (Some(value), Resolution::of_loss(value, trained));
        self.accuracy(name("dev_accuracy"), dev, run.selected.dev_accuracy);
        let (value, resolution) = loss(run.selected.dev_loss);
        self.positive(name("dev_loss"), value, resolution);
        self.accuracy(name("test_accuracy"), test, run.test_accuracy);
        self.positive(name("parameter_change"), Some(run.parameter_change), relative);
        self.accuracy(name("linearization.test_accuracy"), test, run.linearization.test_accuracy);
        self.positive(name("linearization.residual"), run.linearization.cumulative_residual, relative);
        self.positive(name("gradient_drift"), run.gradient_drift.map(|d| d.total), relative);
        for (formula, drift) in &run.kernel_drift {
            let kernel = self.rounding.kernel(formula);
            let name = |what: &str| name(&format!("kernel_drift.{formula}.{what}"));
            let whole = Resolution::of_drift(trained, kernel);
            self.positive(name("frobenius"), Some(drift.frobenius), whole);
            let rows = analysis.kernels.iter().find(|k| k.formula == *formula).map_or(1, |k| k.rows);
            let entries = Resolution::of_mean_drift(drift, whole, kernel, rows as f64);
            self.positive(name("mean_relative"), Some(drift.mean_relative), entries);
        }
        for (set, after) in [("train", run.output_derivative.train), ("test", run.output_derivative.test)] {
            let (value, resolution) = loss(after.mean);
            self.positive(name(&format!("output_derivative.{set}")), value, resolution);
        }
    }
}
