//! What every experiment gets: how much it may spend, its seeds, its device, and which mutant to be.

use std::cell::RefCell;
use std::collections::BTreeSet;

use tch::{Device, Kind};

use super::memory::{Memory, Place};
use super::{Graded, STRENGTHS, Variant};
use crate::device::device_name;
use crate::error::Result;
use crate::evidence::{Collected, Findings, Profile};
use crate::progress::{Monitor, Silent};
use crate::stats::{Expectation, look_share};

/// Probability that any interval of a whole run of the suite misses its true value.
pub const ERROR_RATE: f64 = 1e-3;

/// By how much the seeds of a look exceed those of the one before.
const GROWTH: f64 = 1.5;

/// The prediction itself, off by so many tolerances: the plainest graded mutant, see [`Context::expected`].
pub(super) const SHIFTED: Graded = Graded { name: "shifted", change: "every predicted value a tolerance too large" };

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
    /// The deliberately wrong variant to run, by name; none in a real run. Private, so that nothing depends on it unasked.
    mutant: Option<Variant>,
    /// Where the claim and its mutants share measurements; each measures everything itself where there is none.
    memory: Option<&'a Memory>,
    /// How often the experiment was looked at before with fewer seeds, where it is looked at until it is decided.
    look: Option<usize>,
    /// The claim.
    claim: &'static str,
    /// Mutants that were asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl Context<'static> {
    /// A silent context on the CPU.
    pub fn silent(profile: Profile, seed: u64) -> Self {
        Self::new(profile, seed, Device::Cpu, &Silent)
    }
}

impl<'a> Context<'a> {
    /// Surroundings of the real experiment, not of a mutant.
    pub fn new(profile: Profile, seed: u64, device: Device, monitor: &'a dyn Monitor) -> Self {
        let asked = RefCell::default();
        Self { profile, seed, device, monitor, mutant: None, memory: None, look: None, claim: "", asked }
    }

    /// The same, where measurements are shared.
    #[must_use]
    pub fn sharing<'b>(self, memory: &'b Memory) -> Context<'b>
    where
        'a: 'b,
    {
        Context { memory: Some(memory), ..self }
    }

    /// The same for one of several looks, counted from 0: each has half as many seeds again as the one before, and a share of the error
    /// rate, so that they may end with any of them.
    #[must_use]
    pub fn looking(self, look: usize) -> Self {
        Self { look: Some(look), ..self }
    }

    /// The same for an experiment of a claim or of its mutant, which has asked for nothing yet.
    pub(super) fn of<'b>(&self, claim: &'static str, mutant: Option<Variant>) -> Context<'b>
    where
        'a: 'b,
    {
        let Self { profile, seed, device, monitor, memory, look, .. } = *self;
        Context { profile, seed, device, monitor, mutant, memory, look, claim, asked: RefCell::default() }
    }
}

