//! What an analysis computes, with which settings.

use serde::{Deserialize, Serialize};

use tch::Device;

use super::engine::EngineSettings;
use crate::device::Dtype;
use crate::error::{Error, Result};
use crate::files::digest;
use crate::kernel::{Formula, Precision};
use crate::products::Parts;
use crate::setting::Field;
use crate::train::OptimizerKind;

/// An optimizer with the learning rates to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerGrid {
    /// Update rule.
    pub kind: OptimizerKind,
    /// Learning rates; the best on dev is selected.
    pub learning_rates: Vec<f64>,
}

impl OptimizerGrid {
    /// The setting that its learning rates belong to.
    pub(super) fn rates_field(&self) -> Field {
        match self.kind {
            OptimizerKind::Sgd => Field::LrSgd,
            OptimizerKind::Signgd => Field::LrSigngd,
            OptimizerKind::Adam { .. } => Field::LrAdam,
        }
    }
}

/// What is measured of a fine-tuning run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measures {
    /// Residuals along the run and at its end, gradient and kernel drift.
    #[default]
    Full,
    /// Only the linearization and the kernel's drift at the end of the run.
    End,
}

/// Default number of examples on which residuals along a run are measured.
const PROBES: usize = 8;

/// Largest number of training examples whose gradients are compared before and after a run.
const FEATURES: usize = 32;

/// Default number of fine-tuning steps per measured step, which then costs about a tenth of them.
const STEPS_PER_MEASURE: usize = 25;

impl Measures {
    /// Serde requires a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_full(&self) -> bool {
        *self == Self::Full
    }
}

/// Settings of analyses that do not depend on model or task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnalysisSettings {
    /// Kernel formulas.
    pub formulas: Vec<Formula>,
    /// Memory limit of the kernel engine in bytes; changes no result.
    #[serde(skip)]
    pub memory: Option<u64>,
    /// Precision of the products of gradients, if not the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Fine-tuning runs.
    pub optimizers: Vec<OptimizerGrid>,
    /// Examples per fine-tuning step.
    pub batch_size: usize,
    /// Fine-tuning steps.
    pub steps: usize,
    /// Steps between evaluations on dev.
    pub eval_every: usize,
    /// What is measured of runs.
    #[serde(default, skip_serializing_if = "Measures::is_full")]
    pub measures: Measures,
    /// Number of measured steps of a run; `None` for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure_steps: Option<usize>,
    /// Number of dev examples on which they are measured; `None` for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<usize>,
    /// Number of bf16 parts of linear maps in training; `None` for the network's own precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_precision: Option<Parts>,
}

/// What one analysis computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its settings.
    #[serde(flatten)]
    pub settings: AnalysisSettings,
    /// Examples per forward and backward pass.
    pub batch: usize,
    /// Seed of mini-batch orders.
    pub seed: u64,
}

