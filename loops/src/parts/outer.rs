//! Sums of outer products over tokens from factors that are packed once: the gradients of a weight, tile by tile.

use std::ops::Range;

use super::Parts;

/// Columns from whose multiples on tiles can begin.
pub const ALIGNMENT: usize = super::units::SIDE;

/// A number of bf16: the upper half of one in single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// The numbers of a factor.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// In single precision.
    Single(&'a [f32]),
    /// In bf16.
    Bf16(&'a [Bf16]),
}

impl Values<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Single(values) => Self::Single(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod packed {
    use super::{Bf16, Parts, Range, Values};

    /// There are no units for bf16.
    #[derive(Debug, Default)]
    pub struct Packs(());

    /// There are no units for bf16.
    #[derive(Clone, Copy, Debug)]
    pub struct Rows(());

    /// There are no units for bf16.
    #[derive(Clone, Copy, Debug)]
    pub struct Columns(());

    impl Packs {
        /// Nothing.
        pub fn clear(&mut self) {}

        /// Not to be called.
        pub fn rows(&mut self, _: Parts, _: Values<'_>, _: usize) -> Rows {
            unreachable!("no units for bf16")
        }

        /// Not to be called.
        pub fn columns(&mut self, _: Parts, _: Values<'_>, _: usize) -> Columns {
            unreachable!("no units for bf16")
        }

        /// Not to be called.
        pub fn add_outer(&self, _: (Rows, Range<usize>), _: (Columns, Range<usize>), _: bool, _: &mut [f32]) {
            unreachable!("no units for bf16")
        }

        /// Not to be called.
        pub fn gather(
            &self,
            _: &[Vec<(Rows, Columns)>],
            _: (&Range<usize>, &Range<usize>),
            _: usize,
            _: &mut crate::parts::Gathered,
        ) {
            unreachable!("no units for bf16")
        }

        /// Not to be called.
        pub fn write_rounded(&self, _: (Rows, Range<usize>), _: (Columns, Range<usize>), _: &mut [Bf16]) {
            unreachable!("no units for bf16")
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod packed {
    use super::{ALIGNMENT, Bf16, Parts, Range, Values};
    use crate::parts::Gathered;
    use crate::parts::pack::{Place, length, pack};
    use crate::parts::product::{Block, Out, block, room};
    use crate::parts::tiles::Tiles;
    use crate::parts::units::{EMPTY, Line, Multiplier, SIDE, STEP};

    /// Packed factors, in memory that is kept for the next ones: to touch new memory can cost more than to pack.
    #[derive(Debug, Default)]
    pub struct Packs {
        lines: Vec<Line>,
        used: usize,
    }

    /// A packed factor \[tokens, columns\]: strips of [`SIDE`] columns, one behind the other.
    #[derive(Clone, Copy, Debug)]
    struct Packed {
        parts: Parts,
        first: usize,
        columns: usize,
        tokens: usize,
    }

    /// The factor whose columns are the result's rows.
    #[derive(Clone, Copy, Debug)]
    pub struct Rows(Packed);

    /// The factor whose columns are the result's columns.
    #[derive(Clone, Copy, Debug)]
    pub struct Columns(Packed);

    impl Packed {
        /// Lines of a strip.
        fn length(self) -> usize {
            length(self.tokens, self.parts.count())
        }

        /// The strip with a column.
        fn strip(self, lines: &[Line], column: usize) -> &[Line] {
            &lines[self.first + column / SIDE * self.length()..][..self.length()]
        }
    }

    impl Packs {
        /// Forgets all factors, but keeps their memory.
        pub fn clear(&mut self) {
            self.used = 0;
        }

        /// Packs rows of tokens with so many numbers each, which become rows of results.
        ///
        /// # Panics
        /// If the processor has no units for bf16, or the numbers are not whole rows.
        pub fn rows(&mut self, parts: Parts, values: Values<'_>, columns: usize) -> Rows {
            Rows(self.pack(parts, values, columns, Place::Rows))
        }

        /// The same for columns of results.
        ///
        /// # Panics
        /// As [`Self::rows`].
        pub fn columns(&mut self, parts: Parts, values: Values<'_>, columns: usize) -> Columns {
            Columns(self.pack(parts, values, columns, Place::Columns))
        }

        fn pack(&mut self, parts: Parts, values: Values<'_>, columns: usize, place: Place) -> Packed {
            assert!(values.len().is_multiple_of(columns), "rows of {columns} columns");
            let tokens = values.len() / columns;
            let packed = Packed { parts, first: self.used, columns, tokens };
            self.used += columns.div_ceil(SIDE) * packed.length();
            let lines = &mut room(&mut self.lines, self.used, EMPTY)[packed.first..];
            pack(parts, (values, columns, false), (columns, tokens), place, lines);
            packed
        }

        /// Writes `Σ_t g_t x_tᵀ` \[heights, widths\] to `out`, contiguous, or adds it. In this thread.
        ///
        /// # Panics
        /// If sizes or parts do not fit, the ranges do not begin at multiples of [`ALIGNMENT`], or the factors are forgotten.
        pub fn add_outer(
            &self,
            (g, heights): (Rows, Range<usize>),
            (x, widths): (Columns, Range<usize>),
            add: bool,
            out: &mut [f32],
        ) {
            let width = widths.len();
            assert_eq!(out.len(), heights.len() * width, "entries of the tile");
            let out = Out { values: out.as_mut_ptr(), stride: width };
            self.for_each_block((g, heights), (x, widths), |(i, j), size, multiplier, strips, steps| {
                // SAFETY: the block is within the result, which is the caller's own; strips are as long as the steps.
                unsafe { block(multiplier, g.0.parts, strips, steps, (out.at(i, j), size), add) };
            });
        }

        /// Writes the same, rounded to bf16.
        ///
        /// # Panics
        /// As [`Self::add_outer`].
        pub fn write_rounded(
            &self,
            (g, heights): (Rows, Range<usize>),
            (x, widths): (Columns, Range<usize>),
            out: &mut [Bf16],
        ) {
            let width = widths.len();
            assert_eq!(out.len(), heights.len() * width, "entries of the tile");
            self.for_each_block((g, heights), (x, widths), |(i, j), size, multiplier, (rows, columns), steps| {
                let strips = (rows.as_ptr(), columns.as_ptr());
                let place = i * width + j;
                if size.0 >= SIDE && size.1 >= SIDE {
                    // SAFETY: a block within the result; strips are as long as the steps.
                    unsafe {
                        multiplier.multiply_rounded(g.0.parts, strips, steps, (out[place..].as_mut_ptr(), width));
                    }
                    return;
                }
                let mut whole = [Bf16(0); SIDE * SIDE];
                // SAFETY: a whole block is this function's own.
                unsafe { multiplier.multiply_rounded(g.0.parts, strips, steps, (whole.as_mut_ptr(), SIDE)) };
                for (row, values) in whole.chunks_exact(SIDE).enumerate().take(size.0) {
                    let some = size.1.min(SIDE);
                    out[place + row * width..][..some].copy_from_slice(&values[..some]);
                }
            });
        }

        /// Writes sums of `Σ_t g_t x_tᵀ` over factors as rows of `out` from `first` on, which has begun with as many parts.
        ///
        /// # Panics
        /// As [`Self::add_outer`], or if there are no matrix units.
        pub fn gather(
            &self,
            rows: &[Vec<(Rows, Columns)>],
            ranges: (&Range<usize>, &Range<usize>),
            first: usize,
            out: &mut Gathered,
        ) {
            let tiles = Tiles::new();
            for (row, factors) in (first..).zip(rows) {
                let (g, _) = factors.first().expect("a row has factors");
                // SAFETY: matrix units come with these vectors.
                unsafe {
                    match g.0.parts {
                        Parts::One => self.gather_row::<1>(&tiles, factors, ranges, row, out),
                        Parts::Two => self.gather_row::<2>(&tiles, factors, ranges, row, out),
                        Parts::Three => self.gather_row::<3>(&tiles, factors, ranges, row, out),
                    }
                }
            }
        }

        /// # Safety
        /// The processor has AVX-512 with bf16.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        fn gather_row<const P: usize>(
            &self,
            tiles: &Tiles,
            factors: &[(Rows, Columns)],
            (heights, widths): (&Range<usize>, &Range<usize>),
            row: usize,
            out: &mut Gathered,
        ) {
            let lines = &self.lines[..self.used];
            let (height, width) = (heights.len(), widths.len());
            let fits = |(g, x): &(Rows, Columns)| {
                let same = (g.0.parts, g.0.tokens) == (x.0.parts, x.0.tokens) && g.0.parts.count() == P;
                same && heights.end <= g.0.columns && widths.end <= x.0.columns
            };
            assert!(!factors.is_empty() && factors.iter().all(fits), "parts, tokens and columns of factors");
            assert!(
                heights.start.is_multiple_of(ALIGNMENT) && widths.start.is_multiple_of(ALIGNMENT),
                "a tile's corner"
            );
            let mut block = Block([0.0; SIDE * SIDE]);
            for (column, j) in (0..width).step_by(SIDE).enumerate() {
                for i in (0..height).step_by(SIDE) {
                    let own = block.0.as_mut_ptr();
                    for (at, (g, x)) in factors.iter().enumerate() {
                        let strips = (g.0.strip(lines, heights.start + i), x.0.strip(lines, widths.start + j));
                        let strips = (strips.0.as_ptr(), strips.1.as_ptr());
                        let before = (at > 0).then_some((own.cast_const(), SIDE));
                        // SAFETY: the block is this function's own; strips are as long as the steps.
                        unsafe { tiles.multiply(g.0.parts, strips, g.0.tokens.div_ceil(STEP), before, (own, SIDE)) };
                    }
                    out.put::<P>(row, column * height + i, &block.0, (height - i, width - j));
                }
            }
        }

        /// Calls `multiply` for every block of a tile with its corner, the size of what is left from there on, and the packed
        /// factors' strips of so many steps.
        fn for_each_block(
            &self,
            (g, heights): (Rows, Range<usize>),
            (x, widths): (Columns, Range<usize>),
            mut multiply: impl FnMut((usize, usize), (usize, usize), &Multiplier, (&[Line], &[Line]), usize),
        ) {
            let (g, x) = (g.0, x.0);
            assert_eq!((g.parts, g.tokens), (x.parts, x.tokens), "parts and tokens");
            assert!(
                heights.start.is_multiple_of(ALIGNMENT) && widths.start.is_multiple_of(ALIGNMENT),
                "a tile's corner"
            );
            assert!(heights.end <= g.columns && widths.end <= x.columns, "columns of a factor");
            let (height, width) = (heights.len(), widths.len());
            if height * width == 0 {
                return;
            }
            let multiplier = Multiplier::new();
            let steps = g.tokens.div_ceil(STEP);
            // Side by side: blocks below one another would be written to more places at a time, which takes up to half as long again.
            for i in (0..height).step_by(SIDE) {
                let rows = g.strip(&self.lines[..self.used], heights.start + i);
                for j in (0..width).step_by(SIDE) {
                    let columns = x.strip(&self.lines[..self.used], widths.start + j);
                    multiply((i, j), (height - i, width - j), &multiplier, (rows, columns), steps);
                }
            }
        }
    }
}

pub use packed::{Columns, Packs, Rows};
