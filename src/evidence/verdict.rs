//! The paper's three questions about a task (Section 6, Table 1) and their thresholds.

use super::{FineTuningResult, KernelFacts};

/// A question about kernel behaviour on one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Does the kernel analog solve the task: at least 90% of fine-tuning's accuracy?
    Solved,
    /// Does the linearized model recover at least 50% of fine-tuning's gain over the pre-trained model?
    Linearization,
    /// Do the features stay: is the mean relative distance of the kernels before and after below 2?
    FixedFeatures,
}

/// How a question came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The figure is on the good side of its threshold.
    Holds,
    /// It is not.
    Fails,
    /// The question cannot be asked, e.g. because fine-tuning gained nothing.
    NotApplicable,
}

/// One question, answered with its figure beside its threshold.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// The question.
    pub question: Question,
    /// The optimizer it is about.
    pub optimizer: String,
    /// The kernel formula it is about.
    pub formula: String,
    /// The measured figure; `None` where the question cannot be asked.
    pub value: Option<f64>,
    /// The paper's threshold.
    pub threshold: f64,
    /// The outcome.
    pub outcome: Outcome,
}

impl Question {
    /// All questions.
    pub const ALL: [Self; 3] = [Self::Solved, Self::Linearization, Self::FixedFeatures];

    /// The paper's threshold.
    pub fn threshold(self) -> f64 {
        match self {
            Self::Solved => 0.9,
            Self::Linearization => 0.5,
            Self::FixedFeatures => 2.0,
        }
    }

    /// Whether a figure is on the good side of the threshold.
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Self::Solved | Self::Linearization => figure >= self.threshold(),
            Self::FixedFeatures => figure < self.threshold(),
        }
    }

    fn outcome(self, value: Option<f64>) -> Outcome {
        match value {
            Some(v) if self.holds(v) => Outcome::Holds,
            Some(_) => Outcome::Fails,
            None => Outcome::NotApplicable,
        }
    }
}

/// Binomial standard error of an accuracy over `n` examples; `None` where it means nothing. Two right and two wrong
/// answers are added (Agresti and Coull 1998), so that accuracies of 0% and 100% have an error too.
pub fn accuracy_error(accuracy: f64, n: usize) -> Option<f64> {
    (n > 0 && (0.0..=1.0).contains(&accuracy)).then(|| {
        let (right, n) = (accuracy * n as f64 + 2.0, n as f64 + 4.0);
        (right / n * (1.0 - right / n) / n).sqrt()
    })
}

/// What fine-tuning must be better than on test before anything can be asked of what it learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Accuracy of always answering the most frequent class: chance.
    pub majority: f64,
    /// Accuracy of the pre-trained model.
    pub zero_shot: f64,
    /// Number of test examples.
    pub examples: usize,
}

impl Floor {
    /// Whether an accuracy is above chance by more than its standard error.
    pub fn learned(&self, accuracy: f64) -> bool {
        accuracy_error(accuracy, self.examples).is_some_and(|error| accuracy - self.majority > error)
    }

    /// Whether an accuracy is above the pre-trained model's by more than the standard error of the difference, as if the two
    /// were of different examples.
    pub fn gained(&self, accuracy: f64) -> bool {
        let errors = accuracy_error(accuracy, self.examples).zip(accuracy_error(self.zero_shot, self.examples));
        errors.is_some_and(|(after, before)| accuracy - self.zero_shot > after.hypot(before))
    }
}

/// Answers the three questions for every optimizer with its kernel analog.
///
/// Solved compares test accuracies, kernel over fine-tuned. Where fine-tuning is at chance, there is nothing to solve and
/// nothing to linearize, and neither question is applicable; nor is linearization where fine-tuning's gain over the
/// pre-trained model is within its standard error. Fixed features uses the mean relative distance of the analog's training
/// kernel.
pub fn judge(kernels: &[KernelFacts], fine_tuning: &[FineTuningResult], floor: &Floor) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for run in fine_tuning {
        let kernel = kernels.iter().find(|k| k.formula == run.analog);
        let accuracy = kernel.and_then(|k| k.methods.first()).map(|m| m.test_accuracy);
        let drift = run.kernel_drift.iter().find(|(f, _)| *f == run.analog).map(|(_, d)| d.mean_relative);
        for question in Question::ALL {
            let value = match question {
                Question::Solved => {
                    accuracy.filter(|_| floor.learned(run.test_accuracy)).map(|a| a / run.test_accuracy)
                }
                Question::Linearization => {
                    let share = run.linearization.recovered_share;
                    share.filter(|_| floor.learned(run.test_accuracy) && floor.gained(run.test_accuracy))
                }
                Question::FixedFeatures => drift,
            };
            verdicts.push(Verdict {
                question,
                optimizer: run.optimizer.clone(),
                formula: run.analog.clone(),
                value,
                threshold: question.threshold(),
                outcome: question.outcome(value),
            });
        }
    }
    verdicts
}
