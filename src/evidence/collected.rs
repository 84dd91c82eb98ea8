//! Measurements of a claim before intervals are computed: its error rate is divided by the final number of intervals.

use super::{Check, Figure, Findings, Table};
use crate::stats::{Estimate, Expectation, clopper_pearson, sequential_mean, student_mean};

/// A measured quantity with its expectation, whose interval is computed when its confidence level is known.
pub struct Open {
    /// Whether it has a sampling error.
    sampled: bool,
    judge: Box<dyn FnOnce(f64) -> Check>,
}

impl Open {
    /// A quantity with a function that computes its interval at a confidence level.
    pub fn new(
        name: impl Into<String>,
        expectation: Expectation,
        estimate: impl FnOnce(f64) -> Estimate + 'static,
    ) -> Self {
        let name = name.into();
        Self::judged(move |confidence| Check::judged(name, expectation, estimate(confidence)))
    }

    /// A check made by other rules, e.g. of many simultaneous intervals. It counts as one interval, and its error
    /// probabilities must sum to at most 1 minus the confidence level passed to the function.
    pub fn judged(judge: impl FnOnce(f64) -> Check + 'static) -> Self {
        Self { sampled: true, judge: Box::new(judge) }
    }

    /// The mean of independent samples.
    pub fn mean(name: impl Into<String>, expectation: Expectation, samples: Vec<f64>) -> Self {
        Self::new(name, expectation, move |confidence| student_mean(&samples, confidence))
    }

    /// The same where samples were added after looks: the interval is a confidence sequence.
    pub fn sequence(name: impl Into<String>, expectation: Expectation, samples: Vec<f64>) -> Self {
        Self::new(name, expectation, move |confidence| sequential_mean(&samples, confidence))
    }

    /// A proportion of independent trials.
    pub fn proportion(name: impl Into<String>, expectation: Expectation, successes: usize, trials: usize) -> Self {
        Self::new(name, expectation, move |confidence| clopper_pearson(successes, trials, confidence))
    }
}

/// A check without sampling error.
impl From<Check> for Open {
    fn from(check: Check) -> Self {
        Self { sampled: false, judge: Box::new(|_| check) }
    }
}

/// [`Findings`] whose intervals are not computed yet.
#[derive(Default)]
pub struct Collected {
    /// Settings of the experiment: name and value.
    pub settings: Vec<(String, String)>,
    /// Hypotheses of the claim.
    pub hypotheses: Vec<Open>,
    /// Predictions of the claim.
    pub checks: Vec<Open>,
    /// Controls: the same predictions where they must fail.
    pub controls: Vec<Open>,
    /// Tables of the section.
    pub tables: Vec<Table>,
    /// Plots of the section.
    pub figures: Vec<Figure>,
    /// Notes on the measurement, one paragraph each.
    pub notes: Vec<String>,
}

impl Collected {
    /// Number of intervals.
    pub fn intervals(&self) -> usize {
        [&self.hypotheses, &self.checks, &self.controls].into_iter().flatten().filter(|open| open.sampled).count()
    }

    /// Computes the intervals, with a total error probability of at most `error` (Bonferroni), and judges the checks.
    pub fn judged(self, error: f64) -> Findings {
        let confidence = 1.0 - error / self.intervals().max(1) as f64;
        let all = |open: Vec<Open>| open.into_iter().map(|open| (open.judge)(confidence)).collect();
        Findings {
            settings: self.settings,
            hypotheses: all(self.hypotheses),
            checks: all(self.checks),
            controls: all(self.controls),
            tables: self.tables,
            figures: self.figures,
            notes: self.notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BELOW: Expectation = Expectation::AtMost { bound: 3.0 };

    fn mean() -> Open {
        Open::mean("a mean", BELOW, vec![1.0, 2.0, 1.5])
    }

    fn exact() -> Open {
        Check::judged("an identity", BELOW, Estimate::exact(0.0, 5)).into()
    }

    /// The error rate is spent to the last part, by whatever there is; what is exact takes none of it.
    #[test]
    fn intervals_are_counted() {
        for (means, exacts) in [(1, 0), (3, 2), (7, 1)] {
            let checks = (0..means).map(|_| mean()).chain((0..exacts).map(|_| exact())).collect();
            let controls = vec![Open::proportion("a proportion", BELOW, 3, 9), exact()];
            let collected = Collected { checks, controls, ..Collected::default() };
            assert_eq!(collected.intervals(), means + 1);
            let findings = collected.judged(1e-3);
            assert!((findings.error_rate() - 1e-3).abs() < 1e-12, "{means}: {}", findings.error_rate());
            assert_eq!(findings.checks.len(), means + exacts);
        }
        let none = Collected { checks: vec![exact()], ..Collected::default() };
        assert_eq!(none.judged(1e-3).error_rate(), 0.0);
    }
}
