//! The Hessian W of the cross-entropy in the outputs: block-diagonal, one block an example. Knows no kernel.
//!
//! For one output a block is `p(1 - p)`. For C outputs it is `diag(p) - ppᵀ = S(I - ssᵀ)S` with `s = √p` and `S = diag(s)`:
//! of rank C - 1, since adding a constant to all outputs changes no probability. With `u = s + e_C` the Householder
//! reflection `I - uuᵀ/(1 + s_C)` maps `s` to `-e_C`; its other columns Q span what is orthogonal to s, and `V = S·Q` gives
//! `W = V·Vᵀ`.

use nalgebra::{DMatrix, DVector};

/// The factors V of all examples, each `[C, C - 1]`, `[1, 1]` for one output.
pub(super) struct Curvature {
    outputs: usize,
    /// Columns of a factor.
    width: usize,
    factors: Vec<DMatrix<f64>>,
}

impl Curvature {
    /// From probabilities `[n·C]`; for one output those of class 1.
    pub fn new(probabilities: &DVector<f64>, outputs: usize) -> Self {
        let factor = |p: &[f64]| {
            if let [p] = p {
                return DMatrix::from_element(1, 1, (p * (1.0 - p)).sqrt());
            }
            let last = outputs - 1;
            let s: Vec<f64> = p.iter().map(|p| p.sqrt()).collect();
            let u = |c: usize| s[c] + f64::from(u8::from(c == last));
            DMatrix::from_fn(outputs, last, |c, j| s[c] * (f64::from(u8::from(c == j)) - u(c) * s[j] / (1.0 + s[last])))
        };
        let factors = probabilities.as_slice().chunks(outputs).map(factor).collect();
        Self { outputs, width: outputs.max(2) - 1, factors }
    }

    /// `Vᵀx`, from `[n·C]`.
    pub fn reduce(&self, x: &DVector<f64>) -> DVector<f64> {
        let parts = self.factors.iter().zip(x.as_slice().chunks(self.outputs));
        let all = parts.flat_map(|(v, x)| v.column_iter().map(|column| dot(column.as_slice(), x)).collect::<Vec<_>>());
        DVector::from_iterator(self.factors.len() * self.width, all)
    }

    /// `Vz`, to `[n·C]`.
    pub fn expand(&self, z: &DVector<f64>) -> DVector<f64> {
        let parts = self.factors.iter().zip(z.as_slice().chunks(self.width));
        let all = parts.flat_map(|(v, z)| (0..self.outputs).map(|c| dot_row(v, c, z)).collect::<Vec<_>>());
        DVector::from_iterator(self.factors.len() * self.outputs, all)
    }

    /// `Wx`, `[n·C]`.
    pub fn times(&self, x: &DVector<f64>) -> DVector<f64> {
        self.expand(&self.reduce(x))
    }

    /// `VᵀKV` of a kernel given by its entries.
    pub fn reduced(&self, kernel: impl Fn(usize, usize) -> f64) -> DMatrix<f64> {
        let (n, outputs, width) = (self.factors.len(), self.outputs, self.width);
        let mut all = DMatrix::zeros(n * width, n * width);
        for (j, right) in self.factors.iter().enumerate() {
            for (i, left) in self.factors.iter().enumerate() {
                let block = DMatrix::from_fn(outputs, outputs, |c, d| kernel(i * outputs + c, j * outputs + d));
                all.view_mut((i * width, j * width), (width, width)).copy_from(&(left.tr_mul(&block) * right));
            }
        }
        all
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn dot_row(v: &DMatrix<f64>, row: usize, z: &[f64]) -> f64 {
    z.iter().enumerate().map(|(j, z)| v[(row, j)] * z).sum()
}
