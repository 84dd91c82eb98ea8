//! The exponent of a statistic's growth with width.

use serde::{Deserialize, Serialize};

use super::{Estimate, bootstrap_mean, student_mean};
use crate::error::{Error, Result};

/// Confidence level of [`Exponent::bootstrap`].
const BOOTSTRAP_CONFIDENCE: f64 = 0.95;
/// Resamples for it: with 1999, both limits are resampled ratios themselves (the 50th from either end).
const BOOTSTRAP_REPLICATES: usize = 1999;
/// Seed of its resamples.
const BOOTSTRAP_SEED: u64 = 0x5ca1_1196;

/// A statistic at several widths, measured with several independent seeds.
#[derive(Clone, Copy, Debug)]
pub struct Scaling<'a> {
    /// Widths, positive and strictly increasing.
    pub widths: &'a [f64],
    /// `values[seed][width]`, positive. Values of one seed may be dependent; seeds must be independent.
    pub values: &'a [Vec<f64>],
}

/// Least-squares fit of `log y = intercept + slope·log n`, or with a finite-size correction
/// `log y = intercept + slope·log n + d·n^(-p)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Exponent {
    /// The exponent of the width: mean of the seeds' slopes, with Student's interval over them.
    pub slope: Estimate,
    /// log y with the other terms zero.
    pub intercept: f64,
    /// p as given and d as fitted; `None` without a correction.
    pub correction: Option<(f64, f64)>,
    /// The slope's 95% bootstrap-t interval over the seeds. If it differs much from Student's, the seeds' slopes are not
    /// normal.
    pub bootstrap: Estimate,
    /// Root mean square residual over the widths of the seeds' mean log value: lack of fit and noise.
    pub residual_rms: f64,
    /// Slopes of the seeds' mean log value between neighbouring widths: a drift indicates a finite-size effect.
    pub local_slopes: Vec<f64>,
}

impl Exponent {
    /// The fitted curve at a width: y, not its logarithm.
    pub fn at(&self, width: f64) -> f64 {
        self.log_at(width).exp()
    }

    fn log_at(&self, width: f64) -> f64 {
        let correction = self.correction.map_or(0.0, |(p, d)| d * width.powf(-p));
        self.intercept + self.slope.value * width.ln() + correction
    }
}

/// Fits a power law, with a finite-size correction n^(-p) where `correction` is p.
///
/// The fit is linear in the log values, so the lines of all seeds average to the common line; the interval is over the
/// seeds' slopes, which are independent even if the widths of one seed are not.
///
/// # Errors
/// [`Error::NoSolution`] when widths are not positive and strictly increasing, a value is not positive and finite, rows differ
/// in length from the widths, there are fewer than two seeds or fewer widths than the fit has coefficients, p is not
/// positive, or the widths span too little to tell the correction from the power law.
pub fn exponent(scaling: &Scaling, correction: Option<f64>, confidence: f64) -> Result<Exponent> {
    check(scaling, correction)?;
    let weights = Weights::new(scaling.widths, correction)?;
    let logs: Vec<Vec<f64>> = scaling.values.iter().map(|row| row.iter().map(|y| y.ln()).collect()).collect();
    let seeds = logs.len() as f64;
    let mean: Vec<f64> =
        (0..scaling.widths.len()).map(|j| logs.iter().map(|row| row[j]).sum::<f64>() / seeds).collect();
    // In exact arithmetic the weights sum to zero and centring changes nothing; rounded, they would multiply a common
    // factor of the values into the slope.
    let slopes: Vec<f64> = logs.into_iter().map(|row| dot(&weights.slope, &centred(row))).collect();

    let slope = student_mean(&slopes, confidence);
    let corrected = correction.map(|p| (p, dot(&weights.correction, &centred(mean.clone()))));
    let mut fit = Exponent {
        slope,
        intercept: 0.0,
        correction: corrected,
        bootstrap: bootstrap_mean(&slopes, BOOTSTRAP_CONFIDENCE, BOOTSTRAP_REPLICATES, BOOTSTRAP_SEED),
        residual_rms: 0.0,
        local_slopes: local_slopes(scaling.widths, &mean),
    };
    let residuals =
        |fit: &Exponent| -> Vec<f64> { scaling.widths.iter().zip(&mean).map(|(n, y)| y - fit.log_at(*n)).collect() };
    // The least-squares intercept makes the residuals' mean zero.
    fit.intercept = average(&residuals(&fit));
    fit.residual_rms = average(&residuals(&fit).iter().map(|r| r * r).collect::<Vec<_>>()).sqrt();
    Ok(fit)
}

