//! Confidence sequences under optional stopping, and crossed components of variance.

use kernelview::stats::{
    Estimate, Expectation, Outcome, crossed, look_share, probability_of_holding, seeds_needed, sequential_mean,
    student_mean,
};

use super::{contains, normals, random, rate, skewed};

/// Number of samples, with a look after each.
const LOOKS: usize = 200;

/// Whether any of the intervals of the first samples misses 0.
fn ever_misses(samples: &[f64], interval: impl Fn(&[f64]) -> Estimate) -> bool {
    (2..=samples.len()).any(|n| !contains(&interval(&samples[..n]), 0.0))
}

#[test]
fn a_confidence_sequence_covers_at_all_times_at_once() {
    let mut source = random(31);
    for (confidence, repetitions) in [(0.95, 2_000), (0.99, 2_000)] {
        let name = format!("ever missed within {LOOKS} samples, normal, confidence {confidence}");
        let missed =
            rate(&name, repetitions, |_| ever_misses(&normals(&mut source, LOOKS), |x| sequential_mean(x, confidence)));
        assert!(missed.low <= 1.0 - confidence, "{missed:?}");
    }
    // Its purpose: with as many looks, Student's interval misses many times as often as stated.
    let missed = rate("ever missed, Student's interval at 0.95", 300, |_| {
        ever_misses(&normals(&mut source, LOOKS), |x| student_mean(x, 0.95))
    });
    assert!(missed.low > 0.2, "{missed:?}");
    // Log-normal, skewed samples: a little more often than stated, not many times.
    let missed = rate("ever missed, log-normal, confidence 0.95", 1_000, |_| {
        ever_misses(&skewed(&mut source, LOOKS), |x| sequential_mean(x, 0.95))
    });
    assert!(missed.high < 0.15, "{missed:?}");
}

/// Samples are added until an expectation holds or is violated. The truth is on its edge: then either verdict is wrong, and the
/// more likely the longer one waits.
#[test]
fn stopping_at_a_verdict_does_not_spend_the_error_rate() {
    let mut source = random(32);
    let edge = Expectation::AtMost { bound: 0.0 };
    let wrong = rate("verdicts at the edge of a bound, confidence 0.9", 2_000, |_| {
        let samples = normals(&mut source, LOOKS);
        (4..=LOOKS).any(|n| edge.judge(&sequential_mean(&samples[..n], 0.9)) != Outcome::Underpowered)
    });
    assert!(wrong.low <= 0.1, "{wrong:?}");
    // Half a deviation inside, the verdict is right.
    let found = rate("right verdicts half a deviation inside", 500, |_| {
        let samples: Vec<f64> = normals(&mut source, LOOKS).iter().map(|x| x - 0.5).collect();
        let verdicts = (4..=LOOKS).map(|n| edge.judge(&sequential_mean(&samples[..n], 0.9)));
        verdicts.into_iter().find(|v| *v != Outcome::Underpowered) == Some(Outcome::Holds)
    });
    assert!(found.low > 0.9, "{found:?}");
}

/// Looks at growing samples share the error rate, so that Student's interval, or another, covers at all of them at once.
#[test]
fn looks_share_the_error_rate() {
    assert!((0..100_000).map(look_share).sum::<f64>() < 1.0);
    let mut source = random(36);
    let sizes: Vec<usize> = (0..8).map(|look| (8.0 * 1.5f64.powi(look)).ceil() as usize).collect();
    let missed = rate("ever missed at 8 looks, confidence 0.9", 4_000, |_| {
        let samples = normals(&mut source, sizes[7]);
        let look =
            |(look, n): (usize, &usize)| !contains(&student_mean(&samples[..*n], 1.0 - 0.1 * look_share(look)), 0.0);
        sizes.iter().enumerate().any(look)
    });
    assert!(missed.high <= 0.1, "{missed:?}");
}

