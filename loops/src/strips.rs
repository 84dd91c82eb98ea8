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

/// A packed factor \[tokens, columns\]: its strips, each with the numbers of one token behind those of another.
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// Its first number among those of all factors.
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

/// Numbers of a line of a cache, where every factor begins.
const LINE: usize = 16;

impl Rows {
    /// Numbers from a strip to the next.
    fn pitch(tokens: usize) -> usize {
        tokens * HEIGHT + COPIED - HEIGHT
    }

    /// Numbers that a packed factor takes.
    #[must_use]
    pub fn room(tokens: usize, columns: usize) -> usize {
        (columns.div_ceil(HEIGHT) * Self::pitch(tokens)).next_multiple_of(LINE)
    }

    /// Packs rows of tokens with so many numbers each, which become rows of results, from `first` on.
    ///
    /// # Panics
    /// If the numbers are not whole rows, or there is no [room](Self::room) for them.
    #[must_use]
    pub fn pack(values: &[f32], columns: usize, first: usize, numbers: &mut [f32]) -> Self {
        let tokens = tokens(values, columns);
        let (pitch, place) = (Self::pitch(tokens), &mut numbers[first..][..Self::room(tokens, columns)]);
        for (t, row) in values.chunks_exact(columns).enumerate() {
            for (i, strip) in (0..columns).step_by(HEIGHT).zip(place.chunks_exact_mut(pitch)) {
                let place = strip[t * HEIGHT..].first_chunk_mut::<COPIED>().expect("room for what is copied");
                match row[i..].first_chunk::<COPIED>() {
                    Some(some) => *place = *some,
                    None => place[..columns - i].copy_from_slice(&row[i..]),
                }
            }
        }
        Self(Packed { first, tokens, columns })
    }
}

impl Columns {
    /// Numbers from a strip to the next.
    fn pitch(tokens: usize) -> usize {
        tokens * WIDTH
    }

    /// Numbers that a packed factor takes.
    #[must_use]
    pub fn room(tokens: usize, columns: usize) -> usize {
        columns.div_ceil(WIDTH) * Self::pitch(tokens)
    }

    /// Packs rows of tokens with so many numbers each, which become columns of results, from `first` on.
    ///
    /// # Panics
    /// As [`Rows::pack`].
    #[must_use]
    pub fn pack(values: &[f32], columns: usize, first: usize, numbers: &mut [f32]) -> Self {
        let tokens = tokens(values, columns);
        let (pitch, place) = (Self::pitch(tokens), &mut numbers[first..][..Self::room(tokens, columns)]);
        for (t, row) in values.chunks_exact(columns).enumerate() {
            for (some, strip) in row.chunks(WIDTH).zip(place.chunks_exact_mut(pitch)) {
                strip[t * WIDTH..][..some.len()].copy_from_slice(some);
            }
        }
        Self(Packed { first, tokens, columns })
    }
}

/// Writes `Σ_t g_t x_tᵀ` \[heights, widths\] to `out`, contiguous, or adds it; every entry with the operations of
/// [`outer::write`](crate::outer::write) in their order. `numbers` are those to which both factors were packed.
///
/// # Panics
/// If AVX-512 is not there, or sizes do not fit.
pub fn write_outer(
    numbers: &[f32],
    (g, heights): (Rows, Range<usize>),
    (x, widths): (Columns, Range<usize>),
    add: bool,
    out: &mut [f32],
) {
    let (g, x) = (g.0, x.0);
    assert!(crate::instructions::has_avx512(), "AVX-512");
    assert_eq!(g.tokens, x.tokens, "tokens");
    assert!(heights.end <= g.columns && widths.end <= x.columns, "columns of a factor");
    assert_eq!(out.len(), heights.len() * widths.len(), "entries of the tile");
    #[cfg(target_arch = "x86_64")]
    for j in pieces(&widths, WIDTH) {
        let x = strip(numbers, x, &j, WIDTH, Columns::pitch(x.tokens));
        for i in pieces(&heights, HEIGHT) {
            let g = strip(numbers, g, &i, HEIGHT, Rows::pitch(g.tokens));
            let at = (i.start - heights.start, j.start - widths.start);
            // SAFETY: AVX-512 is available, as asserted.
            unsafe { crate::outer::x86::any_tile(g, x, at, widths.len(), add, out) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, add);
}

/// The parts of a range that lie in one strip each.
#[cfg(target_arch = "x86_64")]
fn pieces(range: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let (start, end) = (range.start, range.end);
    (start / size..end.div_ceil(size)).map(move |k| start.max(k * size)..end.min((k + 1) * size))
}

/// Columns of a factor that lie in one of its strips, which are so wide and so far apart.
#[cfg(target_arch = "x86_64")]
fn strip<'a>(
    numbers: &'a [f32],
    packed: Packed,
    columns: &Range<usize>,
    size: usize,
    pitch: usize,
) -> crate::outer::Strided<'a> {
    let strip = &numbers[packed.first + columns.start / size * pitch..][..pitch];
    crate::outer::Strided { values: &strip[columns.start % size..], stride: size, columns: columns.len() }
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
            tokens in 1usize..70, rows in 1usize..40, columns in 1usize..150, from in (0usize..20, 0usize..140),
            behind in (0usize..4, 0usize..6),
            add in any::<bool>(), seed in any::<u64>(),
        ) {
            if has_avx512() {
                let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| random.random_range(-1.0..1.0)).collect() };
                let (height, width) = (from.0 + rows + behind.0, from.1 + columns + behind.1);
                let mut numbers = Vec::new();
                let pairs = [9, tokens].map(|tokens| {
                    let (g, x) = (draw(tokens * height), draw(tokens * width));
                    let first = numbers.len();
                    let second = first + Rows::room(tokens, height);
                    numbers.resize(second + Columns::room(tokens, width), f32::NAN);
                    let packed =
                        (Rows::pack(&g, height, first, &mut numbers), Columns::pack(&x, width, second, &mut numbers));
                    (g, x, packed)
                });
                let (g, x, packed) = &pairs[1];
                let before = vec![if add { 0.5 } else { f32::NAN }; rows * columns];
                let (mut found, mut expected) = (before.clone(), before);
                let ranges = (from.0..from.0 + rows, from.1..from.1 + columns);
                write_outer(&numbers, (packed.0, ranges.0), (packed.1, ranges.1), add, &mut found);
                let in_place = (Strided::new(g, height, from.0, rows), Strided::new(x, width, from.1, columns));
                outer::write(in_place.0, in_place.1, add, &mut expected);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
