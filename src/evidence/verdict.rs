//! The paper's three questions about a task (Section 6, Table 1) and their thresholds.

use super::{Answers, FineTuningResult, KernelFacts};
use crate::stats::{Alike, Estimate, Expectation, Ratio, positive_mean, seeds_needed};

/// Confidence level of each figure's interval: an answer is wrong with a probability of about (1 - confidence)/2.
pub const CONFIDENCE: f64 = 0.95;

/// A question about kernel behaviour on one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Does the kernel analog solve the task: at least 90% of fine-tuning's accuracy?
    Solved,
    /// Does the linearized model recover at least 50% of fine-tuning's gain over the pre-trained model?
    Linearization,
    /// Do the features stay fixed: is the mean relative distance of the kernels before and after below 2?
    FixedFeatures,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The figure's whole interval is on the good side of its threshold.
    Holds,
    /// The whole interval is on the bad side.
    Fails,
    /// The interval contains the threshold, or there is none.
    Undecided,
    /// The question is not applicable, e.g. because fine-tuning gained nothing.
    NotApplicable,
}

impl Outcome {
    /// Text in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Undecided => "undecided",
            Self::NotApplicable => "n/a",
        }
    }
}

/// A question, with its answer, figure and threshold.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// The question.
    pub question: Question,
    /// Its optimizer.
    pub optimizer: String,
    /// Its kernel formula.
    pub formula: String,
    /// The measured figure; `None` if the question is not applicable.
    pub value: Option<f64>,
    /// Lower end of its interval at [`CONFIDENCE`]; `None` if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Upper end, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// The samples of the interval: test examples, or training examples for fixed features; seeds if there are several.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub samples: usize,
    /// If it is undecided, how many such samples would decide nine times out of ten; `None` if more than a million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<usize>,
    /// The paper's threshold.
    pub threshold: f64,
    /// The outcome.
    pub outcome: Outcome,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Question {
    /// All questions.
    pub const ALL: [Self; 3] = [Self::Solved, Self::Linearization, Self::FixedFeatures];

    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Solved => "solved",
            Self::Linearization => "linearization",
            Self::FixedFeatures => "fixed_features",
        }
    }

    /// The paper's threshold.
    pub fn threshold(self) -> f64 {
        match self {
            Self::Solved => 0.9,
            Self::Linearization => 0.5,
            Self::FixedFeatures => 2.0,
        }
    }

    /// Compares a figure's interval with the threshold.
    pub fn outcome(self, estimate: &Estimate) -> Outcome {
        let threshold = self.threshold();
        let Estimate { low, high, .. } = *estimate;
        let (above, below) = match self {
            Self::Solved | Self::Linearization => (Outcome::Holds, Outcome::Fails),
            Self::FixedFeatures => (Outcome::Fails, Outcome::Holds),
        };
        // A figure equal to the threshold suffices for solving and recovering, but not for fixed features.
        if low >= threshold {
            above
        } else if high < threshold {
            below
        } else {
            Outcome::Undecided
        }
    }
}

/// Numerator and denominator of a ratio over test examples.
impl Question {
    /// Per example, from whether it was answered correctly before training, by fine-tuning, and by the kernel (or, for
    /// linearization, by the linearized model).
    fn parts(self, [before, tuned, other]: [f64; 3]) -> (f64, f64) {
        match self {
            Self::Solved | Self::FixedFeatures => (other, tuned),
            Self::Linearization => (other - before, tuned - before),
        }
    }

    /// The ratio over test examples; `None` if the individual answers are not recorded.
    pub fn ratio(self, before: &Answers, tuned: &Answers, other: &Answers) -> Option<Ratio> {
        let n = tuned.0.len();
        let asked_before = self == Self::Linearization;
        if n == 0 || other.0.len() != n || (asked_before && before.0.len() != n) {
            return None;
        }
        let mut counts = [0usize; 8];
        for i in 0..n {
            let kind = usize::from(tuned.0[i]) + 2 * usize::from(other.0[i]);
            counts[kind + if asked_before { 4 * usize::from(before.0[i]) } else { 0 }] += 1;
        }
        let kinds = counts.iter().enumerate().map(|(kind, count)| {
            let right = |bit: usize| f64::from(u8::from(kind & bit != 0));
            let (numerator, denominator) = self.parts([right(4), right(1), right(2)]);
            Alike { numerator, denominator, count: *count }
        });
        Some(Ratio::Kinds(kinds.collect()))
    }
}

/// Binomial standard error of an accuracy over `n` examples; `None` if undefined. Two right and two wrong answers are added
/// (Agresti and Coull 1998), so that accuracies of 0% and 100% have an error too.
pub fn accuracy_error(accuracy: f64, n: usize) -> Option<f64> {
    (n > 0 && (0.0..=1.0).contains(&accuracy)).then(|| {
        let (right, n) = (accuracy * n as f64 + 2.0, n as f64 + 4.0);
        (right / n * (1.0 - right / n) / n).sqrt()
    })
}

