//! Quantiles that are accurate far out in the tails, and the mean and standard error on which all intervals here are based.
//!
//! `statrs` inverts the Student distribution by a Newton iteration that loses digits in the range of these checks (relative
//! error 1e-5 with one degree of freedom at confidence 1 - 1e-7, and with 10^5 or more at any confidence). Its regularized
//! incomplete beta function is good to 1e-9 throughout, so quantiles are computed from that by bisection.

use statrs::function::beta::beta_reg;

/// Error probability of each limit of a two-sided interval.
pub(super) fn tail(confidence: f64) -> f64 {
    assert!(confidence > 0.0 && confidence < 1.0, "a confidence must be strictly between 0 and 1, not {confidence}");
    (1.0 - confidence) / 2.0
}

/// P(T > t) for Student's T with that many degrees of freedom, t ≥ 0.
pub(super) fn student_tail(t: f64, freedom: f64) -> f64 {
    // Of an infinite t, or one whose square overflows, the tail is 0.
    0.5 * beta_reg(0.5 * freedom, 0.5, freedom / (freedom + t * t))
}

/// The t with P(T > t) = `tail`, for tails below one half.
pub(super) fn student_quantile(tail: f64, freedom: f64) -> f64 {
    let mut beyond = 1.0;
    while student_tail(beyond, freedom) > tail {
        beyond *= 2.0;
    }
    bisect(0.0, beyond, |t| student_tail(t, freedom) <= tail)
}

/// The x with I_x(a, b) = `probability`: a quantile of the beta distribution.
pub(super) fn beta_quantile(probability: f64, a: f64, b: f64) -> f64 {
    bisect(0.0, 1.0, |x| beta_reg(a, b, x) >= probability)
}

/// P(X ≥ successes) for a binomial X.
pub(super) fn binomial_at_least(successes: usize, trials: usize, p: f64) -> f64 {
    if successes == 0 {
        1.0
    } else if successes > trials {
        0.0
    } else {
        beta_reg(successes as f64, (trials - successes + 1) as f64, p)
    }
}

/// The point where a condition that is false at `low` and true at `high` becomes true, to the last bit.
fn bisect(mut low: f64, mut high: f64, reached: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return high;
        }
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
}

/// Mean of at least two samples and its standard error (the unbiased standard deviation over √n).
pub(super) fn mean_and_error(samples: &[f64]) -> (f64, f64) {
    // Computed relative to the first sample, so that equal samples have exactly that mean and error 0.
    let (n, origin) = (samples.len() as f64, samples[0]);
    let shift = samples.iter().map(|x| x - origin).sum::<f64>() / n;
    let squares = samples.iter().map(|x| (x - origin - shift).powi(2)).sum::<f64>();
    (origin + shift, (squares / (n - 1.0) / n).sqrt())
}
