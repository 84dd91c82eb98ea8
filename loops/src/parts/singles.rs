//! Packs rows of numbers in single precision for matrix units: as bf16 parts, of which three are the number, and as their signs.
//!
//! In a step of 32 numbers a pair is two numbers eight apart, of the first sixteen or of the last: as columns, sixteen rows' numbers
//! become pairs by one transposition, before they are split into parts.

use std::arch::x86_64::{
    __m512i, __mmask16, _CMP_NEQ_UQ, _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_maskz_loadu_ps, _mm512_maskz_or_epi32, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_store_si512,
};
use std::ops::Range;

use super::pack::{HEIGHT, Place, split, transposed};
use super::units::{Line, PART, SIDE, STEP};

/// Numbers of a vector.
const WIDTH: usize = 16;

/// Rows of numbers in single precision, one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Singles<'a> {
    values: &'a [f32],
    pub entries: usize,
    pub rows: usize,
}

/// What is packed of a strip: the P parts of its numbers, P times [`PART`] lines per step, and their signs, [`PART`] lines.
pub(super) struct Packed<'l> {
    pub numbers: Option<&'l mut [Line]>,
    pub signs: Option<&'l mut [Line]>,
}

impl<'a> Singles<'a> {
    /// # Panics
    /// If there are not whole rows.
    pub fn new(values: &'a [f32], entries: usize) -> Self {
        let rows = values.len() / entries;
        assert_eq!(values.len(), rows * entries, "whole rows");
        Self { values, entries, rows }
    }

    /// The first rows of its strips.
    pub fn strips(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.rows).step_by(SIDE)
    }

    /// Packs entries of the rows of a strip, in P parts. What is beyond them is zero.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub fn pack<const P: usize>(&self, first: usize, along: &Range<usize>, place: Place, mut out: Packed<'_>) {
        for (step, start) in along.clone().step_by(STEP).enumerate() {
            for half in 0..SIDE / HEIGHT {
                let tile = Tile { of: self, first: first + HEIGHT * half, entries: start..along.end };
                let mut write = |line: usize, pair: Pair| {
                    let line = half * HEIGHT + line;
                    if let Some(numbers) = &mut out.numbers {
                        for (p, part) in pair.parts::<P>().into_iter().enumerate() {
                            store(part, &mut numbers[(step * P + p) * PART + line]);
                        }
                    }
                    if let Some(signs) = &mut out.signs {
                        store(pair.signs(), &mut signs[step * PART + line]);
                    }
                };
                match place {
                    Place::Rows => {
                        for row in 0..HEIGHT {
                            let (a, b) = (tile.load(row, 0), tile.load(row, WIDTH));
                            let halves = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
                            write(row, Pair(halves.0, halves.1));
                        }
                    }
                    Place::Columns => {
                        for (side, at) in [0, WIDTH].into_iter().enumerate() {
                            let columns = transposed(std::array::from_fn(|row| tile.load(row, at)));
                            for i in 0..HEIGHT / 2 {
                                write(side * HEIGHT / 2 + i, Pair(columns[i], columns[HEIGHT / 2 + i]));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Some of the rows, and of a step's entries those from a first one on.
struct Tile<'a> {
    of: &'a Singles<'a>,
    first: usize,
    entries: Range<usize>,
}

impl Tile<'_> {
    /// Sixteen numbers of a row, zero where there are none.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(&self, row: usize, at: usize) -> __m512i {
        /// Bytes ahead of which rows, which are far apart, are fetched.
        const AHEAD: usize = 2 * STEP * size_of::<f32>();
        let (row, at) = (self.first + row, self.entries.start + at);
        if row >= self.of.rows || at >= self.entries.end {
            return _mm512_setzero_si512();
        }
        let place = &raw const self.of.values[row * self.of.entries + at];
        _mm_prefetch::<_MM_HINT_T0>(place.cast::<i8>().wrapping_add(AHEAD));
        let mask = ((1u32 << WIDTH.min(self.entries.end - at)) - 1) as __mmask16;
        // SAFETY: the mask marks numbers of the row.
        _mm512_castps_si512(unsafe { _mm512_maskz_loadu_ps(mask, place) })
    }
}

/// The first and the second numbers of sixteen pairs, in single precision.
#[derive(Clone, Copy)]
struct Pair(__m512i, __m512i);

impl Pair {
    /// Their parts, of which the largest is first: the nearest number of bf16, the nearest one of what is left, and so on; of three the
    /// last is the rest, which has at most eight bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn parts<const P: usize>(self) -> [__m512i; P] {
        split((_mm512_castsi512_ps(self.0), _mm512_castsi512_ps(self.1)))
    }

    /// Their signs: -1, 0 or 1, which what is not a number has as the loops of vectors read it.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn signs(self) -> __m512i {
        let of = |numbers: __m512i| {
            let signed = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_castsi512_ps(numbers), _mm512_setzero_ps());
            let sign = _mm512_and_si512(numbers, _mm512_set1_epi32(i32::MIN));
            _mm512_maskz_or_epi32(signed, sign, _mm512_set1_epi32(1f32.to_bits() as i32))
        };
        let [signs] = Self(of(self.0), of(self.1)).parts();
        signs
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(pairs: __m512i, line: &mut Line) {
    // SAFETY: a line has 64 bytes and is aligned to as many.
    unsafe { _mm512_store_si512((&raw mut *line).cast(), pairs) };
}
