//! Judgements: false alarms, detection, power, seeds needed.

use approx::{assert_abs_diff_eq, assert_relative_eq};
use kernelview::stats::{
    Estimate, Expectation, Method, Outcome, clopper_pearson, detectable, probability_of_holding,
    probability_of_violation, seeds_needed, student_mean,
};

use super::exponents::{SLOPE, fitted, measured, slope_error};
use super::{assert_rate, binomial, normals, planned, random, rate};

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
        // An interval with an infinite limit is never a violation, so it detects nothing.
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
    // The report of a single run scatters like its standard error (1/√22 = 21% with 12 seeds), around the same distance.
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
        // A wide region gives the nominal rate; one that is narrower than most intervals, almost zero.
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

/// Against sums over the outcomes. The power reaches 0.9 at the distance, but not half a percent nearer.
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

/// The probability that a deviation is called a violation, against counts: at the edge of the tolerance it is the error of one
/// limit; at the detectable distance, nine in ten.
#[test]
fn probability_of_violation_agrees_with_counts() {
    let mut source = random(41);
    let expectation = Expectation::Within { target: 0.0, tolerance: 0.5 };
    let (samples, confidence) = (16, 0.99);
    let planned = planned(1.0 / (samples as f64).sqrt(), samples, confidence);
    for truth in [0.25, 0.5, 1.0, 1.3, -1.6] {
        let expected = probability_of_violation(&planned, &expectation, truth).expect("a mean");
        let counted = rate(&format!("deviation {truth} violated, {expected:.3} expected"), 4000, |_| {
            let samples: Vec<f64> = normals(&mut source, samples).into_iter().map(|x| x + truth).collect();
            expectation.judge(&student_mean(&samples, confidence)) == Outcome::Violated
        });
        assert!((counted.value - expected).abs() < 0.02, "{truth}: {counted:?}, {expected}");
    }
    let edge = 0.5 + detectable(&planned, &expectation, 0.9).expect("a mean");
    let there = probability_of_violation(&planned, &expectation, edge).expect("a mean");
    assert!((there - 0.9).abs() < 1e-6, "{there}");
    assert_eq!(probability_of_violation(&Estimate::exact(1.0, 3), &expectation, 0.6), Some(1.0));
    assert_eq!(probability_of_violation(&clopper_pearson(1, 3, 0.9), &expectation, 0.6), None);
}
