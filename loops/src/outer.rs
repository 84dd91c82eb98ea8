//! Sums of outer products, `out[i, j] = Σ_t g[t, i] x[t, j]`, for one tile of a weight: the innermost loop of per-example
//! gradients.
//!
//! The sums are short (a few dozen tokens) and the results are small, so general matrix products spend much of their time
//! packing operands. Here six rows of 64 columns are summed in registers, and operands are read in place, except that many
//! tokens' columns of x are first put side by side: rows of a power of two apart share a few sets of the first cache.

use crate::instructions::{has_avx512, has_whole_vectors};

/// Rows of the result that are summed at a time; fewer take as long.
pub const HEIGHT: usize = 6;

/// Columns of the result that are summed at a time.
pub const WIDTH: usize = 64;

/// A matrix inside a larger one: rows of `columns` numbers, `stride` apart.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) columns: usize,
}

impl<'a> Strided<'a> {
    /// Columns `from..from + columns` of a matrix whose rows have `stride` numbers.
    ///
    /// # Panics
    /// If the columns do not fit.
    pub fn new(values: &'a [f32], stride: usize, from: usize, columns: usize) -> Self {
        assert!(from + columns <= stride && values.len().is_multiple_of(stride), "columns of a matrix");
        Self { values: &values[from.min(values.len())..], stride, columns }
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len().div_ceil(self.stride)
    }
}

