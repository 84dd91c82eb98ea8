//! The innermost loop over packed factors on matrix units (AMX).

use std::arch::asm;

use super::Parts;
use super::units::{Line, SIDE, present};

/// What the instruction that configures tiles reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// This thread's tiles, configured: eight of 16 rows of 64 bytes. They are given back on drop.
pub(super) struct Tiles(());

impl Tiles {
    /// Configures the tiles.
    ///
    /// # Panics
    /// If there are none.
    pub fn new() -> Self {
        assert!(present(), "matrix units");
        let mut configuration =
            Configuration { palette: 1, start: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: there are tiles; the configuration is one that palette 1 allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
        Self(())
    }

    /// Writes a block of [`SIDE`] rows and columns, `stride` numbers apart, or adds to it: products of a packed strip of rows
    /// and a packed strip of columns, in so many steps. The smallest products are summed first.
    ///
    /// # Safety
    /// `rows` and `columns` have `steps` times `parts` times [`PART`](super::units::PART) lines, `out` a block.
    #[expect(clippy::unused_self, reason = "who has tiles has configured them")]
    #[inline]
    pub unsafe fn multiply(
        &self,
        parts: Parts,
        (rows, columns): (*const Line, *const Line),
        steps: usize,
        (out, stride): (*mut f32, usize),
        add: bool,
    ) {
        // SAFETY: the tiles are configured; what is read and written is the caller's promise.
        unsafe {
            let (top, bottom, pitch) = (out, out.add(SIDE / 2 * stride), 4 * stride);
            if add {
                asm!(
                    "tileloadd tmm0, [{top} + {pitch}]",
                    "tileloadd tmm1, [{top} + {pitch} + 64]",
                    "tileloadd tmm2, [{bottom} + {pitch}]",
                    "tileloadd tmm3, [{bottom} + {pitch} + 64]",
                    top = in(reg) top, bottom = in(reg) bottom, pitch = in(reg) pitch, options(nostack)
                );
            } else {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack));
            }
            if steps > 0 {
                match parts {
                    Parts::One => one(rows, columns, steps),
                    Parts::Two => two(rows, columns, steps),
                    Parts::Three => three(rows, columns, steps),
                }
            }
            asm!(
                "tilestored [{top} + {pitch}], tmm0",
                "tilestored [{top} + {pitch} + 64], tmm1",
                "tilestored [{bottom} + {pitch}], tmm2",
                "tilestored [{bottom} + {pitch} + 64], tmm3",
                top = in(reg) top, bottom = in(reg) bottom, pitch = in(reg) pitch, options(nostack)
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there are tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// A loop over steps: `$load` reads tiles of both strips, between which the four products of what was read are summed.
macro_rules! steps {
    ($name:ident, $bytes:literal, $([$($load:literal),+])+) => {
        /// # Safety
        /// Tiles are configured; strips are as long as so many steps, at least one.
        #[inline]
        unsafe fn $name(rows: *const Line, columns: *const Line, steps: usize) {
            // SAFETY: the caller's promise. Tiles 0 to 3 hold the sums, 4 and 5 rows, 6 and 7 columns.
            unsafe {
                asm!(
                    "2:",
                    $(
                        $($load,)+
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                    )+
                    concat!("add {r}, ", $bytes),
                    concat!("add {c}, ", $bytes),
                    "dec {n}",
                    "jnz 2b",
                    r = inout(reg) rows => _,
                    c = inout(reg) columns => _,
                    n = inout(reg) steps => _,
                    w = in(reg) 64usize,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

steps!(
    one,
    "2048",
    [
        "tileloadd tmm4, [{r} + {w}]",
        "tileloadd tmm6, [{c} + {w}]",
        "tileloadd tmm5, [{r} + {w} + 1024]",
        "tileloadd tmm7, [{c} + {w} + 1024]"
    ]
);

// a₁b₂, a₁b₁, a₂b₁: what was read is read as seldom as that order allows.
steps!(two, "4096",
    ["tileloadd tmm4, [{r} + {w}]", "tileloadd tmm6, [{c} + {w} + 2048]",
     "tileloadd tmm5, [{r} + {w} + 1024]", "tileloadd tmm7, [{c} + {w} + 3072]"]
    ["tileloadd tmm6, [{c} + {w}]", "tileloadd tmm7, [{c} + {w} + 1024]"]
    ["tileloadd tmm4, [{r} + {w} + 2048]", "tileloadd tmm5, [{r} + {w} + 3072]"]
);

// a₁b₃, a₁b₂, a₁b₁, a₃b₁, a₂b₁, a₂b₂.
steps!(three, "6144",
    ["tileloadd tmm4, [{r} + {w}]", "tileloadd tmm6, [{c} + {w} + 4096]",
     "tileloadd tmm5, [{r} + {w} + 1024]", "tileloadd tmm7, [{c} + {w} + 5120]"]
    ["tileloadd tmm6, [{c} + {w} + 2048]", "tileloadd tmm7, [{c} + {w} + 3072]"]
    ["tileloadd tmm6, [{c} + {w}]", "tileloadd tmm7, [{c} + {w} + 1024]"]
    ["tileloadd tmm4, [{r} + {w} + 4096]", "tileloadd tmm5, [{r} + {w} + 5120]"]
    ["tileloadd tmm4, [{r} + {w} + 2048]", "tileloadd tmm5, [{r} + {w} + 3072]"]
    ["tileloadd tmm6, [{c} + {w} + 2048]", "tileloadd tmm7, [{c} + {w} + 3072]"]
);
