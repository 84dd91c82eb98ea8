//! What LoRA adapters and random subspaces keep of a language model's kernel, over ranks: measured, fitted and reported so
//! that a rank can be chosen by it.
//!
//! Joins models and tasks ([`Study`](crate::analysis::Study)) with adapters and projections
//! ([`subspace`](crate::subspace)); trains nothing and knows no claim.

mod fit;
mod measure;
mod report;
mod settings;

pub use fit::{RankFit, fit};
pub use measure::{LayerCoverage, LoraReport, Sweep, measure};
pub use report::{lora_findings, lora_summary, write_lora};
pub use settings::{LoraSettings, Scaled};
