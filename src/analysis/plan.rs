//! What an analysis computes, and with which settings.

use serde::{Deserialize, Serialize};

use super::engine::EngineSettings;
use crate::error::{Error, Result};
use crate::files::digest;
use crate::kernel::{Formula, Precision};
use crate::train::OptimizerKind;

/// An optimizer with the learning rates to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerPlan {
    /// Update rule.
    pub kind: OptimizerKind,
    /// Learning rates, the best on dev is kept.
    pub learning_rates: Vec<f64>,
}

/// How closely a fine-tuning run is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
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
            ("--batch", self.batch),
            ("--train-batch-size", self.batch_size),
            ("--steps", self.steps),
            ("--eval-every", self.eval_every),
        ];
        for (flag, value) in positive {
            if value == 0 {
                return Err(Error::Settings(format!("{flag} must be at least 1")));
            }
        }
        if self.formulas.is_empty() {
            return Err(Error::Settings("--formula names no kernel formula".into()));
        }
        for optimizer in &self.optimizers {
            let name = optimizer.kind.name();
            if optimizer.learning_rates.is_empty() {
                return Err(Error::Settings(format!("no learning rate for {name}")));
            }
            if let Some(bad) = optimizer.learning_rates.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
                return Err(Error::Settings(format!("learning rate {bad} of {name} must be positive and finite")));
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
