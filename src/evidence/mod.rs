//! Evidence: what an analysis found, as plain data. Verdicts, tables, plots and JSON are all made from it.
//!
//! Knows no tensors, no files and no terminal. Every figure of a report is in here; [`Analysis`] is `report.json`.

mod answers;
mod claim;
mod collected;
mod grid;
mod kernels;
mod measures;
mod mutant;
mod setting;
mod verdict;
mod verification;

pub use answers::Answers;
pub use claim::{Cell, Check, ClaimEvidence, ClaimVerdict, Figure, Findings, Mark, Profile, Series, Table};
pub use collected::{Collected, Open};
pub use grid::{GridCell, GridKey, GridResult, GridScore, METHODS, Reproduction, scored_by_f1};
pub use kernels::{Failure, KernelDistance, KernelFacts, MatrixPicture, MethodResult};
pub use measures::{
    Arithmetic, Candidate, Computed, Evaluation, FineTuningResult, GradientDrift, KernelDrift, LayerShare,
    Linearization, Movement, OutputDerivative, OwnPrecision, StepResidual, Summary,
};
pub use mutant::{Fate, MutantResult};
pub use setting::{LabelWordFacts, ModelFacts, RunFacts, SetFacts, TaskFacts};
pub use verdict::{CONFIDENCE, Floor, Outcome, Question, Verdict, accuracy_error, judge};
pub use verification::{ExperimentError, Verification, VerificationFacts};

/// Version of the layout of `report.json`. Increases with every change that readers of the file would notice, together with the
/// program's version, so that all reports of one program have the same layout.
pub const SCHEMA_VERSION: u32 = 3;

/// Everything that one analysis of one model on one task found.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Analysis {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// What was run, with which settings.
    pub run: RunFacts,
    /// The language model.
    pub model: ModelFacts,
    /// The task, its data and its prompt.
    pub task: TaskFacts,
    /// Accuracy of the model before any training: on dev and on test.
    pub zero_shot: Accuracy,
    /// Which test examples it answers correctly.
    #[serde(default)]
    pub zero_shot_answers: Answers,
    /// |χ| per training example before training.
    pub output_derivative: OutputDerivative,
    /// The kernels and the accuracy of kernel regression with each.
    pub kernels: Vec<KernelFacts>,
    /// Shares of the layers in the kernels' traces.
    pub layers: Vec<LayerShare>,
    /// Fine-tuning runs and what they did to outputs, features and kernels.
    pub fine_tuning: Vec<FineTuningResult>,
    /// The paper's three questions, answered per optimizer.
    pub verdicts: Vec<Verdict>,
}

impl Analysis {
    /// The baselines that fine-tuning must exceed on test.
    pub fn floor(&self) -> Floor {
        Floor { majority: self.task.majority_accuracy, zero_shot: self.zero_shot.test, examples: self.task.test }
    }
}

/// Accuracies on the two evaluation sets, between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accuracy {
    /// On dev.
    pub dev: f64,
    /// On test.
    pub test: f64,
    /// F1 of the second class on test, for tasks of two classes.
    pub test_f1: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::SCHEMA_VERSION;

    /// Versions of the program, with the layout of their reports.
    const PROGRAMS: [(&str, u32); 2] = [("0.1.0", 2), ("0.2.0", 3)];

    #[test]
    fn schema_and_program_version_move_together() {
        let here = (env!("CARGO_PKG_VERSION"), SCHEMA_VERSION);
        assert_eq!(PROGRAMS.last(), Some(&here), "a new layout needs a new program version, and both a row here");
        assert!(PROGRAMS.is_sorted_by(|a, b| a.1 < b.1));
    }
}
