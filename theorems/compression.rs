//! Shared by the claims on compressed kernels: the union bound, exact moments of the entries, and tests of draws against them.
//! Not a claim.
//!
//! Every compressed kernel here has entries `Σ_r z_rᵀ M z_r` with k independent standard normal (or uniform) vectors
//! `z_r` and a fixed matrix `M` per entry: a quadratic form, whose moments are known exactly.

use statrs::function::gamma::{gamma_lr, gamma_ur};
use tch::{Kind, Tensor};

use super::context::Context;
use super::{Graded, check};
use crate::evidence::{Check, Mark, Open};
use crate::stats::{Estimate, Expectation, Method, Outcome, detectable, student_mean};

/// Number of examples N of the kernels.
pub(super) const EXAMPLES: usize = 8;
/// ε of the union bound.
pub(super) const EPSILON: f64 = 0.5;
/// Rank at which the bound is tested: it is 0.086 there; below 180 it exceeds 1 and is empty.
pub(super) const BOUND_RANK: i64 = 256;
/// Ranks over which errors must fall.
pub(super) const RANKS: [f64; 5] = [16.0, 32.0, 64.0, 128.0, 256.0];

/// Bound on the probability that any of the N² entries is off by cε.
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

/// A kernel divided by the roots of its diagonal: its entries are cosines.
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

/// Accepted distance of an entry's mean from the stated one, in units of the entry's standard deviation.
const MEAN: f64 = 0.25;

/// Accepted factor between an entry's variance and the stated one, up or down.
const VARIANCE: f64 = 1.5;

/// Accepted distance of the mean over all entries of variance over stated variance from 1.
const OVERALL: f64 = 0.2;

/// Stated variances that are off by a multiple of the tolerance of their average over the entries.
pub(super) const VARIANCE_OFF: Graded = Graded {
    name: "variance-off",
    change: "stated variances larger by the factor exp(0.2), the tolerance of their average",
};

/// The stated moments, or the graded mutant's.
pub(super) fn variance_off(context: &Context<'_>, moments: Moments) -> Moments {
    let factor = (OVERALL * context.off(VARIANCE_OFF)).exp();
    Moments { variance: moments.variance * factor, ..moments }
}

/// Number of blocks of draws. The logarithm of a block's mean is one sample: single squares are too skewed for Student's
/// interval.
const BLOCKS: usize = 40;

/// The interval at a confidence level.
type Interval = Box<dyn Fn(f64) -> Estimate>;

/// Tests of the stated moments of a random kernel's entries against draws.
#[derive(Default)]
pub(super) struct Agreement {
    /// For each entry, the distance of its mean from the stated one, in standard deviations.
    means: Vec<Interval>,
    /// For each entry, the logarithm of its variance over the stated one.
    variances: Vec<Interval>,
    /// For each kernel, the logarithm of the mean ratio of squares to stated variances over all entries.
    overall: Vec<Interval>,
}

impl Agreement {
    /// Adds a kernel's draws.
    pub fn add(&mut self, draws: &[Tensor], moments: &Moments) {
        let mut squares = vec![0.0; draws.len()];
        let entries = pairs(true).count() as f64;
        for pair in pairs(true) {
            let samples = samples(draws, pair);
            let at = |t: &Tensor| t.double_value(&[pair.0, pair.1]);
            let (mean, variance) = (at(&moments.mean), at(&moments.variance));
            let distances: Vec<f64> = samples.iter().map(|x| (x - mean) / variance.sqrt()).collect();
            for (sum, d) in squares.iter_mut().zip(&distances) {
                *sum += d * d / entries;
            }
            self.means.push(mean_of(&distances));
            let excess = at(&moments.excess);
            self.variances.push(Box::new(move |confidence| log_variance_ratio(&distances, excess, confidence)));
        }
        let size = draws.len().div_ceil(BLOCKS);
        let blocks: Vec<f64> =
            squares.chunks(size).map(|block| (block.iter().sum::<f64>() / block.len() as f64).ln()).collect();
        self.overall.push(mean_of(&blocks));
    }

