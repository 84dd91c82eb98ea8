//! Inner products of the rows of two blocks in single precision, summed in double precision: a few long rows, all pairs. Rows
//! may be rounded to bf16, which inner products of vectors (AVX512-BF16) read and multiply twice as fast.
//!
//! Matrix libraries are made for blocks that are large both ways; with 32 rows and thousands of entries they reach about
//! half of their speed, and compute both halves of a symmetric result. Here six rows meet four rows in registers, entries
//! are cut so that rows stay in the cache, and only the upper triangle is computed where both blocks are one.

use crate::Lanes;
use crate::instructions::has_avx512;
use crate::parts::{Bf16, Parts, multiplies_rounded};
#[cfg(target_arch = "x86_64")]
use crate::parts::{Wanted, add_signed_products as add_by_units, multiplies_rows};

/// Left rows of a register tile, which stay in the first cache while right rows pass by: 24 accumulators and 5 operands of 32
/// registers.
const HEIGHT: usize = 6;

/// Right rows of a register tile.
const WIDTH: usize = 4;

/// Bytes of a row that are taken at a time: 6 + 4 rows of them fit into a first-level cache of 32 KB.
const CHUNK: usize = 3072;

/// Adds `<a_i, b_j>` to `sums` \[rows of a, rows of b\] for all rows of `entries` numbers; with `upper`, where a is b, for
/// i ≤ j (and some below the diagonal). Matrix units, if there are any, multiply as many bf16 parts of every number as are asked for, of
/// which three are exact, where that is faster: in two and three parts, of many rows. Otherwise products are those of single precision.
///
/// # Panics
/// If [`has_avx512`] does not hold, or lengths do not fit.
pub fn add_products(parts: Parts, a: &[f32], b: &[f32], entries: usize, upper: bool, sums: &mut [f64]) {
    assert!(has_avx512(), "AVX-512");
    #[cfg(target_arch = "x86_64")]
    {
        let wanted = if upper { Wanted::Half } else { Wanted::Plain };
        if multiplies_rows(parts, wanted, a.len() / entries, b.len() / entries) {
            let sums = SignedSums { plain: Some(sums), ..SignedSums::default() };
            return add_by_units(parts, a, (!upper).then_some(b), entries, sums);
        }
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 is available, as asserted.
    in_chunks((a, b), entries, upper, sums, |left, right| unsafe { x86::single::tile(left, right) });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (parts, a, b, entries, upper, sums);
}

/// The same for rows that are rounded to bf16; products are exact, and sums in single precision as there.
///
/// # Panics
/// If [`multiplies_rounded`] does not hold, or lengths do not fit.
pub fn add_rounded_products(a: &[Bf16], b: &[Bf16], entries: usize, upper: bool, sums: &mut [f64]) {
    assert!(multiplies_rounded(), "inner products of bf16");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 with bf16 is available, as asserted.
    in_chunks((a, b), entries, upper, sums, |left, right| unsafe { x86::rounded::tile(left, right) });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (a, b, entries, upper, sums);
}

/// What [`add_signed_products`] adds to, each \[rows of a, rows of b\] if asked for.
#[derive(Default)]
pub struct SignedSums<'s> {
    /// `<a_i, b_j>`.
    pub plain: Option<&'s mut [f64]>,
    /// `<a_i, sign b_j>`.
    pub right_signs: Option<&'s mut [f64]>,
    /// `<sign a_i, b_j>`.
    pub left_signs: Option<&'s mut [f64]>,
}

/// Adds products of rows and of their signs; without b, of a with itself, plain ones for i ≤ j (and some below the diagonal). Of up to
/// some hundred rows a chunk and its signs stay in the second cache, so that rows are read from beyond it once.
///
/// They are those of [`add_products`] in its order, or, of many rows, those of matrix units, if there are any: two to three times
/// as fast with three parts.
///
/// # Panics
/// If [`has_avx512`] does not hold, or lengths do not fit.
pub fn add_signed_products(
    parts: Parts,
    a: &[f32],
    b: Option<&[f32]>,
    entries: usize,
    sums: SignedSums<'_>,
    lanes: Lanes,
) {
    assert!(has_avx512(), "AVX-512");
    #[cfg(target_arch = "x86_64")]
    if multiplies_rows(parts, Wanted::Signed, a.len() / entries, b.unwrap_or(a).len() / entries) {
        return add_by_units(parts, a, b, entries, sums);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 is available, as asserted.
    signed_in_chunks(a, b, entries, sums, lanes, |left, right| unsafe { x86::single::tile(left, right) });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (parts, a, b, entries, sums, lanes);
}

/// Some rows of a block, or all of them, and of their entries those of a chunk.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    /// The block from the first of the entries on.
    values: &'a [T],
    /// Numbers from one row to the next.
    stride: usize,
    count: usize,
    length: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a, T: Copy> Rows<'a, T> {
    /// A chunk of the rows of a block.
    fn chunk(block: &'a [T], entries: usize, (start, length): (usize, usize)) -> Self {
        let count = block.len() / entries;
        Self { values: &block[start.min(block.len())..], stride: entries, count, length }
    }

    /// Some of them.
    fn some(self, first: usize, most: usize) -> Self {
        Self { values: &self.values[first * self.stride..], count: most.min(self.count - first), ..self }
    }

    /// A row of them.
    fn get(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride..][..self.length]
    }
}

