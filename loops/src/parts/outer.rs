//! Sums of outer products over tokens from factors that are packed once: the gradients of a weight, tile by tile.

use std::ops::Range;

use super::Parts;

/// Columns from whose multiples on tiles can begin.
pub const ALIGNMENT: usize = super::units::SIDE;

#[cfg(not(target_arch = "x86_64"))]
mod packed {
    use super::{Parts, Range};

    /// There are no matrix units.
    #[derive(Debug)]
    pub struct Rows(());

    /// There are no matrix units.
    #[derive(Debug)]
    pub struct Columns(());

    impl Rows {
        /// Not to be called.
        pub fn pack(_: Parts, _: &[f32], _: usize) -> Self {
            unreachable!("no matrix units")
        }
    }

    impl Columns {
        /// Not to be called.
        pub fn pack(_: Parts, _: &[f32], _: usize) -> Self {
            unreachable!("no matrix units")
        }
    }

    /// Not to be called.
    pub fn add_outer(_: (&Rows, Range<usize>), _: (&Columns, Range<usize>), _: bool, _: &mut [f32]) {
        unreachable!("no matrix units")
    }
}

#[cfg(target_arch = "x86_64")]
mod packed {
    use super::{ALIGNMENT, Parts, Range};
    use crate::parts::pack::{Place, strip};
    use crate::parts::product::{Factor, Out, block};
    use crate::parts::units::{Line, PART, SIDE, STEP, Tiles, present};

    /// A packed factor \[tokens, columns\].
    #[derive(Debug)]
    struct Packed {
        parts: Parts,
        /// Strips of [`SIDE`] columns, one behind the other.
        lines: Vec<Line>,
        columns: usize,
        tokens: usize,
    }

    impl Packed {
        fn new(parts: Parts, values: &[f32], columns: usize, place: Place) -> Self {
            assert!(present(), "matrix units");
            assert!(values.len().is_multiple_of(columns), "rows of {columns} columns");
            let tokens = values.len() / columns;
            let factor = Factor { values, stride: columns, contiguous_along: false };
            let length = length(parts, tokens);
            let mut lines = vec![Line([0; STEP]); columns.div_ceil(SIDE) * length];
            for (s, lines) in lines.chunks_exact_mut(length.max(1)).enumerate() {
                let rows = SIDE * s..columns.min(SIDE * (s + 1));
                // SAFETY: matrix units come with these vectors (`present`).
                unsafe {
                    match parts {
                        Parts::One => strip::<1>(factor, rows, 0..tokens, place, lines),
                        Parts::Two => strip::<2>(factor, rows, 0..tokens, place, lines),
                        Parts::Three => strip::<3>(factor, rows, 0..tokens, place, lines),
                    }
                }
            }
            Self { parts, lines, columns, tokens }
        }

        /// The strip with a column.
        fn strip(&self, column: usize) -> &[Line] {
            let length = length(self.parts, self.tokens);
            &self.lines[column / SIDE * length..][..length]
        }
    }

    /// Lines of a strip.
    fn length(parts: Parts, tokens: usize) -> usize {
        tokens.div_ceil(STEP) * parts.count() * PART
    }

    /// The factor whose columns are the result's rows.
    #[derive(Debug)]
    pub struct Rows(Packed);

    /// The factor whose columns are the result's columns.
    #[derive(Debug)]
    pub struct Columns(Packed);

    impl Rows {
        /// Packs rows of tokens with so many numbers each.
        ///
        /// # Panics
        /// If the processor has no matrix units, or the numbers are not whole rows.
        pub fn pack(parts: Parts, values: &[f32], columns: usize) -> Self {
            Self(Packed::new(parts, values, columns, Place::Rows))
        }
    }

    impl Columns {
        /// As [`Rows::pack`].
        ///
        /// # Panics
        /// As there.
        pub fn pack(parts: Parts, values: &[f32], columns: usize) -> Self {
            Self(Packed::new(parts, values, columns, Place::Columns))
        }
    }

    /// Writes `Σ_t g_t x_tᵀ` \[heights, widths\] to `out`, contiguous, or adds it. In this thread.
    ///
    /// # Panics
    /// If sizes or parts do not fit, or the ranges do not begin at multiples of [`ALIGNMENT`].
    pub fn add_outer(
        (g, heights): (&Rows, Range<usize>),
        (x, widths): (&Columns, Range<usize>),
        add: bool,
        out: &mut [f32],
    ) {
        let (g, x) = (&g.0, &x.0);
        assert_eq!((g.parts, g.tokens), (x.parts, x.tokens), "parts and tokens");
        assert!(heights.start.is_multiple_of(ALIGNMENT) && widths.start.is_multiple_of(ALIGNMENT), "a tile's corner");
        assert!(heights.end <= g.columns && widths.end <= x.columns, "columns of a factor");
        let (height, width) = (heights.len(), widths.len());
        assert_eq!(out.len(), height * width, "entries of the tile");
        if out.is_empty() {
            return;
        }
        let tiles = Tiles::new();
        let steps = g.tokens.div_ceil(STEP);
        let out = Out { values: out.as_mut_ptr(), stride: width };
        for j in (0..width).step_by(SIDE) {
            let columns = x.strip(widths.start + j);
            for i in (0..height).step_by(SIDE) {
                let rows = g.strip(heights.start + i);
                let size = (height - i, width - j);
                // SAFETY: the block is within the result, which is the caller's own; strips are as long as the steps.
                unsafe { block(&tiles, g.parts, (rows, columns), steps, (out.at(i, j), size), add) };
            }
        }
    }
}

pub use packed::{Columns, Rows, add_outer};
