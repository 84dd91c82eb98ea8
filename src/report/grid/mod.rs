//! The report of a grid: tables in the paper's form, a plot, JSON, and all figures as CSV.
//!
//! Reads nothing but [`Reproduction`]: knows no tensors and no models.

mod summary;
mod tables;

use std::path::{Path, PathBuf};

use super::claims::{Document, Picture, write_with};
use super::plots::comparison;
use super::{Written, format};
use crate::error::{Error, Result};
use crate::evidence::{Findings, Question, Reproduction, scored_by_f1};
use summary::Group;

/// The files of a grid's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenGrid {
    /// Markdown, JSON and plots.
    pub report: Written,
    /// `results.csv`
    pub csv: PathBuf,
}

/// Writes the report into a directory.
///
/// # Errors
/// As [`super::write_document`].
pub fn write_reproduction(grid: &Reproduction, directory: &Path) -> Result<WrittenGrid> {
    let groups = Group::all(grid);
    let alt =
        "Test accuracy of kernel regression against that of fine-tuning, a mark for each model, task, k and head.";
    let svg = comparison::comparison(&summary::pairs(&groups), "Kernel regression against fine-tuning", alt)?;
    let pictures = svg.map(|svg| Picture { name: "kernel-against-fine-tuning".into(), alt: alt.into(), svg });
    let findings = Findings {
        settings: grid.settings.clone(),
        tables: tables::tables(&groups, grid),
        notes: notes(grid),
        ..Findings::default()
    };
    let document = Document {
        title: "Kernel regression and fine-tuning over tasks".into(),
        paragraphs: summary::paragraphs(&groups, grid),
        findings,
        pictures: pictures.into_iter().collect(),
    };
    let report = write_with(&document, grid, vec![("results.csv", Some(csv(grid, &groups)?))], directory)?;
    Ok(WrittenGrid { report, csv: directory.join("results.csv") })
}

/// The answer for a terminal.
pub fn grid_summary(grid: &Reproduction) -> String {
    let plain = |text: String| text.replace("**", "");
    let mut lines: Vec<String> = Vec::new();
    for paragraph in summary::paragraphs(&Group::all(grid), grid) {
        lines.extend(super::terminal::wrap(&plain(paragraph)));
    }
    lines.join("\n")
}

fn notes(grid: &Reproduction) -> Vec<String> {
    let mut notes = vec![
        "Numbers are percentages on the test examples: the mean over seeds, in brackets the standard deviation over seeds \
         (which has both the choice of training examples and the order of mini-batches in it)."
            .to_owned(),
        "Where fine-tuning's accuracy is not above the most frequent class's by more than twice the standard error over seeds and test \
         examples together (with one seed: by more than that over test examples), or for the linearization not above zero-shot's, there is nothing to ask \
         (n/a). The linearized model's share is a ratio of mean gains in accuracy."
            .to_owned(),
        "In brackets behind a figure is its 95% interval: over seeds, Student's for a ratio of two means (Fieller 1954) or, of kernels' \
         distances, for the geometric mean; with one seed, over examples (then MRPC and QQP by accuracy). A question holds or fails where \
         the whole interval is on one side of the threshold, and is undecided elsewhere; behind that stands how many seeds (or examples) \
         would decide it nine times out of ten if the true figure were the measured one. Of a hundred answers a few may be wrong. \
         Seeds that share a test set share its error, which no interval over seeds includes: the answers are for these test examples."
            .to_owned(),
    ];
    if grid.cells.iter().any(|c| scored_by_f1(&c.key.task)) {
        let note = "As in the paper, MRPC and QQP are scored by F1 (but the most frequent class by its accuracy, as everywhere); learning \
                    rates, steps and regularization are chosen by accuracy on dev.";
        notes.push(note.into());
    }
    notes
}

/// `model,task,k,seed,head,method,metric,value`: scores of every cell, and the figures behind its verdicts; with the seed `all` the
/// answers over seeds, with `_low`, `_high`, `_needed` (seeds, or examples of a single seed) and `_answer`.
fn csv(grid: &Reproduction, groups: &[Group<'_>]) -> Result<String> {
    let fail = |e: String| Error::document("results.csv", e);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut record = |fields: &[&str]| writer.write_record(fields).map_err(|e| fail(e.to_string()));
    record(&["model", "task", "k", "seed", "head", "method", "metric", "value"])?;
    for cell in &grid.cells {
        let Some(result) = &cell.result else { continue };
        let key = &cell.key;
        let (k, seed) = (key.k.to_string(), key.seed.to_string());
        let mut line = |method: &str, metric: &str, value: f64| {
            record(&[&key.model, &key.task, &k, &seed, &key.head, method, metric, &value.to_string()])
        };
        line("most frequent class", "test_accuracy", result.majority_accuracy)?;
        for score in &result.scores {
            line(&score.method, "dev_accuracy", score.dev_accuracy)?;
            line(&score.method, "test_accuracy", score.test_accuracy)?;
            if let Some(f1) = score.test_f1 {
                line(&score.method, "test_f1", f1)?;
            }
        }
        for (optimizer, accuracy) in &result.linearized {
            line(&format!("linearized, {optimizer}"), "test_accuracy", *accuracy)?;
        }
        for verdict in &result.verdicts {
            let metric = verdict.question.name();
            if let Some(value) = verdict.value {
                line(&format::kernel_title(&verdict.formula), &format!("{metric}_{}", verdict.optimizer), value)?;
            }
        }
    }
    for group in groups {
        let (key, k) = (group.key, group.key.k.to_string());
        for analog in summary::ANALOGS {
            let (_, kernel, optimizer) = analog;
            for question in Question::ALL {
                let Some(answer) = group.answer(question, analog) else { continue };
                let metric = format!("{}_{optimizer}", question.name());
                let mut line = |suffix: &str, value: String| {
                    let metric = format!("{metric}{suffix}");
                    record(&[&key.model, &key.task, &k, "all", &key.head, kernel, &metric, &value])
                };
                line("", answer.value.to_string())?;
                if let Some((low, high)) = answer.interval {
                    line("_low", low.to_string())?;
                    line("_high", high.to_string())?;
                }
                if let Some(needed) = answer.needed {
                    line("_needed", needed.to_string())?;
                }
                line("_answer", answer.outcome.name().to_owned())?;
            }
        }
    }
    let bytes = writer.into_inner().map_err(|e| fail(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| fail(e.to_string()))
}
