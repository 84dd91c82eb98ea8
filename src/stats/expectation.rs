//! What a check expects of a number, and the three ways in which it can come out.

use serde::{Deserialize, Serialize};

use super::Estimate;

/// The values of a number that are accepted; the edges belong to them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// At most `tolerance` away from `target`: an equivalence test.
    Within {
        /// The predicted value.
        target: f64,
        /// How far from it is still accepted.
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

/// How an expectation came out.
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
    /// Smallest and largest accepted value, infinite where there is none.
    pub(super) fn region(self) -> (f64, f64) {
        match self {
            Self::Within { target, tolerance } => (target - tolerance, target + tolerance),
            Self::AtMost { bound } => (f64::NEG_INFINITY, bound),
            Self::AtLeast { bound } => (bound, f64::INFINITY),
        }
    }

    /// Compares an interval with the accepted values. Wherever the truth is, the probability of a wrong `Holds` is at
    /// most (1 - confidence)/2, and so is that of a wrong `Violated` (up to what the interval's method itself is wrong
    /// by): each needs one particular limit to be wrong.
    ///
    /// A value that is not finite is a violation, whatever its interval (a diverged run must not pass for a lack of
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
