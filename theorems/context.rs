//! The context of an experiment: its budget, seeds, device and mutant.

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

/// Factor by which each look increases the number of seeds.
const GROWTH: f64 = 1.5;

/// The prediction itself, off by a number of tolerances: the simplest graded mutant, see [`Context::expected`].
pub(super) const SHIFTED: Graded = Graded { name: "shifted", change: "every predicted value a tolerance too large" };

/// The context of one experiment.
pub struct Context<'a> {
    /// The budget.
    pub profile: Profile,
    /// Seed of the whole run.
    pub seed: u64,
    /// Device of the networks.
    pub device: Device,
    /// Receives progress.
    pub monitor: &'a dyn Monitor,
    /// The deliberately wrong variant to run; `None` in a real run. Private, so that every dependence on it is recorded.
    mutant: Option<Variant>,
    /// Measurements shared by the claim and its mutants; without it each measures everything itself.
    memory: Option<&'a Memory>,
    /// Number of earlier looks with fewer seeds, if the experiment is repeated until it is decided.
    look: Option<usize>,
    /// The claim.
    claim: &'static str,
    /// Mutants that were asked about.
    asked: RefCell<BTreeSet<String>>,
}

impl Context<'static> {
    /// A silent context on the CPU.
    pub fn silent(profile: Profile, seed: u64) -> Self {
        Self::new(profile, seed, Device::Cpu, &Silent)
    }
}

impl<'a> Context<'a> {
    /// The context of the real experiment, not of a mutant.
    pub fn new(profile: Profile, seed: u64, device: Device, monitor: &'a dyn Monitor) -> Self {
        let asked = RefCell::default();
        Self { profile, seed, device, monitor, mutant: None, memory: None, look: None, claim: "", asked }
    }

    /// The same with shared measurements.
    #[must_use]
    pub fn sharing<'b>(self, memory: &'b Memory) -> Context<'b>
    where
        'a: 'b,
    {
        Context { memory: Some(memory), ..self }
    }

    /// The same for one of several looks, counted from 0. Each has half as many seeds again as the one before, and a share of
    /// the error rate, so that any of them may be the last.
    #[must_use]
    pub fn looking(self, look: usize) -> Self {
        Self { look: Some(look), ..self }
    }

    /// The same for an experiment of a claim or of its mutant, with no questions asked yet.
    pub(super) fn of<'b>(&self, claim: &'static str, mutant: Option<Variant>) -> Context<'b>
    where
        'a: 'b,
    {
        let Self { profile, seed, device, monitor, memory, look, .. } = *self;
        Context { profile, seed, device, monitor, mutant, memory, look, claim, asked: RefCell::default() }
    }
}

