//! The promises of intervals, exponents, judgements and p-values, counted in simulations with fixed seeds.
//!
//! A simulated rate is compared with its nominal value through the Clopper-Pearson interval of the count at confidence 0.999,
//! which a wrong quantile, a missing √n or swapped limits leave by far; if theory gives only a bound, the tolerance is stated
//! with the test. `--nocapture` shows all figures.

// Reference values are as printed by mpmath.
#![allow(clippy::unreadable_literal)]

use kernelview::stats::{Estimate, clopper_pearson, student_mean};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, StandardNormal};
use statrs::function::factorial::ln_binomial;

mod exponents;
mod intervals;
mod judgements;
mod laws;
mod ratios;
mod sequences;

fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn normals(random: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
    (0..count).map(|_| StandardNormal.sample(random)).collect()
}

/// Log-normal samples with sigma 0.5 (skewness 1.75), shifted to mean zero.
fn skewed(random: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
    let distribution = LogNormal::new(0.0, 0.5).expect("a distribution");
    (0..count).map(|_| distribution.sample(random) - 0.125_f64.exp()).collect()
}

/// How often something happened, printed with its interval at confidence 0.999.
fn rate(name: &str, repetitions: usize, happens: impl FnMut(usize) -> bool) -> Estimate {
    let count = (0..repetitions).map(happens).filter(|happened| *happened).count();
    let rate = clopper_pearson(count, repetitions, 0.999);
    println!("{name}: {:.4} [{:.4}, {:.4}] of {repetitions}", rate.value, rate.low, rate.high);
    rate
}

fn contains(estimate: &Estimate, truth: f64) -> bool {
    estimate.low <= truth && truth <= estimate.high
}

fn assert_rate(rate: &Estimate, nominal: f64) {
    assert!(contains(rate, nominal), "{rate:?} excludes {nominal}");
}

/// An estimate with value 0 and exactly this standard error, from an even number of samples.
fn planned(error: f64, samples: usize, confidence: f64) -> Estimate {
    let size = error * ((samples - 1) as f64).sqrt();
    let signs: Vec<f64> = (0..samples).map(|i| if i % 2 == 0 { size } else { -size }).collect();
    student_mean(&signs, confidence)
}

/// Probability of a binomial count in a range, by summation.
fn binomial(counts: impl Iterator<Item = usize>, trials: usize, p: f64) -> f64 {
    let term = |k: usize| {
        let (n, k) = (trials as u64, k as u64);
        (ln_binomial(n, k) + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp()
    };
    counts.map(term).sum()
}
