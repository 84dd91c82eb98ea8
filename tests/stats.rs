//! What intervals, exponents, judgements and p-values promise, counted in simulations with fixed seeds.
//!
//! A simulated rate is compared with its nominal value through the Clopper-Pearson interval of the count at confidence
//! 0.999, which a wrong quantile, a forgotten √n or a swapped limit leaves by far; where theory gives only a bound, the
//! tolerance is stated at its place. `--nocapture` shows all figures.

// Reference values stand as mpmath prints them.
#![allow(clippy::unreadable_literal)]

use approx::{assert_abs_diff_eq, assert_relative_eq};
use kernelview::error::Error;
use kernelview::stats::{
    Estimate, Expectation, Method, Outcome, Scaling, bootstrap_mean, clopper_pearson, detectable, exponent, holm,
    mean_p_value, probability_of_holding, seeds_needed, student_mean,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, StandardNormal};
use statrs::function::factorial::ln_binomial;

// ------------------------------------------------------------------------------------------------------------- helpers

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

// ------------------------------------------------------------------------------------------------------------ intervals

/// Quantiles of Student's t from mpmath (40 digits), out to 1 - 1e-7. The tolerance is 20 times the beta function's error
/// at the most degrees of freedom here; statrs' own quantile is off by 1e-10 to 1e-5 in the last row and fails.
#[test]
fn student_limits_are_exact_far_in_the_tail() {
    for (confidence, quantiles) in [
        (0.95, [12.7062047361747, 3.18244630528371, 2.20098516009164, 2.06865761041905, 1.96234146113345]),
        (0.999, [636.619248768719, 12.9239786366875, 4.43697933823445, 3.76762680431178, 3.30029244039874]),
        (1.0 - 1e-5, [63661.9772318119, 60.396824041679, 7.64748711601728, 5.62646982344635, 4.4399493476518]),
        (1.0 - 1e-7, [6366197.72702665, 280.42514620217, 12.1777079896072, 7.61003085790571, 5.36613021110919]),
    ] {
        for (freedom, quantile) in [1, 3, 11, 23, 999].into_iter().zip(quantiles) {
            let estimate = planned(1.0, freedom + 1, confidence);
            assert_relative_eq!(estimate.high, quantile, max_relative = 1e-11);
            assert_relative_eq!(estimate.low, -quantile, max_relative = 1e-11);
        }
    }
}

