//! Results of a grid of analyses, models x tasks x k x seeds x heads, as plain data, from which means and tables are
//! computed.

use serde::{Deserialize, Serialize};

use super::{Analysis, Verdict};

/// The key of a cell of the grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridKey {
    /// Model as given.
    pub model: String,
    /// Name of the task.
    pub task: String,
    /// Training examples per class.
    pub k: usize,
    /// Seed of the split and of mini-batch orders.
    pub seed: u64,
    /// Output head: `prompt`, `random`, `linear-probe`.
    pub head: String,
}

/// Scores of one way of solving the task, between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridScore {
    /// `zero-shot`, `SGD-FT`, `K(SGD)`, …
    pub method: String,
    /// Accuracy on dev.
    pub dev_accuracy: f64,
    /// Accuracy on test.
    pub test_accuracy: f64,
    /// F1 of the second class on test, for tasks of two classes.
    pub test_f1: Option<f64>,
}

/// What an analysis found, in the figures that the paper's tables have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridResult {
    /// Number of examples: train, dev, test.
    pub examples: [usize; 3],
    /// Accuracy of always answering the most frequent class of the test set.
    pub majority_accuracy: f64,
    /// The ways of solving the task, in the order of [`METHODS`].
    pub scores: Vec<GridScore>,
    /// Test accuracy of the network linearized at its pre-trained weights, moved as far as an optimizer moved them: optimizer
    /// and accuracy.
    pub linearized: Vec<(String, f64)>,
    /// The paper's three questions.
    pub verdicts: Vec<Verdict>,
}

/// A cell of the grid. With neither result nor error it was not computed, because another shard has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridCell {
    /// Which one.
    pub key: GridKey,
    /// SHA-256 of everything that the result depends on; empty if the data could not be read.
    pub digest: String,
    /// What was found.
    pub result: Option<GridResult>,
    /// Why nothing was.
    pub error: Option<String>,
}

/// A whole grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reproduction {
    /// [`super::SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Version of this program.
    pub program_version: String,
    /// Version of libtorch.
    pub torch_version: String,
    /// Settings, with what they are.
    pub settings: Vec<(String, String)>,
    /// The cells, in the order of the grid.
    pub cells: Vec<GridCell>,
}

/// Ways of solving a task, in the order of the paper's tables.
pub const METHODS: [&str; 7] = ["zero-shot", "SGD-FT", "K(SGD)", "Adam-FT", "SignGD-FT", "K(SignGD)", "K(A-SignGD)"];

impl GridResult {
    /// The figures of an analysis that the tables have.
    pub fn of(analysis: &Analysis) -> Self {
        let score = |method: &str, dev_accuracy, test_accuracy, test_f1| GridScore {
            method: method.into(),
            dev_accuracy,
            test_accuracy,
            test_f1,
        };
        let start = analysis.zero_shot;
        let mut scores = vec![score(METHODS[0], start.dev, start.test, start.test_f1)];
        for run in &analysis.fine_tuning {
            let name = match run.optimizer.as_str() {
                "sgd" => "SGD-FT",
                "signgd" => "SignGD-FT",
                _ => "Adam-FT",
            };
            scores.push(score(name, run.selected.dev_accuracy, run.test_accuracy, run.test_f1));
        }
        for kernel in &analysis.kernels {
            let best = kernel.methods.first();
            scores.extend(best.map(|m| score(&kernel.title, m.dev_accuracy, m.test_accuracy, m.test_f1)));
        }
        scores.sort_by_key(|s| METHODS.iter().position(|m| *m == s.method));
        let task = &analysis.task;
        Self {
            examples: [task.train, task.dev, task.test],
            majority_accuracy: task.majority_accuracy,
            scores,
            linearized: analysis
                .fine_tuning
                .iter()
                .map(|run| (run.optimizer.clone(), run.linearization.test_accuracy))
                .collect(),
            verdicts: analysis.verdicts.clone(),
        }
    }
}

/// Whether the paper reports a task by F1 instead of accuracy.
pub fn scored_by_f1(task: &str) -> bool {
    matches!(task, "MRPC" | "QQP")
}

impl GridScore {
    /// Accuracy on test, or F1 if the paper reports that.
    pub fn of_task(&self, task: &str) -> f64 {
        self.test_f1.filter(|_| scored_by_f1(task)).unwrap_or(self.test_accuracy)
    }
}
