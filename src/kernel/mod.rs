//! Empirical kernels of a network at fixed parameters: the paper's three formulas (Definition 3.3), two engines, one
//! file format. Knows per-example gradients only through `jacobian`; knows no language model and no claim.

mod engine;
mod file;
mod formula;
mod gram;
mod reference;

pub use engine::{GramOptions, Method, gram_units, structured_gram};
pub use file::KernelFile;
pub use formula::{Formula, FormulaSet};
pub use gram::{Gram, ParameterShare};
pub use reference::{dense_jacobian, reference_gram, sign_rows};
