//! Empirical kernels of a network at fixed parameters: the paper's three formulas (Definition 3.3), two engines, one
//! file format. Knows per-example gradients only through `jacobian`; knows no language model and no claim.

mod file;
mod formula;
mod gram;
mod reference;
mod structured;

pub use file::KernelFile;
pub use formula::{Formula, FormulaSet};
pub use gram::{Gram, ParameterShare};
pub use reference::{dense_jacobian, reference_gram, sign_rows};
pub use structured::{GramOptions, gram_units, structured_gram};
