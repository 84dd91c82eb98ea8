//! The paper's three questions about a task (Section 6, Table 1) and their thresholds.

use super::{Answers, FineTuningResult, KernelFacts};
use crate::stats::{Alike, Estimate, Expectation, Ratio, positive_mean, seeds_needed};

/// Confidence of the interval of each figure: an answer is wrong with probability at most half of what is missing to 1.
pub const CONFIDENCE: f64 = 0.95;

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
    /// The figure's whole interval is on the good side of its threshold.
    Holds,
    /// The whole interval is on the other side.
    Fails,
    /// The interval has the threshold in it, or there is none.
    Undecided,
    /// The question cannot be asked, e.g. because fine-tuning gained nothing.
    NotApplicable,
}

impl Outcome {
    /// As reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Undecided => "undecided",
            Self::NotApplicable => "n/a",
        }
    }
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
    /// Lower end of its interval at [`CONFIDENCE`]; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Upper end, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// What the interval is over: test examples, or training examples for fixed features; seeds where there are several.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub samples: usize,
    /// Where it is undecided: how many of these would decide nine times out of ten, if they are as those that were seen; `None`
    /// where no number below a million would.
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
        // A figure at the threshold solves and recovers enough, but has moved too far.
        if low >= threshold {
            above
        } else if high < threshold {
            below
        } else {
            Outcome::Undecided
        }
    }
}

/// The two numbers of a figure that is a ratio over test examples.
impl Question {
    /// Per example, from whether it was answered right before training, by fine-tuning, and by the kernel (or, for
    /// linearization, by the linearized model).
    fn parts(self, [before, tuned, other]: [f64; 3]) -> (f64, f64) {
        match self {
            Self::Solved | Self::FixedFeatures => (other, tuned),
            Self::Linearization => (other - before, tuned - before),
        }
    }

    /// The ratio over test examples; `None` where it is not known of each of them whether it was answered right.
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
}

/// A figure with its interval, and how many samples would decide.
struct Figure {
    estimate: Estimate,
    needed: Option<usize>,
}

impl Figure {
    fn of_ratio(question: Question, ratio: &Ratio) -> Self {
        Self { estimate: ratio.estimate(CONFIDENCE), needed: ratio.needed(question.threshold(), CONFIDENCE) }
    }

    /// A figure of which nothing more is known.
    fn alone(value: f64) -> Self {
        Self { estimate: positive_mean(value, None, 0, CONFIDENCE), needed: None }
    }
}

/// Answers the three questions for every optimizer with its kernel analog.
///
/// Solved compares test accuracies, kernel over fine-tuned; linearization the gains over the pre-trained model, whose answers
/// are `before`. Both have the interval of a ratio over the same test examples. Where fine-tuning is at chance, there is
/// nothing to solve and nothing to linearize, and neither question is applicable; nor is linearization where fine-tuning
/// gained nothing. Fixed features uses the mean relative distance of the analog's training kernel, with the jackknife over
/// training examples.
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
                // The value is the report's, whatever the answers say.
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

/// How many training examples would tell a drift from its threshold: its error falls as the square root of their number.
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
