//! What is asked of a comparison of adapters with the full kernel.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
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
    /// Draws of every rank.
    pub draws: usize,
    /// Dimensions of random projections of all parameters, increasing.
    pub dimensions: Vec<i64>,
    /// The asked distance ε.
    pub distance: f64,
    /// Probability of intervals and bounds.
    pub confidence: f64,
    /// Seed from which every draw follows.
    pub seed: u64,
}

impl LoraSettings {
    /// Checks ranges, and puts ranks and dimensions in order.
    ///
    /// # Errors
    /// [`Error::Settings`], naming the flag.
    pub fn validated(mut self) -> Result<Self> {
        let fail = |message: String| Err(Error::Settings(message));
        for (flag, values) in [("--ranks", &mut self.ranks), ("--intrinsic", &mut self.dimensions)] {
            values.sort_unstable();
            values.dedup();
            if let Some(bad) = values.iter().find(|k| **k < 1) {
                return fail(format!("{flag}: {bad} is not positive"));
            }
        }
        if self.draws == 0 {
            return fail("--draws must be at least 1".into());
        }
        if !(self.distance > 0.0 && self.distance < 1.0) {
            return fail(format!("--distance {} must lie between 0 and 1", self.distance));
        }
        if !(self.confidence > 0.5 && self.confidence < 1.0) {
            return fail(format!("--confidence {} must lie between 0.5 and 1", self.confidence));
        }
        if !(self.scaled.alpha.is_finite() && self.scaled.alpha > 0.0) {
            return fail(format!("--alpha {} must be positive", self.scaled.alpha));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message names the option that was given a wrong value, and no other.
    #[test]
    fn a_wrong_value_is_named_by_its_option() {
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
        for (bad, option) in [
            (LoraSettings { ranks: vec![0], ..good.clone() }, "--ranks"),
            (LoraSettings { dimensions: vec![0], ..good.clone() }, "--intrinsic"),
            (LoraSettings { draws: 0, ..good.clone() }, "--draws"),
            (LoraSettings { distance: 1.0, ..good.clone() }, "--distance"),
            (LoraSettings { confidence: 0.4, ..good.clone() }, "--confidence"),
            (LoraSettings { scaled, ..good.clone() }, "--alpha"),
        ] {
            let message = bad.validated().expect_err(option).to_string();
            assert!(message.starts_with(option), "{message}");
        }
        assert!(good.validated().is_ok());
    }
}
