//! The first two tables of a report as plain rows: accuracies, and the paper's questions.
//!
//! The Markdown, the terminal summary and the bar chart all show these rows.

use super::format::{ROUND_OFF, escape, kernel_title, number, optimizer_title, percent, with_error};
use crate::evidence::{Analysis, Arithmetic, Computed, FineTuningResult, Outcome, Question, Verdict};

/// The kind of a row of accuracies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    ZeroShot,
    FineTuned,
    Kernel,
}

/// Accuracies of one way of solving the task.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct AccuracyRow {
    pub kind: Kind,
    /// `SGD-FT`, `K(SGD)`, …
    pub name: String,
    /// Description.
    pub what: String,
    pub dev: f64,
    pub test: f64,
    /// The same as texts, with standard errors.
    pub dev_text: String,
    pub test_text: String,
}

/// Zero-shot, then SGD with its kernel, then the sign methods with theirs: the order of the paper's tables.
pub(super) fn accuracies(analysis: &Analysis) -> Vec<AccuracyRow> {
    let task = &analysis.task;
    let row = |kind, name: String, what: String, dev, test| AccuracyRow {
        kind,
        name,
        what,
        dev,
        test,
        dev_text: with_error(dev, task.dev),
        test_text: with_error(test, task.test),
    };
    let before = analysis.zero_shot;
    let zero_shot =
        row(Kind::ZeroShot, "zero-shot".into(), "the prompted model, not trained".into(), before.dev, before.test);
    let mut ranked = vec![(0, zero_shot)];
    for run in &analysis.fine_tuning {
        let title = optimizer_title(&run.optimizer);
        let what = format!("fine-tuning with {title}, learning rate and step chosen on dev");
        let rank = if run.optimizer == "sgd" { 1 } else { 3 };
        ranked.push((
            rank,
            row(Kind::FineTuned, format!("{title}-FT"), what, run.selected.dev_accuracy, run.test_accuracy),
        ));
    }
    for kernel in &analysis.kernels {
        let Some(method) = kernel.methods.first() else { continue };
        let rank = if kernel.formula == "sgd" { 2 } else { 4 };
        let what = format!("regression with the kernel ({})", method.solver);
        ranked.push((rank, row(Kind::Kernel, kernel.title.clone(), what, method.dev_accuracy, method.test_accuracy)));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, row)| row).collect()
}

/// One of the paper's questions with its answer, in words.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct VerdictRow {
    pub question: &'static str,
    pub definition: &'static str,
    pub optimizer: String,
    pub kernel: String,
    pub figure: String,
    /// The figure's interval: `94.1% to 101.2%`.
    pub interval: String,
    pub threshold: String,
    pub outcome: &'static str,
    /// Why there is no figure, or why it is undecided.
    pub reason: Option<String>,
}

/// The rows of verdicts, in the evidence's order.
pub(super) fn verdicts(analysis: &Analysis) -> Vec<VerdictRow> {
    analysis
        .verdicts
        .iter()
        .map(|verdict| VerdictRow {
            question: question(verdict.question),
            definition: definition(verdict.question),
            optimizer: optimizer_title(&verdict.optimizer),
            kernel: title_of(analysis, &verdict.formula),
            figure: verdict.value.map_or_else(|| "n/a".to_owned(), |v| figure(verdict.question, v)),
            interval: interval(verdict),
            threshold: threshold(verdict),
            outcome: verdict.outcome.name(),
            reason: why_not(analysis, verdict).or_else(|| why_undecided(verdict)),
        })
        .collect()
}

/// The kernel's title in the evidence, or from its formula's name.
pub(super) fn title_of(analysis: &Analysis, formula: &str) -> String {
    let known = analysis.kernels.iter().find(|k| k.formula == formula).map(|k| k.title.clone());
    known.unwrap_or_else(|| kernel_title(formula))
}

pub(super) fn question(question: Question) -> &'static str {
    match question {
        Question::Solved => "the kernel solves the task",
        Question::Linearization => "linearization",
        Question::FixedFeatures => "fixed features",
    }
}

fn definition(question: Question) -> &'static str {
    match question {
        Question::Solved => "test accuracy of kernel regression over that of fine-tuning",
        Question::Linearization => {
            "share of fine-tuning's gain over the pre-trained model that the linearized model keeps"
        }
        Question::FixedFeatures => {
            "distance of the training kernel's entries before and after, relative to before, mean"
        }
    }
}

/// A question's figure: two are shares, one is a ratio of distances.
pub(super) fn figure(question: Question, value: f64) -> String {
    match question {
        Question::Solved | Question::Linearization => percent(value),
        Question::FixedFeatures => number(value),
    }
}

/// A figure's interval.
pub(super) fn interval(verdict: &Verdict) -> String {
    match (verdict.value, verdict.low.zip(verdict.high)) {
        (None, _) => "n/a".to_owned(),
        (Some(_), None) => "unbounded".to_owned(),
        (Some(_), Some((low, high))) => {
            format!("{} to {}", figure(verdict.question, low), figure(verdict.question, high))
        }
    }
}

/// The number and kind of samples of a question's interval.
pub(super) fn samples(question: Question, count: usize) -> String {
    let what = match question {
        Question::Solved | Question::Linearization => "test",
        Question::FixedFeatures => "training",
    };
    format!("{count} {what} example{}", if count == 1 { "" } else { "s" })
}

/// Why an interval is undecided, and how many samples would decide.
pub(super) fn why_undecided(verdict: &Verdict) -> Option<String> {
    if verdict.outcome != Outcome::Undecided {
        return None;
    }
    if verdict.samples == 0 {
        return Some("what an interval is made of was not kept".to_owned());
    }
    let seen = samples(verdict.question, verdict.samples);
    let why = if verdict.low.zip(verdict.high).is_some() {
        format!("from {seen} it may be {}", interval(verdict))
    } else if verdict.question == Question::Linearization {
        format!("from {seen} fine-tuning's gain over the pre-trained model cannot be told from none")
    } else {
        format!("{seen} give no interval")
    };
    Some(format!("{why}; {}", wanted(verdict)))
}

