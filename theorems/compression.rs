//! What the claims about compressed kernels share: the union bound, exact moments of the entries, and tests of draws
//! against them. Not a claim.
//!
//! Every compressed kernel here has entries `Σ_r z_rᵀ M z_r` with k independent standard normal (or uniform) vectors
//! `z_r` and a fixed matrix `M` per entry: a quadratic form, whose moments are known exactly.

use statrs::distribution::{ContinuousCDF as _, Normal};
use statrs::function::gamma::{gamma_lr, gamma_ur};
use tch::{Kind, Tensor};

use super::check;
use crate::evidence::Check;
use crate::stats::{Estimate, Expectation, holm, mean_p_value};

/// Number of examples N of the kernels.
pub(super) const EXAMPLES: usize = 8;
/// ε of the union bound.
pub(super) const EPSILON: f64 = 0.5;
/// Rank at which the bound is tested: there it is 0.086; below 180 it exceeds 1 and says nothing.
pub(super) const BOUND_RANK: i64 = 256;
/// Ranks over which errors must fall.
pub(super) const RANKS: [f64; 5] = [16.0, 32.0, 64.0, 128.0, 256.0];

/// Probability that any of the N² entries is off by cε, at most.
pub(super) fn union_bound(rank: i64) -> f64 {
    crate::subspace::union_bound(EXAMPLES, EPSILON, rank as f64)
}

/// Largest entrywise difference in units of the largest diagonal entry c.
pub(super) fn largest_deviation(kernel: &Tensor, expected: &Tensor) -> f64 {
    let c = expected.diagonal(0, 0, 1).max().double_value(&[]);
    (kernel - expected).abs().max().double_value(&[]) / c
}

/// Relative error in the Frobenius norm: root mean square over entries.
pub(super) fn frobenius_error(kernel: &Tensor, expected: &Tensor) -> f64 {
    ((kernel - expected).norm() / expected.norm()).double_value(&[])
}

/// A kernel with its diagonal divided out: entries are cosines.
pub(super) fn cosines(kernel: &Tensor) -> Tensor {
    let lengths = kernel.diagonal(0, 0, 1).sqrt();
    kernel / (lengths.unsqueeze(0) * lengths.unsqueeze(1))
}

/// Moments of every entry of a random kernel.
pub(super) struct Moments {
    /// Expectation \[N, N\].
    pub mean: Tensor,
    /// Variance \[N, N\].
    pub variance: Tensor,
    /// Fourth cumulant over squared variance \[N, N\]; 0 for a normal variable.
    pub excess: Tensor,
}

/// Pairs of examples, each once, with or without the diagonal.
fn pairs(diagonal: bool) -> impl Iterator<Item = (i64, i64)> {
    let n = EXAMPLES as i64;
    (0..n).flat_map(move |i| (i + i64::from(!diagonal)..n).map(move |j| (i, j)))
}

/// One entry of every draw.
fn samples(draws: &[Tensor], (i, j): (i64, i64)) -> Vec<f64> {
    draws.iter().map(|kernel| kernel.double_value(&[i, j])).collect()
}

/// p-values of the hypotheses that draws of a kernel have these means, and these variances: one of each per entry.
pub(super) fn p_values(draws: &[Tensor], moments: &Moments) -> (Vec<f64>, Vec<f64>) {
    let of_pair = |pair: (i64, i64)| {
        let samples = samples(draws, pair);
        let at = |t: &Tensor| t.double_value(&[pair.0, pair.1]);
        let mean = at(&moments.mean);
        (mean_p_value(&samples, mean), variance_p_value(&samples, mean, at(&moments.variance), at(&moments.excess)))
    };
    pairs(true).map(of_pair).unzip()
}

/// p-values of the hypotheses that draws of a kernel with a fixed diagonal have these means off the diagonal.
pub(super) fn cosine_p_values(draws: &[Tensor], mean: &Tensor) -> Vec<f64> {
    pairs(false).map(|pair| mean_p_value(&samples(draws, pair), mean.double_value(&[pair.0, pair.1]))).collect()
}

/// Two-sided p-value of a stated variance when the mean is known: T times the mean square over the variance is nearly
/// χ² with `2T / (2 + excess)` degrees of freedom (its first two moments are exact). A t-test on squares would not
/// do: squares are skewed, and p-values of 1e-6 matter here.
fn variance_p_value(samples: &[f64], mean: f64, variance: f64, excess: f64) -> f64 {
    let count = samples.len() as f64;
    let ratio = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count * variance);
    if !ratio.is_finite() {
        return 0.0;
    }
    let shape = count / (2.0 + excess);
    (2.0 * gamma_lr(shape, shape * ratio).min(gamma_ur(shape, shape * ratio))).min(1.0)
}

