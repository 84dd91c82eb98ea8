//! Reduces a square matrix to a band by reflections from both sides, `H = Q·B·Pᵀ`, and solves the asymmetric system in that
//! basis. Knows no targets and no kernel.
//!
//! `B` is upper triangular with [`WIDTH`] diagonals above its own. The reduction consists of matrix products, with a third
//! of the work of a singular value decomposition and none of its memory-bound steps. In the basis of Q and P the system
//! `[[I/γ, H], [Hᵀ, I/γ]]` is `[[I/γ, B], [Bᵀ, I/γ]]`; with the entries of both halves interleaved it is a symmetric band
//! matrix, which is eliminated with partial pivoting in O(n·WIDTH²) for every γ.

use super::factor::{Solves, smallest_singular_value};
use super::linear::{parallelism, unless_stopped};
use crate::error::Result;
use crate::progress::check_cancelled;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as left_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_left,
    apply_block_householder_sequence_on_the_right_in_place_scratch as right_scratch,
    apply_block_householder_sequence_on_the_right_in_place_with_conj as apply_right,
    apply_block_householder_sequence_transpose_on_the_left_in_place_scratch as left_transpose_scratch,
    apply_block_householder_sequence_transpose_on_the_left_in_place_with_conj as apply_left_transpose,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch};
use faer::{Conj, Mat};

/// Diagonals above the main one.
const WIDTH: usize = 48;

/// `H = Q·B·Pᵀ`.
pub(super) struct Band {
    rows: usize,
    left: Vec<Reflections>,
    right: Vec<Reflections>,
    /// Row i of B, starting at the diagonal, `[n, WIDTH + 1]`.
    entries: Vec<f64>,
}

/// A solution of the system, `[n]` each.
pub(super) struct BandSolution {
    pub alpha: Vec<f64>,
    pub beta: Vec<f64>,
    /// An upper bound on the system's smallest singular value, relative to its norm.
    pub smallest: f64,
}

/// Reflections that fix the first `start` coordinates.
struct Reflections {
    start: usize,
    basis: Mat<f64>,
    factor: Mat<f64>,
}

impl Reflections {
    /// The reflections that triangularize `panel`; the triangle is left in its upper part.
    fn of(start: usize, mut panel: Mat<f64>) -> Self {
        let (rows, columns) = (panel.nrows(), panel.ncols());
        let size = rows.min(columns);
        let mut factor = Mat::zeros(size, size);
        let mut memory =
            MemBuffer::new(qr_in_place_scratch::<f64>(rows, columns, size, parallelism(), faer::prelude::default()));
        let stack = MemStack::new(&mut memory);
        qr_in_place(panel.as_mut(), factor.as_mut(), parallelism(), stack, faer::prelude::default());
        Self { start, basis: panel, factor }
    }

    fn size(&self) -> usize {
        self.factor.nrows()
    }

    /// Multiplies a column from the left, or with the transpose.
    fn apply(&self, column: &mut Mat<f64>, transpose: bool) {
        let part = column.as_mut().subrows_mut(self.start, self.basis.nrows());
        let (basis, factor) = (self.basis.get(.., ..self.size()), self.factor.as_ref());
        let (rows, size) = (basis.nrows(), self.size());
        if transpose {
            let mut memory = MemBuffer::new(left_transpose_scratch::<f64>(rows, size, 1));
            apply_left_transpose(basis, factor, Conj::No, part, parallelism(), MemStack::new(&mut memory));
        } else {
            let mut memory = MemBuffer::new(left_scratch::<f64>(rows, size, 1));
            apply_left(basis, factor, Conj::No, part, parallelism(), MemStack::new(&mut memory));
        }
    }
}

impl Band {
    /// Reduces a matrix.
    ///
    /// # Errors
    /// `Interrupted`.
    pub fn new(matrix: Mat<f64>) -> Result<Self> {
        unless_stopped(matrix.nrows(), move || reduce(matrix))?
    }