impl Context<'_> {
    /// Every experiment runs in double precision, because it measures differences of nearly equal numbers.
    pub const KIND: Kind = Kind::Double;

    /// Whether this run is this mutant. Anything measured after this question may depend on the answer.
    pub fn is(&self, mutant: impl Into<&'static str>) -> bool {
        let mutant = mutant.into();
        if !self.asked.borrow().contains(mutant) {
            self.asked.borrow_mut().insert(mutant.to_owned());
        }
        self.mutant.is_some_and(|m| m.name == mutant)
    }

    /// How far off this graded mutant is, in units of a tolerance; 0 if this run is not this mutant.
    pub fn off(&self, mutant: impl Into<&'static str>) -> f64 {
        let mutant = mutant.into();
        // A measurement also depends on the strength: one made at another strength does not replace it.
        self.asked.borrow_mut().extend(STRENGTHS.map(|strength| label(mutant, strength)));
        self.strength(|m| m.name == mutant)
    }

    /// An expected equality; for the graded mutant `SHIFTED`, with a target too large by its strength in tolerances.
    /// Measurements do not depend on expectations, so this does not count as a question for [`Memory`]: the mutant shares all
    /// of them.
    pub fn expected(&self, target: f64, tolerance: f64) -> Expectation {
        Expectation::Within { target: target + tolerance * self.strength(Variant::moves_prediction), tolerance }
    }

    /// The strength of this run's mutant if it is such a one, otherwise 0.
    fn strength(&self, such: impl Fn(&Variant) -> bool) -> f64 {
        self.mutant.filter(such).and_then(|m| m.strength).unwrap_or(0.0)
    }

    /// Whether this run is a mutant's. It may decide how much is measured, never what.
    pub fn is_mutant(&self) -> bool {
        self.mutant.is_some()
    }

    /// A measurement of a stage of the experiment at one x for one seed: that of the claim or of another mutant if it did not
    /// depend on which of them was run, otherwise `measure`'s. It must depend on nothing else.
    pub(super) fn shared<T: Clone + Send + Sync + 'static>(
        &self,
        stage: &str,
        x: f64,
        seed: usize,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(memory) = self.memory else { return measure() };
        let run = (self.profile, self.seed, device_name(self.device));
        let place = Place { claim: self.claim, run, stage: stage.to_owned(), x: x.to_bits(), seed };
        let mutant = self.mutant.map(|m| m.label());
        if let Some((measured, asked)) = memory.get::<T>(&place, mutant.as_deref()) {
            self.asked.borrow_mut().extend(asked);
            return Ok(measured);
        }
        let measured = measure()?;
        memory.put(place, mutant.as_deref(), self.asked.borrow().clone(), measured.clone());
        Ok(measured)
    }

    /// The same for a measurement that does not depend on what the experiment asked before it, but only on stage, x and seed and
    /// on what it asks itself: `measure` gets a context in which nothing was asked yet. A mutant of something else shares it.
    pub(super) fn independent<T: Clone + Send + Sync + 'static>(
        &self,
        stage: &str,
        x: f64,
        seed: usize,
        measure: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let own = self.of(self.claim, self.mutant);
        let measured = own.shared(stage, x, seed, || measure(&own));
        self.asked.borrow_mut().append(&mut own.asked.borrow_mut());
        measured
    }

    /// The value for this run's profile.
    pub fn pick<T>(&self, quick: T, standard: T, full: T) -> T {
        match self.profile {
            Profile::Quick => quick,
            Profile::Standard => standard,
            Profile::Full => full,
        }
    }

    /// The number of samples of an interval for this run's profile; more at each further look.
    pub fn samples(&self, quick: usize, standard: usize, full: usize) -> usize {
        let samples = self.pick(quick, standard, full);
        self.look.map_or(samples, |look| (samples as f64 * GROWTH.powi(look as i32)).ceil() as usize)
    }

    /// The same if each sample is a seed's; half of it for a gross mutant, which is far off.
    pub fn seeds(&self, quick: usize, standard: usize, full: usize) -> usize {
        let seeds = self.samples(quick, standard, full);
        // A graded mutant is as hard to detect as a violation of the claim.
        if self.mutant.is_some_and(|m| m.strength.is_none()) { seeds / 2 } else { seeds }
    }

    /// The number of random cases of an identity for this run's profile; fewer for a mutant, which is wrong in nearly every
    /// case.
    pub fn cases(&self, quick: usize, standard: usize, full: usize) -> usize {
        let cases = self.pick(quick, standard, full);
        if self.is_mutant() { cases / 4 } else { cases }
    }

    /// The seed of a named draw of this run, see [`crate::files::named_seed`].
    pub fn seed(&self, name: &str) -> u64 {
        crate::files::named_seed(self.seed, name)
    }

    /// Judges what a claim of this crate collected: the probability that any of its intervals misses is at most the claim's
    /// equal part of [`ERROR_RATE`], whichever other claims are run.
    pub fn judged(&self, collected: Collected) -> Findings {
        let parts = super::all_suites().into_iter().find(|(suite, _)| suite.iter().any(|c| c.id == self.claim));
        self.judged_among(parts.map_or(1, |(_, parts)| parts), collected)
    }

    /// The same for a claim of another crate, one of `claims` in its suite.
    pub fn judged_among(&self, claims: usize, collected: Collected) -> Findings {
        collected.judged(self.error_rate() / claims as f64)
    }

    /// The error rate of a suite in this look.
    fn error_rate(&self) -> f64 {
        ERROR_RATE * self.look.map_or(1.0, look_share)
    }
}

/// Name of a graded mutant with its strength.
pub(super) fn label(mutant: &str, strength: f64) -> String {
    format!("{mutant} x{strength}")
}