impl Context<'_> {
    /// Every experiment runs in double precision: what it measures are differences of nearly equal numbers.
    pub const KIND: Kind = Kind::Double;

    /// Whether this run is this mutant. What is measured after the question may depend on it.
    pub fn is(&self, mutant: impl Into<&'static str>) -> bool {
        let mutant = mutant.into();
        if !self.asked.borrow().contains(mutant) {
            self.asked.borrow_mut().insert(mutant.to_owned());
        }
        self.mutant.is_some_and(|m| m.name == mutant)
    }

    /// How far off this graded mutant is, in units of a tolerance; 0 where this run is not it.
    pub fn off(&self, mutant: impl Into<&'static str>) -> f64 {
        let mutant = mutant.into();
        // A measurement depends on the strength too: one that was made at another does not stand for it.
        self.asked.borrow_mut().extend(STRENGTHS.map(|strength| label(mutant, strength)));
        self.strength(mutant)
    }

    /// An expected equality; for the graded mutant `SHIFTED` with a target that is so many tolerances too large. No measurement
    /// depends on what is expected, so that this is no question in the sense of [`Memory`]: the mutant shares them all.
    pub fn expected(&self, target: f64, tolerance: f64) -> Expectation {
        Expectation::Within { target: target + tolerance * self.strength(SHIFTED.name), tolerance }
    }

    /// The strength of this run's mutant, where it is the named one; 0 otherwise.
    fn strength(&self, mutant: &str) -> f64 {
        self.mutant.filter(|m| m.name == mutant).and_then(|m| m.strength).unwrap_or(0.0)
    }

    /// Whether this run is a mutant's: this may decide how much is measured, never what.
    pub fn is_mutant(&self) -> bool {
        self.mutant.is_some()
    }

    /// A measurement at an x of a stage of the experiment for a seed: from the claim or another mutant where it did not depend
    /// on which of them was run, else `measure`'s. It must depend on nothing else.
    pub(super) fn shared(
        &self,
        stage: &str,
        x: f64,
        seed: usize,
        measure: impl FnOnce() -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        let Some(memory) = self.memory else { return measure() };
        let run = (self.profile, self.seed, device_name(self.device));
        let place = Place { claim: self.claim, run, stage: stage.to_owned(), x: x.to_bits(), seed };
        let mutant = self.mutant.map(|m| m.label());
        if let Some((values, asked)) = memory.get(&place, mutant.as_deref()) {
            self.asked.borrow_mut().extend(asked);
            return Ok(values);
        }
        let values = measure()?;
        memory.put(place, mutant.as_deref(), self.asked.borrow().clone(), values.clone());
        Ok(values)
    }

    /// The value for this run's profile.
    pub fn pick<T>(&self, quick: T, standard: T, full: T) -> T {
        match self.profile {
            Profile::Quick => quick,
            Profile::Standard => standard,
            Profile::Full => full,
        }
    }

    /// The number of samples of an interval for this run's profile, and more at each further look.
    pub fn samples(&self, quick: usize, standard: usize, full: usize) -> usize {
        let samples = self.pick(quick, standard, full);
        self.look.map_or(samples, |look| (samples as f64 * GROWTH.powi(look as i32)).ceil() as usize)
    }

    /// The same where each sample is a seed's; a mutant, which is wrong by much, needs only half.
    pub fn seeds(&self, quick: usize, standard: usize, full: usize) -> usize {
        let seeds = self.samples(quick, standard, full);
        // A graded one is as hard to see as what the claim asks about.
        if self.mutant.is_some_and(|m| m.strength.is_none()) { seeds / 2 } else { seeds }
    }

    /// A number of random cases of an identity for this run's profile; a mutant is wrong in nearly every case.
    pub fn cases(&self, quick: usize, standard: usize, full: usize) -> usize {
        let cases = self.pick(quick, standard, full);
        if self.is_mutant() { cases / 4 } else { cases }
    }

    /// The seed of a named draw of this run, see [`crate::files::named_seed`].
    pub fn seed(&self, name: &str) -> u64 {
        crate::files::named_seed(self.seed, name)
    }

    /// Judges what a claim of this crate collected: its intervals together miss with probability at most its equal part of
    /// [`ERROR_RATE`], whichever other claims are run.
    pub fn judged(&self, collected: Collected) -> Findings {
        let parts = super::all_suites().into_iter().find(|(suite, _)| suite.iter().any(|c| c.id == self.claim));
        self.judged_among(parts.map_or(1, |(_, parts)| parts), collected)
    }

    /// The same for a claim outside this crate, one of `claims` of a suite of its own.
    pub fn judged_among(&self, claims: usize, collected: Collected) -> Findings {
        collected.judged(self.error_rate() / claims as f64)
    }

    /// What a suite may spend in this look.
    fn error_rate(&self) -> f64 {
        ERROR_RATE * self.look.map_or(1.0, look_share)
    }
}

/// Name of a graded mutant with its strength.
pub(super) fn label(mutant: &str, strength: f64) -> String {
    format!("{mutant} x{strength}")
}
