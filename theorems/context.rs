//! What every experiment gets: how much it may spend, its seeds, its device, and which mutant to be.

use tch::{Device, Kind};

use crate::evidence::Profile;
use crate::progress::{Monitor, Silent};

/// Probability that any interval of a whole run of the suite misses its true value.
pub const ERROR_RATE: f64 = 1e-3;

/// Surroundings of one experiment.
pub struct Context<'a> {
    /// How much to spend.
    pub profile: Profile,
    /// Seed of the whole run.
    pub seed: u64,
    /// Where networks live.
    pub device: Device,
    /// Who hears of progress.
    pub monitor: &'a dyn Monitor,
    /// The deliberately wrong variant to run, by name; none in a real run.
    pub mutant: Option<&'a str>,
}

impl Context<'static> {
    /// A silent context on the CPU.
    pub fn silent(profile: Profile, seed: u64) -> Self {
        Self { profile, seed, device: Device::Cpu, monitor: &Silent, mutant: None }
    }
}

impl Context<'_> {
    /// Every experiment runs in double precision: what it measures are differences of nearly equal numbers.
    pub const KIND: Kind = Kind::Double;

    /// Whether this run is the named mutant.
    pub fn is(&self, mutant: &str) -> bool {
        self.mutant == Some(mutant)
    }

    /// The value for this run's profile.
    pub fn pick<T>(&self, quick: T, standard: T, full: T) -> T {
        match self.profile {
            Profile::Quick => quick,
            Profile::Standard => standard,
            Profile::Full => full,
        }
    }

    /// A number of seeds for this run's profile; a mutant, which is wrong by much, needs only half.
    pub fn seeds(&self, quick: usize, standard: usize, full: usize) -> usize {
        let seeds = self.pick(quick, standard, full);
        if self.mutant.is_some() { seeds / 2 } else { seeds }
    }

    /// The seed of a named draw of this run, see [`crate::files::named_seed`].
    pub fn seed(&self, name: &str) -> u64 {
        crate::files::named_seed(self.seed, name)
    }

    /// Confidence of each of `intervals` intervals of one claim, so that all intervals of all claims together miss with
    /// probability [`ERROR_RATE`] at most (Bonferroni; the share of a claim does not depend on which others are run).
    pub fn confidence(&self, intervals: usize) -> f64 {
        share(super::registry(), intervals)
    }

    /// The same for a claim on tensor programs, whose suite has an error rate of its own.
    pub fn program_confidence(&self, intervals: usize) -> f64 {
        share(super::program_registry(), intervals)
    }

    /// The same for a claim on pre-trained networks.
    pub fn family_confidence(&self, intervals: usize) -> f64 {
        share(super::family_registry(), intervals)
    }
}

/// Confidence of each of `intervals` intervals of a claim of this suite.
fn share(suite: &[super::Claim], intervals: usize) -> f64 {
    1.0 - ERROR_RATE / (suite.len() * intervals) as f64
}
