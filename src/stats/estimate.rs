//! A number with its confidence interval, and methods to compute one.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::distribution::{beta_quantile, mean_and_error, student_quantile, tail};

/// How an interval was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A worst case over all cases, or a closed form: no sampling error.
    Exact,
    /// Student's t for a mean.
    Student,
    /// The bootstrap-t for a mean.
    Bootstrap,
    /// Clopper and Pearson's for a proportion.
    ClopperPearson,
    /// Fieller's for a ratio of means, see [`super::Ratio`].
    Ratio,
    /// A confidence sequence for a mean, see [`super::sequential_mean`].
    Sequence,
}

/// A number with a two-sided confidence interval: each limit is wrong with probability at most (1 - confidence) / 2.
///
/// What could not be computed is an infinite limit or a NaN value; both are stored as text in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Estimate {
    /// The number itself: a mean, a slope, a proportion. NaN when there were no samples or one was not finite.
    #[serde(with = "any_float")]
    pub value: f64,
    /// Lower limit; negative infinity when the samples do not give one.
    #[serde(with = "any_float")]
    pub low: f64,
    /// Upper limit; infinity when the samples do not give one.
    #[serde(with = "any_float")]
    pub high: f64,
    /// Probability with which such an interval contains the truth; 1 for [`Method::Exact`].
    pub confidence: f64,
    /// Standard error of the value; `None` if the interval is not based on one.
    pub standard_error: Option<f64>,
    /// Number of samples, trials or cases.
    pub samples: usize,
    /// How the interval was made.
    pub method: Method,
}

impl Estimate {
    /// A number without sampling error, over that many cases.
    pub fn exact(value: f64, samples: usize) -> Self {
        let method = Method::Exact;
        Self { value, low: value, high: value, confidence: 1.0, standard_error: None, samples, method }
    }

    /// The same mean with Student's interval at another confidence; an interval without a standard error is the whole line.
    #[must_use]
    pub fn student_at(&self, confidence: f64) -> Self {
        let Some(error) = self.standard_error else { return Self { confidence, ..self.clone() } };
        let margin = error * student_quantile(tail(confidence), (self.samples - 1) as f64);
        Self { low: self.value - margin, high: self.value + margin, confidence, ..self.clone() }
    }

    /// A mean of insufficient samples: fewer than two, or some not finite (then the value is NaN, because a mean over the
    /// rest would hide a diverged run). The interval is the whole line.
    pub(super) fn undetermined(samples: &[f64], confidence: f64, method: Method) -> Option<Self> {
        let finite = samples.iter().all(|x| x.is_finite());
        if samples.len() >= 2 && finite {
            return None;
        }
        let value = samples.first().copied().filter(|_| finite).unwrap_or(f64::NAN);
        let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        Some(Self { value, low, high, confidence, standard_error: None, samples: samples.len(), method })
    }
}

/// Mean with Student's interval: exact for normal samples, approximate for others.
///
/// Fewer than two samples give an infinite interval, non-finite samples also the value NaN. Equal samples give an interval
/// of width zero.
pub fn student_mean(samples: &[f64], confidence: f64) -> Estimate {
    let (tail, method) = (tail(confidence), Method::Student);
    if let Some(estimate) = Estimate::undetermined(samples, confidence, method) {
        return estimate;
    }
    let (value, error) = mean_and_error(samples);
    let margin = error * student_quantile(tail, (samples.len() - 1) as f64);
    Estimate {
        value,
        low: value - margin,
        high: value + margin,
        confidence,
        standard_error: Some(error),
        samples: samples.len(),
        method,
    }
}