/// The smallest p-value of a family, adjusted by Holm's method, must not be below the error share of the check.
pub(super) fn family(name: impl Into<String>, p: &[f64], share: f64, samples: usize) -> Check {
    let smallest = holm(p).into_iter().fold(f64::INFINITY, |least, p| if p.is_nan() { p } else { least.min(p) });
    check(name, Expectation::AtLeast { bound: share }, Estimate::exact(smallest, samples))
}

/// What the tests of a family of `tests` entries can see, in words.
pub(super) fn power(share: f64, tests: usize, samples: usize) -> String {
    let normal = Normal::standard();
    // Two-sided at the family's level, and found nine times out of ten.
    let z = -normal.inverse_cdf(share / (2 * tests) as f64) + normal.inverse_cdf(0.9);
    let (deviations, percent) = (z / (samples as f64).sqrt(), 100.0 * z * (2.0 / samples as f64).sqrt());
    format!(
        "Power: over {samples} draws and {tests} tests at a joint error of {share:.1e}, a single entry whose mean is off by \
         {deviations:.2} of its standard deviations, or whose variance is off by {percent:.0}%, is found nine times out of \
         ten."
    )
}

/// Moments of `Σ_r z_rᵀ M z_r` with `rank` vectors of independent entries of mean 0, variance `variance` and excess
/// kurtosis `kurtosis`, summed over independent such terms. `matrices[i][j]` holds the terms' M \[in, in\] with their
/// variance.
pub(super) fn quadratic_moments(matrices: &[Vec<Vec<(Tensor, f64)>>], rank: i64, kurtosis: f64) -> Moments {
    let n = matrices.len();
    let (mut mean, mut variance, mut excess) = (vec![0.0; n * n], vec![0.0; n * n], vec![0.0; n * n]);
    let sum = |t: &Tensor| t.sum(Kind::Double).double_value(&[]);
    let k = rank as f64;
    for (i, row) in matrices.iter().enumerate() {
        for (j, terms) in row.iter().enumerate() {
            let mut fourth = 0.0;
            for (m, s) in terms {
                let symmetric = (m + m.tr()) * 0.5;
                let diagonal = m.diagonal(0, 0, 1);
                mean[i * n + j] += k * s * sum(&diagonal);
                // Var(zᵀSz) = 2 tr S² + κ Σ_a S_aa², fourth cumulant 48 tr S⁴ for normal entries.
                let second = 2.0 * sum(&symmetric.square()) + kurtosis * sum(&diagonal.square());
                variance[i * n + j] += k * s * s * second;
                fourth += k * s.powi(4) * 48.0 * sum(&symmetric.matmul(&symmetric).square());
            }
            excess[i * n + j] = fourth / variance[i * n + j].powi(2);
        }
    }
    let matrix = |v: &[f64]| Tensor::from_slice(v).view([n as i64, n as i64]);
    Moments { mean: matrix(&mean), variance: matrix(&variance), excess: matrix(&excess) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The approximation by a gamma distribution against simulation-free cases: the median has p = 1, far values
    /// vanish.
    #[test]
    fn variances_are_tested_from_both_sides() {
        let samples =
            |scale: f64| -> Vec<f64> { (0..1000).map(|i| scale * if i % 2 == 0 { 1.0 } else { -1.0 }).collect() };
        assert!(variance_p_value(&samples(1.0), 0.0, 1.0, 0.0) > 0.9);
        // χ² with 1000 degrees of freedom beyond 1.1² · 1000: z = 4.7, below 0.9²: z = -4.5.
        for scale in [1.1, 0.9] {
            let p = variance_p_value(&samples(scale), 0.0, 1.0, 0.0);
            assert!((1e-7..1e-4).contains(&p), "{p:e}");
        }
        assert_eq!(variance_p_value(&[f64::NAN], 0.0, 1.0, 0.0), 0.0);
    }

    #[test]
    fn moments_of_a_product_of_projections() {
        // M = u vᵀ with |u| = |v| = 1 and <u, v> = ρ: variance (1 + ρ²)/k, excess 6(1 + 6ρ² + ρ⁴)/(1 + ρ²)²/k.
        let rho: f64 = 0.6;
        let (u, v) = (Tensor::from_slice(&[1.0, 0.0]), Tensor::from_slice(&[rho, (1.0 - rho * rho).sqrt()]));
        let m = quadratic_moments(&[vec![vec![(u.outer(&v), 1.0 / 50.0)]]], 50, 0.0);
        let square = rho * rho;
        let close = |t: &Tensor, expected: f64| assert!((t.double_value(&[0, 0]) - expected).abs() < 1e-14);
        close(&m.mean, rho);
        close(&m.variance, (1.0 + square) / 50.0);
        close(&m.excess, 6.0 * (1.0 + 6.0 * square + square * square) / (1.0 + square).powi(2) / 50.0);
    }
}
