//! Runs claims and their mutants, several at a time, and collects what came out.
//!
//! Knows claims and evidence; knows no terminal (who wants to hear of progress is a [`Listener`]) and no report.
//! Whatever finishes first, results come in the order of the claims. What is finished is stored at once, so that an
//! interrupted run continues where it was; [`forget`] makes the next run measure anew.

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
    /// How much the claims spend. Mutants always have the quick profile: a check too weak to notice them there is too
    /// weak everywhere.
    pub profile: Profile,
    /// Seed from which every draw follows.
    pub seed: u64,
    /// The claims, in the order of the report.
    pub claims: Vec<&'static Claim>,
    /// Whether to run the claims' mutants as well.
    pub mutants: bool,
    /// Where networks live.
    pub device: Device,
    /// Experiments at a time, each on one thread of libtorch; on a GPU there is always only one.
    pub jobs: usize,
    /// Whether claims that cannot be decided are looked at again with more seeds, and for how long.
    pub until_decided: Option<UntilDecided>,
}

/// Adds seeds to a claim until it holds or is violated. The looks share its error rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UntilDecided {
    /// No look is begun after this time.
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

/// One claim, or one of its mutants in its place.
#[derive(Clone, Copy)]
pub struct Experiment {
    /// The claim.
    pub claim: &'static Claim,
    /// The mutant, where it is one.
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

/// What a listener learns of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It begins.
    Started,
    /// A stage begins, with this many units.
    Stage(String, u64),
    /// So many units more are done.
    Advanced(u64),
    /// The stage is over.
    StageEnded,
    /// Something the user should know.
    Note(String),
    /// It is over.
    Finished {
        /// What came out, in a few words.
        result: String,
        /// Run time.
        seconds: f64,
        /// Whether an interrupted run had left the result.
        stored: bool,
    },
}

/// Hears of progress, always on the thread that called [`run`].
pub trait Listener {
    /// An experiment has something to say.
    fn hear(&self, experiment: &Experiment, event: &Event);
}

impl Listener for crate::progress::Silent {
    fn hear(&self, _: &Experiment, _: &Event) {}
}

/// What became of an experiment.
enum Done {
    Claim(Box<ClaimEvidence>),
    Mutant(MutantResult),
    Error(ExperimentError),
}

/// Runs the claims. An experiment that fails or panics is among the errors of the result and takes no other with it.
/// Finished experiments are stored below `out_dir`; call [`forget`] when their report is written.
///
/// # Errors
/// [`crate::error::Error::Interrupted`] once a stop was requested; [`crate::error::Error::Io`] where a result cannot
/// be stored.
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
