//! What transformers computes in single precision even in double-precision networks, operation by operation, so that values
//! and gradients equal transformers' to the last digits.

use tch::{Kind, Tensor};

use super::parts::{Norm, NormKind};
use super::rotary::{Rotary, Scaling};
use super::rounding::Rounding;

const SINGLE: (Kind, tch::Device) = (Kind::Float, tch::Device::Cpu);

/// Whether a part with this rounding is rounded in a network of this element type.
pub(super) fn is_rounded(rounding: Rounding, kind: Kind) -> bool {
    rounding == Rounding::Single && kind == Kind::Double
}

/// A number, rounded to single precision if asked for.
pub(super) fn number(x: f64, rounding: Rounding, kind: Kind) -> f64 {
    if is_rounded(rounding, kind) { f64::from(x as f32) } else { x }
}

/// x over its root mean square, in single precision.
pub(super) fn over_root_mean_square(x: &Tensor, norm: &Norm) -> Tensor {
    debug_assert!(matches!(norm.kind, NormKind::Rms | NormKind::RmsCentred));
    let x = x.to_kind(Kind::Float);
    &x * (x.square().mean_dim(-1, true, Kind::Float) + norm.eps).rsqrt()
}

/// x \[B, T, d\], with a gradient that is always contiguous: the memory layout determines the order of the norm's sums in
/// single precision.
pub(super) fn with_rows_in_gradient(x: &Tensor) -> Tensor {
    x.index_select(1, &Tensor::arange(x.size()[1], (Kind::Int64, x.device())))
}

/// Softmax of the last axis.
pub(super) fn softmax(scores: &Tensor, rounding: Rounding) -> Tensor {
    let kind = scores.kind();
    if is_rounded(rounding, kind) { scores.softmax(-1, Kind::Float).to_kind(kind) } else { scores.softmax(-1, kind) }
}

/// Cosines and sines \[1 or B, T, d\] of the angles of positions up to T in texts of these numbers of tokens, as doubles.
pub(super) fn cosines_and_sines(rotary: &Rotary, lengths: &[i64], positions: i64) -> [Tensor; 2] {
    let mut each: Vec<Tensor> = lengths.iter().map(|tokens| frequencies(rotary, *tokens)).collect();
    if each.iter().all(|f| *f == each[0]) {
        each.truncate(1);
    }
    let numbers = Tensor::arange(positions, SINGLE);
    let angles = Tensor::stack(&each.iter().map(|f| numbers.outer(f)).collect::<Vec<_>>(), 0);
    let angles = Tensor::cat(&[&angles, &angles], -1);
    [angles.cos(), angles.sin()].map(|t| (t * rotary.amplitude()).to_kind(Kind::Double))
}

/// `number / t` as PyTorch computes it.
fn over(number: f64, t: &Tensor) -> Tensor {
    t.reciprocal() * number
}

/// Angles per position of the pairs, in a text of `tokens` tokens.
fn frequencies(rotary: &Rotary, tokens: i64) -> Tensor {
    let d = rotary.divisor;
    let exponents = Tensor::arange_start_step(0, d, 2, SINGLE) / d as f64;
    let powers = Tensor::pow_scalar(rotary.theta, &exponents);
    let plain = || over(1.0, &powers);
    match &rotary.scaling {
        Scaling::Linear { factor } => plain() / *factor,
        Scaling::Dynamic { factor, trained } if tokens > *trained => {
            let grown = Tensor::from(tokens as f32) * *factor / *trained as f64 - (factor - 1.0);
            let base = grown.pow_tensor_scalar(d as f64 / (d - 2) as f64) * rotary.theta;
            over(1.0, &base.pow(&exponents))
        }
        Scaling::None | Scaling::Dynamic { .. } => plain(),
        Scaling::Llama3 { factor, low, high, trained } => {
            let plain = plain();
            let length = over(std::f64::consts::TAU, &plain);
            let (short, long) = (length.lt(trained / high), length.gt(trained / low));
            let scaled = (&plain / *factor).where_self(&long, &plain);
            let fast = (over(*trained, &length) - *low) / (high - low);
            let slow: Tensor = 1.0 - &fast;
            let mixed = slow * &scaled / *factor + &fast * &scaled;
            mixed.where_self(&short.logical_or(&long).logical_not(), &scaled)
        }
        Scaling::Yarn { factor, ramp: (low, high), .. } => {
            let numbers = Tensor::arange(exponents.size()[0], SINGLE);
            let kept = 1.0 - ((numbers - *low) / (high - low)).clamp(0.0, 1.0);
            over(1.0, &(&powers * *factor)) * (1.0 - &kept) + plain() * kept
        }
        Scaling::Pairs { factors } => plain() / Tensor::from_slice(factors).to_kind(Kind::Float),
        Scaling::Long { short, long, trained, .. } => {
            let factors = if tokens > *trained { long } else { short };
            over(1.0, &(Tensor::from_slice(factors).to_kind(Kind::Float) * powers))
        }
    }
}
