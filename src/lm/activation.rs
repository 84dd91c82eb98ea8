//! Elementwise activations of networks.

use tch::Tensor;

use crate::products::{Gate, gated};

/// Elementwise activation of the feed-forward layers and the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function.
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// The same with √(2/π) to ten digits, as transformers' `gelu_fast` has it.
    GeluFast,
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
            Self::GeluFast => ((x * 0.797_884_560_8 * (x.square() * 0.044_715 + 1.0)).tanh() + 1.0) * x * 0.5,
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::SquaredRelu => x.relu().square(),
            Self::Relu => x.relu(),
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
        }
    }

    /// Applied to every entry of a gate, times `up`.
    pub(super) fn gate(self, gate: &Tensor, up: &Tensor) -> Tensor {
        match self {
            Self::Silu => gated(Gate::Silu, gate, up),
            Self::Gelu => gated(Gate::Gelu, gate, up),
            Self::GeluTanh => gated(Gate::GeluTanh, gate, up),
            _ => self.apply(gate) * up,
        }
    }
}
