//! P-values and Holm.

use approx::assert_relative_eq;
use kernelview::stats::{Estimate, Expectation, Outcome, holm, mean_p_value};

use super::{assert_rate, normals, random, rate};

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

/// Squares of 40 standard normals against variance 1: their skewness makes Student's test reject somewhat too often
/// (0.07 in place of 0.05); against variance 2 it rejects nearly always.
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