/// How many examples would decide.
fn wanted(verdict: &Verdict) -> String {
    match verdict.needed {
        Some(count) => {
            let examples = samples(verdict.question, rounded_up(count));
            format!("about {examples} would decide if the true figure were the measured one")
        }
        None => "no number of examples can be named that would decide".to_owned(),
    }
}

/// Rounded up to two significant digits.
pub(super) fn rounded_up(count: usize) -> usize {
    let mut step = 1;
    while count / step >= 100 {
        step *= 10;
    }
    count.div_ceil(step) * step
}

pub(super) fn threshold(verdict: &Verdict) -> String {
    let sign = if verdict.question == Question::FixedFeatures { "<" } else { "≥" };
    format!("{sign} {}", figure(verdict.question, verdict.threshold))
}

/// The fraction of a run's gain recovered by its linearization, or in a few words why there is none.
pub(super) fn recovered(analysis: &Analysis, run: &FineTuningResult) -> String {
    let floor = analysis.floor();
    match run.linearization.recovered_share {
        None if run.test_accuracy <= floor.zero_shot => "n/a (no gain)".to_owned(),
        None => "n/a".to_owned(),
        Some(_) if !floor.learned(run.test_accuracy) => "n/a (not clearly better than one class)".to_owned(),
        Some(share) => percent(share),
    }
}

/// Why a question is not applicable.
pub(super) fn why_not(analysis: &Analysis, verdict: &Verdict) -> Option<String> {
    if verdict.outcome != Outcome::NotApplicable {
        return None;
    }
    let optimizer = optimizer_title(&verdict.optimizer);
    let kernel = title_of(analysis, &verdict.formula);
    let Some(run) = analysis.fine_tuning.iter().find(|r| r.optimizer == verdict.optimizer) else {
        return Some(format!("there is no fine-tuning with {optimizer}"));
    };
    let floor = analysis.floor();
    let before = floor.zero_shot;
    let has_kernel = analysis.kernels.iter().any(|k| k.formula == verdict.formula && !k.methods.is_empty());
    Some(match verdict.question {
        _ if !has_kernel && verdict.question != Question::Linearization => {
            format!("{kernel} is not among this analysis' kernels")
        }
        Question::Linearization if run.test_accuracy <= before => format!(
            "fine-tuning gained nothing over the pre-trained model ({} before, {} after), so linearization has nothing \
             to recover",
            percent(before),
            percent(run.test_accuracy)
        ),
        Question::Solved | Question::Linearization if !floor.learned(run.test_accuracy) => format!(
            "fine-tuning is not clearly better than the most frequent class: it answers {} of the test examples right, that class {}",
            with_error(run.test_accuracy, floor.examples),
            percent(floor.majority)
        ),
        Question::FixedFeatures => format!("the movement of {kernel} was not measured, or was not finite"),
        Question::Solved | Question::Linearization => "the figure was not measured".to_owned(),
    })
}

/// Precision and error of the residual on test, as a sentence.
pub(super) fn computed(run: &FineTuningResult) -> Option<String> {
    let computed = run.linearization.computed?;
    Some(format!(
        "{}: the residual is computed in {}.",
        escape(&optimizer_title(&run.optimizer)),
        arithmetic(&computed)
    ))
}

/// The steps measured along a run; empty if there are too many to read.
pub(super) fn steps(run: &FineTuningResult) -> Option<String> {
    let steps: Vec<String> = run.linearization.steps.iter().map(|s| s.step.to_string()).collect();
    (1..=16).contains(&steps.len()).then(|| steps.join(", "))
}

/// Precision and largest error of the residuals along a run, as a sentence.
pub(super) fn along(run: &FineTuningResult) -> Option<String> {
    let largest = run.linearization.steps.iter().filter_map(|s| s.error).reduce(f64::max)?;
    let computed = Computed { arithmetic: Arithmetic::Double, error: Some(largest) };
    Some(format!("They are computed in {}.", arithmetic(&computed)))
}

/// Precision and error of the drift of gradients, as a sentence.
pub(super) fn drift_computed(run: &FineTuningResult) -> Option<String> {
    let computed = run.gradient_drift?.computed?;
    Some(format!("{}: in {}.", escape(&optimizer_title(&run.optimizer)), arithmetic(&computed)))
}

/// Number of training examples whose gradients were compared, if not all.
pub(super) fn features(analysis: &Analysis) -> Option<usize> {
    let rows = analysis.fine_tuning.iter().filter_map(|run| Some(run.gradient_drift?.relative.count)).max()?;
    let outputs = if analysis.task.output_mode == "difference" { 1 } else { analysis.task.label_words.len().max(1) };
    Some(rows / outputs).filter(|examples| *examples < analysis.task.train)
}

/// `double precision, with an estimated error below 1e-6`: only the order of magnitude of the estimate.
fn arithmetic(computed: &Computed) -> String {
    let precision = match computed.arithmetic {
        Arithmetic::Single => "single precision",
        Arithmetic::Double => "double precision",
    };
    match computed.error.filter(|e| *e > 0.0) {
        Some(error) => {
            let order = error.max(ROUND_OFF).log10().floor() as i32 + 1;
            // Small errors differ between processors by more than a factor of ten: rounded to powers of a thousand.
            let order = if order > -3 { order } else { (order + 2).div_euclid(3) * 3 };
            format!("{precision}, with an estimated error below 1e{order}")
        }
        None => precision.to_owned(),
    }
}
