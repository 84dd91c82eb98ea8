//! The innermost loop over packed factors by inner products of vectors (AVX512-BF16), in the layout of the matrix units.
//!
//! An instruction adds the products of sixteen columns' pairs with one row's pair, which it broadcasts, to sixteen sums.

use std::arch::x86_64::{
    __m512, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::Parts;
use super::units::{Line, PART, SIDE};

/// Columns of a vector of sums.
const WIDTH: usize = 16;

/// Rows whose sums stay in registers: with two vectors each half of these, so that no sum waits for the one before it.
const HEIGHT: usize = 8;

/// Pairs of products that a step sums.
const PAIRS: usize = 16;

/// Which parts of a row and of a column are multiplied, in the order of the sums: the smallest products first.
const ONE: [(usize, usize); 1] = [(0, 0)];
const TWO: [(usize, usize); 3] = [(0, 1), (0, 0), (1, 0)];
const THREE: [(usize, usize); 6] = [(0, 2), (0, 1), (0, 0), (2, 0), (1, 0), (1, 1)];

/// Writes a block of [`SIDE`] rows and columns, or adds to it; see [`Multiplier::multiply`](super::units::Multiplier::multiply).
///
/// # Safety
/// As there; the processor has AVX-512 with bf16.
pub(super) unsafe fn multiply(
    parts: Parts,
    strips: (*const Line, *const Line),
    steps: usize,
    out: (*mut f32, usize),
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match parts {
            Parts::One => block::<1, 1>(&ONE, strips, steps, out, add),
            Parts::Two => block::<2, 3>(&TWO, strips, steps, out, add),
            Parts::Three => block::<3, 6>(&THREE, strips, steps, out, add),
        }
    }
}

/// # Safety
/// As [`multiply`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn block<const P: usize, const N: usize>(
    products: &[(usize, usize); N],
    (rows, columns): (*const Line, *const Line),
    steps: usize,
    (out, stride): (*mut f32, usize),
    add: bool,
) {
    for first in (0..SIDE).step_by(HEIGHT) {
        // SAFETY: `first` is a row of the block.
        let place = |i: usize, half: usize| unsafe { out.add((first + i) * stride + half * WIDTH) };
        let start = |i: usize, half: usize| {
            // SAFETY: within the block.
            if add { unsafe { _mm512_loadu_ps(place(i, half)) } } else { _mm512_setzero_ps() }
        };
        let mut sums: [[__m512; 2]; HEIGHT] = [[_mm512_setzero_ps(); 2]; HEIGHT];
        for (i, sums) in sums.iter_mut().enumerate() {
            *sums = [start(i, 0), start(i, 1)];
        }
        for step in 0..steps {
            for (of_row, of_column) in products {
                // SAFETY: strips are as long as the steps.
                let (row, column) = unsafe {
                    (rows.add((step * P + of_row) * PART + first), columns.add((step * P + of_column) * PART))
                };
                for pair in 0..PAIRS {
                    // SAFETY: a line has 64 bytes: sixteen pairs.
                    let (left, right): (__m512bh, __m512bh) = unsafe {
                        (column.add(pair).cast::<__m512bh>().read(), column.add(PAIRS + pair).cast::<__m512bh>().read())
                    };
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as above; both types are sixteen pairs.
                        let own: __m512bh = unsafe {
                            std::mem::transmute(_mm512_set1_epi32(row.add(i).cast::<i32>().add(pair).read()))
                        };
                        sums[0] = _mm512_dpbf16_ps(sums[0], own, left);
                        sums[1] = _mm512_dpbf16_ps(sums[1], own, right);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                // SAFETY: within the block.
                unsafe { _mm512_storeu_ps(place(i, half), *sum) };
            }
        }
    }
}
