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

/// Whether the processor multiplies vectors of 512 bits whole; AMD's before Zen 5 do it in two halves.
pub fn has_whole_vectors() -> bool {
    has_avx512() && amd_family().is_none_or(|family| family >= ZEN5)
}

/// Whether this processor multiplies twice as fast as libtorch's library (MKL) does on it: vectors of 512 bits whole, of which MKL
/// uses 256 on other processors than Intel's.
pub fn is_halved_by_mkl() -> bool {
    has_whole_vectors() && amd_family().is_some()
}

/// The family of AMD's Zen 5.
const ZEN5: u32 = 0x1a;

/// The family of a processor of AMD's. Asked once: a virtual machine takes long to answer.
fn amd_family() -> Option<u32> {
    static FAMILY: OnceLock<Option<u32>> = OnceLock::new();
    *FAMILY.get_or_init(read_amd_family)
}

#[cfg(target_arch = "x86_64")]
fn read_amd_family() -> Option<u32> {
    use std::arch::x86_64::__cpuid;
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    let signature = __cpuid(1).eax;
    // The extended family is added where the base family is full, as it is from 2007 on.
    let family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
    (name == b"AuthenticAMD").then_some(family)
}

#[cfg(not(target_arch = "x86_64"))]
fn read_amd_family() -> Option<u32> {
    None
}
