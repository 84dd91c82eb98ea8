//! The original data sets of the paper's 14 tasks on disk: file names, label column, labels.
//!
//! Reads no files; `src/task/builtin.rs` of the program says how splits are read.

use crate::error::{Error, Result};

/// How a task's original files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// TSV with a header, unquoted, with the label in the first or last column.
    Glue {
        /// Whether the label is the first column.
        label_first: bool,
        /// Minimum number of columns of the header.
        columns: usize,
    },
    /// CSV without a header; the label is the first of this many columns.
    Csv {
        /// Columns of every row.
        columns: usize,
    },
}

/// One task.
#[derive(Debug)]
pub struct Task {
    /// Name of the task and of its directory.
    pub name: &'static str,
    /// How its files are written.
    pub layout: Layout,
    /// Labels as in the files.
    pub labels: &'static [&'static str],
    /// Original files that become test splits, with the splits' names, without extension.
    pub tests: &'static [(&'static str, &'static str)],
    /// Name of the dev split.
    pub dev: &'static str,
}

const GLUE: &[(&str, &str)] = &[("dev", "test")];
const MATCHED: &[(&str, &str)] = &[("dev_matched", "test_matched"), ("dev_mismatched", "test_mismatched")];
const CSV: &[(&str, &str)] = &[("test", "test")];

const BINARY: &[&str] = &["0", "1"];
const ENTAILMENT: &[&str] = &["not_entailment", "entailment"];
const INFERENCE: &[&str] = &["contradiction", "entailment", "neutral"];

const fn glue(
    name: &'static str,
    label_first: bool,
    columns: usize,
    labels: &'static [&'static str],
    tests: &'static [(&'static str, &'static str)],
    dev: &'static str,
) -> Task {
    Task { name, layout: Layout::Glue { label_first, columns }, labels, tests, dev }
}

const fn csv(name: &'static str, columns: usize, labels: &'static [&'static str]) -> Task {
    Task { name, layout: Layout::Csv { columns }, labels, tests: CSV, dev: "dev" }
}

/// The tasks, in the order of the program's table.
pub const TASKS: [Task; 14] = [
    glue("SST-2", false, 2, BINARY, GLUE, "dev"),
    csv("sst-5", 2, &["0", "1", "2", "3", "4"]),
    csv("mr", 2, BINARY),
    csv("cr", 2, BINARY),
    csv("mpqa", 2, BINARY),
    csv("subj", 2, BINARY),
    csv("trec", 2, &["0", "1", "2", "3", "4", "5"]),
    csv("ag_news", 3, &["1", "2", "3", "4"]),
    glue("MRPC", true, 5, BINARY, GLUE, "dev"),
    glue("QQP", false, 6, BINARY, GLUE, "dev"),
    glue("QNLI", false, 4, ENTAILMENT, GLUE, "dev"),
    glue("RTE", false, 4, ENTAILMENT, GLUE, "dev"),
    glue("MNLI", false, 11, INFERENCE, MATCHED, "dev_matched"),
    glue("SNLI", false, 10, INFERENCE, GLUE, "dev"),
];

impl Task {
    /// The task of that name, ignoring case.
    pub fn named(name: &str) -> Result<&'static Self> {
        TASKS.iter().find(|task| task.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<_> = TASKS.iter().map(|task| task.name).collect();
            Error::Arguments(format!("unknown task `{name}`; the tasks are {}", known.join(", ")))
        })
    }

    /// `tsv` or `csv`.
    pub fn extension(&self) -> &'static str {
        match self.layout {
            Layout::Glue { .. } => "tsv",
            Layout::Csv { .. } => "csv",
        }
    }
}
