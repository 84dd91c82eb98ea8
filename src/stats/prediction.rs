//! The prediction interval of a normal sample.

use super::distribution::{mean_and_error, student_quantile};

/// Half the width of Student's prediction interval around the mean of `samples`: the mean of `further` new samples of
/// the same kind lies outside with probability at most `error_rate`, exactly so for normal samples.
///
/// `step` is the spacing of possible values, such as 1/n for an accuracy over n examples, or the size of rounding. A sample
/// counts as a rounded number, which adds a variance of step²/12 (Sheppard 1898), so that equal samples do not exclude
/// different ones.
///
/// For fewer than two samples, non-finite samples or no new sample the margin is infinite.
pub fn prediction_margin(samples: &[f64], step: f64, further: usize, error_rate: f64) -> f64 {
    assert!(error_rate > 0.0 && error_rate < 1.0, "an error rate must be strictly between 0 and 1, not {error_rate}");
    if samples.len() < 2 || further == 0 || !samples.iter().all(|x| x.is_finite()) {
        return f64::INFINITY;
    }
    let (n, k) = (samples.len() as f64, further as f64);
    let (_, error) = mean_and_error(samples);
    let variance = error * error * n + step * step / 12.0;
    student_quantile(0.5 * error_rate, n - 1.0) * (variance * (1.0 / n + 1.0 / k)).sqrt()
}
