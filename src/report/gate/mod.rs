//! A comparison with a baseline, for four readers: the terminal, a pull request (Markdown), a test report (JUnit) and
//! GitHub's annotations.
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
