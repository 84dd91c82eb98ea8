//! The innermost loop over packed factors by inner products of vectors (AVX512-BF16), in the layout of the matrix units.
//!
//! An instruction adds the products of sixteen columns' pairs with one row's pair, which it broadcasts, to sixteen sums.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512,
};

use super::units::{Line, PART, SIDE};
use super::{Bf16, Parts};

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

/// Writes a block of [`SIDE`] rows and columns; see [`Multiplier::multiply`](super::units::Multiplier::multiply).
///
/// # Safety
/// As there; the processor has AVX-512 with bf16.
pub(super) unsafe fn multiply(
    parts: Parts,
    strips: (*const Line, *const Line),
    steps: usize,
    before: Option<(*const f32, usize)>,
    out: (*mut f32, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        match parts {
            Parts::One => single::<1, 1>(&ONE, strips, steps, before, out),
            Parts::Two => single::<2, 3>(&TWO, strips, steps, before, out),
            Parts::Three => single::<3, 6>(&THREE, strips, steps, before, out),
        }
    }
}

/// Writes the same rounded to bf16, to rows `stride` numbers apart.
///
/// # Safety
/// As [`multiply`].
pub(super) unsafe fn multiply_rounded(
    parts: Parts,
    strips: (*const Line, *const Line),
    steps: usize,
    out: (*mut Bf16, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        match parts {
            Parts::One => rounded::<1, 1>(&ONE, strips, steps, out),
            Parts::Two => rounded::<2, 3>(&TWO, strips, steps, out),
            Parts::Three => rounded::<3, 6>(&THREE, strips, steps, out),
        }
    }
}

/// # Safety
/// As [`multiply`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn single<const P: usize, const N: usize>(
    products: &[(usize, usize); N],
    strips: (*const Line, *const Line),
    steps: usize,
    before: Option<(*const f32, usize)>,
    (out, stride): (*mut f32, usize),
) {
    let before = |row: usize| match before {
        // SAFETY: rows and halves are within the block.
        Some((before, stride)) => [0, WIDTH].map(|half| unsafe { _mm512_loadu_ps(before.add(row * stride + half)) }),
        None => [_mm512_setzero_ps(); 2],
    };
    let write = |row: usize, sums: [__m512; 2]| {
        for (half, sum) in sums.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(out.add(row * stride + half * WIDTH), sum) };
        }
    };
    // SAFETY: the caller's promise.
    unsafe { block::<P, N>(products, strips, steps, before, write) };
}

/// # Safety
/// As [`multiply`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rounded<const P: usize, const N: usize>(
    products: &[(usize, usize); N],
    strips: (*const Line, *const Line),
    steps: usize,
    (out, stride): (*mut Bf16, usize),
) {
    // SAFETY: rows are within the block.
    let write = |row: usize, sums: [__m512; 2]| unsafe { store_rounded(sums, out.add(row * stride)) };
    // SAFETY: the caller's promise.
    unsafe { block::<P, N>(products, strips, steps, |_| [_mm512_setzero_ps(); 2], write) };
}

/// Rounds a block's row to bf16.
///
/// # Safety
/// `out` has as many numbers; the processor has AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn round(row: &[f32; SIDE], out: *mut Bf16) {
    // SAFETY: a row has two vectors; the caller's promise.
    unsafe { store_rounded([_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(WIDTH))], out) };
}

/// # Safety
/// As [`round`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn store_rounded([low, high]: [__m512; 2], out: *mut Bf16) {
    // SAFETY: both types are 32 numbers of 16 bits; the caller's promise.
    unsafe {
        let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
        _mm512_storeu_si512(out.cast(), both);
    }
}

/// Sums of a block, row by row from what `before` has, handed to `write`.
///
/// # Safety
/// As [`multiply`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn block<const P: usize, const N: usize>(
    products: &[(usize, usize); N],
    (rows, columns): (*const Line, *const Line),
    steps: usize,
    before: impl Fn(usize) -> [__m512; 2],
    write: impl Fn(usize, [__m512; 2]),
) {
    for first in (0..SIDE).step_by(HEIGHT) {
        let mut sums: [[__m512; 2]; HEIGHT] = [[_mm512_setzero_ps(); 2]; HEIGHT];
        for (i, sums) in sums.iter_mut().enumerate() {
            *sums = before(first + i);
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
        for (i, sums) in sums.into_iter().enumerate() {
            write(first + i, sums);
        }
    }
}
