//! Ratios of means over the same examples or seeds, and means over pairs of examples.

use approx::assert_abs_diff_eq;
use kernelview::stats::{Alike, Expectation, Outcome, Ratio, pair_mean_error, positive_mean, student_mean};
use rand::Rng;

use super::{contains, normals, random, rate};

/// Examples by whether each of two sides is right: both, only the numerator's, only the denominator's, neither.
fn both(counts: [usize; 4]) -> Ratio {
    let kind = |i: usize| [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)][i];
    let kinds = counts.iter().enumerate().map(|(i, count)| {
        let (numerator, denominator) = kind(i);
        Alike { numerator, denominator, count: *count }
    });
    Ratio::Kinds(kinds.collect())
}

/// The gains that a linearized model keeps: by whether an example was right before, after, and by the linearized model.
fn gains(counts: [usize; 8]) -> Ratio {
    let kinds = counts.iter().enumerate().map(|(kind, count)| {
        let right = |bit: usize| f64::from(u8::from(kind & bit != 0));
        Alike { numerator: right(4) - right(1), denominator: right(2) - right(1), count: *count }
    });
    Ratio::Kinds(kinds.collect())
}

/// Counts of a multinomial draw.
fn drawn<const KINDS: usize>(random: &mut impl Rng, samples: usize, probabilities: [f64; KINDS]) -> [usize; KINDS] {
    let mut counts = [0; KINDS];
    for _ in 0..samples {
        let mut at: f64 = random.random();
        let kind = probabilities.iter().position(|p| {
            at -= p;
            at < 0.0
        });
        counts[kind.unwrap_or(KINDS - 1)] += 1;
    }
    counts
}

fn fractions<const KINDS: usize>(probabilities: [f64; KINDS]) -> [usize; KINDS] {
    probabilities.map(|p| (1e6 * p).round() as usize)
}

/// A ratio to 1 is a proportion, and its score interval Wilson's (1927), in closed form.
#[test]
fn of_a_proportion_the_interval_is_wilsons() {
    for (successes, trials) in [(0usize, 10usize), (1, 10), (27, 36), (36, 36), (300, 1000)] {
        let kinds = vec![
            Alike { numerator: 1.0, denominator: 1.0, count: successes },
            Alike { numerator: 0.0, denominator: 1.0, count: trials - successes },
        ];
        let estimate = Ratio::Kinds(kinds).estimate(0.95);
        let (p, n, z) = (successes as f64 / trials as f64, trials as f64, 1.959_963_984_540_054_f64);
        let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        assert_abs_diff_eq!(estimate.low, centre - half, epsilon = 1e-9);
        assert_abs_diff_eq!(estimate.high, centre + half, epsilon = 1e-9);
    }
}

/// At a ratio of 1 the score test is McNemar's, (x - y)/√(x + y): if that is the quantile, 1 is an end of the interval.
#[test]
fn at_a_ratio_of_one_the_test_is_mcnemars() {
    // (20 - 6)/√26 = 2.7456, whose two-sided probability is 0.0060398.
    let confidence = 1.0 - 0.006_039_8;
    let estimate = both([50, 20, 6, 24]).estimate(confidence);
    assert_abs_diff_eq!(estimate.low, 1.0, epsilon = 1e-5);
    let turned = both([50, 6, 20, 24]).estimate(confidence);
    assert_abs_diff_eq!(turned.high, 1.0, epsilon = 1e-5);
    // Swapped, it is the inverse ratio.
    assert_abs_diff_eq!(estimate.high * turned.low, 1.0, epsilon = 1e-9);
}

