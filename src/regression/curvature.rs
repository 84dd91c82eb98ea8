//! The Hessian W of the cross-entropy in the outputs: block-diagonal, one block per example. Knows no kernel.
//!
//! For one output a block is `p(1 - p)`. For C outputs it is `diag(p) - ppᵀ = S(I - ssᵀ)S` with `s = √p` and `S = diag(s)`:
//! of rank C - 1, since adding a constant to all outputs changes no probability. With `u = s + e_C` the Householder
//! reflection `I - uuᵀ/(1 + s_C)` maps `s` to `-e_C`; its other columns Q span what is orthogonal to s, and `V = S·Q` gives
//! `W = V·Vᵀ`.

use nalgebra::{DMatrix, DVector};

/// The factors V of all examples, `[C, C - 1]` by rows each, `[1, 1]` for one output.
pub(super) struct Curvature {
    outputs: usize,
    /// Columns of a factor.
    width: usize,
    factors: Vec<f64>,
}

impl Curvature {
    /// From probabilities `[n·C]`; for one output those of class 1.
    pub fn new(probabilities: &DVector<f64>, outputs: usize) -> Self {
        let width = outputs.max(2) - 1;
        let mut factors = Vec::with_capacity(probabilities.len() * width);
        for p in probabilities.as_slice().chunks(outputs) {
            if let [p] = p {
                factors.push((p * (1.0 - p)).sqrt());
                continue;
            }
            let last = outputs - 1;
            let s: Vec<f64> = p.iter().map(|p| p.sqrt()).collect();
            for c in 0..outputs {
                let u = s[c] + f64::from(u8::from(c == last));
                let entry = |j: usize| s[c] * (f64::from(u8::from(c == j)) - u * s[j] / (1.0 + s[last]));
                factors.extend((0..last).map(entry));
            }
        }
        Self { outputs, width, factors }
    }

    /// The factors, by example.
    fn each(&self) -> impl Iterator<Item = &[f64]> {
        self.factors.chunks(self.outputs * self.width)
    }

    /// `Vᵀx`, from `[n·C]`.
    pub fn reduce(&self, x: &[f64]) -> DVector<f64> {
        let mut all = DVector::zeros(x.len() / self.outputs * self.width);
        let parts = self.each().zip(x.chunks(self.outputs)).zip(all.as_mut_slice().chunks_mut(self.width));
        for ((factor, x), to) in parts {
            for (row, x) in factor.chunks(self.width).zip(x) {
                for (to, v) in to.iter_mut().zip(row) {
                    *to += v * x;
                }
            }
        }
        all
    }

    /// `Vz`, to `[n·C]`.
    pub fn expand(&self, z: &DVector<f64>) -> DVector<f64> {
        let mut all = DVector::zeros(z.len() / self.width * self.outputs);
        self.expand_to(z.as_slice(), all.as_mut_slice());
        all
    }

    /// Writes `Vz`, `[n·C]`.
    pub fn expand_to(&self, z: &[f64], to: &mut [f64]) {
        for ((factor, z), to) in self.each().zip(z.chunks(self.width)).zip(to.chunks_mut(self.outputs)) {
            for (row, to) in factor.chunks(self.width).zip(to) {
                *to = row.iter().zip(z).map(|(v, z)| v * z).sum();
            }
        }
    }

    /// `Wx`, `[n·C]`.
    pub fn times(&self, x: &DVector<f64>) -> DVector<f64> {
        self.expand(&self.reduce(x.as_slice()))
    }

    /// `VᵀKV` of a kernel given by its entries.
    pub fn reduced(&self, kernel: impl Fn(usize, usize) -> f64) -> DMatrix<f64> {
        let (outputs, width) = (self.outputs, self.width);
        let factors: Vec<DMatrix<f64>> =
            self.each().map(|factor| DMatrix::from_row_slice(outputs, width, factor)).collect();
        let mut all = DMatrix::zeros(factors.len() * width, factors.len() * width);
        for (j, right) in factors.iter().enumerate() {
            for (i, left) in factors.iter().enumerate() {
                let block = DMatrix::from_fn(outputs, outputs, |c, d| kernel(i * outputs + c, j * outputs + d));
                all.view_mut((i * width, j * width), (width, width)).copy_from(&(left.tr_mul(&block) * right));
            }
        }
        all
    }
}
