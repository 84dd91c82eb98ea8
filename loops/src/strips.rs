//! Sums of outer products from factors that are packed once, in single precision: the gradients of a weight, tile by tile.
//!
//! What one register tile of [`outer`](crate::outer) reads of a factor lies in one piece: strips of six columns of g, of 64 columns of
//! x, token by token. In place the same numbers are spread over as many pages as there are tokens, in few sets of a cache.

use std::ops::Range;

use crate::instructions::{has_whole_vectors, is_halved_by_mkl};
use crate::outer::{HEIGHT, WIDTH};

/// Whether packing gains more than it takes on this processor: on Intel's, whose third cache is slow. On AMD's, copying one factor
/// cost a twentieth where vectors are multiplied in halves, and was not measured where they are not.
#[must_use]
pub fn gain() -> bool {
    has_whole_vectors() && !is_halved_by_mkl()
}

/// Packed factors, in memory that is kept for the next ones: to touch new memory can cost more than to pack.
#[derive(Debug, Default)]
pub struct Strips {
    lines: Vec<Line>,
    used: usize,
}

/// As many numbers as a line of a cache, where vectors that are read begin.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Numbers of a line.
const LINE: usize = 16;

/// A packed factor \[tokens, columns\]: its strips, each with the numbers of one token behind those of another.
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// The line where it begins.
    first: usize,
    tokens: usize,
    columns: usize,
}

/// The factor whose columns are the result's rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows(Packed);

/// The factor whose columns are the result's columns.
#[derive(Clone, Copy, Debug)]
pub struct Columns(Packed);

/// Numbers that are copied at a time to a strip of g: what is too much of them the next token's overwrite, or nobody's.
const COPIED: usize = 8;

impl Rows {
    /// Numbers from a strip to the next.
    fn pitch(tokens: usize) -> usize {
        tokens * HEIGHT + COPIED - HEIGHT
    }
}

impl Columns {
    /// Numbers from a strip to the next.
    fn pitch(tokens: usize) -> usize {
        tokens * WIDTH
    }
}

impl Strips {
    /// Forgets all factors, but keeps their memory.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Packs rows of tokens with so many numbers each, which become rows of results.
    ///
    /// # Panics
    /// If the numbers are not whole rows.
    pub fn rows(&mut self, values: &[f32], columns: usize) -> Rows {
        let tokens = tokens(values, columns);
        let pitch = Rows::pitch(tokens);
        let (first, place) = self.room(columns.div_ceil(HEIGHT) * pitch);
        for (t, row) in values.chunks_exact(columns).enumerate() {
            for (i, strip) in (0..columns).step_by(HEIGHT).zip(place.chunks_exact_mut(pitch)) {
                let place = strip[t * HEIGHT..].first_chunk_mut::<COPIED>().expect("room for what is copied");
                match row[i..].first_chunk::<COPIED>() {
                    Some(some) => *place = *some,
                    None => place[..columns - i].copy_from_slice(&row[i..]),
                }
            }
        }
        Rows(Packed { first, tokens, columns })
    }

    /// The same for columns of results.
    ///
    /// # Panics
    /// As [`Self::rows`].
    pub fn columns(&mut self, values: &[f32], columns: usize) -> Columns {
        let tokens = tokens(values, columns);
        let pitch = Columns::pitch(tokens);
        let (first, place) = self.room(columns.div_ceil(WIDTH) * pitch);
        for (t, row) in values.chunks_exact(columns).enumerate() {
            for (numbers, strip) in row.chunks(WIDTH).zip(place.chunks_exact_mut(pitch)) {
                strip[t * WIDTH..][..numbers.len()].copy_from_slice(numbers);
            }
        }
        Columns(Packed { first, tokens, columns })
    }

