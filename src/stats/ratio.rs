//! The ratio of two means measured on the same examples or seeds.
//!
//! A ratio a/b is tested against a value θ through the mean of a - θb: the values of θ that are not rejected form the
//! interval (Fieller 1954). If the mean of b is not distinguishable from 0, no ratio can be excluded and the interval is the
//! whole line.

use statrs::distribution::{ContinuousCDF, Normal};

use super::distribution::{mean_and_error, student_quantile, tail};
use super::{Estimate, Method};

/// Probability with which [`Ratio::needed`] similar examples decide.
const POWER: f64 = 0.9;

/// Maximum useful number of examples.
const MOST: f64 = 1e6;

/// A kind of examples: the contribution of each to the numerator and denominator, and their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alike {
    /// Contribution to the numerator.
    pub numerator: f64,
    /// Contribution to the denominator.
    pub denominator: f64,
    /// Their number; 0 for a kind that could occur but did not.
    pub count: usize,
}

/// A ratio of means over the same examples or seeds, with the data for an interval.
#[derive(Clone, Debug)]
pub enum Ratio {
    /// Examples of finitely many kinds. All possible kinds must be listed: unseen ones may still have a probability.
    Kinds(Vec<Alike>),
    /// Numerator and denominator per seed, assumed to be normal.
    Seeds(Vec<(f64, f64)>),
}

impl Ratio {
    /// Number of examples or seeds.
    pub fn samples(&self) -> usize {
        match self {
            Self::Kinds(kinds) => kinds.iter().map(|k| k.count).sum(),
            Self::Seeds(pairs) => pairs.len(),
        }
    }

    /// The ratio of the means; NaN without samples.
    pub fn value(&self) -> f64 {
        let (numerator, denominator) = match self {
            Self::Kinds(kinds) => kinds
                .iter()
                .fold((0.0, 0.0), |(a, b), k| (a + k.count as f64 * k.numerator, b + k.count as f64 * k.denominator)),
            Self::Seeds(pairs) => pairs.iter().fold((0.0, 0.0), |(a, b), p| (a + p.0, b + p.1)),
        };
        numerator / denominator
    }

    /// The test statistic of "the mean of `a`·numerator + `b`·denominator is 0": standard normal, or Student's over seeds.
    /// It grows as the square root of the number of samples. Infinite if the samples have no spread and another mean, 0 if
    /// they are all 0.
    fn statistic(&self, a: f64, b: f64) -> f64 {
        match self {
            Self::Kinds(kinds) => {
                let kinds: Vec<(f64, usize)> =
                    kinds.iter().map(|k| (a * k.numerator + b * k.denominator, k.count)).collect();
                score_statistic(&kinds)
            }
            Self::Seeds(pairs) => {
                let values: Vec<f64> = pairs.iter().map(|p| a * p.0 + b * p.1).collect();
                let (mean, error) = mean_and_error(&values);
                if mean == 0.0 { 0.0 } else { mean / error }
            }
        }
    }

    /// The critical value for this many samples.
    fn critical(&self, confidence: f64, samples: f64) -> f64 {
        match self {
            Self::Kinds(_) => Normal::standard().inverse_cdf(1.0 - tail(confidence)),
            Self::Seeds(_) => student_quantile(tail(confidence), samples - 1.0),
        }
    }

    /// The ratio with its interval. Fewer than two seeds or no example, and a denominator whose mean may be 0, give the whole
    /// line.
    ///
    /// For examples of finitely many kinds the test is the score test with the kinds' most likely probabilities under each θ:
    /// Nam and Blackwelder's (2002) interval if both numbers are 0 or 1, its extension for others. Its confidence level holds
    /// for a few dozen examples, and even if all examples agree, where an error estimated from the samples would be 0.
    pub fn estimate(&self, confidence: f64) -> Estimate {
        let (samples, value) = (self.samples(), self.value());
        let anything = Estimate {
            value,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            confidence,
            standard_error: None,
            samples,
            method: Method::Ratio,
        };
        let least = if matches!(self, Self::Seeds(_)) { 2 } else { 1 };
        if samples < least || !value.is_finite() {
            return anything;
        }
        let critical = self.critical(confidence, samples as f64);
        if self.statistic(0.0, 1.0).abs() <= critical {
            return anything;
        }
        let rejected = |ratio: f64| self.statistic(1.0, -ratio).abs() > critical;
        Estimate { low: edge(value, -1.0, rejected), high: edge(value, 1.0, rejected), ..anything }
    }

