//! Random projection of all parameters: `θ = θ_0 + Π u`, `Π` of P x k independent normal entries (fine-tuning in an
//! "intrinsic dimension" k). The gradient in u is `Πᵀ∇f`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

/// Entries of Π that exist at a time.
const CHUNK_ENTRIES: i64 = 1 << 20;

/// A random P x k matrix Π that is never held as a whole: its rows are drawn from a seed each time they are needed. The
/// same seed and rank give the same rows for every P and every way of cutting P into chunks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projection {
    rank: i64,
    variance: f64,
    seed: u64,
}

impl Projection {
    /// Entries N(0, 1/k): inner products of gradients keep their expectation.
    ///
    /// # Panics
    /// If the rank is not positive.
    pub fn new(rank: i64, seed: u64) -> Self {
        assert!(rank > 0, "a projection to {rank} dimensions");
        Self { rank, variance: 1.0 / rank as f64, seed }
    }

    /// The same directions with entries of another variance: inner products are multiplied by k times it.
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
        let mut rows = Rows::new(self, u.device());
        let parts: Vec<Tensor> =
            chunks(numel, self.rows_per_chunk()).map(|(_, count)| rows.next(count).matmul(u)).collect();
        Tensor::cat(&parts, 0)
    }

    fn rows_per_chunk(&self) -> i64 {
        (CHUNK_ENTRIES / self.rank).max(1)
    }

    fn gradients_in_chunks(&self, jacobian: &Tensor, rows_per_chunk: i64) -> Tensor {
        let (count, numel) = jacobian.size2().expect("a Jacobian is a matrix");
        let mut rows = Rows::new(self, jacobian.device());
        let mut sum = Tensor::zeros([count, self.rank], (Kind::Double, jacobian.device()));
        for (start, length) in chunks(numel, rows_per_chunk) {
            sum += jacobian.narrow(1, start, length).to_kind(Kind::Double).matmul(&rows.next(length));
        }
        sum
    }
}

/// Starts and lengths of chunks of `0..len`.
fn chunks(len: i64, size: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..len).step_by(size as usize).map(move |start| (start, size.min(len - start)))
}

/// The rows of Π, in order.
struct Rows {
    rng: ChaCha8Rng,
    rank: i64,
    deviation: f64,
    device: Device,
}

impl Rows {
    fn new(projection: &Projection, device: Device) -> Self {
        let Projection { rank, variance, seed } = *projection;
        Self { rng: ChaCha8Rng::seed_from_u64(seed), rank, deviation: variance.sqrt(), device }
    }

    /// The next `count` rows \[count, k\].
    fn next(&mut self, count: i64) -> Tensor {
        let numbers: Vec<f64> = StandardNormal.sample_iter(&mut self.rng).take((count * self.rank) as usize).collect();
        Tensor::from_slice(&numbers).view([count, self.rank]).to_device(self.device) * self.deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::normal_tensor;

    #[test]
    fn chunks_do_not_change_the_projection() {
        let j = normal_tensor(&[3, 37], 1.0, 1, 0, Kind::Double, Device::Cpu);
        let projection = Projection::new(5, 9);
        let whole = projection.gradients(&j);
        for rows in [1, 4, 36, 37, 100] {
            let error = (projection.gradients_in_chunks(&j, rows) - &whole).abs().max().double_value(&[]);
            assert!(error < 1e-14, "chunks of {rows} rows: {error:e}");
        }
        // J (Π u) = (J Π) u.
        let u = normal_tensor(&[5], 1.0, 2, 0, Kind::Double, Device::Cpu);
        let error = (j.matmul(&projection.offset(37, &u)) - whole.matmul(&u)).abs().max().double_value(&[]);
        assert!(error < 1e-13, "{error:e}");
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
}