fn check(scaling: &Scaling, correction: Option<f64>) -> Result<()> {
    let Scaling { widths, values } = *scaling;
    let fail = |message: String| Err(Error::no_solution("exponent", message));
    if let Some(p) = correction.filter(|p| !(p.is_finite() && *p > 0.0)) {
        return fail(format!("the correction's power is {p}; it must be positive"));
    }
    let needed = if correction.is_some() { 3 } else { 2 };
    if widths.len() < needed {
        return fail(format!("{} widths given, at least {needed} are needed", widths.len()));
    }
    if values.len() < 2 {
        return fail(format!("{} seeds given, at least 2 are needed for an interval", values.len()));
    }
    if let Some(n) = widths.iter().find(|n| !(n.is_finite() && **n > 0.0)) {
        return fail(format!("width {n} is not positive and finite"));
    }
    if let Some((n, next)) = widths.iter().zip(&widths[1..]).find(|(n, next)| n >= next) {
        return fail(format!("widths must increase, but {n} is followed by {next}"));
    }
    for (seed, row) in values.iter().enumerate() {
        if row.len() != widths.len() {
            return fail(format!("seed {seed} has {} values for {} widths", row.len(), widths.len()));
        }
        if let Some((y, n)) = row.iter().zip(widths).find(|(y, _)| !(y.is_finite() && **y > 0.0)) {
            return fail(format!("the value of seed {seed} at width {n} is {y}; it must be positive and finite"));
        }
    }
    Ok(())
}

/// Least squares as linear functionals of the log values: coefficient = Σ_j weight_j · log y_j.
struct Weights {
    slope: Vec<f64>,
    /// Empty without a correction.
    correction: Vec<f64>,
}

impl Weights {
    fn new(widths: &[f64], correction: Option<f64>) -> Result<Self> {
        let x = centred(widths.iter().map(|n| n.ln()).collect());
        let Some(p) = correction else {
            return Ok(Self { slope: dual(&x), correction: Vec::new() });
        };
        // Relative to the first width, so that the regressor is of order one whatever the widths.
        let z = centred(widths.iter().map(|n| (n / widths[0]).powf(-p)).collect());
        // A coefficient is the regression on the part of its regressor orthogonal to the other one (Frisch and Waugh).
        let (own_x, own_z) = (beyond(&x, &z), beyond(&z, &x));
        // Below this ratio the correction makes the slope's standard error more than a thousand times the plain fit's.
        if dot(&own_x, &own_x) < 1e-6 * dot(&x, &x) {
            let (first, last) = (widths[0], widths[widths.len() - 1]);
            let reason =
                format!("over widths {first} to {last} the correction n^-{p} looks like a power law; widen the range");
            return Err(Error::no_solution("exponent", reason));
        }
        let scale = widths[0].powf(p);
        Ok(Self { slope: dual(&own_x), correction: dual(&own_z).iter().map(|w| w * scale).collect() })
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn centred(values: Vec<f64>) -> Vec<f64> {
    let mean = average(&values);
    values.into_iter().map(|v| v - mean).collect()
}

/// The part of `a` orthogonal to `b`.
fn beyond(a: &[f64], b: &[f64]) -> Vec<f64> {
    let factor = dot(a, b) / dot(b, b);
    a.iter().zip(b).map(|(a, b)| a - factor * b).collect()
}

/// `a` scaled to `<dual, a> = 1`.
fn dual(a: &[f64]) -> Vec<f64> {
    let square = dot(a, a);
    a.iter().map(|v| v / square).collect()
}

fn local_slopes(widths: &[f64], logs: &[f64]) -> Vec<f64> {
    widths.windows(2).zip(logs.windows(2)).map(|(n, y)| (y[1] - y[0]) / (n[1] / n[0]).ln()).collect()
}
