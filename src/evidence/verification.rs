//! A run of a suite: its claims, its mutants and what failed.

use super::claim::{ClaimEvidence, Profile};
use super::mutant::{Fate, MutantResult};

/// A claim or a mutant whose experiment ended without findings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExperimentError {
    /// The claim.
    pub claim: String,
    #[serde(rename = "family")]
    /// Its topic.
    pub topic: String,
    /// Its prediction.
    pub prediction: String,
    /// The mutant, if it was one.
    pub mutant: Option<String>,
    /// What went wrong, in one line.
    pub message: String,
}

impl ExperimentError {
    /// The experiment's name: the claim, or the claim and the mutant.
    pub fn name(&self) -> String {
        self.mutant.as_ref().map_or_else(|| self.claim.clone(), |m| format!("{} / {m}", self.claim))
    }
}

/// Settings of a run of the suite.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct VerificationFacts {
    /// Version of the program.
    pub version: String,
    /// Profile of the claims.
    pub profile: Profile,
    /// Seed of all random draws.
    pub seed: u64,
    /// Device.
    pub device: String,
    /// Probability that any interval of a whole run misses its true value.
    pub error_rate: f64,
    /// Number of claims that share it.
    pub claims_in_registry: usize,
}

/// A run of the suite: `report.json`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verification {
    /// [`super::SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// What was run.
    pub run: VerificationFacts,
    /// The claims, in the registry's order.
    pub claims: Vec<ClaimEvidence>,
    /// The mutants that were run, if any.
    pub mutants: Vec<MutantResult>,
    /// Claims and mutants that could not be examined, and are in no other list.
    pub errors: Vec<ExperimentError>,
}

impl Verification {
    /// Whether no claim is violated, no control passes, no mutant survives or is wrongly caught, and every experiment
    /// finished.
    pub fn succeeded(&self) -> bool {
        self.errors.is_empty()
            && !self.claims.iter().any(|c| c.verdict.is_failure())
            && !self.fates().any(|(_, fate)| fate.is_failure())
    }

    /// The mutants, each with its fate.
    pub fn fates(&self) -> impl Iterator<Item = (&MutantResult, Fate)> {
        self.mutants.iter().map(|mutant| {
            let claim = self.claims.iter().find(|c| c.id == mutant.claim);
            (mutant, mutant.fate(claim.map(|c| &c.findings)))
        })
    }
}