/// The chunks of so many entries: first entry and length.
#[cfg(target_arch = "x86_64")]
fn chunks<T>(entries: usize) -> impl Iterator<Item = (usize, usize)> {
    let chunk = CHUNK / size_of::<T>();
    (0..entries).step_by(chunk).map(move |start| (start, chunk.min(entries - start)))
}

/// Adds the inner products of register tiles of rows, chunk by chunk of their entries.
#[cfg(target_arch = "x86_64")]
fn in_chunks<'a, T: Copy>(
    (a, b): (&'a [T], &'a [T]),
    entries: usize,
    upper: bool,
    sums: &mut [f64],
    tile: impl Fn(Rows<'a, T>, Rows<'a, T>) -> [[f32; WIDTH]; HEIGHT],
) {
    let (rows, columns) = (a.len() / entries, b.len() / entries);
    assert_eq!((a.len(), b.len(), sums.len()), (rows * entries, columns * entries, rows * columns));
    for chunk in chunks::<T>(entries) {
        add_chunk((Rows::chunk(a, entries, chunk), Rows::chunk(b, entries, chunk)), upper, sums, &tile);
    }
}

/// Adds the inner products of a chunk.
#[cfg(target_arch = "x86_64")]
fn add_chunk<'a, T: Copy>(
    (a, b): (Rows<'a, T>, Rows<'a, T>),
    upper: bool,
    sums: &mut [f64],
    tile: &impl Fn(Rows<'a, T>, Rows<'a, T>) -> [[f32; WIDTH]; HEIGHT],
) {
    for i in (0..a.count).step_by(HEIGHT) {
        let left = a.some(i, HEIGHT);
        for j in (if upper { i } else { 0 }..b.count).step_by(WIDTH) {
            let right = b.some(j, WIDTH);
            for (r, row) in tile(left, right).iter().enumerate().take(left.count) {
                for (c, value) in row.iter().enumerate().take(right.count) {
                    sums[(i + r) * b.count + j + c] += f64::from(*value);
                }
            }
        }
    }
}

/// Adds the inner products of rows and of their signs, chunk by chunk.
#[cfg(target_arch = "x86_64")]
fn signed_in_chunks(
    a: &[f32],
    b: Option<&[f32]>,
    entries: usize,
    mut sums: SignedSums<'_>,
    lanes: Lanes,
    tile: impl for<'a> Fn(Rows<'a, f32>, Rows<'a, f32>) -> [[f32; WIDTH]; HEIGHT],
) {
    thread_local! {
        /// The signs of a chunk of a, and of b.
        static SIGNS: std::cell::RefCell<[Vec<f32>; 2]> = const { std::cell::RefCell::new([Vec::new(), Vec::new()]) };
    }
    let of = |block: &[f32]| block.len() / entries;
    let (rows, columns) = (of(a), of(b.unwrap_or(a)));
    assert_eq!((a.len(), b.unwrap_or(a).len()), (rows * entries, columns * entries));
    for sums in [&sums.plain, &sums.right_signs, &sums.left_signs].into_iter().flatten() {
        assert_eq!(sums.len(), rows * columns);
    }
    SIGNS.with_borrow_mut(|[of_a, of_b]| {
        for chunk in chunks::<f32>(entries) {
            let left = Rows::chunk(a, entries, chunk);
            let right = Rows::chunk(b.unwrap_or(a), entries, chunk);
            if let Some(sums) = &mut sums.plain {
                add_chunk((left, right), b.is_none(), sums, &tile);
            }
            if let Some(sums) = &mut sums.right_signs {
                add_chunk((left, signs(right, of_b, lanes)), false, sums, &tile);
            }
            if let Some(sums) = &mut sums.left_signs {
                add_chunk((signs(left, of_a, lanes), right), false, sums, &tile);
            }
        }
    });
}

