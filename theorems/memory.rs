//! Measurements shared by a claim and its mutants: what a mutant does not change is measured once.
//!
//! A mutant is a different answer to [`Context::is`]. A measurement depends on the mutant only through the questions asked
//! before its end, so it also holds for every mutant with the same answers to all of them.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::evidence::Profile;

/// The measurements of one process, for any number of claims.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Place, Vec<Kept>>>);

/// The key of a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The claim.
    pub claim: &'static str,
    /// Profile, seed and device of the run.
    pub run: (Profile, u64, String),
    /// The stage of the experiment.
    pub stage: String,
    /// Bits of its x.
    pub x: u64,
    /// Number of its seed.
    pub seed: usize,
}

/// A measurement, with the mutants that were asked about before its end.
#[derive(Clone, Debug)]
struct Kept {
    mutant: Option<String>,
    asked: BTreeSet<String>,
    measured: Arc<dyn Any + Send + Sync>,
}

impl Memory {
    /// The measurement for a key that also holds for this mutant, with the questions that it depends on.
    pub(super) fn get<T: Clone + 'static>(&self, place: &Place, mutant: Option<&str>) -> Option<(T, BTreeSet<String>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |kept: &&Kept| {
            let answer = |asked: &str, mutant: Option<&str>| mutant == Some(asked);
            kept.asked.iter().all(|asked| answer(asked, mutant) == answer(asked, kept.mutant.as_deref()))
        };
        let kept = all.get(place)?.iter().find(same)?;
        Some((kept.measured.downcast_ref::<T>().expect("one type for each stage").clone(), kept.asked.clone()))
    }

    /// Stores a measurement.
    pub(super) fn put<T: Send + Sync + 'static>(
        &self,
        place: Place,
        mutant: Option<&str>,
        asked: BTreeSet<String>,
        measured: T,
    ) {
        let kept = Kept { mutant: mutant.map(str::to_owned), asked, measured: Arc::new(measured) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default().push(kept);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::Variant;
    use super::super::context::Context;
    use super::super::scan::Scan;
    use super::*;

    #[test]
    fn a_measurement_stands_for_mutants_that_answer_alike() {
        let memory = Memory::default();
        let place = |seed| Place {
            claim: "claim",
            run: (Profile::Quick, 13, "cpu".into()),
            stage: "stage".into(),
            x: 1f64.to_bits(),
            seed,
        };
        let asked: BTreeSet<String> = ["half".to_owned()].into();
        memory.put(place(0), None, asked.clone(), vec![1.0]);
        // The other mutant got the same answer, `no`; this one would have got `yes`.
        assert_eq!(memory.get(&place(0), Some("other")), Some((vec![1.0], asked.clone())));
        assert_eq!(memory.get::<Vec<f64>>(&place(0), Some("half")), None);
        assert_eq!(memory.get::<Vec<f64>>(&place(1), None), None);
        memory.put(place(0), Some("half"), asked.clone(), vec![2.0]);
        assert_eq!(memory.get(&place(0), Some("half")), Some((vec![2.0], asked.clone())));
        assert_eq!(memory.get(&place(0), None), Some((vec![1.0], asked)));
        // No question was asked, so it holds for all.
        memory.put(place(2), Some("half"), BTreeSet::new(), vec![3.0]);
        assert_eq!(memory.get(&place(2), None), Some((vec![3.0], BTreeSet::new())));
    }

    #[test]
    fn an_experiment_measures_again_only_what_a_mutant_changes() {
        let (memory, measured) = (Memory::default(), Cell::new(0));
        let experiment = |mutant: Option<&'static str>| {
            let mutant = mutant.map(|name| Variant { name, change: "", strength: None });
            let context = Context::silent(Profile::Quick, 13).sharing(&memory).of("claim", mutant);
            let size = if context.is("larger") { 2.0 } else { 1.0 };
            let scan = |stage: &str| {
                Scan::over(&context, stage, &[1.0, 2.0], 3, &["y"], |x, seed| {
                    measured.set(measured.get() + 1);
                    let inside = if stage == "second" && context.is("steeper") { 2.0 } else { 1.0 };
                    Ok(vec![size * (seed as f64 + 1.0) * x.powf(inside)])
                })
                .expect("a scan")
            };
            let (first, second) = (scan("first"), scan("second"));
            let factor = if context.is("factor") { 3.0 } else { 1.0 };
            let before = measured.replace(0);
            (first.last("y"), second.last("y"), factor, before)
        };
        let (one, two) = (vec![2.0, 4.0, 6.0], vec![4.0, 8.0, 12.0]);
        assert_eq!(experiment(None), (one.clone(), one.clone(), 1.0, 12));
        // Asked after both scans, only in the second, and before both.
        assert_eq!(experiment(Some("factor")), (one.clone(), one.clone(), 3.0, 0));
        assert_eq!(experiment(Some("steeper")), (one.clone(), two.clone(), 1.0, 6));
        assert_eq!(experiment(Some("larger")), (two.clone(), two, 1.0, 12));
        assert_eq!(experiment(None), (one.clone(), one, 1.0, 0));
    }

    /// What the experiment asked before is no part of an independent measurement; what the measurement asks is, and the
    /// experiment's later ones then depend on it.
    #[test]
    fn an_independent_measurement_knows_only_its_own_questions() {
        let (memory, measured) = (Memory::default(), Cell::new(0));
        let experiment = |mutant: Option<&'static str>| {
            let mutant = mutant.map(|name| Variant { name, change: "", strength: None });
            let context = Context::silent(Profile::Quick, 13).sharing(&memory).of("claim", mutant);
            let before = if context.is("before") { 2.0 } else { 1.0 };
            let count = || measured.set(measured.get() + 1);
            let inside = context.independent("stage", 1.0, 0, |own| {
                count();
                Ok(vec![if own.is("inside") { 3.0 } else { 1.0 }])
            });
            let after = context.shared("after", 1.0, 0, || {
                count();
                Ok(vec![if context.is("inside") { 3.0 } else { 1.0 }])
            });
            (before, inside.expect("a number")[0], after.expect("a number")[0], measured.replace(0))
        };
        assert_eq!(experiment(None), (1.0, 1.0, 1.0, 2));
        assert_eq!(experiment(Some("before")), (2.0, 1.0, 1.0, 1));
        assert_eq!(experiment(Some("inside")), (1.0, 3.0, 3.0, 2));
        assert_eq!(experiment(Some("other")), (1.0, 1.0, 1.0, 0));
    }

    /// Every strength of a graded mutant is measured separately, and none of them holds for the claim.
    #[test]
    fn strengths_are_different_mutants() {
        let memory = Memory::default();
        let experiment = |strength: Option<f64>| {
            let mutant = strength.map(|s| Variant { name: "steeper", change: "", strength: Some(s) });
            let context = Context::silent(Profile::Quick, 13).sharing(&memory).of("claim", mutant);
            let scan = Scan::over(&context, "stage", &[1.0], 1, &["y"], |_, _| Ok(vec![1.0 + context.off("steeper")]));
            scan.expect("a scan").last("y")[0]
        };
        for _ in 0..2 {
            let found = [None, Some(0.5), Some(1.0), Some(2.0)].map(experiment);
            assert_eq!(found, [1.0, 1.5, 2.0, 3.0]);
        }
    }
}