#[test]
fn too_few_or_infinite_samples_decide_nothing_in_favour() {
    type Mean = fn(&[f64]) -> Estimate;
    let means: [Mean; 2] = [|x| student_mean(x, 0.95), |x| bootstrap_mean(x, 0.95, 199, 1)];
    let anything = Expectation::AtLeast { bound: -1e300 };
    for mean in means {
        let one = mean(&[3.0]);
        assert_eq!((one.value, one.low, one.high), (3.0, f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(anything.judge(&one), Outcome::Underpowered);
        for samples in [&[][..], &[f64::NAN], &[1.0, f64::INFINITY], &[1.0, 2.0, f64::NAN]] {
            let estimate = mean(samples);
            assert!(estimate.value.is_nan() && estimate.low == f64::NEG_INFINITY && estimate.high == f64::INFINITY);
            assert_eq!((anything.judge(&estimate), estimate.samples), (Outcome::Violated, samples.len()));
            assert_eq!((detectable(&estimate, &anything, 0.9), estimate.standard_error), (None, None));
        }
        // 0.1 is no binary fraction: a naive mean of three is another number, with a spread.
        let equal = mean(&[0.1; 3]);
        assert_eq!((equal.low, equal.value, equal.high, equal.standard_error), (0.1, 0.1, 0.1, Some(0.0)));
        assert_eq!(detectable(&equal, &anything, 0.9), Some(0.0));
    }
}

#[test]
fn student_intervals_cover() {
    let mut source = random(1);
    for (samples, confidence) in [(2, 0.95), (12, 0.95), (16, 0.999)] {
        let name = format!("coverage of Student, normal, n={samples}, confidence {confidence}");
        let covered = rate(&name, 10_000, |_| contains(&student_mean(&normals(&mut source, samples), confidence), 0.0));
        assert_rate(&covered, confidence);
    }
    // Student's interval of skewed samples is known to cover too little; by how much must stay small here.
    let covered = rate("coverage of Student, log-normal, n=16, confidence 0.95", 10_000, |_| {
        contains(&student_mean(&skewed(&mut source, 16), 0.95), 0.0)
    });
    assert!(covered.high < 0.95 && covered.low > 0.90, "{covered:?}");
}

/// Normal samples: two percentage points are allowed, 3.5 times the simulation's error of 0.0056; a percentile
/// interval covers 0.918 at n = 12 and fails. Skewed samples: with 20000 repetitions the bootstrap-t covered 0.938
/// and 0.943 (n = 12, 24), Student's 0.923 and 0.933; three simulation errors below 0.938 are allowed. Student's upper limit
/// misses more than twice as often as it should; taking the bootstrap's limits the wrong way round makes that worse.
#[test]
fn bootstrap_intervals_cover() {
    let mut source = random(2);
    for samples in [12, 24] {
        let mut widths = (0.0, 0.0);
        let normal = rate(&format!("coverage of bootstrap-t, normal, n={samples}"), 1500, |i| {
            let x = normals(&mut source, samples);
            let (bootstrap, student) = (bootstrap_mean(&x, 0.95, 999, i as u64), student_mean(&x, 0.95));
            widths = (widths.0 + bootstrap.high - bootstrap.low, widths.1 + student.high - student.low);
            contains(&bootstrap, 0.0)
        });
        let ratio = widths.0 / widths.1;
        println!("its mean width over Student's: {ratio:.3}");
        assert!((normal.value - 0.95).abs() < 0.02, "{normal:?}");
        // Coverage must not be bought with length: for normal samples Student's interval is the right one.
        assert!((0.9..1.2).contains(&ratio), "{ratio}");

        let mut too_low = (0, 0);
        let covered = rate(&format!("coverage of bootstrap-t, log-normal, n={samples}"), 1500, |i| {
            let x = skewed(&mut source, samples);
            let (bootstrap, student) = (bootstrap_mean(&x, 0.95, 999, i as u64), student_mean(&x, 0.95));
            too_low.0 += usize::from(bootstrap.high < 0.0);
            too_low.1 += usize::from(student.high < 0.0);
            contains(&bootstrap, 0.0)
        });
        println!("upper limit too low: {} times, Student's on the same samples {}", too_low.0, too_low.1);
        assert!(covered.value > 0.92, "{covered:?}");
        assert!((too_low.0 as f64) < 0.8 * too_low.1 as f64, "{too_low:?}");
    }
}

#[test]
fn bootstrap_follows_skewness_and_its_seed() {
    let samples = skewed(&mut random(3), 24);
    let interval = bootstrap_mean(&samples, 0.95, 1999, 7);
    // Skewed to the right, a sample misses the tail: the mean may lie further above than below. Student's is symmetric.
    assert!(interval.high - interval.value > 1.2 * (interval.value - interval.low), "{interval:?}");
    assert_eq!(interval, bootstrap_mean(&samples, 0.95, 1999, 7));
    assert_ne!(interval, bootstrap_mean(&samples, 0.95, 1999, 8));
    // 40 replicates are the fewest with a 0.975 quantile: rank (39 + 1)·0.025 = 1 exists, (38 + 1)·0.025 does not.
    assert!(bootstrap_mean(&samples, 0.95, 39, 7).high.is_finite());
    assert!(bootstrap_mean(&samples, 0.95, 38, 7).high.is_infinite());
}

/// Reference values from mpmath; the first four are in many textbooks to four digits (0.3085, 0.6915, 0.1871, 0.0573).
#[test]
fn clopper_pearson_agrees_with_tables() {
    for (successes, trials, confidence, low, high) in [
        (0, 10, 0.95, 0.0, 0.308497107818761),
        (10, 10, 0.95, 0.691502892181239, 1.0),
        (5, 10, 0.95, 0.187086028447399, 0.812913971552601),
        (4, 20, 0.95, 0.0573339970500328, 0.436614002996668),
        (1, 10, 0.95, 0.00252857854446178, 0.445016117028195),
        (3, 1000, 1.0 - 1e-6, 1.44891509649109e-5, 0.0219375628973914),
    ] {
        let estimate = clopper_pearson(successes, trials, confidence);
        assert_abs_diff_eq!(estimate.low, low, epsilon = 1e-12);
        assert_abs_diff_eq!(estimate.high, high, epsilon = 1e-12);
    }
    let none = clopper_pearson(0, 0, 0.95);
    assert!(none.value.is_nan() && none.low == 0.0 && none.high == 1.0);
}

/// Exact coverage for 21 trials by summation over the outcomes, for 199 proportions.
#[test]
fn clopper_pearson_covers_every_proportion() {
    let (trials, mut least, mut worst_side) = (21, 1.0_f64, 0.0_f64);
    let intervals: Vec<Estimate> = (0..=trials).map(|k| clopper_pearson(k, trials, 0.95)).collect();
    for step in 1..200 {
        let p = f64::from(step) / 200.0;
        let missed =
            |miss: &dyn Fn(&Estimate) -> bool| binomial((0..=trials).filter(|k| miss(&intervals[*k])), trials, p);
        let (above, below) = (missed(&|e| e.low > p), missed(&|e| e.high < p));
        least = least.min(1.0 - above - below);
        worst_side = worst_side.max(above).max(below);
    }
    println!("Clopper-Pearson, 21 trials, 0.95: least coverage {least:.4}, most missed on one side {worst_side:.4}");
    // At most nominal, and reaching it somewhere: an interval that is simply too long fails the second part.
    assert!(least >= 0.95 && worst_side <= 0.025, "{least} {worst_side}");
    assert!(least < 0.965 && worst_side > 0.0245, "{least} {worst_side}");
}

#[test]
fn estimates_survive_json() {
    for estimate in [
        student_mean(&[0.1, 0.7, 1.0 / 3.0], 0.999),
        student_mean(&[2.0], 0.95),
        clopper_pearson(3, 7, 0.95),
        Estimate::exact(f64::INFINITY, 4),
    ] {
        let text = serde_json::to_string(&estimate).expect("json");
        assert_eq!(serde_json::from_str::<Estimate>(&text).expect(&text), estimate);
    }
    let text = serde_json::to_string(&student_mean(&[f64::NAN, 1.0], 0.95)).expect("json");
    assert!(text.contains(r#""value":"NaN","low":"-inf","high":"inf""#) && text.contains(r#""student""#), "{text}");
    assert!(serde_json::from_str::<Estimate>(&text).expect(&text).value.is_nan());
    assert!(serde_json::from_str::<Estimate>(&text.replace("NaN", "lots")).is_err());
    let expectation = Expectation::Within { target: -0.5, tolerance: 0.05 };
    assert_eq!(serde_json::to_string(&expectation).expect("json"), r#"{"within":{"target":-0.5,"tolerance":0.05}}"#);
}

// ------------------------------------------------------------------------------------------------------------ exponents

const WIDTHS: [f64; 5] = [128.0, 256.0, 512.0, 1024.0, 2048.0];
const SLOPE: f64 = -0.5;
const NOISE: f64 = 0.1;

/// Values 3·n^SLOPE·exp(bias·n^-1/2 + noise); the noise has a part common to a seed's widths, as real seeds do.
fn measured(random: &mut ChaCha8Rng, seeds: usize, bias: f64) -> Vec<Vec<f64>> {
    (0..seeds)
        .map(|_| {
            let common = NOISE * normals(random, 1)[0];
            let own = normals(random, WIDTHS.len());
            let value = |n: f64, e: f64| 3.0 * n.powf(SLOPE) * (bias / n.sqrt() + common + NOISE * e).exp();
            WIDTHS.iter().zip(own).map(|(n, e)| value(*n, e)).collect()
        })
        .collect()
}

fn fitted(values: &[Vec<f64>], correction: Option<f64>, confidence: f64) -> kernelview::stats::Exponent {
    exponent(&Scaling { widths: &WIDTHS, values }, correction, confidence).expect("a fit")
}

/// Standard error of the mean slope over seeds: the common noise drops out, the rest is σ/√Sxx with widths 2 apart.
fn slope_error(seeds: usize) -> f64 {
    NOISE / (10.0_f64.sqrt() * std::f64::consts::LN_2) / (seeds as f64).sqrt()
}

#[test]
fn slope_intervals_cover() {
    let mut source = random(4);
    for (correction, bias) in [(None, 0.0), (Some(0.5), 4.0)] {
        let (mut bootstrap_covered, mut errors) = (0, 0.0);
        let name = format!("coverage of the slope, 12 seeds, correction {correction:?}, confidence 0.95");
        let covered = rate(&name, 1500, |_| {
            let fit = fitted(&measured(&mut source, 12, bias), correction, 0.95);
            bootstrap_covered += usize::from(contains(&fit.bootstrap, SLOPE));
            errors += fit.slope.standard_error.expect("an error").powi(2);
            contains(&fit.slope, SLOPE)
        });
        assert_rate(&covered, 0.95);
        let bootstrap = rate("of its bootstrap cross-check", 1500, |i| i < bootstrap_covered);
        assert!((bootstrap.value - 0.95).abs() < 0.02, "{bootstrap:?}");
        let root = (errors / 1500.0).sqrt();
        println!("root mean square standard error {root:.5}; without correction it is {:.5}", slope_error(12));
        if correction.is_none() {
            // A χ² mean over 1500 fits with 11 degrees of freedom has relative error √(2/16500)/2 = 0.6%; four of them.
            assert_relative_eq!(root, slope_error(12), max_relative = 0.022);
        }
    }
}

/// A planted factor exp(4 n^-1/2) bends the curve by up to 0.35 in its logarithm: the plain slope is -0.59, and the local
/// slopes drift towards the true one. The correction removes that at the price of a standard error five times the
/// plain one: with 1000 seeds the corrected interval is 0.024 wide to either side, enough to confirm ±0.05.
#[test]
fn a_correction_removes_a_finite_size_bias() {
    let values = measured(&mut random(5), 1000, 4.0);
    let (plain, corrected) = (fitted(&values, None, 0.999), fitted(&values, Some(0.5), 0.999));
    for (name, fit) in [("plain", &plain), ("corrected", &corrected)] {
        let (slope, margin) = (fit.slope.value, fit.slope.high - fit.slope.value);
        println!("{name} slope {slope:.4} ± {margin:.4}, residuals {:.5}, {:?}", fit.residual_rms, fit.correction);
    }
    println!("local slopes {:.3?}", plain.local_slopes);
    assert!(!contains(&plain.slope, SLOPE) && contains(&corrected.slope, SLOPE));
    let within = Expectation::Within { target: SLOPE, tolerance: 0.05 };
    assert_eq!(within.judge(&plain.slope), Outcome::Violated);
    assert_eq!(within.judge(&corrected.slope), Outcome::Holds);
    assert!(plain.residual_rms > 2.0 * corrected.residual_rms);
    // The local slope without noise; the noise is √2·NOISE/ln 2 per seed, 0.0065 over 1000, and four of that are allowed.
    for (pair, local) in WIDTHS.windows(2).zip(&plain.local_slopes) {
        let bias = 4.0 * (pair[1].powf(-0.5) - pair[0].powf(-0.5)) / (pair[1] / pair[0]).ln();
        assert_abs_diff_eq!(*local, SLOPE + bias, epsilon = 0.026);
    }
    assert!(plain.correction.is_none() && corrected.correction.expect("a correction").0 == 0.5);
}

#[test]
fn without_noise_all_coefficients_return() {
    // y = 3 n^-0.25 exp(2/n), all seeds equal: errors are rounding only, enlarged by the fit's conditioning (below 100).
    let row: Vec<f64> = WIDTHS.iter().map(|n| 3.0 * n.powf(-0.25) * (2.0 / n).exp()).collect();
    let fit = fitted(&[row.clone(), row.clone()], Some(1.0), 0.95);
    assert_abs_diff_eq!(fit.slope.value, -0.25, epsilon = 1e-12);
    assert_abs_diff_eq!(fit.intercept, 3.0_f64.ln(), epsilon = 1e-11);
    assert_abs_diff_eq!(fit.correction.expect("a correction").1, 2.0, epsilon = 1e-10);
    assert!(fit.residual_rms < 1e-13);
    for (n, y) in WIDTHS.iter().zip(&row) {
        assert_relative_eq!(fit.at(*n), *y, max_relative = 1e-12);
    }
    // At a width that was not fitted, too.
    assert_relative_eq!(fit.at(4096.0), 3.0 * 4096.0_f64.powf(-0.25) * (2.0 / 4096.0_f64).exp(), max_relative = 1e-11);
}

/// Widths 10% apart and a small unit: rounding in the weights must not multiply log y itself, 8 here, into the slope.
#[test]
fn close_widths_keep_the_slope() {
    let widths = [837.2217016340226, 920.9438717974249];
    let row: Vec<f64> = widths.iter().map(|n: &f64| 0.01 * n.powf(1.8982899179513935)).collect();
    let fit = exponent(&Scaling { widths: &widths, values: &[row.clone(), row] }, None, 0.95).expect("a fit");
    assert_abs_diff_eq!(fit.slope.value, 1.8982899179513935, epsilon = 1e-13);
}

#[test]
fn residuals_are_those_of_the_mean_curve() {
    // Seeds differ by a factor only; the mean log curve has residuals (1, -2, 1)·h about its line, by hand.
    let (h, widths) = (0.03_f64, [1.0, 2.0, 4.0]);
    let row = |scale: f64| vec![scale * h.exp(), scale * (-2.0 * h).exp(), scale * h.exp()];
    let fit = exponent(&Scaling { widths: &widths, values: &[row(1.0), row(5.0)] }, None, 0.95).expect("a fit");
    assert_abs_diff_eq!(fit.slope.value, 0.0, epsilon = 1e-14);
    assert_relative_eq!(fit.residual_rms, h * 2.0_f64.sqrt(), max_relative = 1e-12);
    assert_relative_eq!(fit.local_slopes[0], -3.0 * h / 2.0_f64.ln(), max_relative = 1e-12);
    assert_relative_eq!(fit.local_slopes[1], 3.0 * h / 2.0_f64.ln(), max_relative = 1e-12);
}

#[test]
fn bad_measurements_are_named() {
    let good = vec![vec![1.0, 2.0, 3.0]; 2];
    let with = |seed: usize, index: usize, value: f64| {
        let mut values = good.clone();
        values[seed][index] = value;
        values
    };
    let three = [1.0, 2.0, 4.0];
    for (widths, values, correction, part) in [
        (&three[..], with(1, 2, 0.0), None, "the value of seed 1 at width 4 is 0"),
        (&three, with(0, 1, f64::NAN), None, "the value of seed 0 at width 2 is NaN"),
        (&three, with(0, 0, f64::INFINITY), None, "the value of seed 0 at width 1 is inf"),
        (&three, vec![vec![1.0, 2.0, 3.0], vec![1.0, 2.0]], None, "seed 1 has 2 values for 3 widths"),
        (&three, good[..1].to_vec(), None, "1 seeds given, at least 2"),
        (&three[..1], vec![vec![1.0]; 2], None, "1 widths given, at least 2"),
        (&three[..2], vec![vec![1.0, 2.0]; 2], Some(0.5), "2 widths given, at least 3"),
        (&[1.0, 4.0, 4.0], good.clone(), None, "4 is followed by 4"),
        (&[0.0, 4.0, 5.0], good.clone(), None, "width 0 is not positive"),
        (&three, good.clone(), Some(0.0), "power is 0"),
        (&[1000.0, 1001.0, 1002.0], good.clone(), Some(0.5), "looks like a power law"),
    ] {
        match exponent(&Scaling { widths, values: &values }, correction, 0.95) {
            Err(Error::Numeric(message)) => assert!(message.contains(part), "{message}"),
            other => panic!("expected a message with {part:?}, got {other:?}"),
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- judgements

#[test]
fn judgements_by_table() {
    use Outcome::{Holds, Underpowered, Violated};

    let interval = |low: f64, high: f64| Estimate { low, high, ..Estimate::exact(0.5 * (low + high), 1) };
    let within = Expectation::Within { target: 1.0, tolerance: 0.5 };
    let (at_most, at_least) = (Expectation::AtMost { bound: 1.0 }, Expectation::AtLeast { bound: 1.0 });
    for (expectation, low, high, outcome) in [
        (within, 0.5, 1.5, Holds),
        (within, 0.4, 1.4, Underpowered),
        (within, 0.6, 1.6, Underpowered),
        (within, 0.0, 2.0, Underpowered),
        (within, 0.0, 0.5, Underpowered),
        (within, 0.0, 0.49, Violated),
        (within, 1.51, 1.6, Violated),
        (at_most, -5.0, 1.0, Holds),
        (at_most, 0.9, 1.1, Underpowered),
        (at_most, 1.01, 1.1, Violated),
        (at_least, 1.0, 9.0, Holds),
        (at_least, 0.9, 1.1, Underpowered),
        (at_least, 0.8, 0.99, Violated),
    ] {
        assert_eq!(expectation.judge(&interval(low, high)), outcome, "{expectation:?} [{low}, {high}]");
    }
    for expectation in [within, at_most, at_least] {
        assert_eq!(expectation.judge(&Estimate::exact(f64::NAN, 1)), Violated);
        assert_eq!(expectation.judge(&Estimate::exact(f64::INFINITY, 1)), Violated);
        let half = Estimate { value: 1.0, ..interval(1.0, f64::INFINITY) };
        assert_eq!(expectation.judge(&half), Underpowered);
        // An interval with an infinite limit never violates, so there is nothing that it detects.
        let half = Estimate { method: Method::Bootstrap, standard_error: Some(1.0), samples: 9, ..half };
        assert_eq!((detectable(&half, &expectation, 0.9), probability_of_holding(&half, &expectation)), (None, None));
    }
}

/// A bound with the truth on it is the worst case for a false alarm, and both error rates are then exactly half of one
/// minus the confidence.
#[test]
fn false_alarms_on_a_true_slope() {
    let (mut source, mut within_violated) = (random(6), 0);
    let mut confirmed = 0;
    let alarms = rate("false alarms of a bound at the true slope, confidence 0.95", 3000, |_| {
        let slope = fitted(&measured(&mut source, 12, 0.0), None, 0.95).slope;
        let exactly = Expectation::Within { target: SLOPE, tolerance: 0.0 };
        within_violated += usize::from(exactly.judge(&slope) == Outcome::Violated);
        confirmed += usize::from(Expectation::AtMost { bound: SLOPE }.judge(&slope) == Outcome::Holds);
        Expectation::AtMost { bound: SLOPE }.judge(&slope) == Outcome::Violated
    });
    assert_rate(&alarms, 0.025);
    assert_rate(&rate("wrong confirmations of it", 3000, |i| i < confirmed), 0.025);
    // Without a tolerance an equivalence test has a false alarm at either side.
    assert_rate(&rate("false alarms of an equality without tolerance", 3000, |i| i < within_violated), 0.05);
}

#[test]
fn violations_are_detected_as_often_as_stated() {
    let mut source = random(7);
    for (seeds, confidence) in [(4, 0.95), (12, 0.95), (12, 0.999), (24, 1.0 - 1e-5)] {
        let error = slope_error(seeds);
        for (name, expectation, side) in [
            ("at most", Expectation::AtMost { bound: SLOPE }, 1.0),
            ("at least", Expectation::AtLeast { bound: SLOPE }, -1.0),
            ("within", Expectation::Within { target: SLOPE + 0.1, tolerance: 0.1 }, -1.0),
        ] {
            let distance = detectable(&planned(error, seeds, confidence), &expectation, 0.9).expect("a distance");
            let name =
                format!("detected {name}, {seeds} seeds, confidence {confidence}, {:.2} errors", distance / error);
            let scale = error * (seeds as f64).sqrt();
            let detected = rate(&name, 4000, |_| {
                let x: Vec<f64> =
                    normals(&mut source, seeds).iter().map(|e| SLOPE + side * distance + scale * e).collect();
                expectation.judge(&student_mean(&x, confidence)) == Outcome::Violated
            });
            assert_rate(&detected, 0.9);
        }
    }
}

/// The same end to end: noisy values, fitted, with the slope beyond the accepted region by the detectable distance.
#[test]
fn a_wrong_slope_is_detected_through_the_fit() {
    let (mut source, seeds, confidence) = (random(8), 12, 0.999);
    let tolerance = 0.02;
    let of = |target| Expectation::Within { target, tolerance };
    let distance = detectable(&planned(slope_error(seeds), seeds, confidence), &of(0.0), 0.9).expect("a distance");
    let expectation = of(SLOPE - tolerance - distance);
    let mut reported = Vec::new();
    let detected = rate(&format!("detected through the fit, {distance:.4} beyond the tolerance"), 2000, |_| {
        let slope = fitted(&measured(&mut source, seeds, 0.0), None, confidence).slope;
        reported.push(detectable(&slope, &expectation, 0.9).expect("a distance"));
        expectation.judge(&slope) == Outcome::Violated
    });
    assert_rate(&detected, 0.9);
    // What a single run reports scatters as its standard error does (1/√22 = 21% with 12 seeds), around the same distance.
    let mean = student_mean(&reported, 0.999);
    println!("reported distance {:.4} on average, {distance:.4} from the true error", mean.value);
    assert_relative_eq!(mean.value, distance, max_relative = 0.04);
}

#[test]
fn equivalence_at_the_edge_is_rarely_concluded() {
    let mut source = random(9);
    for (tolerance, nominal) in [(8.0, 0.025), (0.6, 0.0)] {
        // The truth 0 is on the edge; the tolerance is in units of the standard error of 12 samples.
        let tolerance = tolerance / 12.0_f64.sqrt();
        let expectation = Expectation::Within { target: tolerance, tolerance };
        let name = format!("equivalence concluded at the edge, tolerance {tolerance:.2}, confidence 0.95");
        let wrong =
            rate(&name, 6000, |_| expectation.judge(&student_mean(&normals(&mut source, 12), 0.95)) == Outcome::Holds);
        // A wide region gives the nominal rate; one that is narrower than most intervals gives almost none.
        if nominal > 0.0 {
            assert_rate(&wrong, nominal);
        } else {
            assert!(wrong.high < 0.025, "{wrong:?}");
        }
    }
}

#[test]
fn confirmations_come_as_often_as_stated() {
    let mut source = random(10);
    let confidence = 0.95;
    for (samples, tolerance) in [(12, 3.0), (12, 4.0), (24, 3.5)] {
        let error = 1.0 / (samples as f64).sqrt();
        for expectation in [
            Expectation::Within { target: 0.0, tolerance: tolerance * error },
            Expectation::AtMost { bound: tolerance * error },
        ] {
            let stated = probability_of_holding(&planned(error, samples, confidence), &expectation).expect("a power");
            let held = rate(&format!("held, {samples} samples, {tolerance} errors, stated {stated:.4}"), 4000, |_| {
                expectation.judge(&student_mean(&normals(&mut source, samples), confidence)) == Outcome::Holds
            });
            // The normal approximation of the limit's distribution: 0.01 beyond the simulation's own interval.
            assert!(held.low - 0.01 < stated && stated < held.high + 0.01, "{held:?} {stated}");
        }
    }
}

#[test]
fn seeds_needed_suffice_and_fewer_do_not() {
    let (mut source, confidence, tolerance) = (random(11), 0.999, 0.5);
    let expectation = Expectation::Within { target: 0.0, tolerance };
    let small = planned(1.0 / 8.0_f64.sqrt(), 8, confidence);
    assert_eq!(expectation.judge(&small), Outcome::Underpowered);
    let needed = seeds_needed(&small, &expectation, 0.9).expect("a number");
    let mut held = |samples: usize| {
        rate(&format!("held with {samples} seeds of {needed} needed"), 3000, |_| {
            expectation.judge(&student_mean(&normals(&mut source, samples), confidence)) == Outcome::Holds
        })
    };
    assert_rate(&held(needed), 0.9);
    assert!(held(needed * 3 / 4).high < 0.85);
    for samples in (4..2 * needed).step_by(2) {
        let planned = planned(1.0 / (samples as f64).sqrt(), samples, confidence);
        let enough = probability_of_holding(&planned, &expectation).expect("a power") >= 0.9;
        assert_eq!(enough, samples >= needed, "{samples}");
    }
    // On the edge no number suffices; an exact value has no spread to plan with.
    assert_eq!(seeds_needed(&small, &Expectation::AtMost { bound: 0.0 }, 0.9), None);
    assert_eq!(seeds_needed(&Estimate::exact(0.0, 3), &expectation, 0.9), None);
}

/// Against sums over the outcomes. The distance is where the power reaches 0.9, so half a percent nearer it does not.
#[test]
fn proportions_have_exact_power() {
    let (trials, confidence) = (60, 0.99);
    let violated = |expectation: &Expectation, p: f64| {
        let counts =
            (0..=trials).filter(|k| expectation.judge(&clopper_pearson(*k, trials, confidence)) == Outcome::Violated);
        binomial(counts, trials, p)
    };
    let estimate = clopper_pearson(7, trials, confidence);
    for (expectation, edge, side) in [
        (Expectation::AtMost { bound: 0.1 }, 0.1, 1.0),
        (Expectation::AtMost { bound: 0.0 }, 0.0, 1.0),
        (Expectation::AtLeast { bound: 0.8 }, 0.8, -1.0),
        (Expectation::Within { target: 0.95, tolerance: 0.05 }, 0.9, -1.0),
    ] {
        let distance = detectable(&estimate, &expectation, 0.9).expect("a distance");
        let power = |distance: f64| violated(&expectation, edge + side * distance);
        println!(
            "{expectation:?}: detectable {distance:.4}, power {:.6}, false alarms {:.4}",
            power(distance),
            power(1e-9)
        );
        assert_abs_diff_eq!(power(distance), 0.9, epsilon = 1e-9);
        assert!(power(distance - 0.005) < 0.9 && power(1e-9) <= 0.005);
    }
    // With two edges, the farther one.
    let distance = |expectation| detectable(&estimate, &expectation, 0.9).expect("a distance");
    let both = distance(Expectation::Within { target: 0.3, tolerance: 0.1 });
    let sides = [distance(Expectation::AtMost { bound: 0.4 }), distance(Expectation::AtLeast { bound: 0.2 })];
    assert_relative_eq!(both, sides[0].max(sides[1]), max_relative = 1e-9);
    // Nothing exceeds 1, five trials cannot show more than 0.9, and everything exceeds a negative bound.
    let five = clopper_pearson(5, 5, confidence);
    assert_eq!(detectable(&estimate, &Expectation::AtMost { bound: 1.0 }, 0.9), None);
    assert_eq!(detectable(&five, &Expectation::AtMost { bound: 0.9 }, 0.9), None);
    assert_eq!(detectable(&five, &Expectation::Within { target: 0.5, tolerance: 0.4 }, 0.9), None);
    assert_eq!(detectable(&five, &Expectation::AtMost { bound: -0.1 }, 0.9), Some(0.0));
}

#[test]
fn proportions_hold_with_exact_probability() {
    let (trials, confidence) = (60, 0.99);
    let estimate = clopper_pearson(7, trials, confidence);
    for (expectation, truth) in [
        (Expectation::Within { target: 0.5, tolerance: 0.25 }, 0.5),
        (Expectation::Within { target: 0.02, tolerance: 0.2 }, 0.02),
        (Expectation::AtMost { bound: 0.3 }, estimate.value),
        (Expectation::AtLeast { bound: 0.05 }, estimate.value),
    ] {
        let holds =
            (0..=trials).filter(|k| expectation.judge(&clopper_pearson(*k, trials, confidence)) == Outcome::Holds);
        let stated = probability_of_holding(&estimate, &expectation).expect("a probability");
        println!("{expectation:?}: holds with probability {stated:.4}");
        assert_relative_eq!(stated, binomial(holds, trials, truth), max_relative = 1e-9);
        assert!(stated > 0.05 && stated < 0.999_999, "{stated}");
    }
    // The edges are accepted: a limit of exactly 1 or 0 is inside, as `judge` has it.
    for certain in [Expectation::AtMost { bound: 1.0 }, Expectation::AtLeast { bound: 0.0 }] {
        for successes in [5, 55] {
            let estimate = clopper_pearson(successes, trials, confidence);
            assert_eq!(probability_of_holding(&estimate, &certain), Some(1.0));
        }
    }
}

#[test]
fn exact_values_detect_everything() {
    let (exact, expectation) = (Estimate::exact(1.0, 5), Expectation::AtMost { bound: 1.0 });
    assert_eq!((exact.method, exact.low, exact.high, exact.confidence), (Method::Exact, 1.0, 1.0, 1.0));
    assert_eq!(detectable(&exact, &expectation, 0.9), Some(0.0));
    assert_eq!(probability_of_holding(&exact, &expectation), Some(1.0));
    assert_eq!(probability_of_holding(&exact, &Expectation::AtMost { bound: 0.9 }), Some(0.0));
    assert_eq!(detectable(&Estimate::exact(f64::NAN, 5), &expectation, 0.9), None);
}

// ------------------------------------------------------------------------------------------------------------- p-values

#[test]
fn p_values_by_hand() {
    // 1, 2, 4, 7, 11 against mean 3: t = 2/√(16.5/5), 4 degrees of freedom; the value is mpmath's.
    assert_relative_eq!(mean_p_value(&[1.0, 2.0, 4.0, 7.0, 11.0], 3.0), 0.3327105135083832, max_relative = 1e-12);
    assert_eq!((mean_p_value(&[0.1; 3], 0.1), mean_p_value(&[0.1; 3], 0.2)), (1.0, 0.0));
    assert_eq!(mean_p_value(&[1.0, f64::NAN], 1.0), 0.0);
    assert!(mean_p_value(&[1.0], 1.0).is_nan());
    // A NaN p-value does not pass a judgement.
    let passes = Expectation::AtLeast { bound: 0.05 };
    assert_eq!(passes.judge(&Estimate::exact(mean_p_value(&[1.0], 1.0), 1)), Outcome::Violated);
}

/// Squares of 40 standard normals against variance 1: their skewness makes Student's test reject somewhat too often (0.07
/// in place of 0.05); against variance 2 it rejects nearly always.
#[test]
fn p_values_test_a_variance() {
    let mut source = random(12);
    let means =
        rate("mean rejected at 0.05 though true", 10_000, |_| mean_p_value(&normals(&mut source, 12), 0.0) < 0.05);
    assert_rate(&means, 0.05);
    let mut squares = || normals(&mut source, 40).iter().map(|x| x * x).collect::<Vec<f64>>();
    let truth = rate("variance 1 rejected at 0.05 though true", 4000, |_| mean_p_value(&squares(), 1.0) < 0.05);
    assert!(truth.low > 0.04 && truth.high < 0.10, "{truth:?}");
    let wrong = rate("variance 2 rejected at 0.05", 1000, |_| mean_p_value(&squares(), 2.0) < 0.05);
    assert!(wrong.low > 0.9, "{wrong:?}");
}

#[test]
fn holm_by_hand() {
    // In order 0.005·4, 0.01·3, 0.03·2, then 0.04·1 raised to its predecessor's 0.06.
    for (adjusted, expected) in holm(&[0.01, 0.04, 0.03, 0.005]).into_iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert_relative_eq!(adjusted, expected, max_relative = 1e-15);
    }
    assert_eq!(holm(&[0.7, 0.6]), [1.0, 1.0]);
    let with_nan = holm(&[-f64::NAN, 0.01, f64::NAN]);
    assert!(with_nan[0].is_nan() && with_nan[2].is_nan());
    assert_relative_eq!(with_nan[1], 0.03, max_relative = 1e-15);
}

#[test]
fn holm_keeps_the_family_wise_error() {
    let mut source = random(13);
    let mut unadjusted = 0;
    // Nine true means and, in every family, a false one that Holm rejects first: it then tests the others more sharply.
    let family = rate("families of 10 with a false rejection after Holm at 0.05", 4000, |_| {
        let p: Vec<f64> =
            (0..10).map(|i| mean_p_value(&normals(&mut source, 8), if i == 0 { 20.0 } else { 0.0 })).collect();
        unadjusted += usize::from(p[1..].iter().any(|p| *p < 0.05));
        let adjusted = holm(&p);
        assert!(adjusted[0] < 0.05);
        adjusted[1..].iter().any(|p| *p < 0.05)
    });
    // Independent tests: 1 - (1 - 0.05/9)^9 exactly; Bonferroni's 0.05/10 would give 0.044.
    assert_rate(&family, 1.0 - (1.0 - 0.05_f64 / 9.0).powi(9));
    let without = rate("without it", 4000, |i| i < unadjusted);
    assert_rate(&without, 1.0 - 0.95_f64.powi(9));
}

// ----------------------------------------------------------------------------------------------------------------- laws

/// Increasing widths, two to six, neighbours at least 10% apart.
fn widths(fewest: usize) -> impl Strategy<Value = Vec<f64>> {
    (1.0..1000.0, proptest::collection::vec(1.1..4.0, fewest - 1..6)).prop_map(|(first, ratios)| {
        let mut widths: Vec<f64> = vec![first];
        for ratio in ratios {
            widths.push(widths[widths.len() - 1] * ratio);
        }
        widths
    })
}

fn scaling() -> impl Strategy<Value = (Vec<f64>, Vec<Vec<f64>>)> {
    (widths(2), 2..6usize).prop_flat_map(|(widths, seeds)| {
        let row = proptest::collection::vec((-5.0..5.0).prop_map(f64::exp), widths.len());
        (Just(widths), proptest::collection::vec(row, seeds))
    })
}

proptest! {
    // Tolerances of the laws of slopes: log values up to 25 have rounding errors up to 4e-15, and two widths 10% apart weigh
    // them by 1/ln 1.1 = 10; 1e-12 leaves room for six widths and is what a slope loses when log values are not centred.

    #[test]
    fn a_power_law_has_its_slope(widths in widths(2), slope in -2.0..2.0, scale in 0.01..100.0_f64) {
        let row: Vec<f64> = widths.iter().map(|n| scale * n.powf(slope)).collect();
        let fit = exponent(&Scaling { widths: &widths, values: &[row.clone(), row] }, None, 0.95).expect("a fit");
        prop_assert!((fit.slope.value - slope).abs() < 1e-12);
        prop_assert!((fit.intercept - scale.ln()).abs() < 1e-11);
        prop_assert!(fit.local_slopes.iter().all(|s| (s - slope).abs() < 1e-12));
    }

    #[test]
    fn units_of_the_statistic_leave_the_slope((widths, values) in scaling(), factor in 1e-3..1e3_f64) {
        let scaled: Vec<Vec<f64>> = values.iter().map(|row| row.iter().map(|y| y * factor).collect()).collect();
        let [a, b] = [values, scaled].map(|v| exponent(&Scaling { widths: &widths, values: &v }, None, 0.95).expect("a fit"));
        for (a, b) in [(&a.slope.value, &b.slope.value), (&a.slope.low, &b.slope.low), (&a.slope.high, &b.slope.high)] {
            // Few seeds enlarge a limit's error by Student's quantile, 12.7 for two.
            prop_assert!((a - b).abs() < 1e-11 * (1.0 + a.abs()));
        }
        prop_assert!((b.intercept - a.intercept - factor.ln()).abs() < 1e-10);
    }

    #[test]
    fn a_factor_n_to_the_s_shifts_the_slope((widths, values) in scaling(), shift in -1.0..1.0) {
        let shifted: Vec<Vec<f64>> =
            values.iter().map(|row| row.iter().zip(&widths).map(|(y, n)| y * n.powf(shift)).collect()).collect();
        let [a, b] = [values, shifted].map(|v| exponent(&Scaling { widths: &widths, values: &v }, None, 0.95).expect("a fit"));
        prop_assert!((b.slope.value - a.slope.value - shift).abs() < 1e-11);
        prop_assert!((b.residual_rms - a.residual_rms).abs() < 1e-11);
    }

    #[test]
    fn the_order_of_seeds_is_irrelevant((widths, values) in scaling()) {
        let reversed: Vec<Vec<f64>> = values.iter().rev().cloned().collect();
        let [a, b] = [values, reversed].map(|v| exponent(&Scaling { widths: &widths, values: &v }, None, 0.95).expect("a fit"));
        prop_assert!((a.slope.value - b.slope.value).abs() < 1e-11);
        prop_assert!((a.slope.high - b.slope.high).abs() < 1e-10 * (1.0 + a.slope.high.abs()));
    }

    #[test]
    fn more_confidence_is_a_wider_interval(
        samples in proptest::collection::vec(-10.0..10.0, 2..20),
        (successes, trials) in (1..60usize).prop_flat_map(|trials| (0..=trials, Just(trials))),
        tails in (1e-7..0.4_f64, 1.01..3.0_f64),
    ) {
        let (wide, narrow) = (1.0 - tails.0, 1.0 - tails.0 * tails.1.min(0.9 / tails.0));
        prop_assume!(narrow > 0.01 && narrow < wide);
        let estimates = |confidence| [
            student_mean(&samples, confidence),
            bootstrap_mean(&samples, confidence, 199, 3),
            clopper_pearson(successes, trials, confidence),
        ];
        for (wide, narrow) in estimates(wide).into_iter().zip(estimates(narrow)) {
            prop_assert!(wide.low <= narrow.low && narrow.low <= narrow.high && narrow.high <= wide.high);
            if narrow.method != Method::Bootstrap {
                prop_assert!(narrow.low <= narrow.value && narrow.value <= narrow.high);
                prop_assert!(wide.high - wide.low > narrow.high - narrow.low);
            }
        }
    }

    #[test]
    fn proportions_of_successes_and_failures_mirror(
        (successes, trials) in (1..500usize).prop_flat_map(|trials| (0..=trials, Just(trials))), confidence in 0.5..0.9999,
    ) {
        let (a, b) = (clopper_pearson(successes, trials, confidence), clopper_pearson(trials - successes, trials, confidence));
        // The limits are one function of the counts; only 1 - x is rounded.
        prop_assert!((a.low - (1.0 - b.high)).abs() < 1e-15 && (a.high - (1.0 - b.low)).abs() < 1e-15);
    }

    #[test]
    fn holm_raises_and_keeps_order(p in proptest::collection::vec(0.0..=1.0, 0..12)) {
        let adjusted = holm(&p);
        prop_assert_eq!(adjusted.len(), p.len());
        for i in 0..p.len() {
            prop_assert!(p[i] <= adjusted[i] && adjusted[i] <= (p[i] * p.len() as f64).min(1.0));
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
            }
        }
    }

    #[test]
    fn judging_a_mirrored_estimate_mirrors(value in -3.0..3.0, below in 0.0..2.0, above in 0.0..2.0, bound in -2.0..2.0) {
        let estimate = Estimate { low: value - below, high: value + above, ..Estimate::exact(value, 9) };
        let mirrored = Estimate { low: -estimate.high, high: -estimate.low, ..Estimate::exact(-value, 9) };
        let outcome = Expectation::AtMost { bound }.judge(&estimate);
        prop_assert_eq!(outcome, Expectation::AtLeast { bound: -bound }.judge(&mirrored));
        // A larger bound only helps.
        let rank = |outcome| match outcome { Outcome::Violated => 0, Outcome::Underpowered => 1, Outcome::Holds => 2 };
        let easier = Expectation::AtMost { bound: bound + 0.5 };
        prop_assert!(rank(easier.judge(&estimate)) >= rank(outcome));
    }

    #[test]
    fn a_detectable_distance_grows_with_power_and_confidence(samples in (1..20usize).prop_map(|n| 2 * n), error in 0.01..10.0) {
        let expectation = Expectation::AtMost { bound: 1.0 };
        let at = |confidence, power| detectable(&planned(error, samples, confidence), &expectation, power).expect("a distance");
        prop_assert!(at(0.95, 0.5) < at(0.95, 0.9) && at(0.95, 0.9) < at(0.999, 0.9));
        // The unit is the estimate's.
        let doubled = detectable(&planned(2.0 * error, samples, 0.95), &expectation, 0.9).expect("a distance");
        prop_assert!((doubled - 2.0 * at(0.95, 0.9)).abs() < 1e-12 * doubled);
    }
}
