//! Linear maps with factors split into bf16 parts ([`Parts`]), which a processor's units for bf16 multiply faster than single
//! precision: matrix units several times, inner products of vectors twice. Knows no network.

mod linear;

pub use kernelview_loops::parts::{
    ALIGNMENT, Bf16, Columns, Packs, Parts, Rows, Values, add_products, computed_by, has_units, splits, splits_rows,
};
pub use linear::linear;
