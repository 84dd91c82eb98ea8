//! Rotary positions: pairs of a head's entries are turned by angles that grow with the position, so that the product of
//! a query and a key depends on their distance alone (Su et al., "RoFormer", 2021).

use tch::{Device, Kind, Tensor};

/// Cosines and sines of the angles `t θ^(-2k/d)` of positions t and pairs k.
pub(super) struct Rotary {
    /// \[T, d\]; entry k and entry k + d/2 are a pair and have the same angle.
    cosine: Tensor,
    sine: Tensor,
}

impl Rotary {
    /// The angles of the first `positions` positions, for heads of width `d`, an even number. Computed in double
    /// precision whatever `kind` is: a rounded frequency would be an error that grows with the position.
    pub fn new(positions: i64, d: i64, theta: f64, kind: Kind, device: Device) -> Self {
        let exact = (Kind::Double, device);
        let frequencies = (Tensor::arange(d / 2, exact) * (-2.0 * theta.ln() / d as f64)).exp();
        let angles = Tensor::arange(positions, exact).outer(&frequencies);
        let angles = Tensor::cat(&[&angles, &angles], 1);
        Self { cosine: angles.cos().to_kind(kind), sine: angles.sin().to_kind(kind) }
    }

    /// Turns heads \[B, heads, T, d\] by the angles of the positions 0 to T - 1.
    pub fn turn(&self, x: &Tensor) -> Tensor {
        rotate(x, &self.cosine, &self.sine)
    }

    /// Turns heads \[B, heads, M, d\] by the angles of the positions \[B, M\].
    pub fn turn_at(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let (b, m) = positions.size2().expect("positions have two axes");
        let flat = positions.reshape([-1]);
        let of = |table: &Tensor| table.index_select(0, &flat).view([b, 1, m, -1]);
        rotate(x, &of(&self.cosine), &of(&self.sine))
    }
}

fn rotate(x: &Tensor, cosine: &Tensor, sine: &Tensor) -> Tensor {
    let halves = x.chunk(2, -1);
    x * cosine + Tensor::cat(&[&-&halves[1], &halves[0]], -1) * sine
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: i64 = 6;

    fn vector(entries: &[f64]) -> Tensor {
        Tensor::from_slice(entries).view([1, 1, 1, WIDTH])
    }

    fn at(rotary: &Rotary, x: &Tensor, position: i64) -> Tensor {
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
            let rotary = Rotary::new(120, WIDTH, theta, Kind::Double, Device::Cpu);
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
        let rotary = Rotary::new(8, WIDTH, theta, Kind::Double, Device::Cpu);
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
