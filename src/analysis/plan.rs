//! What an analysis computes, and with which settings.

use serde::{Deserialize, Serialize};

use super::engine::EngineSettings;
use crate::error::{Error, Result};
use crate::files::digest;
use crate::kernel::{Formula, Precision};
use crate::setting::Field;
use crate::train::OptimizerKind;

/// An optimizer with the learning rates to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerPlan {
    /// Update rule.
    pub kind: OptimizerKind,
    /// Learning rates, the best on dev is kept.
    pub learning_rates: Vec<f64>,
}

impl OptimizerPlan {
    /// The setting that its learning rates are.
    pub(super) fn rates_field(&self) -> Field {
        match self.kind {
            OptimizerKind::Sgd => Field::LrSgd,
            OptimizerKind::Signgd => Field::LrSigngd,
            OptimizerKind::Adam { .. } => Field::LrAdam,
        }
    }
}

/// How closely a fine-tuning run is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measures {
    /// Residuals along the run and at its end, gradient drift; all in double precision.
    #[default]
    Full,
    /// The linearization and the kernel's drift at the end of the run alone, in the network's own precision: a fraction of
    /// the time and memory for large models.
    End,
}

impl Measures {
    /// For serde, which wants a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_full(&self) -> bool {
        *self == Self::Full
    }
}

/// Settings of one analysis, apart from model and task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Kernel formulas.
    pub formulas: Vec<Formula>,
    /// Examples per forward and backward pass.
    pub batch: usize,
    /// Most bytes that the kernel engine may take; changes no result.
    #[serde(skip)]
    pub memory: Option<u64>,
    /// Element type of the products of gradients, where it is not the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Fine-tuning runs.
    pub optimizers: Vec<OptimizerPlan>,
    /// Examples per fine-tuning step.
    pub batch_size: usize,
    /// Fine-tuning steps.
    pub steps: usize,
    /// Steps between evaluations on dev.
    pub eval_every: usize,
    /// How closely runs are measured.
    #[serde(default, skip_serializing_if = "Measures::is_full")]
    pub measures: Measures,
    /// Seed of mini-batch orders.
    pub seed: u64,
}

impl Plan {
    /// Checks ranges.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            (Field::Batch, self.batch),
            (Field::BatchSize, self.batch_size),
            (Field::Steps, self.steps),
            (Field::EvalEvery, self.eval_every),
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

    /// Settings of the kernel engine.
    pub fn engine(&self) -> EngineSettings {
        EngineSettings { batch: self.batch, memory: self.memory, precision: self.precision }
    }

    /// Digest of a whole analysis, from that of its study.
    pub fn digest(&self, study: &str) -> String {
        let plan = serde_json::to_string(self).expect("a plan is plain data");
        digest([study.as_bytes(), plan.as_bytes()])
    }
}
