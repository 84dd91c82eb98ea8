//! Splits numbers into bf16 parts, in the layout of the matrix units.
//!
//! The units sum over pairs of numbers: a tile of rows has 16 pairs of one row of the factor in each of its 16 rows, a tile of columns
//! one pair for each of 16 columns. One is the other with its pairs transposed. A pair is two numbers 16 apart here: the order of a
//! sum is free, and this one needs the fewest moves.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm256_maskz_loadu_epi16, _mm512_and_si512,
    _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_load_si512, _mm512_maskz_loadu_ps,
    _mm512_permutexvar_epi16, _mm512_set_epi16, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_store_si512, _mm512_sub_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::ops::Range;

use super::Parts;
use super::outer::{Bf16, Values};
use super::product::Factor;
use super::units::{Line, PART, SIDE, STEP, Unit};

/// Rows of a tile.
pub(super) const HEIGHT: usize = 16;

/// Which of the two factors of a product is packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Rows,
    Columns,
}

/// A number of a factor.
pub(super) trait Number: Copy {
    /// Sixteen numbers in single precision; zero where the mask is not set.
    ///
    /// # Safety
    /// The numbers that the mask marks are readable; the processor has AVX-512.
    unsafe fn load(mask: __mmask16, values: *const Self) -> __m512;
}

impl Number for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(mask: __mmask16, values: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, values) }
    }
}

impl Number for Bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(mask: __mmask16, values: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        let halves = unsafe { _mm256_maskz_loadu_epi16(mask, values.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}

/// Lines of a strip that is summed over so many numbers, in so many parts.
pub(super) fn length(along: usize, parts: usize) -> usize {
    along.div_ceil(STEP) * parts * PART
}

/// Packs `size` = (rows, numbers of either) of a factor, given by its numbers, their stride and whether a row of memory is summed along,
/// as strips, one behind the other.
///
/// # Panics
/// If the processor has no units for bf16.
pub(super) fn pack(
    parts: Parts,
    (values, stride, contiguous_along): (Values<'_>, usize, bool),
    size: (usize, usize),
    place: Place,
    out: &mut [Line],
) {
    match values {
        Values::Single(values) => all(parts, Factor { values, stride, contiguous_along }, size, place, out),
        Values::Bf16(values) => all(parts, Factor { values, stride, contiguous_along }, size, place, out),
    }
}

fn all<T: Number>(parts: Parts, factor: Factor<'_, T>, (rows, along): (usize, usize), place: Place, out: &mut [Line]) {
    assert!(Unit::here().is_some(), "units for bf16");
    // SAFETY: units come with these vectors (`Unit::here`).
    unsafe {
        match parts {
            Parts::One => strips::<1, T>(factor, 0..rows, 0..along, place, out),
            Parts::Two => strips::<2, T>(factor, 0..rows, 0..along, place, out),
            Parts::Three => strips::<3, T>(factor, 0..rows, 0..along, place, out),
        }
    }
}

/// Packs rows of a factor as strips, one behind the other, each of [`length`] lines; see [`strip`].
///
/// # Safety
/// The processor has AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn strips<const P: usize, T: Number>(
    factor: Factor<'_, T>,
    rows: Range<usize>,
    along: Range<usize>,
    place: Place,
    out: &mut [Line],
) {
    let length = length(along.len(), P);
    for (first, lines) in rows.clone().step_by(SIDE).zip(out.chunks_exact_mut(length.max(1))) {
        strip::<P, T>(factor, first..rows.end.min(first + SIDE), along.clone(), place, lines);
    }
}

/// Packs a strip of at most [`SIDE`] rows of a factor from `first` on, summed over `along`, in P parts. What is beyond the factor is
/// zero. `out` has P times [`PART`] lines for each [`STEP`] numbers.
///
/// # Safety
/// The processor has AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn strip<const P: usize, T: Number>(
    factor: Factor<'_, T>,
    rows: Range<usize>,
    along: Range<usize>,
    place: Place,
    out: &mut [Line],
) {
    let turns = factor.contiguous_along == (place == Place::Columns);
    for (k, lines) in along.clone().step_by(STEP).zip(out.chunks_exact_mut(P * PART)) {
        for half in 0..SIDE / HEIGHT {
            let first = rows.start + HEIGHT * half;
            let tile = (first..rows.end.min(first + HEIGHT), k..along.end.min(k + STEP));
            write::<P, T>(factor, tile, &mut lines[half * HEIGHT..]);
            if turns {
                for lines in lines.chunks_exact_mut(PART) {
                    let tile = &mut lines.as_chunks_mut::<HEIGHT>().0[half];
                    store(&transposed(load(tile, 1)), tile);
                }
            }
        }
    }
}

/// The strip of columns of the same numbers as a strip of rows: each tile's pairs transposed.
#[target_feature(enable = "avx512f")]
pub(super) fn turned(rows: &[Line], pitch: usize, columns: &mut [Line]) {
    for (i, columns) in columns.as_chunks_mut::<HEIGHT>().0.iter_mut().enumerate() {
        store(&transposed(load(&rows[i * HEIGHT * pitch..], pitch)), columns);
    }
}

/// Writes the parts of one tile, as rows of memory: each part's to the first lines of [`PART`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn write<const P: usize, T: Number>(
    Factor { values, stride, contiguous_along }: Factor<'_, T>,
    (rows, along): (Range<usize>, Range<usize>),
    lines: &mut [Line],
) {
    let mask = |count: usize| ((1u32 << count.min(HEIGHT)) - 1) as __mmask16;
    let (height, count) = (rows.end.saturating_sub(rows.start), along.end - along.start);
    // Where the first numbers of pairs begin and how far behind them the second ones do; of either, how many rows of memory
    // there are, and how many numbers in each.
    let (start, behind, first, second) = if contiguous_along {
        (rows.start * stride + along.start, HEIGHT, (height, count), (height, count.saturating_sub(HEIGHT)))
    } else {
        let start = along.start * stride + rows.start;
        (start, HEIGHT * stride, (count, height), (count.saturating_sub(HEIGHT), height))
    };
    for (at, (of, width)) in [(start, first), (start + behind, second)] {
        let end = if of == 0 || width == 0 { 0 } else { at + (of.min(HEIGHT) - 1) * stride + width.min(HEIGHT) };
        assert!(end <= values.len(), "rows of a factor");
    }
    // What the next steps read: rows of memory are far apart, which the processor does not foresee.
    let ahead = if contiguous_along { 2 * STEP } else { STEP * stride };
    let masks = (mask(first.1), mask(second.1));
    assert!(lines.len() >= (P - 1) * PART + HEIGHT, "lines of every part");
    let lines = lines.as_mut_ptr();
    for i in 0..HEIGHT {
        let place = values.as_ptr().wrapping_add(start + i * stride);
        let behind_it = place.wrapping_add(behind);
        _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(ahead).cast());
        _mm_prefetch::<_MM_HINT_T0>(behind_it.wrapping_add(ahead).cast());
        // Nothing is loaded from beyond the factor, though a mask would allow it: where no memory is, a processor takes hundreds
        // of cycles to find that no lane asked for it.
        let zero = _mm512_setzero_ps();
        // SAFETY: the masks cover numbers of the factor, as asserted; masked lanes are not read.
        let numbers = unsafe {
            (
                if i < first.0 { T::load(masks.0, place) } else { zero },
                if i < second.0 { T::load(masks.1, behind_it) } else { zero },
            )
        };
        let parts = split::<P>(numbers);
        for (p, part) in parts.into_iter().enumerate() {
            // SAFETY: there is this line, as asserted; it has 64 bytes and is aligned to as many.
            unsafe { _mm512_store_si512(lines.wrapping_add(p * PART + i).cast(), part) };
        }
    }
}

