//! The processor instructions that the loops may use.

use std::sync::OnceLock;

/// Instruction sets of the loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Ordinary code.
    Portable,
    /// AVX2 and POPCNT.
    Avx2,
    /// AVX-512; counting also needs its population counts.
    Avx512,
    /// AVX-512's inner products of bf16.
    Avx512Bf16,
    /// Matrix units for bf16.
    Amx,
}

/// The variable that limits the instruction set, so that one machine can compute like an older one.
pub const VARIABLE: &str = "KERNELVIEW_INSTRUCTIONS";

impl Instructions {
    /// The highest instruction set allowed by the environment, whether or not the machine has it.
    ///
    /// # Errors
    /// The variable's value, if it is not one of `portable`, `avx2`, `avx512`, `avx512bf16` and `amx`.
    pub fn most() -> Result<Self, &'static str> {
        static MOST: OnceLock<Result<Instructions, String>> = OnceLock::new();
        let read = || match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("" | "amx") => Ok(Self::Amx),
            Ok("avx512bf16") => Ok(Self::Avx512Bf16),
            Ok("avx512") => Ok(Self::Avx512),
            Ok("avx2") => Ok(Self::Avx2),
            Ok("portable") => Ok(Self::Portable),
            Ok(other) => Err(other.to_owned()),
        };
        MOST.get_or_init(read).as_ref().map(|most| *most).map_err(String::as_str)
    }

    /// Whether the environment allows these, whether or not the machine has them.
    pub fn allowed(self) -> bool {
        Self::most().is_ok_and(|most| self <= most)
    }
}

/// Whether the AVX-512 loops may run here; otherwise a library's matrix products replace them.
pub fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && Instructions::Avx512.allowed();
    #[cfg(not(target_arch = "x86_64"))]
    false
}
