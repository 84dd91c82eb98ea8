//! Rotary positions: pairs of a head's entries are rotated by angles proportional to the position, so that the product of a
//! query and a key depends only on their distance (Su et al., "RoFormer", 2021).

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::parts::Rounding;
use super::single;

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

    /// Cosines and sines for a batch of texts with these numbers of tokens, padded to `positions`.
    pub fn angles(&self, lengths: &[i64], positions: i64, kind: Kind, device: Device) -> Angles {
        if self.rounding == Rounding::Single && kind == Kind::Double {
            let [cosine, sine] = single::cosines_and_sines(self, lengths, positions);
            return Angles { cosine: cosine.to_device(device), sine: sine.to_device(device) };
        }
        let mut each: Vec<Vec<f64>> = lengths.iter().map(|n| self.frequencies(*n)).collect();
        if each.iter().all(|f| *f == each[0]) {
            each.truncate(1);
        }
        Angles::new(&each, positions, self.amplitude(), kind, device)
    }
}

/// Cosines and sines of the angles of positions and pairs.
pub(super) struct Angles {
    /// \[1 or B, T, d\]; entry k and entry k + d/2 are a pair and have the same angle.
    cosine: Tensor,
    sine: Tensor,
}

impl Angles {
    /// From the pairs' frequencies, common to all texts or per text. Computed in double precision for any `kind`: the error
    /// of a rounded frequency would grow with the position.
    fn new(frequencies: &[Vec<f64>], positions: i64, amplitude: f64, kind: Kind, device: Device) -> Self {
        let exact = (Kind::Double, device);
        let numbers = Tensor::arange(positions, exact);
        let texts: Vec<Tensor> =
            frequencies.iter().map(|f| numbers.outer(&Tensor::from_slice(f).to_device(device))).collect();
        let angles = Tensor::stack(&texts, 0);
        let angles = Tensor::cat(&[&angles, &angles], -1);
        let table = |t: Tensor| if amplitude == 1.0 { t } else { t * amplitude }.to_kind(kind);
        Self { cosine: table(angles.cos()), sine: table(angles.sin()) }
    }

    /// Rotates heads \[B, heads, T, head\] by the angles of positions 0 to T - 1; entries after the first d are unchanged.
    pub fn turn(&self, x: &Tensor) -> Tensor {
        rotate(x, &self.cosine.unsqueeze(1), &self.sine.unsqueeze(1))
    }

    /// Rotates heads \[B, heads, M, head\] by the angles of the positions \[B, M\].
    pub fn turn_at(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let (b, _) = positions.size2().expect("positions have two axes");
        let of = |table: &Tensor| {
            let d = table.size()[2];
            let index = positions.unsqueeze(-1).expand([-1, -1, d], false);
            table.expand([b, -1, -1], false).gather(1, &index, false).unsqueeze(1)
        };
        rotate(x, &of(&self.cosine), &of(&self.sine))
    }
}

fn rotate(x: &Tensor, cosine: &Tensor, sine: &Tensor) -> Tensor {
    let (whole, turned) = (x.size()[3], cosine.size()[3]);
    let first = if turned == whole { x.shallow_clone() } else { x.narrow(-1, 0, turned) };
    let halves = first.chunk(2, -1);
    let first = &first * cosine + Tensor::cat(&[&-&halves[1], &halves[0]], -1) * sine;
    if turned == whole { first } else { Tensor::cat(&[first, x.narrow(-1, turned, whole - turned)], -1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: i64 = 6;

    fn vector(entries: &[f64]) -> Tensor {
        Tensor::from_slice(entries).view([1, 1, 1, WIDTH])
    }

    fn plain(theta: f64, positions: i64) -> Angles {
        let rotary = Rotary { rounding: Rounding::None, ..Rotary::plain(WIDTH, theta) };
        rotary.angles(&[positions], positions, Kind::Double, Device::Cpu)
    }

    fn at(rotary: &Angles, x: &Tensor, position: i64) -> Tensor {
        rotary.turn_at(x, &Tensor::from_slice(&[position]).view([1, 1]))
    }

    proptest! {
        /// Turning keeps lengths, and products depend on the distance alone; position 0 is not turned. 1e-13: a few
        /// roundings of numbers of order ten, and of angles of order 100.
        #[test]
        fn products_depend_on_the_distance_alone(
            q in prop::collection::vec(-1.0f64..1.0, WIDTH as usize),
            k in prop::collection::vec(-1.0f64..1.0, WIDTH as usize),
            (first, distance, shift) in (0..40i64, 0..40i64, 0..40i64),
            theta in prop_oneof![Just(1e4), Just(1e5), 2.0f64..1e6],
        ) {
            let (q, k) = (vector(&q), vector(&k));
            let rotary = plain(theta, 120);
            let product = |at_q, at_k| (at(&rotary, &q, at_q) * at(&rotary, &k, at_k)).sum(Kind::Double).double_value(&[]);
            let here = product(first + distance, first);
            prop_assert!((here - product(first + distance + shift, first + shift)).abs() <= 1e-13);
            let length = |x: &Tensor| x.norm().double_value(&[]);
            prop_assert!((length(&at(&rotary, &q, first)) - length(&q)).abs() <= 1e-14);
            prop_assert_eq!(at(&rotary, &q, 0), q);
        }
    }

    /// Each pair is multiplied by `exp(i t θ^(-2k/d))` as a complex number.
    #[test]
    fn pairs_turn_by_their_angles() {
        let theta = 1000.0;
        let x = vector(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let rotary = plain(theta, 8);
        let all = rotary.turn(&x.expand([1, 1, 8, WIDTH], false));
        for t in 0..8 {
            assert_eq!(all.narrow(2, t, 1), at(&rotary, &x, t));
            for k in 0..WIDTH / 2 {
                let angle = t as f64 * theta.powf(-2.0 * k as f64 / WIDTH as f64);
                let (re, im) = ((k + 1) as f64, (k + 4) as f64);
                let turned = [re * angle.cos() - im * angle.sin(), re * angle.sin() + im * angle.cos()];
                for (entry, expected) in [k, k + WIDTH / 2].into_iter().zip(turned) {
                    let found = all.double_value(&[0, 0, t, entry]);
                    assert!((found - expected).abs() <= 1e-13, "position {t}, pair {k}: {found}, not {expected}");
                }
            }
        }
    }
}
