//! Inner products of rows with other rows and with their signs on matrix units, as exact as in single precision: a number is the sum
//! of its three bf16 parts, and a sign is one part.

use std::arch::x86_64::{
    __m512, __mmask16, _CMP_NEQ_OQ, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_maskz_loadu_ps, _mm512_maskz_or_epi32, _mm512_set1_epi32, _mm512_setzero_ps,
};
use std::ops::Range;

use super::Parts;
use super::pack::{Number, Place, length, strip, turned};
use super::product::{Factor, STRIPS, add_block, room};
use super::tiles::{Signs, Tiles};
use super::units::{EMPTY, Line, SIDE, STEP, Unit};
use crate::dots::SignedSums;

/// Parts of a number, whose sum it is.
const PARTS: usize = 3;

/// Entries of a row that are summed in single precision before double precision takes over.
const ALONG: usize = 768;

/// The same for more than [`FEW`] rows, which take more of the second cache.
const SHORT: usize = 384;

/// See [`SHORT`].
const FEW: usize = 64;

/// A number of which the sign is packed.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Sign(f32);

impl Number for Sign {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(mask: __mmask16, values: *const Self) -> __m512 {
        // SAFETY: the caller's promise; a number in single precision.
        let numbers = unsafe { _mm512_maskz_loadu_ps(mask, values.cast()) };
        // Zero has no sign, nor what is not a number.
        let signed = _mm512_cmp_ps_mask::<_CMP_NEQ_OQ>(numbers, _mm512_setzero_ps());
        let sign = _mm512_and_si512(_mm512_castps_si512(numbers), _mm512_set1_epi32(i32::MIN));
        let one = _mm512_set1_epi32(1f32.to_bits() as i32);
        _mm512_castsi512_ps(_mm512_maskz_or_epi32(signed, sign, one))
    }
}

/// Whether products of so many rows with so many others and their signs are faster on matrix units here. Units take as long for rows
/// that a strip lacks as for those that it has.
pub(crate) fn multiplies_signed(rows: usize, columns: usize) -> bool {
    const ENOUGH: usize = 512;
    let (pairs, whole) = (rows * columns, rows.next_multiple_of(SIDE) * columns.next_multiple_of(SIDE));
    pairs >= ENOUGH && 20 * pairs >= 9 * whole && Unit::here() == Some(Unit::Matrix)
}

/// The products of [`crate::dots::add_signed_products`]. Parts below the range of bf16 are lost: of numbers below 1e-33.
///
/// # Panics
/// If there are no matrix units, or lengths do not fit.
pub(crate) fn add_signed_products(a: &[f32], b: Option<&[f32]>, entries: usize, sums: SignedSums<'_>) {
    let tiles = Tiles::new();
    // SAFETY: matrix units come with these vectors.
    unsafe { add(&tiles, Block::of(a, entries), b.map(|b| Block::of(b, entries)), sums) };
}

/// Rows of numbers, one behind the other.
#[derive(Clone, Copy)]
struct Block<'a> {
    values: &'a [f32],
    entries: usize,
    rows: usize,
}

impl<'a> Block<'a> {
    fn of(values: &'a [f32], entries: usize) -> Self {
        let rows = values.len() / entries;
        assert_eq!(values.len(), rows * entries, "whole rows");
        Self { values, entries, rows }
    }

    /// The first rows of strips.
    fn strips(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.rows).step_by(SIDE)
    }

    /// Packs entries of a strip's rows in three parts.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pack(&self, first: usize, along: &Range<usize>, place: Place, out: &mut [Line]) {
        let factor = Factor { values: self.values, stride: self.entries, contiguous_along: true };
        strip::<PARTS, f32>(factor, first..self.rows.min(first + SIDE), along.clone(), place, out);
    }

    /// Packs their signs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pack_signs(&self, first: usize, along: &Range<usize>, place: Place, out: &mut [Line]) {
        // SAFETY: the same numbers.
        let values = unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast::<Sign>(), self.values.len()) };
        let factor = Factor { values, stride: self.entries, contiguous_along: true };
        strip::<1, Sign>(factor, first..self.rows.min(first + SIDE), along.clone(), place, out);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn add(tiles: &Tiles, a: Block<'_>, b: Option<Block<'_>>, mut sums: SignedSums<'_>) {
    let columns = b.unwrap_or(a);
    assert_eq!(a.entries, columns.entries, "entries of a row");
    for sums in [&sums.plain, &sums.right_signs, &sums.left_signs].into_iter().flatten() {
        assert_eq!(sums.len(), a.rows * columns.rows, "sums of these rows");
    }
    let most = if a.rows.max(columns.rows) > FEW { SHORT } else { ALONG };
    STRIPS.with_borrow_mut(|kept| {
        for start in (0..a.entries).step_by(most) {
            let along = start..a.entries.min(start + most);
            let steps = along.len().div_ceil(STEP);
            // Of every strip its numbers, then their signs.
            let (numbers, signs) = (length(along.len(), PARTS), length(along.len(), 1));
            let packed = room(&mut kept.rows, a.rows.div_ceil(SIDE) * (numbers + signs), EMPTY);
            for (i, packed) in a.strips().zip(packed.chunks_exact_mut(numbers + signs)) {
                let (numbers, signs) = packed.split_at_mut(numbers);
                a.pack(i, &along, Place::Rows, numbers);
                if sums.left_signs.is_some() {
                    a.pack_signs(i, &along, Place::Rows, signs);
                }
            }
            let (column, column_signs) = room(&mut kept.columns, numbers + signs, EMPTY).split_at_mut(numbers);
            for (s, j) in columns.strips().enumerate() {
                match b {
                    Some(b) => b.pack(j, &along, Place::Columns, column),
                    None => turned(&packed[s * (numbers + signs)..][..numbers], 1, column),
                }
                if sums.right_signs.is_some() {
                    columns.pack_signs(j, &along, Place::Columns, column_signs);
                }
                for (i, packed) in a.strips().zip(packed.chunks_exact(numbers + signs)) {
                    let (row, row_signs) = packed.split_at(numbers);
                    let mut block = [0f32; SIDE * SIDE];
                    let out = &mut block;
                    // SAFETY: the block is this function's own; strips are as long as the steps.
                    unsafe {
                        if let Some(sums) = sums.plain.as_deref_mut().filter(|_| b.is_some() || i <= j) {
                            let strips = (row.as_ptr(), column.as_ptr());
                            tiles.multiply(Parts::Three, strips, steps, None, (out.as_mut_ptr(), SIDE));
                            add_block(out, (i, j), columns.rows, sums);
                        }
                        if let Some(sums) = sums.right_signs.as_deref_mut() {
                            tiles.multiply_signs(Signs::Columns, (row.as_ptr(), column_signs.as_ptr()), steps, out);
                            add_block(out, (i, j), columns.rows, sums);
                        }
                        if let Some(sums) = sums.left_signs.as_deref_mut() {
                            tiles.multiply_signs(Signs::Rows, (row_signs.as_ptr(), column.as_ptr()), steps, out);
                            add_block(out, (i, j), columns.rows, sums);
                        }
                    }
                }
            }
        }
    });
}
