//! Rotates queries and keys by their rotary positions.

use tch::{Device, Kind, Tensor};

use super::rotary::Rotary;
use super::rounding::Rounding;
use super::single;

/// Cosines and sines of the angles of positions and pairs.
pub(super) struct Angles {
    /// \[1 or B, T, d\]; entry k and entry k + d/2 are a pair and have the same angle.
    cosine: Tensor,
    sine: Tensor,
}

impl Angles {
    /// Cosines and sines for a batch of texts with these numbers of tokens, padded to `positions`.
    pub fn of(rotary: &Rotary, lengths: &[i64], positions: i64, kind: Kind, device: Device) -> Self {
        if rotary.rounding == Rounding::Single && kind == Kind::Double {
            let [cosine, sine] = single::cosines_and_sines(rotary, lengths, positions);
            return Self { cosine: cosine.to_device(device), sine: sine.to_device(device) };
        }
        let mut each: Vec<Vec<f64>> = lengths.iter().map(|n| rotary.frequencies(*n)).collect();
        if each.iter().all(|f| *f == each[0]) {
            each.truncate(1);
        }
        Self::new(&each, positions, rotary.amplitude(), kind, device)
    }

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
        Angles::of(&rotary, &[positions], positions, Kind::Double, Device::Cpu)
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
