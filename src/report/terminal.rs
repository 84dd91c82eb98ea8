//! A summary of an analysis for the terminal.

use super::format::{optimizer_title, percent, plain, shorten};
use super::rows::{AccuracyRow, Kind, VerdictRow, accuracies, verdicts};
use crate::evidence::Analysis;

/// Maximum line length.
pub(super) const WIDTH: usize = 100;

/// Accuracies and verdicts as plain text, at most 100 columns wide; ends with a newline.
pub fn terminal_summary(analysis: &Analysis) -> String {
    let task = &analysis.task;
    let mut lines = vec![
        format!(
            "{} on {}: {} train, {} dev, {} test examples",
            shorten(&plain(&analysis.model.name), 30),
            shorten(&plain(&task.name), 20),
            task.train,
            task.dev,
            task.test
        ),
        String::new(),
    ];
    let mut rows = vec![[String::new(), "dev".into(), "test".into()]];
    rows.extend(accuracies(analysis).into_iter().map(accuracy));
    rows.push(["most frequent class".into(), String::new(), percent(task.majority_accuracy)]);
    lines.extend(table(&rows));
    let verdicts = verdicts(analysis);
    if !verdicts.is_empty() {
        lines.push(String::new());
        let header =
            ["question", "optimizer", "kernel", "figure", "outcome", "95% interval", "threshold"].map(String::from);
        let rows: Vec<[String; 7]> = [header].into_iter().chain(verdicts.iter().map(verdict)).collect();
        lines.extend(table(&rows));
    }
    for row in &verdicts {
        if let Some(reason) = &row.reason {
            lines.extend(wrap(&format!("{}: {}, {}: {reason}", row.outcome, row.optimizer, row.question)));
        }
    }
    for run in analysis.fine_tuning.iter().filter(|r| r.test_accuracy <= task.majority_accuracy) {
        lines.push(format!("note: {} is not above the most frequent class", optimizer_title(&run.optimizer)));
    }
    lines.iter().map(|line| shorten(line, WIDTH) + "\n").collect()
}

fn accuracy(row: AccuracyRow) -> [String; 3] {
    let indent = if row.kind == Kind::ZeroShot { "" } else { "  " };
    [format!("{indent}{}", shorten(&plain(&row.name), 20)), row.dev_text, row.test_text]
}

fn verdict(row: &VerdictRow) -> [String; 7] {
    [
        row.question.to_owned(),
        shorten(&row.optimizer, 12),
        shorten(&plain(&row.kernel), 16),
        row.figure.clone(),
        // Before what may be cut at the end of a long line.
        row.outcome.to_owned(),
        row.interval.clone(),
        row.threshold.clone(),
    ]
}

/// Wrapped lines, with the later ones indented.
pub(super) fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("never empty");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("  {word}"));
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    lines
}

/// Columns padded to their widest cell, two spaces between them.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
