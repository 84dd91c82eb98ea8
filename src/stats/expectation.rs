//! The expectation of a check, and its three possible outcomes.

use serde::{Deserialize, Serialize};

use super::Estimate;

/// The accepted values of a number, including the edges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// At most `tolerance` away from `target`: an equivalence test.
    Within {
        /// The predicted value.
        target: f64,
        /// The accepted deviation.
        tolerance: f64,
    },
    /// At most `bound`.
    AtMost {
        /// The largest accepted value.
        bound: f64,
    },
    /// At least `bound`.
    AtLeast {
        /// The smallest accepted value.
        bound: f64,
    },
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole interval is accepted.
    Holds,
    /// Nothing of the interval is accepted.
    Violated,
    /// The interval is partly accepted: more samples are needed.
    Underpowered,
}

impl Expectation {
    /// Smallest and largest accepted values, possibly infinite.
    pub(super) fn region(self) -> (f64, f64) {
        match self {
            Self::Within { target, tolerance } => (target - tolerance, target + tolerance),
            Self::AtMost { bound } => (f64::NEG_INFINITY, bound),
            Self::AtLeast { bound } => (bound, f64::INFINITY),
        }
    }

    /// Compares an interval with the accepted values. Whatever the truth, the probability of a wrong `Holds` is at most (1 -
    /// confidence)/2, and so is that of a wrong `Violated` (up to the error of the interval's method): each requires one
    /// particular limit to be wrong.
    ///
    /// A value that is not finite is a violation, whatever its interval (a diverged run must not count as a lack of
    /// samples); a finite value with an infinite limit is underpowered.
    pub fn judge(&self, estimate: &Estimate) -> Outcome {
        let (lower, upper) = self.region();
        let Estimate { value, low, high, .. } = *estimate;
        if !value.is_finite() {
            Outcome::Violated
        } else if !(low.is_finite() && high.is_finite()) {
            Outcome::Underpowered
        } else if lower <= low && high <= upper {
            Outcome::Holds
        } else if high < lower || upper < low {
            Outcome::Violated
        } else {
            Outcome::Underpowered
        }
    }
}
