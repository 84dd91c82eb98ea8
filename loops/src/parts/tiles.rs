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

    /// Writes a block; see [`Multiplier::multiply`](super::units::Multiplier::multiply).
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn multiply(
        &self,
        parts: Parts,
        (rows, columns): (*const Line, *const Line),
        steps: usize,
        before: Option<(*const f32, usize)>,
        (out, stride): (*mut f32, usize),
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            self.begin(before);
            self.add(parts, (rows, columns), steps);
            self.store(out, stride);
        }
    }

    /// Begins sums with zeros, or with a block whose rows are so many numbers apart.
    ///
    /// # Safety
    /// There is this block.
    #[expect(clippy::unused_self, reason = "who has tiles has configured them")]
    #[inline]
    unsafe fn begin(&self, before: Option<(*const f32, usize)>) {
        // SAFETY: the tiles are configured; what is read is the caller's promise.
        unsafe {
            if let Some((before, stride)) = before {
                let (top, bottom, pitch) = (before, before.add(SIDE / 2 * stride), 4 * stride);
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
        }
    }

    /// Adds products of packed strips to the sums.
    ///
    /// # Safety
    /// As for [`Multiplier::multiply`](super::units::Multiplier::multiply), after [`Self::begin`].
    #[expect(clippy::unused_self, reason = "who has tiles has configured them")]
    #[inline]
    unsafe fn add(&self, parts: Parts, (rows, columns): (*const Line, *const Line), steps: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = (rows, rows.add(SIDE / 2), size_of::<Line>());
            if steps > 0 {
                match parts {
                    Parts::One => one(rows, columns, steps),
                    Parts::Two => two(rows, columns, steps),
                    Parts::Three => three(rows, columns, steps),
                }
            }
        }
    }

    /// Writes a block, whose rows lie one behind the other, of products with rows that are not packed as strips but lie `pitch` lines
    /// apart, each with the parts of a step side by side.
    ///
    /// # Safety
    /// `rows` have [`SIDE`] times `pitch` lines, of which so many steps are read, at least one; `columns` as there.
    #[inline]
    pub unsafe fn multiply_lines(
        &self,
        parts: Parts,
        (rows, pitch): (*const Line, usize),
        columns: *const Line,
        steps: usize,
        out: &mut [f32; SIDE * SIDE],
    ) {
        // SAFETY: the tiles are configured; what is read is the caller's promise.
        unsafe {
            self.begin(None);
            let rows = (rows, rows.add(SIDE / 2 * pitch), size_of::<Line>() * pitch);
            match parts {
                Parts::One => one_line(rows, columns, steps),
                Parts::Two => two_lines(rows, columns, steps),
                Parts::Three => three_lines(rows, columns, steps),
            }
            self.store(out.as_mut_ptr(), SIDE);
        }
    }

    /// Writes a block, whose rows lie one behind the other, of products of strips of which one has numbers in parts, the other signs.
    ///
    /// # Safety
    /// The strips are as long as so many steps, at least one.
    #[inline]
    pub unsafe fn multiply_signs(
        &self,
        (parts, signs): (Parts, Signs),
        (rows, columns): (*const Line, *const Line),
        steps: usize,
        out: &mut [f32; SIDE * SIDE],
    ) {
        // SAFETY: the tiles are configured; what is read is the caller's promise.
        unsafe {
            self.begin(None);
            let rows = (rows, rows.add(SIDE / 2), size_of::<Line>());
            match (parts, signs) {
                (Parts::One, _) => one(rows, columns, steps),
                (Parts::Two, Signs::Rows) => signs_two(rows, columns, steps),
                (Parts::Two, Signs::Columns) => two_signs(rows, columns, steps),
                (Parts::Three, Signs::Rows) => signs_three(rows, columns, steps),
                (Parts::Three, Signs::Columns) => three_signs(rows, columns, steps),
            }
            self.store(out.as_mut_ptr(), SIDE);
        }
    }

    /// Writes the sums to a block whose rows are `stride` numbers apart.
    ///
    /// # Safety
    /// There is this block.
    #[expect(clippy::unused_self, reason = "who has tiles has configured them")]
    #[inline]
    unsafe fn store(&self, out: *mut f32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (top, bottom, pitch) = (out, out.add(SIDE / 2 * stride), 4 * stride);
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

/// Which of two strips has signs.
#[derive(Clone, Copy)]
pub(super) enum Signs {
    Rows,
    Columns,
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there are tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// A loop over steps: `$load` reads tiles of both strips, between which the four products of what was read are summed. `$rows` and
/// `$columns` are the bytes from a step to the next.
macro_rules! steps {
    ($name:ident, $rows:literal, $columns:literal, $([$($load:expr),+])+) => {
        /// # Safety
        /// Tiles are configured; rows have two tiles whose lines are `pitch` bytes apart; both strips are as long as so many steps, at
        /// least one.
        #[inline]
        unsafe fn $name((upper, lower, pitch): (*const Line, *const Line, usize), columns: *const Line, steps: usize) {
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
                    concat!("add {u}, ", $rows),
                    concat!("add {l}, ", $rows),
                    concat!("add {c}, ", $columns),
                    "dec {n}",
                    "jnz 2b",
                    u = inout(reg) upper => _,
                    l = inout(reg) lower => _,
                    c = inout(reg) columns => _,
                    n = inout(reg) steps => _,
                    p = in(reg) pitch,
                    w = in(reg) 64usize,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

// Signs with two and three parts, the smallest first.
steps!(signs_two, "2048", "4096",
    ["tileloadd tmm4, [{u} + {p}]", "tileloadd tmm6, [{c} + {w} + 2048]",
     "tileloadd tmm5, [{l} + {p}]", "tileloadd tmm7, [{c} + {w} + 3072]"]
    ["tileloadd tmm6, [{c} + {w}]", "tileloadd tmm7, [{c} + {w} + 1024]"]
);
steps!(two_signs, "4096", "2048",
    ["tileloadd tmm4, [{u} + {p} + 2048]", "tileloadd tmm6, [{c} + {w}]",
     "tileloadd tmm5, [{l} + {p} + 2048]", "tileloadd tmm7, [{c} + {w} + 1024]"]
    ["tileloadd tmm4, [{u} + {p}]", "tileloadd tmm5, [{l} + {p}]"]
);
steps!(signs_three, "2048", "6144",
    ["tileloadd tmm4, [{u} + {p}]", "tileloadd tmm6, [{c} + {w} + 4096]",
     "tileloadd tmm5, [{l} + {p}]", "tileloadd tmm7, [{c} + {w} + 5120]"]
    ["tileloadd tmm6, [{c} + {w} + 2048]", "tileloadd tmm7, [{c} + {w} + 3072]"]
    ["tileloadd tmm6, [{c} + {w}]", "tileloadd tmm7, [{c} + {w} + 1024]"]
);
steps!(three_signs, "6144", "2048",
    ["tileloadd tmm4, [{u} + {p} + 4096]", "tileloadd tmm6, [{c} + {w}]",
     "tileloadd tmm5, [{l} + {p} + 4096]", "tileloadd tmm7, [{c} + {w} + 1024]"]
    ["tileloadd tmm4, [{u} + {p} + 2048]", "tileloadd tmm5, [{l} + {p} + 2048]"]
    ["tileloadd tmm4, [{u} + {p}]", "tileloadd tmm5, [{l} + {p}]"]
);

/// The loops for one, two and three parts over rows whose parts are `$part` bytes apart, side by side: `$second` and `$third` are two
/// and three times as many.
macro_rules! loops {
    ($one:ident, $two:ident, $three:ident, $part:literal, $second:literal, $third:literal) => {
        steps!($one, $part, "2048",
            ["tileloadd tmm4, [{u} + {p}]", "tileloadd tmm6, [{c} + {w}]",
             "tileloadd tmm5, [{l} + {p}]", "tileloadd tmm7, [{c} + {w} + 1024]"]
        );
        // a₁b₂, a₁b₁, a₂b₁: what was read is read as seldom as that order allows.
        steps!($two, $second, "4096",
            ["tileloadd tmm4, [{u} + {p}]", "tileloadd tmm6, [{c} + {w} + 2048]",
             "tileloadd tmm5, [{l} + {p}]", "tileloadd tmm7, [{c} + {w} + 3072]"]
            ["tileloadd tmm6, [{c} + {w}]", "tileloadd tmm7, [{c} + {w} + 1024]"]
            [concat!("tileloadd tmm4, [{u} + {p} + ", $part, "]"), concat!("tileloadd tmm5, [{l} + {p} + ", $part, "]")]
        );
        // a₁b₃, a₁b₂, a₁b₁, a₃b₁, a₂b₁, a₂b₂.
        steps!($three, $third, "6144",
            ["tileloadd tmm4, [{u} + {p}]", "tileloadd tmm6, [{c} + {w} + 4096]",
             "tileloadd tmm5, [{l} + {p}]", "tileloadd tmm7, [{c} + {w} + 5120]"]
            ["tileloadd tmm6, [{c} + {w} + 2048]", "tileloadd tmm7, [{c} + {w} + 3072]"]
            ["tileloadd tmm6, [{c} + {w}]", "tileloadd tmm7, [{c} + {w} + 1024]"]
            [concat!("tileloadd tmm4, [{u} + {p} + ", $second, "]"), concat!("tileloadd tmm5, [{l} + {p} + ", $second, "]")]
            [concat!("tileloadd tmm4, [{u} + {p} + ", $part, "]"), concat!("tileloadd tmm5, [{l} + {p} + ", $part, "]")]
            ["tileloadd tmm6, [{c} + {w} + 2048]", "tileloadd tmm7, [{c} + {w} + 3072]"]
        );
    };
}

// Rows packed as strips.
loops!(one, two, three, "2048", "4096", "6144");
// Rows gathered as they lie.
loops!(one_line, two_lines, three_lines, "64", "128", "192");
