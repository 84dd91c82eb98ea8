//! Splits numbers into bf16 parts, in the layout of the matrix units.
//!
//! The units sum over pairs of numbers: a tile of rows has 16 pairs of one row of the factor in each of its 16 rows, a tile of columns
//! one pair for each of 16 columns. One is the other with its pairs transposed. A pair is two numbers 16 apart: the order of a sum
//! is free, and this one needs the fewest moves.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtne2ps_pbh, _mm512_maskz_loadu_ps,
    _mm512_permutexvar_epi16, _mm512_set_epi16, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_store_si512, _mm512_sub_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::ops::Range;

use super::product::Factor;
use super::units::{Line, PART, SIDE, STEP};

/// Rows of a tile.
const HEIGHT: usize = 16;

/// Which of the two factors of a product is packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Rows,
    Columns,
}

/// Packs a strip of at most [`SIDE`] rows of a factor from `first` on, summed over `along`, in P parts. What is beyond the factor is
/// zero. `out` has P times [`PART`] lines for each [`STEP`] numbers.
///
/// # Safety
/// The processor has AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn strip<const P: usize>(
    factor: Factor<'_>,
    rows: Range<usize>,
    along: Range<usize>,
    place: Place,
    out: &mut [Line],
) {
    for (k, lines) in along.clone().step_by(STEP).zip(out.chunks_exact_mut(P * PART)) {
        for half in 0..SIDE / HEIGHT {
            let first = rows.start + HEIGHT * half;
            let parts = tile::<P>(factor, first..rows.end.min(first + HEIGHT), k..along.end.min(k + STEP), place);
            for (part, tile) in parts.iter().enumerate() {
                let lines = &mut lines[part * PART + half * HEIGHT..][..HEIGHT];
                for (line, vector) in lines.iter_mut().zip(tile) {
                    // SAFETY: a line has 64 bytes and is aligned to as many.
                    unsafe { _mm512_store_si512((&raw mut *line).cast(), *vector) };
                }
            }
        }
    }
}

/// The parts of one tile.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn tile<const P: usize>(
    factor: Factor<'_>,
    rows: Range<usize>,
    along: Range<usize>,
    place: Place,
) -> [[__m512i; HEIGHT]; P] {
    let mut parts = [[_mm512_setzero_si512(); HEIGHT]; P];
    let height = rows.end.saturating_sub(rows.start);
    let mask = |count: usize| ((1u32 << count.min(16)) - 1) as __mmask16;
    if factor.contiguous_along {
        let count = along.end - along.start;
        for i in 0..height {
            let row = &factor.values[(rows.start + i) * factor.stride + along.start..][..count];
            // SAFETY: the masks cover the row's numbers; masked lanes are not read.
            let numbers = unsafe {
                (
                    _mm512_maskz_loadu_ps(mask(count), row.as_ptr()),
                    _mm512_maskz_loadu_ps(mask(count.saturating_sub(16)), row.as_ptr().wrapping_add(16)),
                )
            };
            split(&mut parts, i, numbers);
        }
    } else if height > 0 {
        let load = |k: usize| {
            if k >= along.end {
                return _mm512_setzero_ps();
            }
            let row = &factor.values[k * factor.stride + rows.start..][..height];
            // SAFETY: the mask covers the row's numbers; masked lanes are not read.
            unsafe { _mm512_maskz_loadu_ps(mask(height), row.as_ptr()) }
        };
        for i in 0..HEIGHT {
            split(&mut parts, i, (load(along.start + i), load(along.start + HEIGHT + i)));
        }
    }
    if factor.contiguous_along == (place == Place::Columns) {
        for part in &mut parts {
            transpose(part);
        }
    }
    parts
}

/// The parts of 16 pairs of numbers as row i of a tile: the nearest numbers of bf16, then those of what is left. The first of a
/// pair is the lower half of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn split<const P: usize>(parts: &mut [[__m512i; HEIGHT]; P], i: usize, (mut first, mut second): (__m512, __m512)) {
    // Of 32 numbers one behind the other, those 16 apart side by side.
    let side_by_side: __m512i = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
        16, 0,
    );
    for (p, part) in parts.iter_mut().enumerate() {
        // SAFETY: both types are 32 numbers of 16 bits.
        let rounded: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) };
        let pairs = _mm512_permutexvar_epi16(side_by_side, rounded);
        part[i] = pairs;
        if p + 1 < P {
            let upper = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            first = _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)));
            second = _mm512_sub_ps(second, _mm512_castsi512_ps(upper));
        }
    }
}

/// Transposes 16 rows of 16 numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &mut [__m512i; HEIGHT]) {
    let mut other = *rows;
    for i in 0..8 {
        other[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        other[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for i in 0..4 {
        let [a, b, c, d] = std::array::from_fn(|k| other[4 * i + k]);
        rows[4 * i] = _mm512_unpacklo_epi64(a, c);
        rows[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        rows[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        rows[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    // Quarters of vectors: even ones of two rows, then odd ones; twice.
    for i in 0..4 {
        for (from, to) in [(0, 0), (8, 8)] {
            let (a, b) = (rows[from + i], rows[from + i + 4]);
            other[to + i] = _mm512_shuffle_i32x4::<0x88>(a, b);
            other[to + i + 4] = _mm512_shuffle_i32x4::<0xdd>(a, b);
        }
    }
    for i in 0..8 {
        rows[i] = _mm512_shuffle_i32x4::<0x88>(other[i], other[i + 8]);
        rows[i + 8] = _mm512_shuffle_i32x4::<0xdd>(other[i], other[i + 8]);
    }
}
