//! Linear maps with factors split into bf16 parts ([`Parts`]), which a processor's units for bf16 multiply faster than single
//! precision: matrix units several times, inner products of vectors twice. Knows no network.

mod linear;

pub use kernelview_loops::parts::{ALIGNMENT, Columns, Packs, Parts, Rows, computed_by, has_units, splits};
pub(crate) use kernelview_loops::parts::{Bf16, Values, add_products, splits_rows};
pub use linear::linear;
