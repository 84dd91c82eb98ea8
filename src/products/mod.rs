//! Differentiable linear maps by other products of matrices than libtorch's: of factors split into bf16 parts ([`Parts`]), which a
//! processor's units for bf16 multiply faster than single precision (matrix units several times, inner products of vectors
//! twice), and of whole factors where libtorch's library leaves half of the processor's vectors unused; and
//! products of gates, which keep less for the backward pass. Knows no network.

mod gated;
mod linear;
mod own;
mod product;
mod whole;

pub use gated::{Gate, gated};
pub use kernelview_loops::parts::{ALIGNMENT, Columns, Packs, Parts, Rows, computed_by, has_units, splits};
pub(crate) use kernelview_loops::parts::{
    Bf16, Gathered, STEP, Tokens, Values, multiplies_gradients, multiplies_rounded,
};
pub use linear::linear;
