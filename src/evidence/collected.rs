//! What a claim measured, before any interval is made: its error rate is divided among as many intervals as there turn out to be.

use super::{Check, Figure, Findings, Table};
use crate::stats::{Estimate, Expectation, clopper_pearson, student_mean};

/// A measured quantity beside its expectation, whose interval waits for its confidence.
pub struct Open {
    /// Whether it has a sampling error.
    sampled: bool,
    judge: Box<dyn FnOnce(f64) -> Check>,
}

impl Open {
    /// A quantity with the function that gives its interval at a confidence.
    pub fn new(
        name: impl Into<String>,
        expectation: Expectation,
        estimate: impl FnOnce(f64) -> Estimate + 'static,
    ) -> Self {
        let name = name.into();
        Self::judged(move |confidence| Check::judged(name, expectation, estimate(confidence)))
    }

    /// A check that is made by other rules, e.g. of many intervals that hold together. They take the part of one, and their error
    /// probabilities must not sum to more than 1 less the confidence that the function gets.
    pub fn judged(judge: impl FnOnce(f64) -> Check + 'static) -> Self {
        Self { sampled: true, judge: Box::new(judge) }
    }

    /// The mean of independent samples.
    pub fn mean(name: impl Into<String>, expectation: Expectation, samples: Vec<f64>) -> Self {
        Self::new(name, expectation, move |confidence| student_mean(&samples, confidence))
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

/// [`Findings`] whose intervals are not made yet.
#[derive(Default)]
pub struct Collected {
    /// Settings of the experiment: name and value.
    pub settings: Vec<(String, String)>,
    /// What the claim presupposes.
    pub hypotheses: Vec<Open>,
    /// What the claim predicts.
    pub checks: Vec<Open>,
    /// The same predictions where they must fail.
    pub controls: Vec<Open>,
    /// Tables of the section.
    pub tables: Vec<Table>,
    /// Plots of the section.
    pub figures: Vec<Figure>,
    /// Remarks that depend on the measurement, one paragraph each.
    pub notes: Vec<String>,
}

impl Collected {
    /// Number of intervals.
    pub fn intervals(&self) -> usize {
        [&self.hypotheses, &self.checks, &self.controls].into_iter().flatten().filter(|open| open.sampled).count()
    }

    /// Makes the intervals, each as wide as needed for all together to miss with probability `error` at most (Bonferroni), and
    /// judges.
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
