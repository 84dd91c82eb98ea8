//! What LoRA adapters and random subspaces keep of a language model's kernel, over ranks: measured, fitted and reported so
//! that a rank can be chosen by it.
//!
//! Joins models and tasks ([`Study`](crate::analysis::Study)) with adapters and projections
//! ([`subspace`](crate::subspace)); trains nothing and knows no claim.

mod adapter;
mod fit;
mod kernels;
mod measure;
mod report;
mod settings;
mod shares;

pub use adapter::AtAdapter;
pub use fit::{RankFit, fit};
pub use measure::{Draw, LoraReport, OfRank, Sweep, measure};
pub use report::{lora_findings, summary, write_lora};
pub use settings::{LoraSettings, Scaled};
pub use shares::{Coverage, LayerCoverage, ModuleShare};
