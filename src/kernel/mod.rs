//! Empirical kernels of a network at fixed parameters: the paper's three formulas (Definition 3.3), two engines, and two
//! file formats, the program's and the paper's. Knows per-example gradients only through `jacobian`; knows no language model
//! and no claim.

mod blocks;
mod engine;
mod file;
mod formula;
mod gram;
mod precision;
mod published;
mod reference;

pub use blocks::{Block, BlockGrid};
pub use engine::{
    Arithmetic, GramOptions, GramsOf, KernelEstimate, LayerEstimate, MemoryEstimate, Method, estimate_gram, gram_units,
    structured_gram,
};
pub use file::{KernelFile, KernelHeader};
pub use formula::{Formula, FormulaSet};
pub(crate) use gram::OVERFLOW;
pub use gram::{Gram, GramMatrix, ParameterShare};
pub use precision::{Precision, precision_errors};
pub use published::{PublishedKernel, logits_path, read_logits};
pub use reference::{dense_jacobian, reference_gram, sign_rows, without_round_off};
