//! Tests of one solver each; the golden values and the properties of least squares are in `tests/it/solvers.rs`.

mod bad_input;
mod logistic;
mod many_rows;
mod selection;
mod svm;

use nalgebra::DMatrix;

/// Numbers in [-1, 1] from a fixed recurrence (xorshift): the same on every machine.
pub(super) struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    pub fn matrix(&mut self, rows: usize, columns: usize) -> DMatrix<f64> {
        DMatrix::from_fn(rows, columns, |_, _| self.next())
    }

    /// `BBᵀ` with B of `[n, features]`: positive semi-definite, of that rank.
    pub fn gram(&mut self, n: usize, features: usize) -> DMatrix<f64> {
        let b = self.matrix(n, features);
        &b * b.transpose()
    }
}
