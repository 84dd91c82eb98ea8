//! Exponents and their finite-size correction.

use approx::{assert_abs_diff_eq, assert_relative_eq};
use kernelview::error::Error;
use kernelview::stats::{Expectation, Outcome, Scaling, exponent};
use rand_chacha::ChaCha8Rng;

use super::{assert_rate, contains, normals, random, rate};

pub(super) const WIDTHS: [f64; 5] = [128.0, 256.0, 512.0, 1024.0, 2048.0];
pub(super) const SLOPE: f64 = -0.5;
pub(super) const NOISE: f64 = 0.1;

/// Values 3·n^SLOPE·exp(bias·n^-1/2 + noise); part of the noise is common to a seed's widths, as for real seeds.
pub(super) fn measured(random: &mut ChaCha8Rng, seeds: usize, bias: f64) -> Vec<Vec<f64>> {
    (0..seeds)
        .map(|_| {
            let common = NOISE * normals(random, 1)[0];
            let own = normals(random, WIDTHS.len());
            let value = |n: f64, e: f64| 3.0 * n.powf(SLOPE) * (bias / n.sqrt() + common + NOISE * e).exp();
            WIDTHS.iter().zip(own).map(|(n, e)| value(*n, e)).collect()
        })
        .collect()
}

pub(super) fn fitted(values: &[Vec<f64>], correction: Option<f64>, confidence: f64) -> kernelview::stats::Exponent {
    exponent(&Scaling { widths: &WIDTHS, values }, correction, confidence).expect("a fit")
}

/// Standard error of the mean slope over seeds: the common noise cancels, the rest is σ/√Sxx with widths a factor 2 apart.
pub(super) fn slope_error(seeds: usize) -> f64 {
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

/// A planted factor exp(4 n^-1/2) bends the curve by up to 0.35 in its logarithm: the plain slope is -0.59, and the
/// local slopes drift towards the true one. The correction removes that at the price of a standard error five times the
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
    // The local slope without noise; the noise is √2·NOISE/ln 2 per seed, 0.0065 over 1000, and four of that are
    // allowed.
    for (pair, local) in WIDTHS.windows(2).zip(&plain.local_slopes) {
        let bias = 4.0 * (pair[1].powf(-0.5) - pair[0].powf(-0.5)) / (pair[1] / pair[0]).ln();
        assert_abs_diff_eq!(*local, SLOPE + bias, epsilon = 0.026);
    }
    assert!(plain.correction.is_none() && corrected.correction.expect("a correction").0 == 0.5);
}

#[test]
fn without_noise_all_coefficients_return() {
    // y = 3 n^-0.25 exp(2/n), all seeds equal: errors are rounding only, enlarged by the fit's conditioning (below
    // 100).
    let row: Vec<f64> = WIDTHS.iter().map(|n| 3.0 * n.powf(-0.25) * (2.0 / n).exp()).collect();
    let fit = fitted(&[row.clone(), row.clone()], Some(1.0), 0.95);
    assert_abs_diff_eq!(fit.slope.value, -0.25, epsilon = 1e-12);
    assert_abs_diff_eq!(fit.intercept, 3.0_f64.ln(), epsilon = 1e-11);
    assert_abs_diff_eq!(fit.correction.expect("a correction").1, 2.0, epsilon = 1e-10);
    assert!(fit.residual_rms < 1e-13);
    for (n, y) in WIDTHS.iter().zip(&row) {
        assert_relative_eq!(fit.at(*n), *y, max_relative = 1e-12);
    }
    // Also at a width that was not fitted.
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
    // Seeds differ only by a factor; by hand, the mean log curve has residuals (1, -2, 1)·h about its line.
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
            Err(Error::NoSolution { reason, .. }) => assert!(reason.contains(part), "{reason}"),
            other => panic!("expected a message with {part:?}, got {other:?}"),
        }
    }
}
