//! Linear maps with factors split into bf16 parts ([`Parts`]), which a processor's matrix units multiply several times as
//! fast as single precision. Knows no network.

mod linear;

pub use kernelview_loops::parts::{ALIGNMENT, Columns, Packs, Parts, Rows, computed_by, has_units};
pub use linear::linear;
