//! Inner products of rows with other rows and with their signs on matrix units, summed in double precision: a few long rows, all
//! pairs. With three bf16 parts, whose sum a number is, they are as exact as in single precision; a sign is one part.

use super::Parts;
use super::pack::{Place, length};
use super::product::{STRIPS, add_block, room};
use super::singles::{Packed, Singles};
use super::tiles::{Signs, Tiles};
use super::units::{EMPTY, SIDE, STEP, Unit};
use crate::dots::SignedSums;

/// Entries of a row that are summed in single precision before double precision takes over, and that are packed at a time.
const ALONG: usize = 512;

/// Which products of rows are asked for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// With the signs of others, maybe also with the others.
    Signed,
    /// With others.
    Plain,
    /// With one another: half of the pairs.
    Half,
}

/// Whether matrix units compute products of so many rows with so many others, in so many parts, faster than vectors here. Rows that
/// are missing from a strip take as long as those that are there.
pub(crate) fn multiplies_rows(parts: Parts, wanted: Wanted, rows: usize, columns: usize) -> bool {
    let (least, percent) = match (parts, wanted) {
        (Parts::One, _) => (0, 0),
        (_, Wanted::Signed) => (512, 45),
        (_, Wanted::Plain) => (2048, 70),
        (_, Wanted::Half) => (9216, 70),
    };
    let (pairs, whole) = (rows * columns, rows.next_multiple_of(SIDE) * columns.next_multiple_of(SIDE));
    pairs >= least && 100 * pairs >= percent * whole && Unit::here() == Some(Unit::Matrix)
}

/// The products of [`crate::dots::add_signed_products`]. What is below the range of bf16 is lost: of three parts, bits of numbers
/// below 1e-31.
///
/// # Panics
/// If there are no matrix units, or lengths do not fit.
pub(crate) fn add_signed_products(parts: Parts, a: &[f32], b: Option<&[f32]>, entries: usize, sums: SignedSums<'_>) {
    let (a, b) = (Singles::new(a, entries), b.map(|b| Singles::new(b, entries)));
    let tiles = Tiles::new();
    // SAFETY: matrix units come with these vectors.
    unsafe {
        match parts {
            Parts::One => add::<1>(&tiles, parts, (a, b), sums),
            Parts::Two => add::<2>(&tiles, parts, (a, b), sums),
            Parts::Three => add::<3>(&tiles, parts, (a, b), sums),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn add<const P: usize>(tiles: &Tiles, parts: Parts, (a, b): (Singles<'_>, Option<Singles<'_>>), sums: SignedSums<'_>) {
    let SignedSums { mut plain, mut right_signs, mut left_signs } = sums;
    // Both have rows of `entries` numbers (`Singles::new`).
    let columns = b.unwrap_or(a);
    for sums in [&plain, &right_signs, &left_signs].into_iter().flatten() {
        assert_eq!(sums.len(), a.rows * columns.rows, "sums of these rows");
    }
    STRIPS.with_borrow_mut(|kept| {
        let mut block = [0f32; SIDE * SIDE];
        for start in (0..a.entries).step_by(ALONG) {
            let along = start..a.entries.min(start + ALONG);
            let steps = along.len().div_ceil(STEP);
            let (numbers, signs) = (length(along.len(), P), length(along.len(), 1));
            let packed = room(&mut kept.rows, a.rows.div_ceil(SIDE) * (numbers + signs), EMPTY);
            for (i, packed) in a.strips().zip(packed.chunks_exact_mut(numbers + signs)) {
                let (numbers, signs) = packed.split_at_mut(numbers);
                let numbers = (plain.is_some() || right_signs.is_some()).then_some(numbers);
                let signs = left_signs.is_some().then_some(signs);
                a.pack::<P>(i, &along, Place::Rows, Packed { numbers, signs });
            }
            let (column, column_signs) = room(&mut kept.columns, numbers + signs, EMPTY).split_at_mut(numbers);
            for j in columns.strips() {
                let out = Packed {
                    numbers: (plain.is_some() || left_signs.is_some()).then_some(&mut *column),
                    signs: right_signs.is_some().then_some(&mut *column_signs),
                };
                columns.pack::<P>(j, &along, Place::Columns, out);
                for (i, packed) in a.strips().zip(packed.chunks_exact(numbers + signs)) {
                    let (row, row_signs) = packed.split_at(numbers);
                    let out = &mut block;
                    // SAFETY: the block is this function's own; strips are as long as the steps.
                    unsafe {
                        if let Some(sums) = plain.as_deref_mut().filter(|_| b.is_some() || i <= j) {
                            let strips = (row.as_ptr(), column.as_ptr());
                            tiles.multiply(parts, strips, steps, None, (out.as_mut_ptr(), SIDE));
                            add_block(out, (i, j), columns.rows, sums);
                        }
                        if let Some(sums) = right_signs.as_deref_mut() {
                            tiles.multiply_signs(
                                (parts, Signs::Columns),
                                (row.as_ptr(), column_signs.as_ptr()),
                                steps,
                                out,
                            );
                            add_block(out, (i, j), columns.rows, sums);
                        }
                        if let Some(sums) = left_signs.as_deref_mut() {
                            tiles.multiply_signs(
                                (parts, Signs::Rows),
                                (row_signs.as_ptr(), column.as_ptr()),
                                steps,
                                out,
                            );
                            add_block(out, (i, j), columns.rows, sums);
                        }
                    }
                }
            }
        }
    });
}
