//! Inner products of the rows of two blocks in single precision, summed in double precision: a few long rows, all pairs.
//!
//! Matrix libraries are made for blocks that are large both ways; with 32 rows and thousands of entries they reach about
//! half of their speed, and compute both halves of a symmetric result. Here four rows meet four rows in registers, entries
//! are cut so that rows stay in the cache, and only the upper triangle is computed where both blocks are one.

use crate::instructions::has_avx512;

/// Rows of a register tile on either side: 16 accumulators and 8 operands of 32 registers.
const TILE: usize = 4;

/// Entries of a row that are taken at a time: 4 + 4 rows of them fit into the first-level cache of current machines.
const CHUNK: usize = 1024;

/// Entries that are summed in single precision, lane by lane of 16, before double precision takes over.
const LANES: usize = 16;

/// Adds `<a_i, b_j>` to `sums` \[rows of a, rows of b\] for all rows of `entries` numbers; with `upper`, where a is b, for
/// i ≤ j (and some below the diagonal).
///
/// # Panics
/// If [`has_avx512`] does not hold, or lengths do not fit.
pub fn add_products(a: &[f32], b: &[f32], entries: usize, upper: bool, sums: &mut [f64]) {
    assert!(has_avx512(), "AVX-512");
    let (rows, columns) = (a.len() / entries, b.len() / entries);
    assert_eq!((a.len(), b.len(), sums.len()), (rows * entries, columns * entries, rows * columns));
    #[cfg(target_arch = "x86_64")]
    for start in (0..entries).step_by(CHUNK) {
        let length = CHUNK.min(entries - start);
        for i in (0..rows).step_by(TILE) {
            let height = TILE.min(rows - i);
            for j in (if upper { i } else { 0 }..columns).step_by(TILE) {
                let width = TILE.min(columns - j);
                let left = |k: usize| &a[(i + k) * entries + start..][..length];
                let right = |k: usize| &b[(j + k) * entries + start..][..length];
                // SAFETY: AVX-512 is available, as asserted.
                let tile = unsafe { x86::tile(left, right, height, width) };
                for (r, row) in tile.iter().enumerate().take(height) {
                    for (c, value) in row.iter().enumerate().take(width) {
                        sums[(i + r) * columns + j + c] += f64::from(*value);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, __mmask16, _mm512_fmadd_ps, _mm512_maskz_loadu_ps, _mm512_reduce_add_ps, _mm512_setzero_ps,
    };

    use super::{LANES, TILE};

    /// Inner products of up to four rows with up to four rows of one length.
    #[target_feature(enable = "avx512f")]
    pub(super) fn tile<'a>(
        left: impl Fn(usize) -> &'a [f32],
        right: impl Fn(usize) -> &'a [f32],
        height: usize,
        width: usize,
    ) -> [[f32; TILE]; TILE] {
        match (height, width) {
            (4, 4) => exact::<4, 4>(left, right),
            (4, 3) => exact::<4, 3>(left, right),
            (4, 2) => exact::<4, 2>(left, right),
            (4, _) => exact::<4, 1>(left, right),
            (3, 4) => exact::<3, 4>(left, right),
            (3, 3) => exact::<3, 3>(left, right),
            (3, 2) => exact::<3, 2>(left, right),
            (3, _) => exact::<3, 1>(left, right),
            (2, 4) => exact::<2, 4>(left, right),
            (2, 3) => exact::<2, 3>(left, right),
            (2, 2) => exact::<2, 2>(left, right),
            (2, _) => exact::<2, 1>(left, right),
            (_, 4) => exact::<1, 4>(left, right),
            (_, 3) => exact::<1, 3>(left, right),
            (_, 2) => exact::<1, 2>(left, right),
            (..) => exact::<1, 1>(left, right),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn exact<'a, const H: usize, const W: usize>(
        left: impl Fn(usize) -> &'a [f32],
        right: impl Fn(usize) -> &'a [f32],
    ) -> [[f32; TILE]; TILE] {
        let left: [&[f32]; H] = std::array::from_fn(left);
        let right: [&[f32]; W] = std::array::from_fn(right);
        let length = left[0].len();
        assert!(left.iter().chain(&right).all(|row| row.len() == length));
        let mut sums = [[_mm512_setzero_ps(); W]; H];
        let mut step = |at: usize, mask: __mmask16| {
            // SAFETY: entries from `at` on that the mask marks lie within every row.
            let load = |row: &[f32]| unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().add(at)) };
            let b: [__m512; W] = right.map(load);
            for (row, sums) in left.iter().zip(&mut sums) {
                let a = load(row);
                for (b, sum) in b.iter().zip(sums) {
                    *sum = _mm512_fmadd_ps(a, *b, *sum);
                }
            }
        };
        let whole = length / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            step(at, 0xffff);
        }
        if whole < length {
            step(whole, (1 << (length - whole)) - 1);
        }
        let mut result = [[0.0; TILE]; TILE];
        for (row, sums) in result.iter_mut().zip(sums) {
            for (value, sum) in row.iter_mut().zip(sums) {
                *value = _mm512_reduce_add_ps(sum);
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against double precision. A lane sums CHUNK/16 products and 16 lanes are added in four steps, so that the
        /// error is below (CHUNK/16 + 5)·2⁻²⁴ of the sum of absolute products; chunks are summed in double precision.
        #[test]
        fn products_equal_double_precision(
            rows in 1usize..10, columns in 1usize..10, entries in 1usize..2500, seed in any::<u64>(),
        ) {
            use rand::{Rng, SeedableRng};
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut draw = |n: usize| -> Vec<f32> { (0..n * entries).map(|_| random.random_range(-1.0..1.0)).collect() };
            let (a, b) = (draw(rows), draw(columns));
            if has_avx512() {
                let mut sums = vec![1.0; rows * columns];
                add_products(&a, &b, entries, false, &mut sums);
                let mut own = vec![0.0; rows * rows];
                add_products(&a, &a, entries, true, &mut own);
                let exact = |x: &[f32], y: &[f32]| -> (f64, f64) {
                    let products = || x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y));
                    (products().sum(), products().map(f64::abs).sum())
                };
                let bound = (CHUNK / LANES + 5) as f64 * 2f64.powi(-24);
                for i in 0..rows {
                    let row = &a[i * entries..][..entries];
                    for j in 0..columns {
                        let (value, size) = exact(row, &b[j * entries..][..entries]);
                        prop_assert!((sums[i * columns + j] - 1.0 - value).abs() <= bound * size + 1e-15);
                    }
                    for j in i..rows {
                        let (value, size) = exact(row, &a[j * entries..][..entries]);
                        prop_assert!((own[i * rows + j] - value).abs() <= bound * size + 1e-15);
                    }
                }
            }
        }
    }
}
