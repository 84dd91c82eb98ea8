//! Products of a large matrix's transpose with few columns, `AᵀX`, at memory bandwidth. Knows no kernel.
//!
//! A general product first repacks A, which costs more than the product if X has ten columns. Here inner products of four
//! columns of A with four of X are summed in registers, and each thread takes separate columns of A.

use super::linear::{parallelism, product};
use crate::error::Result;
use crate::progress::check_cancelled;
use faer::{Mat, MatRef, Par};
use kernelview_loops::pairs::{SIDE, dots};
use nalgebra::DMatrix;
use rayon::prelude::*;

/// Maximum number of columns of X for which this is faster.
const NARROW: usize = 40;

/// Columns of A between checks for cancellation.
const STRIP: usize = 2048;

/// `AᵀX`, `[m, t]` of `[n, m]` and `[n, t]`; can be cancelled.
///
/// # Errors
/// `Interrupted`.
pub(super) fn transposed_times(a: &DMatrix<f64>, x: &Mat<f64>) -> Result<Mat<f64>> {
    let (n, m, t) = (a.nrows(), a.ncols(), x.ncols());
    let mut all = Mat::zeros(m, t);
    if n * t == 0 {
        return Ok(all);
    }
    for start in (0..m).step_by(STRIP) {
        check_cancelled()?;
        let columns = &a.as_slice()[start * n..(start + STRIP).min(m) * n];
        let count = columns.len() / n;
        if t > NARROW {
            let part = product(MatRef::from_column_major_slice(columns, n, count).transpose(), x.as_ref());
            all.as_mut().subrows_mut(start, count).copy_from(&part);
            continue;
        }
        // Row i: the products of column i with those of X.
        let mut rows = vec![0.0; count * t];
        let work = |(columns, rows): (&[f64], &mut [f64])| block(columns, n, x, rows);
        if parallelism() == Par::Seq {
            columns.chunks(SIDE * n).zip(rows.chunks_mut(SIDE * t)).for_each(work);
        } else {
            columns.par_chunks(SIDE * n).zip(rows.par_chunks_mut(SIDE * t)).with_min_len(16).for_each(work);
        }
        for (i, row) in rows.chunks(t).enumerate() {
            for (j, value) in row.iter().enumerate() {
                all[(start + i, j)] = *value;
            }
        }
    }
    Ok(all)
}

/// Products of at most four columns of A with all of X, `[columns, t]` by rows.
fn block(columns: &[f64], n: usize, x: &Mat<f64>, rows: &mut [f64]) {
    let t = x.ncols();
    let own: Vec<&[f64]> = columns.chunks(n).collect();
    for from in (0..t).step_by(SIDE) {
        // Missing columns of a block are computed twice, to avoid special cases for every size.
        let a: [&[f64]; SIDE] = std::array::from_fn(|i| own[i.min(own.len() - 1)]);
        let b: [&[f64]; SIDE] = std::array::from_fn(|j| x.col_as_slice((from + j).min(t - 1)));
        let found = dots(a, b);
        for (i, found) in found.iter().enumerate().take(own.len()) {
            let count = SIDE.min(t - from);
            rows[i * t + from..][..count].copy_from_slice(&found[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Against nalgebra's product, at sizes on both sides of every block. Rounding: a few ε times the norms of the columns.
    #[test]
    fn it_is_the_product() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for (n, m, t) in [(3, 2, 0), (1, 1, 1), (7, 3, 2), (8, 4, 4), (65, 13, 5), (300, 101, 9), (40, 9, NARROW + 3)] {
            let a = DMatrix::from_fn(n, m, |_, _| random.random_range(-1.0..1.0));
            let x = DMatrix::from_fn(n, t, |_, _| random.random_range(-1.0..1.0));
            let wanted = a.tr_mul(&x);
            let found = transposed_times(&a, &Mat::from_fn(n, t, |i, j| x[(i, j)])).expect("not stopped");
            for i in 0..m {
                for j in 0..t {
                    assert!((found[(i, j)] - wanted[(i, j)]).abs() <= 1e-14 * n as f64, "{n} {m} {t}: {i}, {j}");
                }
            }
        }
    }
}
