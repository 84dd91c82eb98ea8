//! Laws of exponents, intervals and judgements on random measurements.

use kernelview::stats::{
    Estimate, Expectation, Method, Outcome, Scaling, bootstrap_mean, clopper_pearson, detectable, exponent,
    student_mean,
};
use proptest::prelude::*;

use super::planned;

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
    // them by 1/ln 1.1 = 10; 1e-12 leaves room for six widths; it is also the error of a slope if log values are not centred.

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
        // The unit is that of the estimate.
        let doubled = detectable(&planned(2.0 * error, samples, 0.95), &expectation, 0.9).expect("a distance");
        prop_assert!((doubled - 2.0 * at(0.95, 0.9)).abs() < 1e-12 * doubled);
    }
}
