//! A confidence sequence: intervals that may be computed after every sample.

use super::distribution::{mean_and_error, tail};
use super::{Estimate, Method};

/// Prior deviation, to the power -2, of the mean in units of the samples' deviation: wide, because the values of interest
/// may be near or many deviations away.
const PRIOR: f64 = 0.01;

/// Mean of normal samples of unknown variance with an interval that may be computed after every sample, and sampling stopped
/// for any reason: the probability that any of the intervals ever misses the mean is at most 1 - confidence.
///
/// For a mean `m`, S the sum of `x - m` and V that of its squares, `√(c/(n+c)) · (V / (V - S²/(n+c)))^(n/2)` is the likelihood
/// ratio of the samples up to scale, mixed over normal effect sizes of variance 1/c: it begins at 1 and is a martingale for the
/// true mean whatever the variance, so that it ever exceeds `1/α` with probability α at most (Ville). The interval holds the
/// means under which it does not (Lai 1976; Wang and Ramdas 2025, Sequential Analysis 44).
///
/// It is the whole line while the samples are too few to exclude anything, which is longer the closer the confidence is to 1.
/// Fewer than two samples, and samples that are not finite, as in [`super::student_mean`].
pub fn sequential_mean(samples: &[f64], confidence: f64) -> Estimate {
    let (alpha, method) = (2.0 * tail(confidence), Method::Sequence);
    if let Some(estimate) = Estimate::undetermined(samples, confidence, method) {
        return estimate;
    }
    let (value, error) = mean_and_error(samples);
    let margin = error * sequential_quantile(samples.len() as f64, alpha);
    let (low, high) = if error == 0.0 { (value, value) } else { (value - margin, value + margin) };
    Estimate { value, low, high, confidence, standard_error: Some(error), samples: samples.len(), method }
}

/// Share of an error rate for an interim look, counted from 0: the shares of any number of looks sum to at most the rate.
/// Intervals of any kind that miss with at most this share at each look miss at any of them with at most the rate.
pub fn look_share(look: usize) -> f64 {
    // Σ 1/k² = π²/6.
    6.0 / (std::f64::consts::PI * (look + 1) as f64).powi(2)
}

/// How many standard errors the mean of n samples may deviate.
pub(super) fn sequential_quantile(n: f64, alpha: f64) -> f64 {
    let ratio = (((n + PRIOR) / PRIOR).sqrt() / alpha).powf(2.0 / n);
    // Share of V that S²/(n+c) may be.
    let share = 1.0 - 1.0 / ratio;
    let left = n - share * (n + PRIOR);
    if left <= 0.0 {
        return f64::INFINITY;
    }
    (share * (n + PRIOR) * (n - 1.0) / left).sqrt()
}
