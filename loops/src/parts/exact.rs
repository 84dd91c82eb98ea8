//! Packs rows of numbers in single precision for matrix units: as three parts whose sum they are, and as their signs.
//!
//! In a step of 32 numbers a pair is two numbers eight apart, of the first sixteen or of the last: as columns, sixteen rows' numbers
//! become pairs by one transposition, before they are split into parts.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _CMP_NEQ_UQ, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi32, _mm512_and_si512,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_maskz_loadu_ps, _mm512_maskz_or_epi32,
    _mm512_or_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_srli_epi32, _mm512_store_si512, _mm512_sub_ps,
};
use std::ops::Range;

use super::pack::{HEIGHT, Place, transposed};
use super::units::{Line, PART, SIDE, STEP};

/// Parts of a number.
pub(super) const PARTS: usize = 3;

/// The bits of a number in single precision that are those of bf16.
const UPPER: i32 = 0xffff_0000_u32 as i32;

/// Numbers of a vector.
const WIDTH: usize = 16;

/// Rows of numbers in single precision, one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Singles<'a> {
    values: &'a [f32],
    pub entries: usize,
    pub rows: usize,
}

/// What is packed of a strip: the three parts of its numbers, [`PARTS`] times [`PART`] lines per step, and their signs, [`PART`] lines.
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

    /// Packs entries of the rows of a strip. What is beyond them is zero.
    #[target_feature(enable = "avx512f")]
    pub fn pack(&self, first: usize, along: &Range<usize>, place: Place, mut out: Packed<'_>) {
        for (step, start) in along.clone().step_by(STEP).enumerate() {
            for half in 0..SIDE / HEIGHT {
                let tile = Tile { of: self, first: first + HEIGHT * half, entries: start..along.end };
                let mut write = |line: usize, pair: Pair| {
                    let line = half * HEIGHT + line;
                    if let Some(numbers) = &mut out.numbers {
                        for (p, part) in pair.parts().into_iter().enumerate() {
                            store(part, &mut numbers[(step * PARTS + p) * PART + line]);
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
    /// Their three parts, of which the largest is first: the nearest number of bf16, the nearest one of what is left, and the rest,
    /// which has at most eight bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn parts(self) -> [__m512i; PARTS] {
        let (a, b) = (split(self.0), split(self.1));
        [pairs(a[0], b[0]), pairs(a[1], b[1]), pairs(a[2], b[2])]
    }

    /// Their signs: -1, 0 or 1, which what is not a number has as the loops of vectors read it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn signs(self) -> __m512i {
        let of = |numbers: __m512i| {
            let signed = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_castsi512_ps(numbers), _mm512_setzero_ps());
            let sign = _mm512_and_si512(numbers, _mm512_set1_epi32(i32::MIN));
            _mm512_maskz_or_epi32(signed, sign, _mm512_set1_epi32(1f32.to_bits() as i32))
        };
        pairs(of(self.0), of(self.1))
    }
}

/// The parts of numbers, in the upper halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn split(numbers: __m512i) -> [__m512i; PARTS] {
    let nearest = |x: __m512| {
        let half = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
        _mm512_castsi512_ps(_mm512_and_si512(half, _mm512_set1_epi32(UPPER)))
    };
    let whole = _mm512_castsi512_ps(numbers);
    let first = nearest(whole);
    let left = _mm512_sub_ps(whole, first);
    let second = nearest(left);
    [first, second, _mm512_sub_ps(left, second)].map(|x| _mm512_castps_si512(x))
}

/// Pairs of numbers that bf16 has, given in single precision. Bits below its range are cut off.
#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(first: __m512i, second: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_srli_epi32::<16>(first), _mm512_and_si512(second, _mm512_set1_epi32(UPPER)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(pairs: __m512i, line: &mut Line) {
    // SAFETY: a line has 64 bytes and is aligned to as many.
    unsafe { _mm512_store_si512((&raw mut *line).cast(), pairs) };
}