    /// Memory for so many numbers, behind what is used; with its first line.
    fn room(&mut self, numbers: usize) -> (usize, &mut [f32]) {
        let first = self.used;
        self.used += numbers.div_ceil(LINE);
        if self.lines.len() < self.used {
            self.lines.resize(self.used, Line([0.0; LINE]));
        }
        let lines = &mut self.lines[first..self.used];
        // SAFETY: a line is so many numbers and nothing else.
        let all = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) };
        (first, &mut all[..numbers])
    }

    /// A factor's strips from one on.
    fn strips(&self, packed: Packed, pitch: usize, strip: usize) -> &[f32] {
        let lines = &self.lines[packed.first..self.used];
        // SAFETY: as in [`Self::room`].
        let all: &[f32] = unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) };
        &all[strip * pitch..][..pitch]
    }

    /// Writes `Σ_t g_t x_tᵀ` \[heights, widths\] to `out`, contiguous, or adds it; every entry with the operations of
    /// [`outer::write`](crate::outer::write) in their order.
    ///
    /// # Panics
    /// If AVX-512 is not there, sizes do not fit, the ranges do not begin at multiples of [`HEIGHT`] and [`WIDTH`], or the factors are
    /// forgotten.
    pub fn write_outer(
        &self,
        (g, heights): (Rows, Range<usize>),
        (x, widths): (Columns, Range<usize>),
        add: bool,
        out: &mut [f32],
    ) {
        let (g, x) = (g.0, x.0);
        assert!(crate::instructions::has_avx512(), "AVX-512");
        assert_eq!(g.tokens, x.tokens, "tokens");
        assert!(heights.start.is_multiple_of(HEIGHT) && widths.start.is_multiple_of(WIDTH), "a tile's corner");
        assert!(heights.end <= g.columns && widths.end <= x.columns, "columns of a factor");
        assert_eq!(out.len(), heights.len() * widths.len(), "entries of the tile");
        #[cfg(target_arch = "x86_64")]
        for j in widths.clone().step_by(WIDTH) {
            let strip = self.strips(x, Columns::pitch(x.tokens), j / WIDTH);
            let x = crate::outer::Strided { values: strip, stride: WIDTH, columns: WIDTH.min(widths.end - j) };
            for i in heights.clone().step_by(HEIGHT) {
                let strip = self.strips(g, Rows::pitch(g.tokens), i / HEIGHT);
                let g = crate::outer::Strided { values: strip, stride: HEIGHT, columns: HEIGHT.min(heights.end - i) };
                let at = (i - heights.start, j - widths.start);
                // SAFETY: AVX-512 is available, as asserted.
                unsafe { crate::outer::x86::any_tile(g, x, at, widths.len(), add, out) };
            }
        }
    }
}

/// Rows of so many numbers.
fn tokens(values: &[f32], columns: usize) -> usize {
    assert!(columns > 0 && values.len().is_multiple_of(columns), "rows of {columns} columns");
    values.len() / columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::instructions::has_avx512;
    use crate::outer::{self, Strided};

    proptest! {
        /// Bit for bit what is written from factors in place, of the second of two pairs of factors. Fails for: a strip of other tokens or
        /// of another factor, numbers copied beyond a strip, another order of summation.
        #[test]
        fn packed_factors_give_what_factors_in_place_give(
            tokens in 1usize..70, rows in 1usize..40, columns in 1usize..150, from in (0usize..7, 0usize..3),
            add in any::<bool>(), seed in any::<u64>(),
        ) {
            if has_avx512() {
                let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| random.random_range(-1.0..1.0)).collect() };
                let (top, left) = (from.0 * HEIGHT, from.1 * WIDTH);
                let (height, width) = (top + rows + 3, left + columns + 5);
                let mut strips = Strips::default();
                let pairs = [9, tokens].map(|tokens| {
                    let (g, x) = (draw(tokens * height), draw(tokens * width));
                    let packed = (strips.rows(&g, height), strips.columns(&x, width));
                    (g, x, packed)
                });
                let (g, x, packed) = &pairs[1];
                let before = vec![if add { 0.5 } else { f32::NAN }; rows * columns];
                let (mut found, mut expected) = (before.clone(), before);
                strips.write_outer((packed.0, top..top + rows), (packed.1, left..left + columns), add, &mut found);
                let in_place = (Strided::new(g, height, top, rows), Strided::new(x, width, left, columns));
                outer::write(in_place.0, in_place.1, add, &mut expected);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
