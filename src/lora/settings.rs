//! Settings of a comparison of adapters with the full kernel.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::setting::Field;
use crate::subspace::Init;

/// PEFT's factor s of the adapters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// `lora_alpha`.
    pub alpha: f64,
    /// Whether `s = alpha / √k` (`use_rslora`) in place of `alpha / k`.
    pub rslora: bool,
}

impl Scaled {
    /// The factor s of rank k.
    pub fn factor(self, rank: i64) -> f64 {
        self.alpha / if self.rslora { (rank as f64).sqrt() } else { rank as f64 }
    }
}

/// Settings of a comparison, apart from model and task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraSettings {
    /// Names of the adapted modules, as given.
    pub targets: Vec<String>,
    /// Ranks, increasing; none where only an adapter or a projection is asked for.
    pub ranks: Vec<i64>,
    /// How A is drawn.
    pub init: Init,
    /// The factor of the adapters; it changes the size of their kernel, not its shape.
    pub scaled: Scaled,
    /// Random draws per rank.
    pub draws: usize,
    /// Dimensions of random projections of all parameters, increasing.
    pub dimensions: Vec<i64>,
    /// The asked distance ε.
    pub distance: f64,
    /// Confidence level of intervals and bounds.
    pub confidence: f64,
    /// Seed of all random draws.
    pub seed: u64,
}

impl LoraSettings {
    /// Checks ranges, and puts ranks and dimensions in order.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validated(mut self) -> Result<Self> {
        for (field, values) in [(Field::Ranks, &mut self.ranks), (Field::Dimensions, &mut self.dimensions)] {
            values.sort_unstable();
            values.dedup();
            if let Some(bad) = values.iter().find(|k| **k < 1) {
                return Err(Error::setting(field, bad, "1 or more"));
            }
        }
        if self.draws == 0 {
            return Err(Error::setting(Field::Draws, self.draws, "1 or more"));
        }
        if !(self.distance > 0.0 && self.distance < 1.0) {
            return Err(Error::setting(Field::Distance, self.distance, "a number between 0 and 1"));
        }
        if !(self.confidence > 0.5 && self.confidence < 1.0) {
            return Err(Error::setting(Field::Confidence, self.confidence, "a number between 0.5 and 1"));
        }
        if !(self.scaled.alpha.is_finite() && self.scaled.alpha > 0.0) {
            return Err(Error::setting(Field::Alpha, self.scaled.alpha, "a positive number"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error names the setting that has a wrong value, and no other.
    #[test]
    fn a_wrong_value_is_named_by_its_setting() {
        let good = LoraSettings {
            targets: Vec::new(),
            ranks: vec![1],
            init: Init::Gaussian,
            scaled: Scaled { alpha: 1.0, rslora: false },
            draws: 1,
            dimensions: Vec::new(),
            distance: 0.1,
            confidence: 0.9,
            seed: 0,
        };
        let scaled = Scaled { alpha: -1.0, ..good.scaled };
        for (bad, expected) in [
            (LoraSettings { ranks: vec![0], ..good.clone() }, Field::Ranks),
            (LoraSettings { dimensions: vec![0], ..good.clone() }, Field::Dimensions),
            (LoraSettings { draws: 0, ..good.clone() }, Field::Draws),
            (LoraSettings { distance: 1.0, ..good.clone() }, Field::Distance),
            (LoraSettings { confidence: 0.4, ..good.clone() }, Field::Confidence),
            (LoraSettings { scaled, ..good.clone() }, Field::Alpha),
        ] {
            let error = bad.validated().expect_err(expected.name());
            assert!(matches!(error, Error::Setting { field, .. } if field == expected), "{error}");
        }
        assert!(good.validated().is_ok());
    }
}