/// The signs of rows, in memory of their own.
#[cfg(target_arch = "x86_64")]
fn signs<'a>(rows: Rows<'_, f32>, kept: &'a mut Vec<f32>, lanes: Lanes) -> Rows<'a, f32> {
    use crate::Real;
    // Whole vectors, an odd number of them: a power of two would put all rows into the same few sets of a cache.
    let stride = 16 * (rows.length.div_ceil(16) | 1);
    if kept.len() < rows.count * stride {
        kept.resize(rows.count * stride, 0.0);
    }
    for (row, signs) in kept.chunks_exact_mut(stride).take(rows.count).enumerate() {
        f32::signs(rows.get(row), &mut signs[..rows.length], lanes);
    }
    Rows { values: kept, stride, ..rows }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, _mm_add_ps, _mm_storeu_ps, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_extractf32x4_ps,
        _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    use super::WIDTH;

    /// The sums of four vectors' lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn lane_sums(of: [__m512; WIDTH]) -> [f32; WIDTH] {
        // Two lanes of each of two vectors, then one of each of four, in every quarter.
        let two = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (ab, cd) = (_mm512_castps_pd(two(of[0], of[1])), _mm512_castps_pd(two(of[2], of[3])));
        let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
        let quarters = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
        let (a, b) = (_mm512_extractf32x4_ps::<0>(quarters), _mm512_extractf32x4_ps::<1>(quarters));
        let (c, d) = (_mm512_extractf32x4_ps::<2>(quarters), _mm512_extractf32x4_ps::<3>(quarters));
        let sums = _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d));
        let mut result = [0.0; WIDTH];
        // SAFETY: four numbers.
        unsafe { _mm_storeu_ps(result.as_mut_ptr(), sums) };
        result
    }

    /// Inner products of up to six rows with up to four rows, by vectors of one type of number.
    macro_rules! inner_products {
        ($name:ident: $features:literal, $number:ty, $lanes:literal, $mask:ty, $vector:ty, $load:expr, $multiply:expr) => {
            pub(in super::super) mod $name {
                use std::arch::x86_64::*;

                use super::super::{HEIGHT, Rows, WIDTH};
                use super::lane_sums;

                /// All pairs of rows; what is beyond the rows has no meaning.
                #[target_feature(enable = $features)]
                pub fn tile(left: Rows<'_, $number>, right: Rows<'_, $number>) -> [[f32; WIDTH]; HEIGHT] {
                    match left.count {
                        1 => exact::<1>(left, right),
                        2 => exact::<2>(left, right),
                        3 => exact::<3>(left, right),
                        4 => exact::<4>(left, right),
                        5 => exact::<5>(left, right),
                        _ => exact::<HEIGHT>(left, right),
                    }
                }

                #[inline]
                #[target_feature(enable = $features)]
                fn exact<const H: usize>(left: Rows<'_, $number>, right: Rows<'_, $number>) -> [[f32; WIDTH]; HEIGHT] {
                    let length = left.length;
                    assert_eq!(length, right.length, "entries of a row");
                    let left: [&[$number]; H] = std::array::from_fn(|row| left.get(row));
                    // The last row in place of rows that are missing.
                    let right: [&[$number]; WIDTH] = std::array::from_fn(|row| right.get(row.min(right.count - 1)));
                    let mut sums = [[_mm512_setzero_ps(); WIDTH]; H];
                    let mut step = |at: usize, mask: $mask| {
                        // SAFETY: entries from `at` on that the mask marks lie within every row.
                        let load = |row: &[$number]| -> $vector { unsafe { $load(mask, row.as_ptr().add(at)) } };
                        let b: [$vector; WIDTH] = right.map(load);
                        for (row, sums) in left.iter().zip(&mut sums) {
                            let a = load(row);
                            for (b, sum) in b.iter().zip(sums) {
                                *sum = $multiply(*sum, a, *b);
                            }
                        }
                    };
                    let whole = length / $lanes * $lanes;
                    for at in (0..whole).step_by($lanes) {
                        step(at, <$mask>::MAX);
                    }
                    if whole < length {
                        step(whole, (1 << (length - whole)) - 1);
                    }
                    let mut result = [[0.0; WIDTH]; HEIGHT];
                    for (row, sums) in result.iter_mut().zip(sums) {
                        *row = lane_sums(sums);
                    }
                    result
                }
            }
        };
    }

    inner_products!(single: "avx512f", f32, 16, u16, __m512,
        |mask, place| _mm512_maskz_loadu_ps(mask, place),
        |sum, a, b| _mm512_fmadd_ps(a, b, sum));

    inner_products!(rounded: "avx512f,avx512bw,avx512bf16", crate::parts::Bf16, 32, u32, __m512bh,
        |mask, place: *const crate::parts::Bf16| std::mem::transmute::<__m512i, __m512bh>(_mm512_maskz_loadu_epi16(mask, place.cast())),
        |sum, a, b| _mm512_dpbf16_ps(sum, a, b));
}

#[cfg(test)]
mod tests;
