//! The fate of a mutant, a deliberately wrong implementation or formula.

use super::claim::{ClaimVerdict, Findings};
use crate::stats::Outcome;

/// The outcome for a deliberately wrong implementation or formula.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MutantResult {
    /// The claim that must notice it.
    pub claim: String,
    /// Its name.
    pub mutant: String,
    /// Its deviation, in tolerances of the check that must notice it; `None` for a gross error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// What was changed.
    pub change: String,
    /// Whether only what is predicted was moved, and nothing measured anew: a test of the judging, not of what measures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_prediction: bool,
    /// The claim's verdict under it.
    pub verdict: ClaimVerdict,
    /// The checks that were violated, by name.
    pub caught_by: Vec<String>,
    /// Run time.
    pub seconds: f64,
}

/// The fate of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing noticed it although something must.
    Survived,
    /// A check was violated by a deviation within its tolerance.
    WronglyCaught,
    /// It was noticed only by checks that the claim itself does not pass, which says nothing about the mutant.
    Undecided,
    /// It was not noticed and need not be: it is graded, and below two tolerances.
    Passes,
    /// A check noticed it.
    Caught,
}

impl Fate {
    /// Whether a check proved too weak or too strict.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Survived | Self::WronglyCaught)
    }

    /// Text in reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Survived => "survived",
            Self::WronglyCaught => "wrongly caught",
            Self::Undecided => "undecided",
            Self::Passes => "passes",
            Self::Caught => "caught",
        }
    }
}

impl MutantResult {
    /// Whether a check must notice it: it is gross, or off by two tolerances or more.
    pub fn must_be_noticed(&self) -> bool {
        self.strength.is_none_or(|strength| strength >= 2.0)
    }

    /// Whether no check may notice it: it is off by less than a tolerance.
    pub fn must_pass(&self) -> bool {
        self.strength.is_some_and(|strength| strength < 1.0)
    }

    /// Its fate, given the findings for the claim itself, if there are any.
    pub fn fate(&self, claim: Option<&Findings>) -> Fate {
        let own = |name: &str| claim.and_then(|c| c.checks.iter().find(|c| c.name == name)).map(|c| c.outcome);
        // An undecided check may be tipped by any small deviation; it takes a large one to count as noticed.
        let silent = |check: &String| match own(check) {
            Some(Outcome::Violated) => true,
            Some(Outcome::Underpowered) => self.must_pass(),
            Some(Outcome::Holds) | None => false,
        };
        if self.caught_by.is_empty() {
            if self.must_be_noticed() { Fate::Survived } else { Fate::Passes }
        } else if self.caught_by.iter().all(silent) {
            Fate::Undecided
        } else if self.must_pass() {
            Fate::WronglyCaught
        } else {
            Fate::Caught
        }
    }

    /// Its name with its strength.
    pub fn label(&self) -> String {
        self.strength.map_or_else(|| self.mutant.clone(), |strength| format!("{} x{strength}", self.mutant))
    }
}
