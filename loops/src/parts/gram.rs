//! Inner products of the rows of two blocks on units for bf16, summed in double precision: a few long rows, all pairs.

use super::Parts;
use super::pack::{Place, length, strip, strips, turned};
use super::product::{Factor, STRIPS, add_block, room};
use super::units::{EMPTY, Multiplier, SIDE, STEP, Unit};

/// Entries of a row that are summed in single precision before double precision takes over.
const ALONG: usize = 512;

/// Adds `<a_i, b_j>` to `sums` \[rows of a, rows of b\] for all rows of `entries` numbers; with `upper`, where a is b, for
/// i ≤ j (and some below the diagonal).
///
/// # Panics
/// If the processor has no units for bf16, or lengths do not fit.
pub fn add_products(parts: Parts, a: &[f32], b: &[f32], entries: usize, upper: bool, sums: &mut [f64]) {
    assert!(Unit::here().is_some(), "units for bf16");
    let (rows, columns) = (a.len() / entries, b.len() / entries);
    assert_eq!((a.len(), b.len(), sums.len()), (rows * entries, columns * entries, rows * columns));
    // SAFETY: units come with these vectors (`Unit::here`).
    unsafe {
        match parts {
            Parts::One => in_parts::<1>(parts, (a, b), entries, upper, sums),
            Parts::Two => in_parts::<2>(parts, (a, b), entries, upper, sums),
            Parts::Three => in_parts::<3>(parts, (a, b), entries, upper, sums),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn in_parts<const P: usize>(parts: Parts, (a, b): (&[f32], &[f32]), entries: usize, upper: bool, sums: &mut [f64]) {
    let (rows, columns) = (a.len() / entries, b.len() / entries);
    let factor = |values| Factor { values, stride: entries, contiguous_along: true };
    let multiplier = Multiplier::new();
    STRIPS.with_borrow_mut(|packed| {
        for start in (0..entries).step_by(ALONG) {
            let along = start..entries.min(start + ALONG);
            let steps = along.len().div_ceil(STEP);
            let lines = length(along.len(), P);
            let packed_rows = room(&mut packed.rows, rows.div_ceil(SIDE) * lines, EMPTY);
            strips::<P, f32>(factor(a), 0..rows, along.clone(), Place::Rows, packed_rows);
            let column = room(&mut packed.columns, lines, EMPTY);
            for (s, j) in (0..columns).step_by(SIDE).enumerate() {
                let width = SIDE.min(columns - j);
                if upper {
                    turned(&packed_rows[s * lines..][..lines], 1, column);
                } else {
                    strip::<P, f32>(factor(b), j..j + width, along.clone(), Place::Columns, column);
                }
                let count = if upper { s + 1 } else { rows.div_ceil(SIDE) };
                for (s, strip) in packed_rows.chunks_exact(lines).enumerate().take(count) {
                    let mut block = [0f32; SIDE * SIDE];
                    let strips = (strip.as_ptr(), column.as_ptr());
                    // SAFETY: the block is this function's own; strips are as long as the steps.
                    unsafe { multiplier.multiply(parts, strips, steps, None, (block.as_mut_ptr(), SIDE)) };
                    add_block(&block, (SIDE * s, j), columns, sums);
                }
            }
        }
    });
}