    /// The solution of `[[I/γ, H], [Hᵀ, I/γ]] [α; β] = 1`; `None` if a pivot is zero.
    ///
    /// # Errors
    /// `Interrupted`.
    pub fn solve(&self, gamma: f64) -> Result<Option<BandSolution>> {
        check_cancelled()?;
        let n = self.rows;
        let Some(system) = Elimination::new(&self.entries, 1.0 / gamma) else { return Ok(None) };
        let ones = || Mat::from_fn(n, 1, |_, _| 1.0);
        let along = |reflections: &[Reflections]| {
            let mut column = ones();
            for one in reflections {
                one.apply(&mut column, true);
            }
            column
        };
        let (u, v) = (along(&self.left), along(&self.right));
        let mut inner: Vec<f64> = (0..2 * n).map(|i| if i % 2 == 0 { u[(i / 2, 0)] } else { v[(i / 2, 0)] }).collect();
        system.solve(&mut inner);
        let back = |reflections: &[Reflections], side: usize| {
            let mut column = Mat::from_fn(n, 1, |i, _| inner[2 * i + side]);
            for one in reflections.iter().rev() {
                one.apply(&mut column, false);
            }
            column.col_as_slice(0).to_vec()
        };
        let (alpha, beta) = (back(&self.left, 0), back(&self.right, 1));
        let norm = self.entries.iter().map(|x| x * x).sum::<f64>().sqrt() + 1.0 / gamma;
        let smallest = smallest_singular_value(2 * n, |vector| {
            system.solve(vector.col_as_slice_mut(0));
            Solves::Once
        })?;
        Ok(Some(BandSolution { alpha, beta, smallest: smallest / norm }))
    }
}

fn reduce(mut matrix: Mat<f64>) -> Result<Band> {
    let n = matrix.nrows();
    let mut entries = vec![0.0; n * (WIDTH + 1)];
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for start in (0..n).step_by(WIDTH) {
        check_cancelled()?;
        let (rows, columns) = (n - start, WIDTH.min(n - start));
        let found = Reflections::of(start, matrix.get(start.., start..start + columns).to_owned());
        for i in 0..columns {
            for j in i..columns {
                entries[(start + i) * (WIDTH + 1) + j - i] = found.basis[(i, j)];
            }
        }
        let end = start + columns;
        let rest = n - end;
        if rest > 0 {
            let mut memory = MemBuffer::new(left_transpose_scratch::<f64>(rows, found.size(), rest));
            let (basis, factor) = (found.basis.as_ref(), found.factor.as_ref());
            let part = matrix.get_mut(start.., end..);
            apply_left_transpose(basis, factor, Conj::No, part, parallelism(), MemStack::new(&mut memory));
        }
        left.push(found);
        if rest > 0 {
            let found = Reflections::of(end, matrix.get(start..end, end..).transpose().to_owned());
            for i in 0..columns {
                for j in 0..=i.min(rest - 1) {
                    entries[(start + i) * (WIDTH + 1) + columns + j - i] = found.basis[(j, i)];
                }
            }
            let mut memory = MemBuffer::new(right_scratch::<f64>(rest, found.size(), rest));
            let (basis, factor) = (found.basis.get(.., ..found.size()), found.factor.as_ref());
            let part = matrix.get_mut(end.., end..);
            apply_right(basis, factor, Conj::No, part, parallelism(), MemStack::new(&mut memory));
            right.push(found);
        }
    }
    Ok(Band { rows: n, left, right, entries })
}

/// Half the bandwidth of the system with interleaved entries of α and β.
const HALF: usize = 2 * WIDTH + 1;

/// Entries kept per row: columns `r - HALF` to `r + 2·HALF`, the range filled by row exchanges.
const STRIDE: usize = 3 * HALF + 1;

/// `L·U` of a symmetric band with partial pivoting.
struct Elimination {
    rows: Vec<f64>,
    pivots: Vec<usize>,
}

