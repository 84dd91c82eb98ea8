//! Settings of the kernel engine for a study: batches, memory, precision.

use super::study::Study;
use crate::error::Result;
use crate::jacobian::{Examples, Parameters};
use crate::kernel::{FormulaSet, GramOptions, Precision};

/// Settings of the kernel engine that a user chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineSettings {
    /// Largest number of examples per forward and backward pass.
    pub batch: usize,
    /// Limit on the process's memory, in bytes.
    pub memory: Option<u64>,
    /// Precision of the products of gradients, if not the network's.
    pub precision: Option<Precision>,
}

impl EngineSettings {
    /// Options for the kernel of `left` with itself, or with `right`.
    ///
    /// # Errors
    /// A memory limit that is too small; a precision that the device does not support.
    pub fn options(
        &self,
        study: &Study,
        parameters: &Parameters,
        formulas: FormulaSet,
        left: &dyn Examples,
        right: Option<&dyn Examples>,
    ) -> Result<GramOptions> {
        let mut options = GramOptions::new(formulas, parameters.len());
        options.include.clone_from(&study.include);
        options.batch = self.batch;
        if let Some(precision) = self.precision {
            precision.apply(parameters, &mut options)?;
        }
        if let Some(limit) = self.memory {
            options.fit(parameters, left, right, limit as f64)?;
        }
        Ok(options)
    }
}
