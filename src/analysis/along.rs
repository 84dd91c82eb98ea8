//! Residuals of the linearization along a run, measured during training on probes, which also decide the precision of the measures
//! at its end.

use std::sync::{Mutex, PoisonError};

use super::examples::StudyExamples;
use crate::error::Result;
use crate::evidence::StepResidual;
use crate::jacobian::{Line, Parameters};
use crate::measure::{Expansion, Known, Sample};
use crate::train::Step;

/// Examples and steps at which runs are measured.
pub(super) struct Probes<'a> {
    /// Examples whose outputs are compared.
    pub examples: StudyExamples<'a>,
    /// The measured steps, ascending.
    pub steps: Vec<usize>,
    at_start: Mutex<Option<Sample>>,
}

impl<'a> Probes<'a> {
    /// Examples and steps.
    pub fn new(examples: StudyExamples<'a>, steps: Vec<usize>) -> Self {
        Self { examples, steps, at_start: Mutex::default() }
    }

    /// Outputs of the examples before training, computed once.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn at_start(&self, start: &Parameters) -> Result<Sample> {
        let mut known = self.at_start.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = match &*known {
            Some(sample) => sample,
            None => known.insert(Sample::of(start, &self.examples)?),
        };
        Ok(sample.shallow_clone())
    }
}

/// Measures one run. Everything is in double precision: within a single step the outputs hardly move.
pub(super) struct Along<'a> {
    probes: &'a Probes<'a>,
    start: &'a Parameters,
    shares: bool,
    at_start: Option<Sample>,
    /// Expansions from the start to the measured steps, if they are shared.
    expansions: Vec<(usize, Expansion)>,
    /// The residuals so far.
    pub residuals: Vec<StepResidual>,
}

impl<'a> Along<'a> {
    /// Starts at the run's initial parameters. Runs that share what they compute must all have as many threads as the measures at
    /// their ends, because sums depend on the number of threads.
    pub fn new(probes: &'a Probes<'a>, start: &'a Parameters, shares: bool) -> Self {
        Self { probes, start, shares, at_start: None, expansions: Vec::new(), residuals: Vec::new() }
    }

    /// The expansion of the probes' outputs from the start to a step, if it was measured and is shared.
    pub fn expansion(&mut self, step: usize) -> Option<Expansion> {
        let at = self.expansions.iter().position(|(measured, _)| *measured == step)?;
        Some(self.expansions.swap_remove(at).1)
    }

    /// Measures a step.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn see(&mut self, step: &Step<'_>) -> Result<()> {
        let examples = &self.probes.examples;
        let first = Line::new(self.start, step.after);
        if self.at_start.is_none() {
            let shared = self.shares.then(|| self.probes.at_start(self.start));
            self.at_start = Some(shared.unwrap_or_else(|| Sample::of(self.start, examples))?);
        }
        let Some(Sample { double, rounding, .. }) = &self.at_start else { return Ok(()) };
        let known = Known { start: Some(double), end: None };
        let whole = Expansion::double(first, examples, *rounding, known)?;
        let mut found = StepResidual {
            step: step.number,
            residual: whole.residual(),
            cumulative: whole.residual(),
            error: whole.computed.error,
        };
        // Up to the first step, the cumulative residual is the step's own.
        if step.number > 1 {
            let known = Known { start: None, end: Some(&whole.end) };
            let one = Expansion::double(Line::new(step.before, step.after), examples, *rounding, known)?;
            found.residual = one.residual();
            found.error = found.error.zip(one.computed.error).map(|(a, b)| a.max(b));
        }
        self.residuals.push(found);
        if self.shares {
            self.expansions.push((step.number, whole));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::analysis::{Pretrained, SplitName, Study, StudyRequest};
    use crate::device::Dtype;
    use crate::jacobian::outputs;
    use crate::lm::OutputMode;
    use crate::measure::{relative_residual, taylor};
    use crate::pretrain::family_directory;
    use crate::progress::Silent;
    use crate::task::{demo, demo_definition};
    use crate::train::{FineTuning, LabelledExamples, OptimizerKind, Watch, fine_tune};

    /// Runs of a pre-trained network in single precision, from steps that change outputs in their sixth digit to steps beyond
    /// the linear range: residuals against those from gradients in double precision. The tolerance is four times the stated
    /// error, because an estimate is not a bound. Fails for: an expansion at the wrong end of a step, a step that was not
    /// requested, a stated error that is too small.
    #[test]
    fn residuals_along_a_run_are_those_of_gradients_within_the_stated_error() {
        let network = Pretrained::load(&family_directory().join("prose-64"), Dtype::F32, Device::Cpu);
        let (network, task) = (network.expect("a network"), demo_definition().expect("a task"));
        let splits = demo().expect("its examples");
        let study = Study::new(StudyRequest::new(&network, &task, &splits)).expect("a study");
        let of = |split| study.examples(split, OutputMode::Logits).expect("examples");
        let (train, dev) = (of(SplitName::Train), of(SplitName::Dev));
        let data = |examples, split| LabelledExamples { examples, labels: study.labels(split) };
        let probes = Probes::new(dev.select(&[0, 9, 18, 27]), vec![1, 2, 5]);
        let start = &study.parameters;
        let double = |p: &Parameters| p.map(|v| v.detach().to_kind(Kind::Double));
        for (optimizer, rate) in [
            (OptimizerKind::Sgd, 1e-4),
            (OptimizerKind::Sgd, 0.1),
            (OptimizerKind::ADAM, 1e-6),
            (OptimizerKind::ADAM, 1e-3),
        ] {
            let settings = FineTuning {
                optimizer,
                learning_rate: rate,
                batch_size: 8,
                steps: 5,
                eval_every: 5,
                seed: 1,
                parts: None,
            };
            let mut along = Along::new(&probes, start, true);
            let mut expected = Vec::new();
            let residual = |from: &Parameters, to: &Parameters| {
                let (a, b) = (double(from), double(to));
                let exact = taylor(&a, &b.minus(&a), &probes.examples, &study.include, 4).expect("an expansion");
                relative_residual(&(outputs(&b, &probes.examples, 4) - &exact.value), &exact.slope).expect("movement")
            };
            let mut see = |step: &Step<'_>| {
                expected.push((step.number, residual(step.before, step.after), residual(start, step.after)));
                along.see(step)
            };
            fine_tune(
                start,
                &data(&train, SplitName::Train),
                &data(&dev, SplitName::Dev),
                &study.include,
                &settings,
                &Silent,
                Some(Watch::at(&probes.steps, &mut see)),
            )
            .expect("a run");
            assert_eq!(along.residuals.len(), expected.len());
            for (found, (step, single, whole)) in along.residuals.iter().zip(expected) {
                let error = found.error.expect("an error");
                let name = format!("{} at {rate}, step {step}", optimizer.name());
                assert_eq!(found.step, step);
                for (found, expected) in [(found.residual, single), (found.cumulative, whole)] {
                    let off = (found.expect("a residual") - expected).abs();
                    assert!(off <= 4.0 * error, "{name}: {found:?} for {expected}, stated {error:.1e}");
                }
                assert!(error <= 0.01 * single.max(whole), "{name}: stated {error:.1e} of {single} and {whole}");
            }
            let shared = along.expansion(2).expect("a measured step");
            assert_eq!(shared.residual(), along.residuals[1].cumulative);
            assert!(along.expansion(3).is_none(), "a step that was not measured");
        }
    }
}
