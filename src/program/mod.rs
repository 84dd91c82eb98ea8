//! Tensor programs.

mod builder;
mod expression;
mod finite;
mod limit;
mod lines;
pub mod networks;
mod operator;

pub use builder::{Builder, Matrix};
pub use expression::{Expression, Term, Function, Scalar, Vector};
pub use finite::FiniteRun;
pub use limit::{LimitOptions, LimitRun};
pub use lines::Program;
