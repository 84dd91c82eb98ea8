//! How much of a language model's kernel LoRA adapters and random subspaces preserve over ranks: measurements, fits and a
//! report for choosing a rank.
//!
//! Combines models and tasks ([`Study`](crate::analysis::Study)) with adapters and projections
//! ([`subspace`](crate::subspace)); trains nothing and knows no claim.

mod fit;
mod measure;
mod report;
mod settings;

pub use fit::{RankFit, fit};
pub use measure::{LayerCoverage, LoraReport, Sweep, measure};
pub use report::{lora_findings, lora_summary, write_lora};
pub use settings::{LoraSettings, Scaled};
