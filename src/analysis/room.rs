//! The cost of kernel regression, from shapes alone, and whether this machine has enough memory for it.

use super::splits::SplitName;
use super::study::Study;
use crate::error::{Error, Result};
use crate::jacobian::Examples;
use crate::kernel::Formula;
use crate::machine::free_memory;
use crate::regression::{Effort, effort};

/// Time and memory of kernel regression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegressionCost {
    /// Operations in double precision, as equivalent operations of matrix products.
    pub operations: f64,
    /// Peak memory in bytes, kernels included.
    pub bytes: f64,
    /// Rows of the training kernel.
    pub rows: usize,
}

/// Speed of factorizations in double precision, relative to the measured speed of matrix products in single precision.
const REACHED: f64 = 0.25;

impl RegressionCost {
    /// Seconds, given the measured speed of matrix products in single precision in operations per second.
    pub fn seconds(&self, rate: f64) -> f64 {
        self.operations / (REACHED * rate)
    }
}

/// The cost of kernel regression with these formulas in an analysis.
///
/// # Errors
/// Those of the study's examples.
pub fn regression_cost(study: &Study, formulas: &[Formula]) -> Result<RegressionCost> {
    let outputs = study.examples(SplitName::Train, study.mode)?.outputs();
    let size = |split| study.labels(split).len() * outputs;
    let (rows, columns) = (size(SplitName::Train), size(SplitName::Dev) + size(SplitName::Test));
    let (mut held, mut operations, mut largest) = (0.0, 0.0, 0f64);
    for formula in formulas {
        let symmetric = *formula != Formula::Asymmetric;
        let Effort { operations: own, bytes, kernels } = effort(rows, columns, outputs, symmetric);
        // The analysis holds all kernels as computed; the solvers get copies for one formula.
        held += kernels;
        operations += own + crate::regression::rank_operations(rows, symmetric);
        largest = largest.max(bytes);
    }
    Ok(RegressionCost { operations, bytes: held + largest, rows })
}

/// Fails if free memory cannot hold a study's kernels and what regression needs beside them.
///
/// # Errors
/// [`Error::Memory`] with the required and the free memory.
pub fn check_room(cost: &RegressionCost, study: &Study) -> Result<()> {
    let advice = "take fewer training, dev or test examples, or one formula at a time";
    check(cost, &study.task_facts().name, advice)
}

/// Fails if free memory cannot hold a regression's kernels and factors.
///
/// # Errors
/// [`Error::Memory`] with the required and the free memory.
pub(super) fn check(cost: &RegressionCost, what: &str, advice: &str) -> Result<()> {
    check_within(cost, what, advice, free_memory())
}

fn check_within(cost: &RegressionCost, what: &str, advice: &str, free: Option<u64>) -> Result<()> {
    let Some(free) = free.map(|free| free as f64).filter(|free| cost.bytes > *free) else { return Ok(()) };
    Err(Error::Memory {
        what: format!("{what}: regression with {} rows", cost.rows),
        needed: cost.bytes as u64,
        free: free as u64,
        advice: advice.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails for: the reverse comparison, a message without both figures.
    #[test]
    fn what_does_not_fit_is_refused_with_both_figures() {
        let cost = RegressionCost { operations: 1.0, bytes: 8.7e9, rows: 18_432 };
        check_within(&cost, "K", "", Some(9_000_000_000)).expect("room enough");
        check_within(&cost, "K", "", None).expect("a system that does not say");
        let message = check_within(&cost, "K", "use less", Some(4_000_000_000)).expect_err("too large").to_string();
        assert_eq!(
            message,
            "K: regression with 18432 rows needs about 8.7 GB of memory, but 4.0 GB are free; use less"
        );
    }
}
