//! Elementwise activations of networks.

use tch::Tensor;

/// Elementwise activation of the feed-forward layers and the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function.
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// `x σ(1.702 x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)²`
    SquaredRelu,
    /// `x σ(x)`
    Silu,
    /// `tanh x`
    Tanh,
}

impl Activation {
    /// Applied to every entry.
    pub(super) fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::SquaredRelu => x.relu().square(),
            Self::Relu => x.relu(),
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
        }
    }
}
