//! Single-precision matrix products on a processor's bf16 units: matrix units (AMX), or vector instructions for inner products
//! (AVX512-BF16).
//!
//! A single-precision number is a sum of bf16 parts with eight significant bits each, `x = x₁ + x₂ + x₃`, exact except below
//! the range of bf16. The units multiply parts exactly and sum in single precision: matrix units several times as fast as
//! single-precision products, vector instructions twice as fast, so that they gain with one part alone:
//!
//! | parts | products | relative error of a product, at most |
//! |---|---|---|
//! | one | `a₁b₁` | 2⁻⁷: 2⁻⁸ for each factor |
//! | two | `a₁b₁ + a₁b₂ + a₂b₁` | 3·2⁻¹⁶: 2⁻¹⁶ for each factor and for `a₂b₂` |
//! | three | those and `a₂b₂ + a₁b₃ + a₃b₁` | 2⁻²³, that of single precision |
//!
//! Three parts only change the order of summation; one part rounds the factors, with the same meaning on every processor,
//! with or without such units.

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(target_arch = "x86_64")]
mod gathered;
mod outer;
#[cfg(target_arch = "x86_64")]
mod pack;
mod product;
#[cfg(target_arch = "x86_64")]
mod signed;
#[cfg(target_arch = "x86_64")]
mod singles;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod tokens;
mod units;
#[cfg(target_arch = "x86_64")]
mod vectors;

#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{Gathered, Tokens};
#[cfg(target_arch = "x86_64")]
pub use gathered::Gathered;
pub use outer::{ALIGNMENT, Bf16, Columns, Packs, Rows, Values};
pub use product::Factor;
#[cfg(target_arch = "x86_64")]
pub use product::{Out, Start, multiply};
#[cfg(target_arch = "x86_64")]
pub(crate) use signed::{Wanted, add_signed_products, multiplies_rows};
#[cfg(target_arch = "x86_64")]
pub use tokens::Tokens;

#[cfg(test)]
mod tests;

pub use units::STEP;
use units::Unit;

/// The number of bf16 parts into which factors are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Parts {
    /// Rounds factors to bf16.
    #[serde(rename = "bf16")]
    One,
    /// Sixteen significant bits.
    #[serde(rename = "bf16x2")]
    Two,
    /// All bits of single precision.
    #[serde(rename = "bf16x3")]
    Three,
}

impl Parts {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::One, Self::Two, Self::Three];

    /// Name in settings, files and reports.
    pub fn name(self) -> &'static str {
        ["bf16", "bf16x2", "bf16x3"][self as usize]
    }

    /// Number of parts.
    pub fn count(self) -> usize {
        self as usize + 1
    }

    /// A bound on the relative error of a product of two factors, without that of its sum.
    pub fn error(self) -> f64 {
        let of = |times: f64, digits: i32| times * 2f64.powi(-digits);
        [of(1.0, 7), of(3.0, 16), of(1.0, 23)][self as usize]
    }
}

/// How products of so many parts are computed here, for files and reports.
pub fn computed_by(parts: Parts) -> &'static str {
    match Unit::here().filter(|_| splits(parts)) {
        Some(Unit::Matrix) => "matrix units",
        Some(Unit::Vector) => "inner products of bf16",
        None => "single precision",
    }
}

/// Whether products of so many parts are computed by units for bf16 here: the processor has them, the system lets this process
/// use them, the environment does not forbid it, and they are faster than products in single precision.
pub fn splits(parts: Parts) -> bool {
    match Unit::here() {
        Some(Unit::Matrix) => true,
        // At twice the rate, three or six products take longer than one.
        Some(Unit::Vector) => parts == Parts::One,
        None => false,
    }
}

/// Whether inner products of rows that are rounded to bf16 are computed by vectors here, which read them in place. Matrix units
/// would need them packed.
pub fn multiplies_rounded() -> bool {
    Unit::here() == Some(Unit::Vector)
}

/// Whether inner products of gradients are computed by matrix units here without a gradient in single precision: [`Gathered`] tile by
/// tile, or through their factors ([`Tokens`]). With three parts either takes longer than to write them and to multiply them as they are.
pub fn multiplies_gradients(parts: Parts) -> bool {
    parts != Parts::Three && Unit::here() == Some(Unit::Matrix)
}

/// Whether the processor has units for bf16 that this process may use.
pub fn has_units() -> bool {
    Unit::here().is_some()
}
