//! Matrix products of single precision by a processor's matrix units for bf16.
//!
//! A number of single precision is a sum of parts of bf16, eight significant bits each: `x = x₁ + x₂ + x₃`, exact but for what
//! is below the range of bf16. The units multiply parts exactly and sum in single precision, several times as fast as single
//! precision is multiplied:
//!
//! | parts | products | relative error of a product |
//! |---|---|---|
//! | one | `a₁b₁` | 2⁻⁸ |
//! | two | `a₁b₁ + a₁b₂ + a₂b₁` | 2⁻¹⁶ |
//! | three | those and `a₂b₂ + a₁b₃ + a₃b₁` | 2⁻²³, that of single precision |
//!
//! Parts that leave out nothing that single precision has are another order of summation; one part is a rounding of the factors,
//! and means the same on every processor, with or without such units.

#[cfg(target_arch = "x86_64")]
mod pack;
mod product;
mod units;

pub use product::{Factor, add_outer};
#[cfg(target_arch = "x86_64")]
pub use product::{Out, multiply};

#[cfg(test)]
mod tests;

use crate::instructions::Instructions;
use units::present;

/// How many parts of bf16 factors are split in.
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
        2f64.powi([-8, -16, -23][self as usize])
    }
}

/// What computes products of parts here, for files and reports.
pub fn computed_by() -> &'static str {
    if has_units() { "matrix units" } else { "single precision" }
}

/// Whether products are split here: the processor has matrix units for bf16, the system lets this process use them, and the
/// environment does not forbid it.
pub fn has_units() -> bool {
    Instructions::Amx.allowed() && present()
}