    /// Adds draws of a kernel with a fixed diagonal, for which only the means off the diagonal are stated; distances are in
    /// units of each entry's measured standard deviation.
    pub fn add_means(&mut self, draws: &[Tensor], mean: &Tensor) {
        for pair in pairs(false) {
            let samples = samples(draws, pair);
            let stated = mean.double_value(&[pair.0, pair.1]);
            let error = student_mean(&samples, Mark::CONFIDENCE).standard_error.unwrap_or(f64::NAN);
            let deviation = error * (samples.len() as f64).sqrt();
            let distances: Vec<f64> = samples.iter().map(|x| (x - stated) / deviation).collect();
            self.means.push(mean_of(&distances));
        }
    }

    /// The check that the means of all entries are the stated ones.
    pub fn of_means(&mut self, name: &'static str) -> Open {
        together(name, std::mem::take(&mut self.means), Expectation::Within { target: 0.0, tolerance: MEAN })
    }

    /// The check that each entry's variance is the stated one up to a factor.
    pub fn of_variances(&mut self, name: &'static str) -> Open {
        together(
            name,
            std::mem::take(&mut self.variances),
            Expectation::Within { target: 0.0, tolerance: VARIANCE.ln() },
        )
    }

    /// The narrower check of the variances' average over the entries.
    pub fn overall(&mut self, name: &'static str) -> Open {
        together(name, std::mem::take(&mut self.overall), Expectation::Within { target: 0.0, tolerance: OVERALL })
    }
}

/// Student's interval of the mean of samples.
fn mean_of(samples: &[f64]) -> Interval {
    let found = student_mean(samples, Mark::CONFIDENCE);
    Box::new(move |confidence| found.student_at(confidence))
}

/// One check of many simultaneous intervals, which divide its error probability among them.
fn together(name: &'static str, intervals: Vec<Interval>, expectation: Expectation) -> Open {
    Open::judged(move |confidence| {
        let each = 1.0 - (1.0 - confidence) / intervals.len() as f64;
        equivalence(name, &intervals.iter().map(|at| at(each)).collect::<Vec<_>>(), expectation)
    })
}

/// The logarithm of a variance over the stated one, from T distances of known mean 0 in units of the stated deviation. T times
/// the mean square is approximately scaled χ² with `2T / (2 + excess)` degrees of freedom (its first two moments are exact).
/// Student's interval does not suffice: squares are skewed, and confidences of 1 - 1e-7 matter here.
fn log_variance_ratio(distances: &[f64], excess: f64, confidence: f64) -> Estimate {
    let count = distances.len() as f64;
    let ratio = distances.iter().map(|d| d * d).sum::<f64>() / count;
    let shape = count / (2.0 + excess);
    let tail = 0.5 * (1.0 - confidence);
    // shape · ratio / truth has this gamma distribution.
    let quantile = |beyond: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (shape.ln() - 10.0, shape.ln() + 10.0);
        for _ in 0..80 {
            let middle = 0.5 * (low + high);
            if beyond(middle.exp()) { high = middle } else { low = middle }
        }
        low - shape.ln()
    };
    let (low, high) = (quantile(&|x| gamma_lr(shape, x) > tail), quantile(&|x| gamma_ur(shape, x) < tail));
    Estimate {
        value: ratio.ln(),
        low: ratio.ln() - high,
        high: ratio.ln() - low,
        confidence,
        standard_error: Some((1.0 / shape).sqrt()),
        samples: distances.len(),
        method: Method::Student,
    }
}