/// Writes `Σ_t g_t x_tᵀ` \[columns of g, columns of x\] to `out`, or adds it.
///
/// # Panics
/// If [`has_avx512`] does not hold, or sizes do not fit.
pub fn write(g: Strided<'_>, x: Strided<'_>, add: bool, out: &mut [f32]) {
    assert!(has_avx512(), "AVX-512");
    assert_eq!(g.rows(), x.rows(), "tokens");
    assert_eq!(out.len(), g.columns * x.columns, "entries of the tile");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 is available, as asserted.
    unsafe {
        x86::write(g, x, add, out);
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::{
        __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };
    use std::cell::RefCell;

    use super::{HEIGHT, Strided, WIDTH, has_whole_vectors};

    /// Vectors of 16 columns of a register tile: 24 accumulators and 5 operands of 32 registers.
    const VECTORS: usize = WIDTH / 16;

    /// Tokens from which rows in place do not stay in the first cache.
    const MANY: usize = 48;

    /// Rows of the result for which copying x pays: every register tile reads the copy.
    const TALL: usize = 4 * HEIGHT;

    thread_local! {
        /// Columns of x, side by side, token by token.
        static COPY: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn write(g: Strided<'_>, x: Strided<'_>, add: bool, out: &mut [f32]) {
        // Slower vectors leave time to read rows again from the second cache.
        let copies = has_whole_vectors() && x.stride > WIDTH && g.rows() >= MANY && g.columns >= TALL;
        COPY.with_borrow_mut(|copy| {
            for j in (0..x.columns).step_by(WIDTH) {
                let width = (x.columns - j).min(WIDTH);
                let in_place = Strided { values: &x.values[j.min(x.values.len())..], stride: x.stride, columns: width };
                let x_here = if copies { side_by_side(in_place, copy) } else { in_place };
                for i in (0..g.columns).step_by(HEIGHT) {
                    let columns = (g.columns - i).min(HEIGHT);
                    let strip = Strided { values: &g.values[i.min(g.values.len())..], stride: g.stride, columns };
                    any_tile(strip, x_here, (i, j), x.columns, add, out);
                }
            }
        });
    }

    /// The matrix in memory of its own, with rows one behind the other.
    #[target_feature(enable = "avx512f")]
    fn side_by_side<'a>(x: Strided<'_>, copy: &'a mut Vec<f32>) -> Strided<'a> {
        copy.resize(x.rows() * WIDTH, 0.0);
        let masks = masks(x.columns);
        for (row, copy) in x.values.chunks(x.stride).zip(copy.chunks_exact_mut(WIDTH)) {
            let row = &row[..x.columns];
            for (k, mask) in masks.iter().enumerate() {
                // SAFETY: the masks cover the row; masked lanes are not read, and the copy has as many lanes.
                unsafe {
                    let values = _mm512_maskz_loadu_ps(*mask, row.as_ptr().wrapping_add(16 * k));
                    _mm512_mask_storeu_ps(copy.as_mut_ptr().add(16 * k), 0xffff, values);
                }
            }
        }
        Strided { values: copy, stride: WIDTH, columns: x.columns }
    }

    /// The lanes of the first so many columns.
    fn masks(columns: usize) -> [__mmask16; VECTORS] {
        std::array::from_fn(|k| ((1u32 << columns.saturating_sub(16 * k).min(16)) - 1) as __mmask16)
    }

    /// Writes rows from `i` and columns from `j` on of a result with `width` columns, or adds to them: for all columns of g and of x, at
    /// most [`HEIGHT`] and [`WIDTH`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn any_tile(
        g: Strided<'_>,
        x: Strided<'_>,
        (i, j): (usize, usize),
        width: usize,
        add: bool,
        out: &mut [f32],
    ) {
        match g.columns {
            6 => tile::<6>(g, x, (i, j), width, add, out),
            5 => tile::<5>(g, x, (i, j), width, add, out),
            4 => tile::<4>(g, x, (i, j), width, add, out),
            3 => tile::<3>(g, x, (i, j), width, add, out),
            2 => tile::<2>(g, x, (i, j), width, add, out),
            _ => tile::<1>(g, x, (i, j), width, add, out),
        }
    }

    /// The same for H columns of g.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn tile<const H: usize>(
        g: Strided<'_>,
        x: Strided<'_>,
        (i, j): (usize, usize),
        width: usize,
        add: bool,
        out: &mut [f32],
    ) {
        let masks = masks(x.columns);
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; H];
        let tokens = x.rows();
        let holds = |m: Strided<'_>, columns: usize| m.values.len() >= (tokens - 1) * m.stride + columns;
        assert!(tokens == 0 || (holds(g, H) && holds(x, x.columns)), "rows of factors");
        let (mut factors, mut row) = (g.values.as_ptr(), x.values.as_ptr());
        for _ in 0..tokens {
            // SAFETY: rows of so many columns, as asserted. The masks cover the row; masked lanes are not read.
            let load = |k: usize| unsafe {
                let place = row.wrapping_add(16 * k);
                if x.columns == WIDTH { _mm512_loadu_ps(place) } else { _mm512_maskz_loadu_ps(masks[k], place) }
            };
            let vectors: [__m512; VECTORS] = std::array::from_fn(load);
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let factor = _mm512_set1_ps(unsafe { *factors.add(r) });
                for (vector, sum) in vectors.iter().zip(sums) {
                    *sum = _mm512_fmadd_ps(factor, *vector, *sum);
                }
            }
            (factors, row) = (factors.wrapping_add(g.stride), row.wrapping_add(x.stride));
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let row = &mut out[(i + r) * width + j..][..x.columns];
            for (k, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
                let place = row.as_mut_ptr().wrapping_add(16 * k);
                // SAFETY: the masks cover the row of the result; masked lanes are not accessed.
                unsafe {
                    let sum = if add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, place), sum) } else { sum };
                    _mm512_mask_storeu_ps(place, mask, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    use super::*;

    proptest! {
        /// Against double precision: T products and sums in sequence, (T + 1)·2⁻²⁴ of the sum of absolute products.
        #[test]
        fn tiles_equal_double_precision(
            tokens in 1usize..70, rows in 1usize..40, columns in 1usize..150, before in 0usize..5, after in 0usize..5,
            add in any::<bool>(), seed in any::<u64>(),
        ) {
            if has_avx512() {
                let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| random.random_range(-1.0..1.0)).collect() };
                let (height, width) = (before + rows + after, after + columns + before);
                let (g, x) = (draw(tokens * height), draw(tokens * width));
                let mut out = vec![if add { 0.5 } else { f32::NAN }; rows * columns];
                write(Strided::new(&g, height, before, rows), Strided::new(&x, width, after, columns), add, &mut out);
                for i in 0..rows {
                    for j in 0..columns {
                        let products = (0..tokens).map(|t| {
                            f64::from(g[t * height + before + i]) * f64::from(x[t * width + after + j])
                        });
                        let size: f64 = products.clone().map(f64::abs).sum::<f64>() + 0.5;
                        let exact = products.sum::<f64>() + if add { 0.5 } else { 0.0 };
                        let error = (f64::from(out[i * columns + j]) - exact).abs();
                        prop_assert!(error <= (tokens + 1) as f64 * 2f64.powi(-24) * size);
                    }
                }
            }
        }
    }
}
