//! `proptest` strategies with shrinking: networks and their parametrizations, tensor programs, templates, prompts and tasks.
//! Used by the library's own property tests, and available to your own claims.
//!
//! Everything drawn is small, valid and deterministic in proptest's seed; shrinking prefers fewer and narrower layers,
//! shorter texts and fewer steps.

mod networks;
mod programs;
mod tasks;

pub use networks::{abc, activation, mlp, shifted_for_sgd, transformer};
pub use programs::{ProgramCase, program};
pub use tasks::{prompt, task, template};
