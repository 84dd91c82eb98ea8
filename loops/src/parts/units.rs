//! The units for bf16 of x86-64 processors: their availability to this process, and the choice among their innermost loops over
//! packed factors.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::{Bf16, Parts, tiles::Tiles, vectors};
use crate::instructions::Instructions;

/// Rows and columns of a block of the result: two tiles of 16 either way.
pub(super) const SIDE: usize = 32;

/// Products of an entry of the result that one step sums: what a tile's row of 64 bytes holds.
pub const STEP: usize = 32;

/// A row of a tile: 32 numbers of bf16.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Line(pub [u16; STEP]);

/// A row of zeros.
pub(super) const EMPTY: Line = Line([0; STEP]);

/// Rows of 64 bytes that one part of a strip of [`SIDE`] rows takes in a step: two tiles, one behind the other.
pub(super) const PART: usize = SIDE;

/// Whether the processor has matrix units for bf16, and the system lets this process use them. Checked once.
pub(super) fn present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(detect)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn detect() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Requests permission to use a processor state that is not saved for every process.
    const REQUEST: libc::c_long = 0x1023;
    /// The state of the tiles.
    const TILES: libc::c_long = 18;
    /// Leaf 7: tiles, and their products of bf16.
    const FEATURES: u32 = 1 << 24 | 1 << 22;
    if !has_vectors() || __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & FEATURES != FEATURES {
        return false;
    }
    // SAFETY: a system call of two numbers, which a system that does not know it refuses.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILES) == 0 }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn detect() -> bool {
    false
}

/// Units for bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Matrix units (AMX).
    Matrix,
    /// Inner products of vectors (AVX512-BF16).
    Vector,
}

impl Unit {
    /// The fastest units here that the environment allows.
    pub fn here() -> Option<Self> {
        if Instructions::Amx.allowed() && present() {
            Some(Self::Matrix)
        } else if Instructions::Avx512Bf16.allowed() && has_vectors() {
            Some(Self::Vector)
        } else {
            None
        }
    }
}

/// Whether the processor has AVX-512 with bf16, which packs factors for either unit.
fn has_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// What multiplies packed factors in this thread.
#[cfg(target_arch = "x86_64")]
pub(super) enum Multiplier {
    Tiles(Tiles),
    Vectors,
}

#[cfg(target_arch = "x86_64")]
impl Multiplier {
    /// # Panics
    /// If there are no units for bf16.
    pub fn new() -> Self {
        match Unit::here().expect("units for bf16") {
            Unit::Matrix => Self::Tiles(Tiles::new()),
            Unit::Vector => Self::Vectors,
        }
    }

    /// Writes a block of [`SIDE`] rows and columns: products of a packed strip of rows and a packed strip of columns, in so many
    /// steps, added to a block from `before`, if there is one. Blocks are given by their first number and the numbers from one row
    /// to the next, which may be 0 for `before`: the same row then. In every step the smallest products are summed first.
    ///
    /// # Safety
    /// `rows` and `columns` have `steps` times `parts` times [`PART`] lines; `before`, which may be `out`, and `out` are blocks.
    #[inline]
    pub unsafe fn multiply(
        &self,
        parts: Parts,
        strips: (*const Line, *const Line),
        steps: usize,
        before: Option<(*const f32, usize)>,
        out: (*mut f32, usize),
    ) {
        // SAFETY: the caller's promise; there are these units.
        unsafe {
            match self {
                Self::Tiles(tiles) => tiles.multiply(parts, strips, steps, before, out),
                Self::Vectors => vectors::multiply(parts, strips, steps, before, out),
            }
        }
    }

    /// Writes the same, rounded to bf16, to a block whose rows are `stride` numbers apart.
    ///
    /// # Safety
    /// As [`Self::multiply`].
    #[inline]
    pub unsafe fn multiply_rounded(
        &self,
        parts: Parts,
        strips: (*const Line, *const Line),
        steps: usize,
        (out, stride): (*mut Bf16, usize),
    ) {
        match self {
            Self::Tiles(tiles) => {
                let mut whole = [0f32; SIDE * SIDE];
                // SAFETY: the caller's promise, and a block of this function's own; rows are within the caller's.
                unsafe {
                    tiles.multiply(parts, strips, steps, None, (whole.as_mut_ptr(), SIDE));
                    for (row, values) in whole.as_chunks::<SIDE>().0.iter().enumerate() {
                        vectors::round(values, out.add(row * stride));
                    }
                }
            }
            // SAFETY: the caller's promise; there are these units.
            Self::Vectors => unsafe { vectors::multiply_rounded(parts, strips, steps, (out, stride)) },
        }
    }
}