    /// How many similar samples would distinguish the ratio from `threshold` nine times out of ten. `None` if more than a
    /// million: the ratio is at the threshold.
    pub fn needed(&self, threshold: f64, confidence: f64) -> Option<usize> {
        let samples = self.samples() as f64;
        // Both the comparison and the sign of the denominator must be decided.
        let statistic = self.statistic(1.0, -threshold).abs().min(self.statistic(0.0, 1.0).abs());
        if statistic.is_nan() || statistic <= 0.0 {
            return None;
        }
        let margin = Normal::standard().inverse_cdf(POWER);
        let suffices = |n: f64| statistic * (n / samples).sqrt() >= self.critical(confidence, n) + margin;
        let mut n = 3.0_f64;
        while !suffices(n) {
            n *= 1.02;
            if n > MOST {
                return None;
            }
        }
        Some(n.ceil() as usize)
    }
}

/// Searches outwards from a value that is not rejected for the start of rejection.
fn edge(value: f64, direction: f64, rejected: impl Fn(f64) -> bool) -> f64 {
    let mut step = 1e-3 * (1.0 + value.abs());
    while !rejected(value + direction * step) {
        step *= 2.0;
        if step > 1e12 {
            return direction * f64::INFINITY;
        }
    }
    let (mut inside, mut outside) = (0.0, step);
    for _ in 0..60 {
        let middle = 0.5 * (inside + outside);
        if rejected(value + direction * middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    value + direction * inside
}

/// Score statistic of "the mean is 0" for samples that take finitely many values, each with its count: √n · mean/σ, with σ²
/// the variance under the most likely probabilities that have mean 0.
///
/// With p̂ the observed frequencies these are p̂/(1 + μv) for the μ that makes the mean 0; if an unseen value is the most
/// extreme one on its side, it may take the remaining probability. The statistic is then Pearson's X of frequencies and
/// probabilities (its square is X²).
fn score_statistic(values: &[(f64, usize)]) -> f64 {
    let n: usize = values.iter().map(|v| v.1).sum();
    let total = n as f64;
    let mean = values.iter().map(|(v, count)| v * *count as f64).sum::<f64>() / total;
    if mean == 0.0 {
        return 0.0;
    }
    // Oriented so that the mean is positive, and probability must move to negative values.
    let sign = mean.signum();
    let least = values.iter().map(|(v, _)| sign * v).fold(f64::INFINITY, f64::min);
    if least >= 0.0 {
        // No distribution on these values has mean 0 but that of zeros.
        return sign * f64::INFINITY;
    }
    let seen = || values.iter().filter(|v| v.1 > 0).map(|(v, count)| (sign * v, *count as f64 / total));
    let moments = |mu: f64| {
        seen().fold((0.0, 0.0, 0.0), |(whole, first, second), (v, p)| {
            let p = p / (1.0 + mu * v);
            (whole + p, first + p * v, second + p * v * v)
        })
    };
    let limit = -1.0 / least;
    let smallest_seen = seen().map(|(v, _)| v).fold(f64::INFINITY, f64::min);
    if smallest_seen > least && moments(limit).1 >= 0.0 {
        let (whole, _, second) = moments(limit);
        let variance = second + (1.0 - whole) * least * least;
        return sign * total.sqrt() * mean.abs() / variance.sqrt();
    }
    let (mut low, mut high) = (0.0, limit);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if moments(middle).1 > 0.0 { low = middle } else { high = middle }
    }
    sign * total.sqrt() * mean.abs() / moments(low).2.sqrt()
}
