//! Rotary positions: pairs of a head's entries are rotated by angles proportional to the position, so that the product of a
//! query and a key depends only on their distance (Su et al., "RoFormer", 2021).

use serde::Serialize;

use super::rounding::Rounding;

/// Which entries of a head are rotated, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rotary {
    /// How many entries of a head are rotated, starting at the first; an even number.
    pub width: i64,
    /// Divisor of the base's exponents: the width, or one less if the class rounds an odd number up.
    pub divisor: i64,
    /// Base of the angles' geometric sequence.
    pub theta: f64,
    /// Scaling of angles for long texts.
    pub scaling: Scaling,
    /// Precision of the angles and their cosines and sines.
    pub rounding: Rounding,
}

/// Scaling of a network's angles for longer texts than it was trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum Scaling {
    /// None.
    None,
    /// Positions are divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// The base grows with the text if that is longer than the trained length.
    Dynamic {
        /// Factor of the growth.
        factor: f64,
        /// Trained length.
        trained: i64,
    },
    /// Llama 3: low frequencies are divided by a factor, high ones unchanged, and those between interpolated.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Rotations within the trained length below which a frequency is low.
        low: f64,
        /// Rotations from which a frequency is high.
        high: f64,
        /// Trained length.
        trained: f64,
    },
    /// YaRN: the same with a ramp over the pairs of entries, and scaled cosines and sines.
    Yarn {
        /// The factor.
        factor: f64,
        /// Pairs between which frequencies are interpolated.
        ramp: (f64, f64),
        /// Factor of cosines and sines.
        amplitude: f64,
    },
    /// Each pair's angle is divided by its own factor.
    Pairs {
        /// The factors.
        factors: Vec<f64>,
    },
    /// LongRoPE: a factor per pair, different for long texts, and scaled cosines and sines.
    Long {
        /// Factors for texts up to the trained length.
        short: Vec<f64>,
        /// Factors for longer texts.
        long: Vec<f64>,
        /// The trained length.
        trained: i64,
        /// Factor of cosines and sines.
        amplitude: f64,
    },
}

impl Rotary {
    /// Unscaled angles, in single precision as in all of transformers' classes.
    pub fn plain(width: i64, theta: f64) -> Self {
        Self { width, divisor: width, theta, scaling: Scaling::None, rounding: Rounding::Single }
    }

    /// Angles of the pairs per position, in a text of `tokens` tokens.
    pub fn frequencies(&self, tokens: i64) -> Vec<f64> {
        let d = self.divisor as f64;
        let pairs = 0..self.width / 2;
        let plain = |theta: f64, k: i64| theta.powf(-2.0 * k as f64 / d);
        match &self.scaling {
            Scaling::None => pairs.map(|k| plain(self.theta, k)).collect(),
            Scaling::Linear { factor } => pairs.map(|k| plain(self.theta, k) / factor).collect(),
            Scaling::Dynamic { factor, trained } => {
                let growth = factor * tokens.max(*trained) as f64 / *trained as f64 - (factor - 1.0);
                let theta = self.theta * growth.powf(d / (d - 2.0));
                pairs.map(|k| plain(theta, k)).collect()
            }
            Scaling::Llama3 { factor, low, high, trained } => {
                let scaled = |frequency: f64| {
                    let turns = trained * frequency / std::f64::consts::TAU;
                    let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - fast) * frequency / factor + fast * frequency
                };
                pairs.map(|k| scaled(plain(self.theta, k))).collect()
            }
            Scaling::Yarn { factor, ramp: (low, high), .. } => {
                let scaled = |k: i64| {
                    let slow = ((k as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    plain(self.theta, k) * (slow / factor + (1.0 - slow))
                };
                pairs.map(scaled).collect()
            }
            Scaling::Pairs { factors } => pairs.zip(factors).map(|(k, factor)| plain(self.theta, k) / factor).collect(),
            Scaling::Long { short, long, trained, .. } => {
                let factors = if tokens > *trained { long } else { short };
                pairs.zip(factors).map(|(k, factor)| plain(self.theta, k) / factor).collect()
            }
        }
    }

    /// Whether angles depend on the length of the text.
    pub fn by_length(&self) -> bool {
        matches!(self.scaling, Scaling::Dynamic { .. } | Scaling::Long { .. })
    }

    /// Factor of cosines and sines.
    pub fn amplitude(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { amplitude, .. } | Scaling::Long { amplitude, .. } => amplitude,
            _ => 1.0,
        }
    }
}
