//! Runs claims and their mutants in parallel, and collects the results.
//!
//! Knows claims and evidence; knows no terminal (progress goes to a [`Listener`]) and no report. Results are in the order of
//! the claims, whichever finishes first. Finished experiments are stored at once, so that an interrupted run can continue;
//! [`forget`] makes the next run start over.

mod pool;
mod store;

use std::path::Path;
use std::time::Duration;

use tch::Device;

use crate::device::device_name;
use crate::error::Result;
use crate::evidence::{
    ClaimEvidence, ExperimentError, MutantResult, Profile, SCHEMA_VERSION, Verification, VerificationFacts,
};
use crate::files::without_directories;
use crate::theorems::{Claim, Variant, suites};

pub use store::forget;

/// What to run.
#[derive(Clone)]
pub struct VerifySettings {
    /// Profile of the claims. Mutants always use the quick profile: a check too weak to notice them there is too weak.
    pub profile: Profile,
    /// Seed of all random draws.
    pub seed: u64,
    /// The claims, in the order of the report.
    pub claims: Vec<&'static Claim>,
    /// Whether to run the claims' mutants as well.
    pub mutants: bool,
    /// Device of the networks.
    pub device: Device,
    /// Number of parallel experiments, each with one libtorch thread; on a GPU always one.
    pub jobs: usize,
    /// Whether to repeat undecided claims with more seeds, and for how long.
    pub until_decided: Option<UntilDecided>,
}

/// Adds seeds to a claim until it holds or is violated. Interim looks share its error rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UntilDecided {
    /// No look starts after this time.
    pub at_most: Option<Duration>,
}

impl VerifySettings {
    /// The experiments, claims first.
    pub fn experiments(&self) -> Vec<Experiment> {
        let claims = self.claims.iter().map(|claim| Experiment { claim, mutant: None });
        let mutants = self.claims.iter().flat_map(|claim| {
            let all = if self.mutants { claim.variants() } else { Vec::new() };
            all.into_iter().map(|mutant| Experiment { claim, mutant: Some(mutant) })
        });
        claims.chain(mutants).collect()
    }
}

/// A claim, or one of its mutants.
#[derive(Clone, Copy)]
pub struct Experiment {
    /// The claim.
    pub claim: &'static Claim,
    /// The mutant, if it is one.
    pub mutant: Option<Variant>,
}

impl Experiment {
    /// The claim's identifier, or `claim / mutant`.
    pub fn name(&self) -> String {
        self.mutant.map_or_else(|| self.claim.id.to_owned(), |m| format!("{} / {}", self.claim.id, m.label()))
    }

    fn profile(&self, settings: &VerifySettings) -> Profile {
        if self.mutant.is_some() { Profile::Quick } else { settings.profile }
    }
}

/// Progress of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It starts.
    Started,
    /// A stage starts, with this many units.
    Stage(String, u64),
    /// This many more units are done.
    Advanced(u64),
    /// The stage is over.
    StageEnded,
    /// A note for the user.
    Note(String),
    /// It is over.
    Finished {
        /// The result in a few words.
        result: String,
        /// Run time.
        seconds: f64,
        /// Whether the result was stored by an interrupted run.
        stored: bool,
    },
}

/// Receives progress, always on the thread that called [`run`].
pub trait Listener {
    /// Called for every event of an experiment.
    fn hear(&self, experiment: &Experiment, event: &Event);
}

impl Listener for crate::progress::Silent {
    fn hear(&self, _: &Experiment, _: &Event) {}
}

/// The outcome of an experiment.
enum Done {
    Claim(Box<ClaimEvidence>),
    Mutant(MutantResult),
    Error(ExperimentError),
}

/// Runs the claims. An experiment that fails or panics is listed in the result's errors and does not affect others. Finished
/// experiments are stored in `out_dir`; call [`forget`] after writing their report.
///
/// # Errors
/// [`crate::error::Error::Interrupted`] after a cancellation; [`crate::error::Error::Io`] if a result cannot be stored.
pub fn run(settings: &VerifySettings, out_dir: &Path, listener: &dyn Listener) -> Result<Verification> {
    let store = store::Store::open(out_dir, settings)?;
    let (claims_in_registry, error_rate) = suites(&settings.claims);
    let mut verification = Verification {
        schema_version: SCHEMA_VERSION,
        run: VerificationFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: settings.profile,
            seed: settings.seed,
            device: device_name(settings.device),
            error_rate,
            claims_in_registry,
        },
        claims: Vec::new(),
        mutants: Vec::new(),
        errors: Vec::new(),
    };
    for done in pool::work(settings, &store, listener)? {
        match done {
            Done::Claim(claim) => verification.claims.push(*claim),
            Done::Mutant(mutant) => verification.mutants.push(mutant),
            Done::Error(error) => {
                let message = without_directories(&error.message);
                verification.errors.push(ExperimentError { message, ..error });
            }
        }
    }
    Ok(verification)
}