impl Elimination {
    /// Of `[[sI, B], [Bᵀ, sI]]`, entries of both halves in turn. `None` if a pivot is zero.
    fn new(entries: &[f64], shift: f64) -> Option<Self> {
        let n = entries.len() / (WIDTH + 1);
        let size = 2 * n;
        let mut rows = vec![0.0; size * STRIDE];
        for i in 0..n {
            rows[2 * i * STRIDE + HALF] = shift;
            rows[(2 * i + 1) * STRIDE + HALF] = shift;
            for j in i..n.min(i + WIDTH + 1) {
                let entry = entries[i * (WIDTH + 1) + j - i];
                let (row, column) = (2 * i, 2 * j + 1);
                rows[row * STRIDE + HALF + column - row] = entry;
                rows[column * STRIDE + HALF + row - column] = entry;
            }
        }
        let mut pivots = vec![0; size];
        for k in 0..size {
            let last = (k + HALF).min(size - 1);
            let entry = |i: usize| rows[i * STRIDE + HALF + k - i];
            let pivot = (k..=last).fold(k, |best, i| if entry(i).abs() > entry(best).abs() { i } else { best });
            pivots[k] = pivot;
            let length = (k + 2 * HALF).min(size - 1) + 1 - k;
            let (head, tail) = rows.split_at_mut((k + 1) * STRIDE);
            let top = &mut head[k * STRIDE + HALF..][..length];
            if pivot > k {
                top.swap_with_slice(&mut tail[(pivot - k - 1) * STRIDE + HALF - (pivot - k)..][..length]);
            }
            if top[0] == 0.0 {
                return None;
            }
            for i in 1..=last - k {
                let row = &mut tail[(i - 1) * STRIDE + HALF - i..][..length];
                let factor = row[0] / top[0];
                row[0] = factor;
                if factor != 0.0 {
                    for (to, from) in row[1..].iter_mut().zip(&top[1..]) {
                        *to -= factor * from;
                    }
                }
            }
        }
        Some(Self { rows, pivots })
    }

    fn solve(&self, x: &mut [f64]) {
        let size = x.len();
        for k in 0..size {
            x.swap(k, self.pivots[k]);
            let top = x[k];
            for (i, x) in x.iter_mut().enumerate().take(k + HALF + 1).skip(k + 1) {
                *x -= self.rows[i * STRIDE + HALF + k - i] * top;
            }
        }
        for k in (0..size).rev() {
            let length = (k + 2 * HALF).min(size - 1) + 1 - k;
            let row = &self.rows[k * STRIDE + HALF..][..length];
            let known: f64 = row[1..].iter().zip(&x[k + 1..]).map(|(a, x)| a * x).sum();
            x[k] = (x[k] - known) / row[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn some(n: usize) -> Mat<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        Mat::from_fn(n, n, |_, _| random.random_range(-1.0..1.0))
    }

    /// The system's residual, from its definition, at sizes below, at and beyond whole blocks. Fails for: reflections in the
    /// wrong order or transposed, a band whose blocks are misplaced, an exchange that loses entries.
    #[test]
    fn the_solution_solves_the_system() {
        for n in [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH, 131] {
            let h = some(n);
            let band = Band::new(h.clone()).expect("not stopped");
            for gamma in [0.01, 0.3, 10.0] {
                let BandSolution { alpha, beta, smallest } =
                    band.solve(gamma).expect("not stopped").expect("a solution");
                let column = |values: &[f64]| Mat::from_fn(n, 1, |i, _| values[i]);
                let (a, b) = (column(&alpha), column(&beta));
                let ones = Mat::from_fn(n, 1, |_, _| 1.0);
                let first = &a * faer::Scale(1.0 / gamma) + &h * &b - &ones;
                let second = h.transpose() * &a + &b * faer::Scale(1.0 / gamma) - &ones;
                let scale = 1.0 + (1.0 / gamma + h.norm_l2()) * (a.norm_l2() + b.norm_l2());
                assert!(first.norm_l2() + second.norm_l2() <= 1e-13 * scale, "n = {n}, γ = {gamma}");
                assert!(smallest > 0.0);
            }
        }
    }

    /// Against singular values: the matrix's are `|1/γ ± σ|`. From above, and by at most the power that four steps leave.
    #[test]
    fn the_smallest_singular_value_is_found_from_above() {
        let n = 90;
        let h = some(n);
        let values = h.singular_values().expect("singular values");
        let band = Band::new(h).expect("not stopped");
        for gamma in [0.05, 0.2, 1.0] {
            let least = values.iter().map(|s| (1.0 / gamma - s).abs()).fold(f64::INFINITY, f64::min);
            let norm = values.iter().map(|s| s * s).sum::<f64>().sqrt() + 1.0 / gamma;
            let found = band.solve(gamma).expect("not stopped").expect("a solution");
            let ratio = found.smallest * norm / least;
            assert!((0.999..4.0).contains(&ratio), "γ = {gamma}: {ratio}");
        }
    }
}