impl AnalysisSettings {
    /// Checks ranges.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            (Field::BatchSize, self.batch_size),
            (Field::Steps, self.steps),
            (Field::EvalEvery, self.eval_every),
            (Field::Probes, self.probes.unwrap_or(1)),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(Error::setting(field, value, "1 or more"));
            }
        }
        if self.formulas.is_empty() {
            return Err(Error::setting(Field::Formulas, "empty", "one of sgd, signgd, asymmetric or more"));
        }
        for optimizer in &self.optimizers {
            let field = optimizer.rates_field();
            if optimizer.learning_rates.is_empty() {
                return Err(Error::setting(field, "empty", "a learning rate or more"));
            }
            if let Some(bad) = optimizer.learning_rates.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
                return Err(Error::setting(field, bad, "a positive and finite number"));
            }
        }
        Ok(())
    }

    /// Fails if a network cannot be trained with products of bf16.
    pub(super) fn check_training(&self, dtype: Dtype, device: Device) -> Result<()> {
        let Some(parts) = self.train_precision else { return Ok(()) };
        let refused = |expected: String| Err(Error::setting(Field::TrainPrecision, parts.name(), expected));
        match (dtype, device) {
            (Dtype::F64, _) => refused(format!(
                "to be left out: a network in double precision ({}) has no parts of bf16",
                Field::Dtype
            )),
            (_, Device::Cpu) => Ok(()),
            _ => refused(format!("to be left out: parts of bf16 are multiplied on CPUs ({})", Field::Device)),
        }
    }

    /// The measured steps of a run, ascending: the first, the last, and others between them on a logarithmic scale, where close
    /// ones coincide; all of them, if as many are asked for. By default one per 25 steps, but at least two and at most the powers
    /// of two.
    pub fn measured_steps(&self) -> Vec<usize> {
        let last = self.steps;
        let powers = last.ilog2() as usize + 2;
        let usual = (last / STEPS_PER_MEASURE).max(2).min(powers);
        let count = if self.measures == Measures::Full { self.measure_steps.unwrap_or(usual) } else { 0 };
        if count >= last {
            return (1..=last).collect();
        }
        let at = |i: usize| match count - 1 {
            0 => last,
            intervals => (last as f64).powf(i as f64 / intervals as f64).round() as usize,
        };
        let mut steps: Vec<usize> = (0..count).map(at).collect();
        steps.dedup();
        steps
    }

    /// How many of `count` training examples have their gradients compared before and after a run: from the default number of
    /// probes to [`FEATURES`], and so many that the comparison, two gradients per example, costs about a tenth of the run.
    pub(super) fn features(&self, count: usize) -> usize {
        let affordable = self.steps * self.batch_size / 20;
        affordable.clamp(PROBES, FEATURES).min(count)
    }

    /// How many of `count` examples are probes of a run.
    pub fn probes(&self, count: usize) -> usize {
        self.probes.unwrap_or(PROBES).min(count)
    }
}

impl Plan {
    /// Settings of the kernel engine.
    pub fn engine(&self) -> EngineSettings {
        EngineSettings { batch: self.batch, memory: self.settings.memory, precision: self.settings.precision }
    }

    /// Digest of a whole analysis, from that of its study.
    pub fn digest(&self, study: &str) -> String {
        let plan = serde_json::to_string(self).expect("a plan is plain data");
        digest([study.as_bytes(), plan.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(steps: usize, measure_steps: Option<usize>) -> AnalysisSettings {
        AnalysisSettings {
            formulas: vec![Formula::Sgd],
            memory: None,
            precision: None,
            optimizers: Vec::new(),
            batch_size: 8,
            steps,
            eval_every: 1,
            measures: Measures::Full,
            measure_steps,
            probes: None,
            train_precision: None,
        }
    }

    #[test]
    fn gradients_are_compared_as_far_as_a_run_is_long() {
        let of = |steps, count| settings(steps, None).features(count);
        assert_eq!([of(1, 100), of(20, 100), of(40, 100), of(500, 100)], [8, 8, 16, 32]);
        assert_eq!([of(1, 3), of(500, 20)], [3, 20]);
    }

    #[test]
    fn measured_steps_lie_on_a_logarithmic_scale() {
        let of = |steps, count| settings(steps, count).measured_steps();
        assert_eq!(of(500, None), [1, 2, 4, 8, 16, 32, 63, 126, 251, 500]);
        assert_eq!(of(200, None), [1, 2, 5, 10, 21, 44, 94, 200]);
        assert_eq!(of(20, None), [1, 20]);
        assert_eq!(of(1, None), [1]);
        assert_eq!(of(12, Some(5)), [1, 2, 3, 6, 12]);
        assert_eq!(of(4, Some(100)), [1, 2, 3, 4]);
        assert_eq!(of(64, Some(1)), [64]);
        assert!(of(64, Some(0)).is_empty());
        assert!(AnalysisSettings { measures: Measures::End, ..settings(64, Some(9)) }.measured_steps().is_empty());
    }
}
