//! abc-parametrizations: the powers of the width by which a network's multipliers, initial weights and learning rates scale
//! (G. Yang, E. Hu, "Tensor Programs IV: Feature Learning in Infinite-Width Neural Networks", Definition 3.1). Knows
//! exponents only.

/// Exponents of one layer: its multiplier is n^-a, its weights are drawn from N(0, n^-2b).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scale {
    /// Multiplier exponent.
    pub a: f64,
    /// Initialization exponent.
    pub b: f64,
}

/// An abc-parametrization of a network with L hidden layers:
/// `h¹ = n^-a₁ w¹ξ`, `h^l = n^-a_l w^l x^{l-1}`, `f = n^-a_{L+1} w^{L+1} x^L`, learning rate of layer l `η n^-c_l`.
///
/// Definition 3.1 has one c for all layers; a learning-rate exponent per layer is the usual generalization, which sign
/// updates need (G. Yang, E. Littwin, "Tensor Programs IVb").
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Abc {
    /// L + 1 layers: first the input layer, last the output layer.
    pub layers: Vec<Scale>,
    /// Learning-rate exponents of the same layers.
    pub c: Vec<f64>,
}

impl Abc {
    /// First, hidden and last layer, with the same learning-rate exponent everywhere.
    fn from_parts(hidden: usize, first: (f64, f64), middle: (f64, f64), last: (f64, f64), c: f64) -> Self {
        assert!(hidden > 0, "a network has at least one hidden layer");
        let mut layers = vec![first];
        layers.extend(std::iter::repeat_n(middle, hidden - 1));
        layers.push(last);
        let layers: Vec<Scale> = layers.into_iter().map(|(a, b)| Scale { a, b }).collect();
        Self { c: vec![c; layers.len()], layers }
    }

    /// Standard parametrization with `hidden` hidden layers: a = 0, b₁ = 0, other b = 1/2, c = 0. Under SGD it needs
    /// c = 1 to be stable: see [`Self::with_learning_rates`].
    pub fn standard(hidden: usize) -> Self {
        Self::from_parts(hidden, (0.0, 0.0), (0.0, 0.5), (0.0, 0.5), 0.0)
    }

    /// Neural-tangent parametrization: a₁ = 0, other a = 1/2, b = 0, c = 0.
    pub fn ntk(hidden: usize) -> Self {
        Self::from_parts(hidden, (0.0, 0.0), (0.5, 0.0), (0.5, 0.0), 0.0)
    }

    /// Maximal-update parametrization for SGD: a₁ = -1/2, hidden a = 0, a_{L+1} = 1/2, b = 1/2, c = 0.
    pub fn mup(hidden: usize) -> Self {
        Self::from_parts(hidden, (-0.5, 0.5), (0.0, 0.5), (0.5, 0.5), 0.0)
    }

    /// [`Self::ntk`] with the largest sign-update learning rates that keep it stable: c = 1/2 in the first and last
    /// layer, 1 between (r = 1/2).
    pub fn ntk_sign(hidden: usize) -> Self {
        Self::ntk(hidden).with_learning_rates(sign_rates(hidden))
    }

    /// [`Self::mup`] with the learning rates of sign updates: c = 1/2 in the first and last layer, 1 between (r = 0).
    pub fn mup_sign(hidden: usize) -> Self {
        Self::mup(hidden).with_learning_rates(sign_rates(hidden))
    }

    /// The same multipliers and weights with other learning-rate exponents, one per layer.
    ///
    /// # Panics
    /// If there is not one exponent per layer.
    #[must_use]
    pub fn with_learning_rates(mut self, c: Vec<f64>) -> Self {
        assert_eq!(c.len(), self.layers.len(), "one learning-rate exponent per layer");
        self.c = c;
        self
    }

    /// An equivalent parametrization under SGD: layer l becomes (a + θ_l, b - θ_l, c - 2θ_l), because gradients contain the
    /// multiplier once and updates once more.
    ///
    /// # Panics
    /// If there is not one θ per layer.
    #[must_use]
    pub fn shifted_for_sgd(&self, theta: &[f64]) -> Self {
        self.shifted(theta, 2.0)
    }

    /// An equivalent parametrization under sign updates: (a + θ_l, b - θ_l, c - θ_l), because signs of gradients do not
    /// depend on the multiplier.
    ///
    /// # Panics
    /// If there is not one θ per layer.
    #[must_use]
    pub fn shifted_for_sign(&self, theta: &[f64]) -> Self {
        self.shifted(theta, 1.0)
    }

    fn shifted(&self, theta: &[f64], rates: f64) -> Self {
        assert_eq!(theta.len(), self.layers.len(), "one shift per layer");
        let layers = self.layers.iter().zip(theta).map(|(s, t)| Scale { a: s.a + t, b: s.b - t }).collect();
        let c = self.c.iter().zip(theta).map(|(c, t)| c - rates * t).collect();
        Self { layers, c }
    }

    /// Number of hidden layers L.
    pub fn hidden(&self) -> usize {
        self.layers.len() - 1
    }
}

fn sign_rates(hidden: usize) -> Vec<f64> {
    let mut c = vec![1.0; hidden + 1];
    (c[0], c[hidden]) = (0.5, 0.5);
    c
}
