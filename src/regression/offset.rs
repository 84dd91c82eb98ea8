//! How much a solver relies on the network's own logits. Knows no solver.
//!
//! With scaling s a solver fits `y - f₀/s` and predicts `(…) + f₀/s`: at `s = 1` it learns a correction to the network, at
//! `s = ∞` it ignores the network (Malladi et al. 2023 choose s from {10, 100, 1000, 10000, ∞} on development data).

use super::checks;
use crate::error::{Error, Result};
use nalgebra::DVector;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The divisor of the initial logits: above zero, possibly infinite.
///
/// Serialized as a number, or as the string `"inf"`, since JSON has no infinity. Parsed from the same (`"∞"` too).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct F0Scaling(f64);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl F0Scaling {
    /// The logits are ignored.
    pub const INFINITE: Self = Self(f64::INFINITY);

    /// A scaling above zero; infinity is allowed.
    ///
    /// # Errors
    /// Bad input: zero, a negative number or NaN.
    pub fn new(scaling: f64) -> Result<Self> {
        if scaling > 0.0 {
            return Ok(Self(scaling));
        }
        Err(Error::value("f0 scaling", scaling, "above 0, or `inf` to ignore the logits"))
    }

    /// The divisor; may be infinite.
    pub fn get(self) -> f64 {
        self.0
    }

    /// `targets - logits/s`, what a solver fits; both `[n·C]`.
    ///
    /// # Errors
    /// Bad input: the lengths differ, `NotFinite` for a non-finite logit (not read at `s = ∞`).
    pub fn fit_targets(self, targets: &DVector<f64>, logits: &[f64]) -> Result<DVector<f64>> {
        self.shift(targets, logits, -1.0)
    }

    /// `predictions + logits/s`, what a solver predicts; both `[m·C]`.
    ///
    /// # Errors
    /// As [`Self::fit_targets`].
    pub fn predictions(self, predictions: &DVector<f64>, logits: &[f64]) -> Result<DVector<f64>> {
        self.shift(predictions, logits, 1.0)
    }

    fn shift(self, values: &DVector<f64>, logits: &[f64], sign: f64) -> Result<DVector<f64>> {
        if self.0.is_infinite() {
            return Ok(values.clone());
        }
        checks::vector("logits", logits, values.len())?;
        Ok(DVector::from_fn(values.len(), |i, _| values[i] + sign * logits[i] / self.0))
    }
}

impl fmt::Display for F0Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_infinite() { f.write_str("inf") } else { self.0.fmt(f) }
    }
}

impl FromStr for F0Scaling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "inf" | "∞" => Ok(Self::INFINITE),
            other => match other.parse() {
                Ok(number) => Self::new(number),
                Err(_) => Err(Error::value("f0 scaling", format!("`{other}`"), "a number or `inf`")),
            },
        }
    }
}

impl From<F0Scaling> for Written {
    fn from(scaling: F0Scaling) -> Self {
        if scaling.0.is_infinite() { Self::Text("inf".into()) } else { Self::Number(scaling.0) }
    }
}

impl TryFrom<Written> for F0Scaling {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        match written {
            Written::Number(number) => Self::new(number),
            Written::Text(text) => text.parse(),
        }
    }
}
