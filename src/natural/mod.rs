//! Whether a downstream task is natural in the pre-training of a family of models: the paper's cheap test (Definition 5.3 and
//! Section 6), which compares the size of the output derivative χ among models that differ only in width, without any update.
//!
//! The condition is necessary for Theorem 5.5, not sufficient. Knows models and tasks as [`Study`](crate::analysis::Study);
//! knows no training and no kernel.

mod measure;
mod report;

pub use measure::{Measured, Naturalness, Variant, measure};
pub use report::{Verdict, naturalness_findings, verdict, write_naturalness};
