//! Coordinatewise nonlinearities φ, on tensors and on numbers. Knows no network.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::fmt;

use tch::Tensor;

use super::special::{erf, normal_density, normal_distribution};

/// A coordinatewise nonlinearity φ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0), with derivative 0 at 0.
    Relu,
    /// erf(x).
    Erf,
    /// tanh(x).
    Tanh,
    /// x Φ(x) with the normal distribution function Φ, in its exact form.
    Gelu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Relu, Self::Erf, Self::Tanh, Self::Gelu];

    /// Name in reports and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Erf => "erf",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
        }
    }

    /// φ entry by entry.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Erf => x.erf(),
            Self::Tanh => x.tanh(),
            Self::Gelu => x.gelu("none"),
        }
    }

    /// φ' entry by entry.
    pub fn apply_derivative(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.gt(0.0).to_kind(x.kind()),
            Self::Erf => (-x.square()).exp() * (2.0 / PI.sqrt()),
            Self::Tanh => x.cosh().pow_tensor_scalar(-2),
            Self::Gelu => {
                let density = (x.square() * -0.5).exp() / (2.0 * PI).sqrt();
                ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5 + x * density
            }
        }
    }

    /// φ(x).
    pub fn value(self, x: f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Erf => erf(x),
            Self::Tanh => x.tanh(),
            Self::Gelu => x * normal_distribution(x),
        }
    }

    /// φ'(x).
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Self::Relu => f64::from(x > 0.0),
            Self::Erf => 2.0 / PI.sqrt() * (-x * x).exp(),
            Self::Tanh => x.cosh().powi(-2),
            Self::Gelu => normal_distribution(x) + x * normal_density(x),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers and tensors agree, and so do derivative and difference quotient.
    #[test]
    fn values_and_derivatives_agree() {
        let points: Vec<f64> = (-40..=40).map(|i| f64::from(i) * 0.1 + 0.013).collect();
        for phi in Activation::ALL {
            let x = Tensor::from_slice(&points).set_requires_grad(true);
            let y = phi.apply(&x);
            let slope = Tensor::run_backward(&[y.sum(tch::Kind::Double)], &[&x], false, false).remove(0);
            let written = phi.apply_derivative(&x);
            for (i, p) in points.iter().enumerate() {
                assert!((y.double_value(&[i as i64]) - phi.value(*p)).abs() < 1e-14, "{phi}({p})");
                assert!((slope.double_value(&[i as i64]) - phi.derivative(*p)).abs() < 1e-14, "{phi}'({p})");
                assert!((written.double_value(&[i as i64]) - phi.derivative(*p)).abs() < 1e-14, "{phi}'({p}) by entry");
            }
        }
    }
}