/// 36 examples and more. The test is discrete, and approximate: 1.5 percentage points are allowed. An interval from the sample's
/// own variance (Wald's) covers 0.90 and 0.80 in the last two cases, where few examples differ.
#[test]
fn score_intervals_cover() {
    let mut source = random(31);
    for (samples, probabilities) in [
        (36, [0.70, 0.05, 0.10, 0.15]),
        (100, [0.70, 0.05, 0.10, 0.15]),
        (1000, [0.60, 0.10, 0.12, 0.18]),
        (36, [0.86, 0.02, 0.08, 0.04]),
        (36, [0.90, 0.00, 0.05, 0.05]),
    ] {
        let truth = both(fractions(probabilities)).value();
        let name = format!("coverage of the paired ratio {truth:.3}, n={samples}");
        let covered =
            rate(&name, 1000, |_| contains(&both(drawn(&mut source, samples, probabilities)).estimate(0.95), truth));
        assert!(covered.high > 0.95 && covered.value > 0.935, "{covered:?}");
    }
    // Before, after, linearized: of each example whether it is right, bit by bit.
    for (samples, probabilities) in [
        (36, [0.12, 0.02, 0.10, 0.02, 0.02, 0.02, 0.20, 0.50]),
        (100, [0.12, 0.02, 0.10, 0.02, 0.02, 0.02, 0.20, 0.50]),
        (1000, [0.20, 0.06, 0.06, 0.03, 0.03, 0.02, 0.10, 0.50]),
    ] {
        let truth = gains(fractions(probabilities)).value();
        let name = format!("coverage of the recovered share {truth:.3}, n={samples}");
        let mut unbounded = 0;
        let covered = rate(&name, 600, |_| {
            let estimate = gains(drawn(&mut source, samples, probabilities)).estimate(0.95);
            unbounded += usize::from(estimate.low == f64::NEG_INFINITY);
            contains(&estimate, truth)
        });
        println!("unbounded: {unbounded}");
        assert!(covered.high > 0.95 && covered.value > 0.935, "{covered:?}");
    }
}

#[test]
fn what_says_nothing_has_no_interval() {
    let unbounded = |ratio: Ratio| {
        let estimate = ratio.estimate(0.95);
        assert!(estimate.low == f64::NEG_INFINITY && estimate.high == f64::INFINITY, "{estimate:?}");
    };
    unbounded(both([0; 4]));
    unbounded(both([0, 3, 0, 4]));
    // A gain of one example of 36.
    unbounded(gains([7, 0, 0, 0, 0, 0, 1, 28]));
    unbounded(Ratio::Seeds(vec![(1.0, 2.0)]));
    unbounded(Ratio::Seeds(vec![(1.0, -2.0), (1.0, 2.1)]));
    // Equal seeds show no spread.
    let equal = Ratio::Seeds(vec![(1.0, 2.0); 3]).estimate(0.95);
    assert_abs_diff_eq!(equal.low, 0.5, epsilon = 1e-9);
    assert_abs_diff_eq!(equal.high, 0.5, epsilon = 1e-9);
    assert_eq!(both([0, 3, 0, 4]).needed(0.9, 0.95), None);
    // All examples agree: only their number limits the interval.
    let agree = both([36, 0, 0, 0]).estimate(0.95);
    assert!(agree.low < 0.92 && agree.high > 1.08, "{agree:?}");
}

#[test]
fn ratios_over_seeds_cover() {
    let mut source = random(32);
    for seeds in [3, 5, 12] {
        let name = format!("coverage of a ratio over {seeds} seeds");
        let covered = rate(&name, 4000, |_| {
            let (a, b) = (normals(&mut source, seeds), normals(&mut source, seeds));
            // Correlated, with a denominator whose mean is far from 0.
            let pairs = a.iter().zip(&b).map(|(a, b)| (0.8 + 0.05 * (a + b), 1.0 + 0.05 * b)).collect();
            contains(&Ratio::Seeds(pairs).estimate(0.95), 0.8)
        });
        assert!(contains(&covered, 0.95), "{covered:?}");
    }
}