/// The interval is the martingale's: at its ends the likelihood ratio is 1/α.
#[test]
fn limits_are_where_the_likelihood_ratio_reaches_its_bound() {
    let mut source = random(33);
    for (n, confidence) in [(12, 0.95), (40, 0.999), (400, 1.0 - 1e-6)] {
        let samples = normals(&mut source, n);
        let estimate = sequential_mean(&samples, confidence);
        for mean in [estimate.low, estimate.high] {
            let (sum, squares) =
                samples.iter().fold((0.0, 0.0), |(s, v), x| (s + x - mean, v + (x - mean) * (x - mean)));
            let (n, c) = (n as f64, 0.01);
            let log = 0.5 * (c / (n + c)).ln() - 0.5 * n * (1.0 - sum * sum / ((n + c) * squares)).ln();
            approx::assert_relative_eq!(log, -(1.0 - confidence).ln(), max_relative = 1e-6);
        }
    }
}

#[test]
fn too_few_samples_exclude_nothing() {
    let estimate = sequential_mean(&[1.0, 1.1, 0.9], 1.0 - 1e-6);
    assert_eq!((estimate.low, estimate.high), (f64::NEG_INFINITY, f64::INFINITY));
    assert!(sequential_mean(&[1.0, f64::NAN], 0.95).value.is_nan());
    assert_eq!(sequential_mean(&[0.1; 5], 0.95).high, 0.1);
}

/// The number of samples needed for a verdict is computed for sequences too, and is larger than Student's.
#[test]
fn seeds_that_a_verdict_needs() {
    let samples: Vec<f64> = normals(&mut random(34), 12);
    let bound = Expectation::AtMost { bound: 1.5 };
    let needed = |estimate: &Estimate| seeds_needed(estimate, &bound, 0.9).expect("a number");
    let (student, sequence) = (student_mean(&samples, 0.9999), sequential_mean(&samples, 0.9999));
    assert!(needed(&student) < needed(&sequence), "{} {}", needed(&student), needed(&sequence));
    assert!(probability_of_holding(&sequence, &bound).is_some());
}

/// Seeds (rows) and tasks (columns) with effects of their own, every task with every seed. Deviations of seeds, tasks and the rest.
#[test]
fn crossed_components_are_unbiased_and_the_interval_covers() {
    let mut source = random(36);
    // Satterthwaite's degrees of freedom are an approximation, the coarser the fewer seeds there are.
    for (seeds, tasks, deviations, least) in [
        (5, 8, [1.0, 1.0, 1.0], 0.935),
        (5, 8, [0.3, 2.0, 0.5], 0.935),
        (3, 8, [1.0, 0.2, 0.5], 0.935),
        (5, 8, [0.0, 0.0, 1.0], 0.935),
        (2, 8, [1.0, 1.0, 0.1], 0.9),
    ] {
        let [of_seed, of_task, of_rest] = deviations;
        let (mut sums, mut naive) = ([0.0; 3], 0);
        let repetitions = 4_000;
        let name = format!("coverage, {seeds} seeds, {tasks} tasks, deviations {deviations:?}, confidence 0.95");
        let covered = rate(&name, repetitions, |_| {
            let columns = normals(&mut source, tasks);
            let table: Vec<Vec<f64>> = (0..seeds)
                .map(|_| {
                    let own = normals(&mut source, 1)[0] * of_seed;
                    let rest = normals(&mut source, tasks);
                    rest.iter().zip(&columns).map(|(e, task)| own + of_task * task + of_rest * e).collect()
                })
                .collect();
            let found = crossed(&table, 0.95);
            for (sum, component) in sums.iter_mut().zip([found.rows, found.columns, found.rest]) {
                *sum += component;
            }
            naive += usize::from(contains(&student_mean(&table.concat(), 0.95), 0.0));
            contains(&found.mean, 0.0)
        });
        assert!(covered.low > least - 0.015, "{name}: {covered:?}");
        if of_seed > 0.0 {
            assert!((naive as f64) < 0.85 * repetitions as f64, "{naive}");
        }
        for (sum, deviation) in sums.into_iter().zip(deviations) {
            let mean = sum / f64::from(repetitions as u32);
            // Cut at 0, components are too large on average, by less than a tenth of the largest.
            assert!(
                (mean - deviation * deviation).abs() < 0.1 * deviations.iter().fold(0.0f64, |a, b| a.max(b * b)),
                "{name}: {sums:?}"
            );
        }
    }
}
