//! `proptest` strategies for what the library is about, with shrinking: networks and their parametrizations, tensor programs,
//! templates, prompts and tasks. The library's own property tests draw from them, and a claim of one's own can.
//!
//! Everything drawn is small, valid and deterministic in proptest's seed; shrinking goes towards fewer layers, narrower ones,
//! shorter texts and fewer steps.

mod networks;
mod programs;
mod tasks;

pub use networks::{abc, activation, mlp, shifted_for_sgd, transformer};
pub use programs::{ProgramCase, program};
pub use tasks::{prompt, task, template};
