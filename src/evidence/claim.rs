//! Evidence for a claim of the theory: expectations, measurements and controls. Plain data, from which the verdict follows
//! by one rule.

use crate::stats::{Estimate, Expectation, Outcome, detectable, student_mean};

/// The amount of computation of an experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// About two minutes for the whole suite on two cores.
    #[default]
    Quick,
    /// About twenty minutes on two cores: wider networks, more seeds, narrower intervals.
    Standard,
    /// Less than an hour on two cores: widths to 4096, which take more memory.
    Full,
}

impl Profile {
    /// Name in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Full => "full",
        }
    }

    /// Memory for an experiment, in bytes: half of what a run with two at a time took (full), and more than the largest took
    /// (quick and standard). Most take much less.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Quick => 1 << 30,
            Self::Standard => 2 << 30,
            Self::Full => 9 << 29,
        }
    }
}

/// A measured quantity and its expectation.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// The quantity, e.g. "slope of the NTK's relative error in width".
    pub name: String,
    /// The expectation.
    pub expectation: Expectation,
    /// The measured value, with its interval.
    pub estimate: Estimate,
    /// The comparison of the two.
    pub outcome: Outcome,
    /// Power: the smallest distance beyond the accepted region that this check would call violated nine times out of
    /// ten at its sample size; zero for an exact comparison.
    pub detectable: Option<f64>,
}

impl Check {
    /// Judges a measured quantity by its expectation.
    pub fn judged(name: impl Into<String>, expectation: Expectation, estimate: Estimate) -> Self {
        let outcome = expectation.judge(&estimate);
        let detectable = detectable(&estimate, &expectation, 0.9);
        Self { name: name.into(), expectation, estimate, outcome, detectable }
    }
}

/// The verdict on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimVerdict {
    /// Every check holds and every control fails.
    Holds,
    /// A check is violated.
    Violated,
    /// An interval is too wide to decide.
    Underpowered,
    /// A hypothesis of the claim is not met.
    NotApplicable,
    /// A control passed: the check cannot distinguish the claim from its opposite.
    Broken,
}

impl ClaimVerdict {
    /// Text in reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Violated => "violated",
            Self::Underpowered => "underpowered",
            Self::NotApplicable => "not applicable",
            Self::Broken => "broken check",
        }
    }

    /// Whether a suite with this verdict fails.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Violated | Self::Broken)
    }
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A number, formatted by the report.
    Number(f64),
    /// A number with its confidence interval.
    Interval {
        /// The estimate.
        value: f64,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// A text.
    Text(String),
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<Estimate> for Cell {
    fn from(estimate: Estimate) -> Self {
        let Estimate { value, low, high, .. } = estimate;
        Self::Interval { value, low, high }
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// A table of figures.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// What the rows are.
    pub title: String,
    /// Column heads.
    pub columns: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<Cell>>,
}

/// A mean at one point of the x axis, with Student's confidence interval at [`Mark::CONFIDENCE`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Width, rank, step or learning rate.
    pub x: f64,
    /// The mean over independent samples: seeds, draws or examples.
    pub y: f64,
    /// Lower end of the mean's interval; the mean itself if it is exact or from a single sample.
    pub low: f64,
    /// Upper end, likewise.
    pub high: f64,
}

impl Mark {
    /// Confidence level of every mark's interval.
    pub const CONFIDENCE: f64 = 0.95;

    /// A number without sampling error.
    pub fn exact(x: f64, y: f64) -> Self {
        Self { x, y, low: y, high: y }
    }

    /// The mean of samples.
    pub fn mean(x: f64, samples: &[f64]) -> Self {
        let Estimate { value, low, high, .. } = student_mean(samples, Self::CONFIDENCE);
        Self::exact(x, value).within(low, high)
    }

    /// The geometric mean of positive samples: mean and interval are those of their logarithms.
    pub fn geometric_mean(x: f64, samples: &[f64]) -> Self {
        let logs: Vec<f64> = samples.iter().map(|s| s.ln()).collect();
        let Estimate { low, high, .. } = student_mean(&logs, Self::CONFIDENCE);
        // Zero if a sample is.
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        Self::exact(x, mean.exp()).within(low.exp(), high.exp())
    }

    /// With these ends, if they are numbers.
    fn within(self, low: f64, high: f64) -> Self {
        if low.is_finite() && high.is_finite() { Self { low, high, ..self } } else { self }
    }
}

/// One line of a figure.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Measured points, by x.
    pub marks: Vec<Mark>,
    /// The slope that the theory predicts on logarithmic axes; drawn through the last mark.
    pub predicted_slope: Option<f64>,
    /// Whether this is a control.
    pub control: bool,
}

/// A plot on logarithmic axes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figure {
    /// File name without extension, unique within the claim.
    pub name: String,
    /// Title.
    pub title: String,
    /// Label of the x axis.
    pub x_label: String,
    /// Label of the y axis.
    pub y_label: String,
    /// Lines.
    pub series: Vec<Series>,
}

/// The results of an experiment, before they are judged.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Findings {
    /// Settings of the experiment: name and value.
    pub settings: Vec<(String, String)>,
    /// Hypotheses of the claim, measured first.
    pub hypotheses: Vec<Check>,
    /// Predictions of the claim.
    pub checks: Vec<Check>,
    /// Controls: the same predictions where they must fail.
    pub controls: Vec<Check>,
    /// Tables of the section.
    pub tables: Vec<Table>,
    /// Plots of the section.
    pub figures: Vec<Figure>,
    /// Notes on the measurement, one paragraph each.
    pub notes: Vec<String>,
}

impl Findings {
    /// The verdict, by the suite's rule. A control that passes, or whose value is not a number, breaks the claim whatever
    /// else was found; then hypotheses count, then checks.
    pub fn verdict(&self) -> ClaimVerdict {
        let any = |checks: &[Check], outcome: Outcome| checks.iter().any(|c| c.outcome == outcome);
        let passes = |c: &Check| c.outcome == Outcome::Holds || !c.estimate.value.is_finite();
        // Without a check or a control nothing could have failed.
        if self.checks.is_empty() || self.controls.is_empty() || self.controls.iter().any(passes) {
            ClaimVerdict::Broken
        } else if any(&self.hypotheses, Outcome::Violated) {
            ClaimVerdict::NotApplicable
        } else if any(&self.checks, Outcome::Violated) {
            ClaimVerdict::Violated
        } else if [&self.hypotheses, &self.checks, &self.controls].into_iter().any(|c| any(c, Outcome::Underpowered)) {
            ClaimVerdict::Underpowered
        } else {
            ClaimVerdict::Holds
        }
    }

    /// Sum of the error probabilities of all intervals: the claim's share of the suite's error rate.
    pub fn error_rate(&self) -> f64 {
        let all = self.hypotheses.iter().chain(&self.checks).chain(&self.controls);
        all.map(|c| 1.0 - c.estimate.confidence).sum()
    }
}

/// One claim, measured and judged.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ClaimEvidence {
    /// Identifier, e.g. `sign-kernel-limit`.
    pub id: String,
    #[serde(rename = "family")]
    /// Topic, e.g. "infinite width".
    pub topic: String,
    /// One line.
    pub title: String,
    /// Where the statement comes from.
    pub source: String,
    /// The prediction in a few words.
    pub prediction: String,
    /// Statement, hypotheses, derivation, experiment, controls and meaning, as Markdown.
    pub statement: String,
    /// What was measured.
    pub findings: Findings,
    /// What follows.
    pub verdict: ClaimVerdict,
    /// Run time.
    pub seconds: f64,
}
