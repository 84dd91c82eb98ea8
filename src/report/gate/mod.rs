//! A comparison with a baseline in four formats: terminal, Markdown (for a pull request), JUnit and GitHub annotations.
//!
//! Reads nothing but [`Comparison`]: runs nothing and writes no file.

mod github;
mod junit;
mod markdown;
mod terminal;
mod words;

pub use github::gate_annotations;
pub use junit::gate_junit;
pub use markdown::gate_markdown;
pub use terminal::gate_summary;

use crate::gate::Comparison;
