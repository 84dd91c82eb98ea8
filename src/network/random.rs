//! Random tensors that are the same on every machine: drawn on the CPU in double precision from a named seed and
//! stream, then converted. Knows no network.

use kernelview_loops::draws::Draws;
use tch::{Device, Kind, Tensor};

/// Streams below this one belong to parameters (stream = index of the tensor), so that inputs and parameters of one
/// seed are independent.
const INPUT_STREAM: u64 = 1 << 32;

/// Independent N(0, deviation²) entries from ChaCha8. Tensors with the same seed and different streams are independent, and
/// a tensor's entries do not depend on other draws.
pub fn normal_tensor(shape: &[i64], deviation: f64, seed: u64, stream: u64, kind: Kind, device: Device) -> Tensor {
    let count: i64 = shape.iter().product();
    Tensor::from_slice(&Draws::new(seed, stream).normal(0.0, deviation, count as usize))
        .view(shape)
        .to_kind(kind)
        .to_device(device)
}

/// Inputs ξ \[n, d\] of uniformly random direction with |ξ|² = d, so that entries are of order one.
pub fn unit_inputs(n: i64, d: i64, seed: u64, kind: Kind, device: Device) -> Tensor {
    let x = normal_tensor(&[n, d], 1.0, seed, INPUT_STREAM, Kind::Double, Device::Cpu);
    on_sphere(&x).to_kind(kind).to_device(device)
}

/// Two inputs \[2, d\] with |ξ|² = d and exactly this cosine between them, in a random plane.
///
/// # Panics
/// If the cosine is not within \[-1, 1\], or d < 2.
pub fn pair_with_cosine(d: i64, cosine: f64, seed: u64, kind: Kind, device: Device) -> Tensor {
    assert!(d >= 2 && (-1.0..=1.0).contains(&cosine), "a cosine of {cosine} in {d} dimensions");
    let x = normal_tensor(&[2, d], 1.0, seed, INPUT_STREAM + 1, Kind::Double, Device::Cpu);
    let first = on_sphere(&x.narrow(0, 0, 1));
    let second = x.narrow(0, 1, 1);
    let along = (&first * &second).sum(Kind::Double) / d as f64;
    let across = on_sphere(&(second - &first * along));
    let turned = &first * cosine + across * (1.0 - cosine * cosine).sqrt();
    Tensor::cat(&[first, turned], 0).to_kind(kind).to_device(device)
}

/// Rows scaled to squared length d.
fn on_sphere(x: &Tensor) -> Tensor {
    let length = x.square().mean_dim([1i64].as_slice(), true, Kind::Double).sqrt();
    x / length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_have_the_stated_lengths_and_cosines() {
        let x = unit_inputs(5, 7, 3, Kind::Double, Device::Cpu);
        let gram = x.matmul(&x.tr());
        assert!((gram.diagonal(0, 0, 1) - 7.0).abs().max().double_value(&[]) < 1e-12);
        for cosine in [-1.0, -0.3, 0.0, 0.5, 1.0] {
            let x = pair_with_cosine(6, cosine, 11, Kind::Double, Device::Cpu);
            let gram = x.matmul(&x.tr()) / 6.0;
            assert!((gram.double_value(&[0, 0]) - 1.0).abs() < 1e-12);
            assert!((gram.double_value(&[1, 1]) - 1.0).abs() < 1e-12);
            assert!((gram.double_value(&[0, 1]) - cosine).abs() < 1e-12);
        }
    }

    #[test]
    fn streams_are_independent_and_repeatable() {
        let draw = |stream| normal_tensor(&[1000], 2.0, 9, stream, Kind::Double, Device::Cpu);
        assert_eq!(draw(1), draw(1));
        let correlation = (draw(1) * draw(2)).mean(Kind::Double).double_value(&[]) / 4.0;
        assert!(correlation.abs() < 5.0 / 1000f64.sqrt());
    }
}