/// Baselines that fine-tuning must exceed on test for the questions to be applicable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Accuracy of always answering the most frequent class.
    pub majority: f64,
    /// Accuracy of the pre-trained model.
    pub zero_shot: f64,
    /// Number of test examples.
    pub examples: usize,
}

impl Floor {
    /// Whether an accuracy is above the most frequent class by more than its standard error.
    pub fn learned(&self, accuracy: f64) -> bool {
        accuracy_error(accuracy, self.examples).is_some_and(|error| accuracy - self.majority > error)
    }
}

/// A figure with its interval, and the number of samples that would decide.
struct Figure {
    estimate: Estimate,
    needed: Option<usize>,
}

impl Figure {
    fn of_ratio(question: Question, ratio: &Ratio) -> Self {
        Self { estimate: ratio.estimate(CONFIDENCE), needed: ratio.needed(question.threshold(), CONFIDENCE) }
    }

    /// A figure without an interval.
    fn alone(value: f64) -> Self {
        Self { estimate: positive_mean(value, None, 0, CONFIDENCE), needed: None }
    }
}

/// Answers the three questions for every optimizer with its kernel analog.
///
/// Solved compares test accuracies, kernel over fine-tuned; linearization the gains over the pre-trained model, whose
/// answers are `before`. Both have intervals of a ratio over the same test examples. If fine-tuning is no better than one class, neither
/// question is applicable; nor is linearization if fine-tuning gained nothing. Fixed features uses the mean relative
/// distance of the analog's training kernel, with the jackknife over training examples.
pub fn judge(
    kernels: &[KernelFacts],
    fine_tuning: &[FineTuningResult],
    floor: &Floor,
    before: &Answers,
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for run in fine_tuning {
        let kernel = kernels.iter().find(|k| k.formula == run.analog).and_then(|k| k.methods.first());
        let drift = run.kernel_drift.iter().find(|(f, _)| *f == run.analog).map(|(_, d)| d);
        let learned = floor.learned(run.test_accuracy);
        for question in Question::ALL {
            let of_examples = |other: &Answers, value: f64| {
                let ratio = question.ratio(before, &run.test_answers, other);
                let known = ratio.map(|r| Figure::of_ratio(question, &r));
                // The value is that of the report.
                let mut figure = known.unwrap_or_else(|| Figure::alone(value));
                figure.estimate.value = value;
                figure
            };
            let figure = match question {
                Question::Solved => kernel
                    .filter(|_| learned)
                    .map(|m| of_examples(&m.test_answers, m.test_accuracy / run.test_accuracy)),
                Question::Linearization => {
                    let share = run.linearization.recovered_share;
                    share.filter(|_| learned).map(|share| of_examples(&run.linearization.test_answers, share))
                }
                Question::FixedFeatures => drift.map(|d| {
                    let estimate = positive_mean(d.mean_relative, d.mean_relative_error, d.examples, CONFIDENCE);
                    Figure { needed: drift_needed(&estimate), estimate }
                }),
            };
            verdicts.push(Verdict::of(question, run, figure));
        }
    }
    verdicts
}

/// How many training examples would distinguish a drift from its threshold: its error falls as the inverse square root of
/// their number.
fn drift_needed(estimate: &Estimate) -> Option<usize> {
    let bound = Question::FixedFeatures.threshold();
    let on_logs = Estimate {
        value: estimate.value.ln(),
        low: estimate.low.ln(),
        high: estimate.high.ln(),
        standard_error: Some(estimate.standard_error? / estimate.value),
        ..*estimate
    };
    let side = if estimate.value < bound {
        Expectation::AtMost { bound: bound.ln() }
    } else {
        Expectation::AtLeast { bound: bound.ln() }
    };
    seeds_needed(&on_logs, &side, 0.9)
}

impl Verdict {
    fn of(question: Question, run: &FineTuningResult, figure: Option<Figure>) -> Self {
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        let (estimate, needed) = figure.map_or((None, None), |f| (Some(f.estimate), f.needed));
        let outcome = estimate.as_ref().map_or(Outcome::NotApplicable, |e| question.outcome(e));
        Self {
            question,
            optimizer: run.optimizer.clone(),
            formula: run.analog.clone(),
            value: estimate.as_ref().map(|e| e.value),
            low: estimate.as_ref().and_then(|e| finite(e.low)),
            high: estimate.as_ref().and_then(|e| finite(e.high)),
            samples: estimate.as_ref().map_or(0, |e| e.samples),
            needed: needed.filter(|_| outcome == Outcome::Undecided),
            threshold: question.threshold(),
            outcome,
        }
    }
}
