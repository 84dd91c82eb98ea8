//! Caveats to the answer.

use std::collections::BTreeSet;

use super::format::{code, escape, join, number, optimizer_title, percent, rate};
use super::rows::title_of;
use crate::evidence::{Analysis, FineTuningResult, Question};

/// Caveats to the answer; Markdown.
pub(super) fn caveats(analysis: &Analysis) -> Vec<String> {
    let mut caveats = Vec::new();
    if let Some(note) = analysis.model.note.as_deref().filter(|n| !n.trim().is_empty()) {
        caveats.push(format!("About the model: {}", escape(note)));
    }
    caveats.extend(reduced_precision(analysis));
    caveats.extend(seen_in_training(analysis));
    caveats.extend(near_majority(analysis));
    for run in &analysis.fine_tuning {
        caveats.extend(trained_otherwise(analysis, run));
        caveats.extend(within_noise(analysis, run));
        caveats.extend(on_the_edge(run));
        caveats.extend(carried_by_few(analysis, run));
    }
    if analysis.run.subset != "all" {
        caveats.push(format!(
            "Only a part of the parameters took part ({}): kernels, fine-tuning and linearization are those \
             of this part.",
            code(&analysis.run.subset)
        ));
    }
    caveats
}

/// Kernels from products in another precision than the network's.
fn reduced_precision(analysis: &Analysis) -> Option<String> {
    let errors: Vec<String> = analysis
        .kernels
        .iter()
        .filter_map(|k| Some(format!("{} {}", escape(&k.title), number(k.precision_error?))))
        .collect();
    let precision = analysis.run.plan.get("precision").and_then(serde_json::Value::as_str).unwrap_or("another type");
    (!errors.is_empty()).then(|| {
        format!(
            "Gradients were multiplied in {}{}. Largest difference of a kernel's entry from double precision on a few \
             training examples, relative to its largest entry: {}.",
            escape(precision),
            products_by(analysis),
            join(&errors)
        )
    })
}

/// How products of bf16 parts were computed, if any.
fn products_by(analysis: &Analysis) -> String {
    let by = analysis.run.plan.get("products_by").and_then(serde_json::Value::as_str);
    by.map_or_else(String::new, |by| format!(", by {}", escape(by)))
}

/// The effect of the training precision on every measure.
fn trained_otherwise(analysis: &Analysis, run: &FineTuningResult) -> Option<String> {
    let effect = run.own_precision.as_ref()?;
    let value = |v: Option<f64>| v.map_or_else(|| "none".to_owned(), number);
    let measure = |(name, trained, own): &(String, Option<f64>, Option<f64>)| {
        format!("{} {} ({})", escape(name), value(*trained), value(*own))
    };
    Some(format!(
        "Fine-tuning with {} multiplied linear maps in {}{}. In brackets what the same run, up to its selected step, gives in the \
         network's own precision: {}.",
        escape(&optimizer_title(&run.optimizer)),
        escape(&effect.trained_in),
        products_by(analysis),
        effect.measures.iter().map(measure).collect::<Vec<_>>().join("; ")
    ))
}

/// Examples on which settings are selected or results are reported, and which are training examples, too.
fn seen_in_training(analysis: &Analysis) -> Option<String> {
    let texts = |set: &str| analysis.task.sets.iter().find(|facts| facts.set == set).map(|facts| &facts.text_digests);
    let train: BTreeSet<&String> = texts("train")?.iter().collect();
    let shared = |set: &str| {
        let all = texts(set)?;
        let count = all.iter().filter(|text| train.contains(text)).count();
        (count > 0).then(|| format!("{count} of the {} {set} examples", all.len()))
    };
    let shared: Vec<String> = ["dev", "test"].into_iter().filter_map(shared).collect();
    (!shared.is_empty()).then(|| {
        format!(
            "The texts of {} are also those of training examples: what is learned by heart counts there.",
            join(&shared)
        )
    })
}

/// Ways of solving the task that are no better than always answering one class.
fn near_majority(analysis: &Analysis) -> Option<String> {
    let majority = analysis.task.majority_accuracy;
    let weak: Vec<String> = super::rows::accuracies(analysis)
        .iter()
        .filter(|row| row.test <= majority)
        .map(|row| format!("{} ({})", escape(&row.name), percent(row.test)))
        .collect();
    (!weak.is_empty()).then(|| {
        format!(
            "Always answering the most frequent class gets {} of the test examples right. Not above that: {}.",
            percent(majority),
            join(&weak),
        )
    })
}

/// Differences below the test set's resolution.
fn within_noise(analysis: &Analysis, run: &FineTuningResult) -> Vec<String> {
    let n = analysis.task.test;
    let title = escape(&optimizer_title(&run.optimizer));
    let points = |a: f64, b: f64| format!("{:.1}", 100.0 * (a - b).abs());
    let kernel = analysis.kernels.iter().find(|k| k.formula == run.analog);
    let Some((kernel, method)) = kernel.and_then(|k| Some((k, k.methods.first()?))) else { return Vec::new() };
    // Paired over the examples: the ratio's interval has the one at which both are equally good.
    let solved = analysis.verdicts.iter().find(|v| v.question == Question::Solved && v.optimizer == run.optimizer);
    let alike = solved.and_then(|v| v.low.zip(v.high)).is_some_and(|(low, high)| low <= 1.0 && 1.0 <= high);
    if !alike {
        return Vec::new();
    }
    vec![format!(
        "{title} and {} differ by {} points on test: which of the two is better cannot be told from these {n} examples.",
        escape(&kernel.title),
        points(run.test_accuracy, method.test_accuracy),
    )]
}

/// A learning rate at the end of its grid, or runs that diverged.
fn on_the_edge(run: &FineTuningResult) -> Vec<String> {
    let title = escape(&optimizer_title(&run.optimizer));
    let mut found = Vec::new();
    let rates: Vec<f64> = run.candidates.iter().map(|c| c.learning_rate).collect();
    let end = |fold: fn(f64, f64) -> f64| rates.iter().copied().reduce(fold);
    for (name, at) in [("smallest", end(f64::min)), ("largest", end(f64::max))] {
        if rates.len() > 1 && at == Some(run.learning_rate) {
            found.push(format!(
                "The learning rate chosen for {title}, {}, is the {name} that was tried: a {} one might do better.",
                rate(run.learning_rate),
                if name == "smallest" { "smaller" } else { "larger" }
            ));
        }
    }
    let diverged = run.candidates.iter().filter(|c| c.diverged).count();
    if diverged > 0 {
        found.push(format!("{diverged} of the {} learning rates tried for {title} diverged.", run.candidates.len()));
    }
    found
}

/// A mean so many times the median is that of a few entries.
const FAR: f64 = 3.0;

/// A mean relative distance far from the median, dominated by a few entries near zero.
fn carried_by_few(analysis: &Analysis, run: &FineTuningResult) -> Option<String> {
    let drift = run.kernel_drift.iter().find(|(formula, _)| *formula == run.analog).map(|(_, drift)| drift)?;
    let threshold = Question::FixedFeatures.threshold();
    let across = drift.mean_relative >= threshold && drift.median_relative < threshold;
    (across || drift.mean_relative >= FAR * drift.median_relative).then(|| {
        format!(
            "With {}, the entries of {} change by {} times their size on average, but by {} at the median: a minority \
             of the entries, usually those near zero, carries the mean and with it the verdict on fixed features.",
            escape(&optimizer_title(&run.optimizer)),
            escape(&title_of(analysis, &run.analog)),
            number(drift.mean_relative),
            number(drift.median_relative)
        )
    })
}
