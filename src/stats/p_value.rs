//! p-values of stated means, and their adjustment for a family of tests.

use super::distribution::{mean_and_error, student_tail};

/// Two-sided p-value of Student's test that the samples' mean is `expected`. A stated variance, covariance or kernel
/// entry is tested with it too: give the squares or products of centred variables as samples.
///
/// Samples that are not finite give 0 (an identity that yields NaN is violated). Fewer than two give NaN: no test was
/// made, which [`Expectation::judge`](super::Expectation::judge) does not let pass. Equal samples give 1 at `expected`,
/// otherwise 0.
pub fn mean_p_value(samples: &[f64], expected: f64) -> f64 {
    if samples.len() < 2 {
        return f64::NAN;
    }
    if !samples.iter().all(|x| x.is_finite()) {
        return 0.0;
    }
    let (mean, error) = mean_and_error(samples);
    if mean == expected {
        return 1.0;
    }
    2.0 * student_tail((mean - expected).abs() / error, (samples.len() - 1) as f64)
}

/// Holm's (1979) adjusted p-values, in the order given: rejecting those below α makes a false rejection anywhere in the
/// family with probability at most α, however the tests depend on each other.
///
/// A NaN stays one and counts as a member of the family.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    // Positive NaN sorts last; a negative one must not come first, where it would weaken the others' factors.
    order.sort_by(|a, b| p[*a].is_nan().cmp(&p[*b].is_nan()).then(p[*a].total_cmp(&p[*b])));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        // `max` and `min` would turn a NaN into a number.
        adjusted[index] = if p[index].is_nan() {
            p[index]
        } else {
            largest = largest.max((p.len() - rank) as f64 * p[index]).min(1.0);
            largest
        };
    }
    adjusted
}