/// A positive mean with its standard error over `samples`: Student's interval of its logarithm, so that it is positive. The
/// whole line without an error; a mean of 0 has width zero.
pub fn positive_mean(value: f64, standard_error: Option<f64>, samples: usize, confidence: f64) -> Estimate {
    let method = Method::Student;
    let standard_error = standard_error.filter(|_| samples >= 2);
    let (low, high) = match standard_error {
        Some(_) if value == 0.0 => (0.0, 0.0),
        Some(error) if error.is_finite() && value > 0.0 => {
            let factor = (error / value * student_quantile(tail(confidence), (samples - 1) as f64)).exp();
            (value / factor, value * factor)
        }
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    Estimate { value, low, high, confidence, standard_error, samples, method }
}

/// An upper prediction limit for one more sample, if the samples are normal: their mean plus Student's quantile times their
/// standard deviation, widened by √(1 + 1/n) for the mean's own error. Infinite for fewer than two samples.
pub fn prediction_bound(samples: &[f64], confidence: f64) -> f64 {
    if samples.len() < 2 {
        return f64::INFINITY;
    }
    let (n, (mean, error)) = (samples.len() as f64, mean_and_error(samples));
    // One-sided.
    let quantile = if confidence > 0.5 { student_quantile(1.0 - confidence, n - 1.0) } else { 0.0 };
    mean + quantile * error * n.sqrt() * (1.0 + 1.0 / n).sqrt()
}

/// Mean with a bootstrap-t interval (Efron 1981; Davison & Hinkley 1997, section 5.2.1): the distribution of (mean* -
/// mean) / error* over resamples takes the place of Student's, so that skewed samples get an asymmetric interval.
/// Percentile and BCa intervals are too short for a dozen samples (Hesterberg 2015, The American Statistician 69).
///
/// A limit needs a quantile of the resamples: if (replicates + 1)·(1 - confidence)/2 is below 1 there is none, and the limit is
/// infinite. It is also infinite if that quantile falls on resamples that repeat a single sample (as with two or three samples
/// at confidence 0.95). Degenerate samples are treated as in [`student_mean`].
pub fn bootstrap_mean(samples: &[f64], confidence: f64, replicates: usize, seed: u64) -> Estimate {
    let (tail, method, n) = (tail(confidence), Method::Bootstrap, samples.len());
    if let Some(estimate) = Estimate::undetermined(samples, confidence, method) {
        return estimate;
    }
    let (value, error) = mean_and_error(samples);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut resample = vec![0.0; n];
    let mut ratios: Vec<f64> = (0..replicates)
        .map(|_| {
            resample.fill_with(|| samples[random.random_range(0..n)]);
            let (mean, spread) = mean_and_error(&resample);
            // Equal to the sample's mean is a ratio of 0 even without spread; otherwise no spread means ±∞.
            if mean == value { 0.0 } else { (mean - value) / spread }
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    // The slack keeps a whole number whole: 2000·0.025 must give 50, however 1 - 0.95 was rounded.
    let rank = ((replicates + 1) as f64 * tail + 1e-9).floor() as usize;
    let limit = |ratio: f64| if error == 0.0 { value } else { value - ratio * error };
    let (low, high) = if rank == 0 {
        (f64::NEG_INFINITY, f64::INFINITY)
    } else {
        (limit(ratios[replicates - rank]), limit(ratios[rank - 1]))
    };
    Estimate { value, low, high, confidence, standard_error: Some(error), samples: n, method }
}

/// Proportion with the interval of Clopper and Pearson (1934): coverage is at least the confidence for every truth.
///
/// Both limits keep the error (1 - confidence)/2, also at the edges, where they are the closed forms 1 - ((1 -
/// confidence)/2)^(1/trials) for no success and its mirror image for success in all trials. Without trials the interval is
/// [0, 1] and the value NaN. Panics if there are more successes than trials.
pub fn clopper_pearson(successes: usize, trials: usize, confidence: f64) -> Estimate {
    assert!(successes <= trials, "{successes} successes in {trials} trials");
    let tail = tail(confidence);
    // Probability p with P(X ≥ count | p) = tail. The upper limit is one minus that of the failures: both are lower
    // tails of a beta distribution, where no digits are lost.
    let limit = |count: usize| match count {
        0 => 0.0,
        all if all == trials => tail.powf(1.0 / trials as f64),
        count => beta_quantile(tail, count as f64, (trials - count + 1) as f64),
    };
    Estimate {
        value: successes as f64 / trials as f64,
        low: limit(successes),
        high: 1.0 - limit(trials - successes),
        confidence,
        standard_error: None,
        samples: trials,
        method: Method::ClopperPearson,
    }
}

/// JSON has no NaN and no infinities: they are written as text (`"NaN"`, `"inf"`, `"-inf"`), so that a failed estimate can
/// be stored and read back.
mod any_float {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Text(String),
    }

    // The signature is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { Written::Number(*value) } else { Written::Text(value.to_string()) }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(value) => Ok(value),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}