/// One check of many simultaneous intervals. Its interval is that of the entry furthest outside, if one lies wholly outside;
/// otherwise it extends from the lowest end to the highest, with the value furthest from the target.
fn equivalence(name: impl Into<String>, intervals: &[Estimate], expectation: Expectation) -> Check {
    let apart = |e: &&Estimate| e.value.abs();
    let worst = |from: &mut dyn Iterator<Item = &Estimate>| -> Option<Estimate> {
        from.max_by(|a, b| apart(a).total_cmp(&apart(b))).cloned()
    };
    let outside = &mut intervals.iter().filter(|e| expectation.judge(e) == Outcome::Violated);
    let detectable = intervals.iter().filter_map(|e| detectable(e, &expectation, 0.9)).fold(0.0, f64::max);
    // The error of all intervals together.
    let confidence = 1.0 - intervals.iter().map(|e| 1.0 - e.confidence).sum::<f64>();
    let estimate = worst(outside).unwrap_or_else(|| {
        let all = worst(&mut intervals.iter()).expect("an interval");
        let low = intervals.iter().map(|e| e.low).fold(f64::INFINITY, f64::min);
        let high = intervals.iter().map(|e| e.high).fold(f64::NEG_INFINITY, f64::max);
        Estimate { low, high, ..all }
    });
    let mut found = check(name, expectation, Estimate { confidence, ..estimate });
    found.detectable = Some(detectable);
    found
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

    /// Distances ±1 of a normal variable with the stated variance: the interval is that of χ² with 1000 degrees of freedom, whose
    /// quantiles at 0.0005 and 0.9995 are 858.66 and 1154.4 (mpmath).
    #[test]
    fn variances_have_intervals_on_both_sides() {
        let distances =
            |scale: f64| -> Vec<f64> { (0..1000).map(|i| if i % 2 == 0 { scale } else { -scale }).collect() };
        let found = log_variance_ratio(&distances(1.0), 0.0, 0.999);
        assert_eq!(found.value, 0.0);
        assert!((found.low - (1000.0_f64 / 1154.4).ln()).abs() < 2e-3, "{found:?}");
        assert!((found.high - (1000.0_f64 / 858.66).ln()).abs() < 2e-3, "{found:?}");
        // A deviation that is a tenth too large gives a variance that is 21% too large; a larger excess gives a wider interval.
        let larger = log_variance_ratio(&distances(1.1), 0.0, 0.999);
        assert!((larger.value - 1.21_f64.ln()).abs() < 1e-12 && larger.low > 0.0, "{larger:?}");
        assert!(log_variance_ratio(&distances(1.1), 6.0, 0.999).low < 0.0);
        assert!(log_variance_ratio(&[f64::NAN], 0.0, 0.9).value.is_nan());
    }

    /// One entry that is clearly off violates the check of a family; one that is not known well enough leaves it undecided.
    #[test]
    fn a_family_is_as_good_as_its_worst_entry() {
        let entry = |value: f64, half: f64| Estimate {
            low: value - half,
            high: value + half,
            confidence: 0.999,
            standard_error: Some(half / 4.0),
            samples: 1000,
            method: Method::Student,
            value,
        };
        let within = Expectation::Within { target: 0.0, tolerance: 0.25 };
        let outcome = |entries: &[Estimate]| equivalence("entries", entries, within).outcome;
        assert_eq!(outcome(&[entry(0.1, 0.1), entry(-0.1, 0.1)]), Outcome::Holds);
        assert_eq!(outcome(&[entry(0.1, 0.1), entry(-0.1, 0.2)]), Outcome::Underpowered);
        assert_eq!(outcome(&[entry(0.0, 0.1), entry(-0.4, 0.1), entry(0.1, 0.2)]), Outcome::Violated);
        let found = equivalence("entries", &[entry(0.1, 0.1), entry(-0.15, 0.05)], within);
        assert_eq!((found.estimate.value, found.estimate.low, found.estimate.high), (-0.15, -0.2, 0.2));
        assert!((found.estimate.confidence - 0.998).abs() < 1e-12 && found.detectable > Some(0.09));
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
