//! Random projection of all parameters: `θ = θ_0 + Π u`, `Π` of P x k independent normal entries (fine-tuning in an
//! "intrinsic dimension" k). The gradient in u is `Πᵀ∇f`.

use std::ops::Range;

use kernelview_loops::draws::Draws;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Number of entries of Π in memory at a time.
const CHUNK_ENTRIES: i64 = 1 << 20;

/// Rows of Π that share a stream of random numbers.
const BLOCK: i64 = 64;

/// A random P x k matrix Π that is never whole in memory: its rows are drawn from a seed whenever needed, each independently
/// of the others. The same seed and rank give the same rows for every P and every division of P into chunks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projection {
    rank: i64,
    variance: f64,
    seed: u64,
}

impl Projection {
    /// Entries N(0, 1/k): inner products of gradients are unbiased.
    ///
    /// # Panics
    /// If the rank is not positive.
    pub fn new(rank: i64, seed: u64) -> Self {
        assert!(rank > 0, "a projection to {rank} dimensions");
        Self { rank, variance: 1.0 / rank as f64, seed }
    }

    /// The same directions with another variance of entries, which scales inner products by k times the variance.
    #[must_use]
    pub fn with_variance(self, variance: f64) -> Self {
        Self { variance, ..self }
    }

    /// The rank k.
    pub fn rank(&self) -> i64 {
        self.rank
    }

    /// `J Π` \[R, k\] for Jacobian rows J \[R, P\], in double precision: the gradients in u, one row each.
    pub fn gradients(&self, jacobian: &Tensor) -> Tensor {
        self.gradients_in_chunks(jacobian, self.rows_per_chunk())
    }

    /// Kernel `<Πᵀ∇f_i, Πᵀ∇f_j>` \[R, R\] of Jacobian rows J \[R, P\].
    pub fn kernel(&self, jacobian: &Tensor) -> Tensor {
        let g = self.gradients(jacobian);
        g.matmul(&g.tr())
    }

    /// `Π u` \[P\] for u \[k\], in double precision; differentiable in u.
    pub fn offset(&self, numel: i64, u: &Tensor) -> Tensor {
        let parts: Vec<Tensor> =
            chunks(numel, self.rows_per_chunk()).map(|rows| self.rows(rows, u.device()).matmul(u)).collect();
        Tensor::cat(&parts, 0)
    }

    /// Some rows of Π \[rows, k\], in double precision.
    pub fn rows(&self, rows: Range<i64>, device: Device) -> Tensor {
        let (first, width) = (rows.start / BLOCK, (BLOCK * self.rank) as usize);
        let blocks = (rows.end + BLOCK - 1) / BLOCK - first;
        let mut numbers = vec![0.0; blocks as usize * width];
        numbers.par_chunks_mut(width).enumerate().for_each(|(i, block)| {
            Draws::new(self.seed, (first + i as i64) as u64).fill(block);
        });
        let all = Tensor::from_slice(&numbers).view([blocks * BLOCK, self.rank]);
        let wanted = all.narrow(0, rows.start - first * BLOCK, rows.end - rows.start);
        wanted.to_device(device) * self.variance.sqrt()
    }

    /// How many rows may be drawn at a time.
    pub(super) fn rows_per_chunk(&self) -> i64 {
        (CHUNK_ENTRIES / self.rank).max(1)
    }

    fn gradients_in_chunks(&self, jacobian: &Tensor, rows_per_chunk: i64) -> Tensor {
        let (count, numel) = jacobian.size2().expect("a Jacobian is a matrix");
        let mut sum = Tensor::zeros([count, self.rank], (Kind::Double, jacobian.device()));
        for rows in chunks(numel, rows_per_chunk) {
            let part = jacobian.narrow(1, rows.start, rows.end - rows.start).to_kind(Kind::Double);
            sum += part.matmul(&self.rows(rows, jacobian.device()));
        }
        sum
    }
}

/// Chunks of `0..len`.
fn chunks(len: i64, size: i64) -> impl Iterator<Item = Range<i64>> {
    (0..len).step_by(size as usize).map(move |start| start..(start + size).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::normal_tensor;

    #[test]
    fn chunks_do_not_change_the_projection() {
        let j = normal_tensor(&[3, 237], 1.0, 1, 0, Kind::Double, Device::Cpu);
        let projection = Projection::new(5, 9);
        let whole = projection.gradients(&j);
        for rows in [1, 4, 63, 64, 65, 236, 237, 1000] {
            let error = (projection.gradients_in_chunks(&j, rows) - &whole).abs().max().double_value(&[]);
            assert!(error < 1e-13, "chunks of {rows} rows: {error:e}");
        }
        // J (Π u) = (J Π) u.
        let u = normal_tensor(&[5], 1.0, 2, 0, Kind::Double, Device::Cpu);
        let error = (j.matmul(&projection.offset(237, &u)) - whole.matmul(&u)).abs().max().double_value(&[]);
        assert!(error < 1e-12, "{error:e}");
    }

    #[test]
    fn entries_have_the_stated_variance() {
        let identity = Tensor::eye(4000, (Kind::Double, Device::Cpu));
        for (projection, variance) in [(Projection::new(8, 3), 0.125), (Projection::new(8, 3).with_variance(2.0), 2.0)]
        {
            let square = projection.gradients(&identity).square().mean(Kind::Double).double_value(&[]);
            // 32000 squares of normal entries: relative deviation √(2/32000) = 0.8%.
            assert!((square / variance - 1.0).abs() < 0.04, "{square} for {variance}");
        }
    }

    /// Breaks when blocks of rows share their random numbers: then their products would not vanish.
    #[test]
    fn blocks_of_rows_are_independent() {
        let rows = Projection::new(400, 5).rows(0..192, Device::Cpu);
        let products = rows.narrow(0, 0, 64).matmul(&rows.narrow(0, 64, 128).tr());
        // Entries of variance 1/k: 8192 of them, of which the largest is about 4 standard deviations of 0.05.
        assert!(products.abs().max().double_value(&[]) < 0.35);
    }
}