/// The number said to be needed decides about nine times out of ten, for examples like those already seen.
#[test]
fn as_many_as_are_needed_decide() {
    let mut source = random(33);
    let seen = [0.70, 0.04, 0.06, 0.20];
    let ratio = both(fractions(seen));
    let needed = both(fractions(seen).map(|c| c / 10_000)).needed(0.9, 0.95).expect("a number");
    let expectation = Expectation::AtLeast { bound: 0.9 };
    let decides = |estimate| expectation.judge(&estimate) == Outcome::Holds;
    let decided = rate(&format!("{needed} examples decide"), 600, |_| {
        decides(both(drawn(&mut source, needed, seen)).estimate(0.95))
    });
    assert!(ratio.value() > 0.9 && (0.85..0.95).contains(&decided.value), "{needed}: {decided:?}");
    // Over seeds, from samples with exactly their mean and spread.
    let pair = |d: f64| (0.95 + 0.1 * d, 1.0);
    let needed = Ratio::Seeds([-1.0, 1.0, -1.0, 1.0].map(|d| pair(d * 0.75_f64.sqrt())).to_vec()).needed(0.9, 0.95);
    let needed = needed.expect("a number");
    let decided = rate(&format!("{needed} seeds decide"), 1500, |_| {
        decides(Ratio::Seeds(normals(&mut source, needed).into_iter().map(pair).collect()).estimate(0.95))
    });
    assert!((0.85..0.95).contains(&decided.value), "{needed}: {decided:?}");
}

/// A statistic of pairs of 32 examples that share their examples: the jackknife's interval covers; one that takes the entries for
/// independent does not.
#[test]
fn means_over_pairs_cover() {
    let mut source = random(34);
    let examples = 32;
    // E exp(s(x + y)) is exp(s²) for a pair and exp(2s²) for an example with itself.
    let s = 0.5_f64;
    let truth = (31.0 * (s * s).exp() + (2.0 * s * s).exp()) / 32.0;
    let mut independent = 0;
    let repetitions = 1500;
    let covered = rate("coverage of a mean over pairs", repetitions, |_| {
        let x = normals(&mut source, examples);
        let entries: Vec<(usize, usize, f64)> = (0..examples * examples)
            .map(|at| (at / examples, at % examples))
            .map(|(i, j)| (i, j, (s * (x[i] + x[j])).exp()))
            .collect();
        let values: Vec<f64> = entries.iter().map(|e| e.2).collect();
        independent += usize::from(contains(&student_mean(&values, 0.95), truth));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        contains(&positive_mean(mean, pair_mean_error(&entries, examples), examples, 0.95), truth)
    });
    println!("taken for independent: {:.3}", independent as f64 / repetitions as f64);
    assert!((0.92..0.97).contains(&covered.value), "{covered:?}");
    assert!((independent as f64) < 0.5 * repetitions as f64, "{independent}");
}

/// By hand: three examples, the mean over all nine pairs of x + y is twice the mean of x; leaving one out leaves twice the mean of
/// two.
#[test]
fn the_jackknife_of_a_sum_is_that_of_its_terms() {
    let x = [1.0, 2.0, 6.0];
    let entries: Vec<(usize, usize, f64)> = (0..9).map(|at| (at / 3, at % 3, x[at / 3] + x[at % 3])).collect();
    // Standard error of the mean of x, 7/3 over 3 samples: √7/√3; times two.
    let error = student_mean(&x, 0.95).standard_error.expect("an error");
    assert_abs_diff_eq!(pair_mean_error(&entries, 3).expect("an error"), 2.0 * error, epsilon = 1e-12);
    assert_eq!(pair_mean_error(&entries[..1], 1), None);
    assert_eq!(pair_mean_error(&[(0, 1, 2.0)], 2), None);
    let zero = positive_mean(0.0, Some(0.0), 3, 0.95);
    assert_eq!((zero.low, zero.high), (0.0, 0.0));
    assert!(positive_mean(1.0, None, 3, 0.95).low == f64::NEG_INFINITY);
}