/// The parts of 16 pairs of numbers: the nearest numbers of bf16, then those of what is left. The first of a pair is the lower half
/// of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn split<const P: usize>((mut first, mut second): (__m512, __m512)) -> [__m512i; P] {
    // Of 32 numbers one behind the other, those 16 apart side by side.
    let side_by_side: __m512i = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
        16, 0,
    );
    let mut parts = [_mm512_setzero_si512(); P];
    for (p, part) in parts.iter_mut().enumerate() {
        // SAFETY: both types are 32 numbers of 16 bits.
        let rounded: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) };
        *part = _mm512_permutexvar_epi16(side_by_side, rounded);
        if p + 1 < P {
            let upper = _mm512_and_si512(*part, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            first = _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(*part)));
            second = _mm512_sub_ps(second, _mm512_castsi512_ps(upper));
        }
    }
    parts
}

/// 16 rows of 16 numbers of 32 bits, which lie `pitch` lines apart.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(lines: &[Line], pitch: usize) -> [__m512i; HEIGHT] {
    // SAFETY: a line has 64 bytes and is aligned to as many.
    std::array::from_fn(|i| unsafe { _mm512_load_si512((&raw const lines[i * pitch]).cast()) })
}

/// Writes them, one behind the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(rows: &[__m512i; HEIGHT], lines: &mut [Line; HEIGHT]) {
    for (line, row) in lines.iter_mut().zip(rows) {
        // SAFETY: as above.
        unsafe { _mm512_store_si512((&raw mut *line).cast(), *row) };
    }
}

/// Their transpose.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(mut rows: [__m512i; HEIGHT]) -> [__m512i; HEIGHT] {
    let mut other = rows;
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
    rows
}
