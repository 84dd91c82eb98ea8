//! Closed limits of a multilayer perceptron's kernels as its width grows: NNGP, NTK, and the sign kernels per layer. Knows
//! the network's formula, but no tensors and no random weights.
//!
//! The network, in NTK parametrization without biases: `h¹ = g W¹ξ/√d`, `h^l = g W^l x^{l-1}/√n`, `x = φ(h)`, `f = g
//! v·x^L/√n`, Gaussian entries. As n grows the entries of h^l become independent Gaussian functions of the input with
//! covariance `Σ¹ = g² ξ·ξ'/d`, `Σ^{l+1} = g² E[φ(h^l) φ(h^l')]` (R. Neal; J. Lee et al. 2018), and so do those of `z^l
//! = √n ∂f/∂x^l`, with `Γ^L = g²`, `Γ^l = g² E[φ'(h^{l+1}) φ'(h^{l+1}')] Γ^{l+1}`, independent of the h (A. Jacot et
//! al. 2018; G. Yang 2020, "Tensor Programs III"). With `b^l = φ'(h^l) ∘ z^l` the gradients are
//!
//! - hidden layers, 2 ≤ l ≤ L: `(g/n) b^l ⊗ x^{l-1}`, so K_SGD → g² E\[bb'\] E\[xx'\], K_A/n → g E\[b sign b'\]
//!   E\[x sign x'\], K_SignGD/n² → E\[sign b sign b'\] E\[sign x sign x'\];
//! - the first: `g/√(dn) b¹ ⊗ ξ`, so K_SGD → g² E\[bb'\] ξ·ξ'/d, K_A/√n → g E\[b sign b'\] ξ·sign ξ'/√d,
//!   K_SignGD/n → E\[sign b sign b'\] sign ξ·sign ξ';
//! - the last: `g x^L/√n`, so K_SGD → g² E\[xx'\], K_A/√n → g E\[x sign x'\], K_SignGD/n → E\[sign x sign x'\].
//!
//! Each expectation of b is one of φ'(h) times one of z, because signs of products are products of signs.

mod gaussian;
mod quadrature;

pub use gaussian::{GaussianPair, Part};

use nalgebra::DMatrix;

use super::Activation;
use crate::kernel::Formula;

/// One layer's share of the kernels as n → ∞, each N × N.
#[derive(Clone, Debug)]
pub struct LayerLimit {
    /// Limit of its share of the SGD kernel.
    pub sgd: DMatrix<f64>,
    /// Limit of its share of `<∇f, sign ∇f'>` (plain gradient on the left) divided by n^`asymmetric_order`.
    pub asymmetric: DMatrix<f64>,
    /// Limit of its share of `<sign ∇f, sign ∇f'>` divided by n^`signgd_order`.
    pub signgd: DMatrix<f64>,
    /// The factors of `signgd`, entry by entry: what signs of the layer's inputs, of φ' and of the back-propagated z
    /// contribute (the last two are 1 in the output layer).
    pub sign_factors: [DMatrix<f64>; 3],
    /// Power of the width with which the asymmetric kernel grows: 1, in the first and last layer 1/2.
    pub asymmetric_order: f64,
    /// Power of the width with which the SignGD kernel grows: 2, in the first and last layer 1.
    pub signgd_order: f64,
}

impl LayerLimit {
    /// Limit of one formula's share after division by n^[`order`](Self::order).
    pub fn matrix(&self, formula: Formula) -> &DMatrix<f64> {
        match formula {
            Formula::Sgd => &self.sgd,
            Formula::Asymmetric => &self.asymmetric,
            Formula::Signgd => &self.signgd,
        }
    }

    /// Power of the width with which one formula's share grows.
    pub fn order(&self, formula: Formula) -> f64 {
        match formula {
            Formula::Sgd => 0.0,
            Formula::Asymmetric => self.asymmetric_order,
            Formula::Signgd => self.signgd_order,
        }
    }
}

/// Limits of all kernels of a network with one output, N × N.
#[derive(Clone, Debug)]
pub struct LimitKernels {
    /// Covariance of the outputs at random initialization (NNGP).
    pub nngp: DMatrix<f64>,
    /// The neural tangent kernel: the sum of the layers' SGD kernels.
    pub ntk: DMatrix<f64>,
    /// L + 1 layers, from the first to the output layer.
    pub per_layer: Vec<LayerLimit>,
}

/// Limits for inputs ξ \[N, d\] of a network with `depth` hidden layers, gain g and nonlinearity φ.
///
/// # Panics
/// If there is no hidden layer, no input, or an input is zero.
pub fn limit_kernels(inputs: &DMatrix<f64>, depth: usize, phi: Activation, gain: f64) -> LimitKernels {
    assert!(depth > 0, "a network has at least one hidden layer");
    let (count, dimension) = inputs.shape();
    let signs = inputs.map(|x| if x == 0.0 { 0.0 } else { x.signum() });
    let gram = inputs * inputs.transpose() / dimension as f64;
    assert!(count > 0 && gram.diagonal().iter().all(|v| *v > 0.0), "inputs other than zero");

    // Forward: Σ^l of every hidden layer; one more would be the output's.
    let mut covariances = vec![gram.clone() * (gain * gain)];
    for l in 0..depth {
        let next = expectations(&covariances[l], |pair| pair.expectation(phi, Part::Value, Formula::Sgd));
        covariances.push(next * (gain * gain));
    }
    let nngp = covariances.pop().expect("the output's covariance");

    // Backward, from the output layer to the first.
    let none = Formula::ALL.map(|_| DMatrix::from_element(count, count, 1.0));
    let last = forward_factors(&covariances[depth - 1], phi, gain);
    let mut per_layer = vec![LayerLimit::new(&last, &none, &none, (0.5, 1.0))];
    let mut backward = DMatrix::from_element(count, count, gain * gain);
    for l in (0..depth).rev() {
        let slopes =
            Formula::ALL.map(|f| expectations(&covariances[l], |pair| pair.expectation(phi, Part::Derivative, f)));
        let errors = Formula::ALL.map(|f| expectations(&backward, |pair| pair.identity_expectation(f)));
        // E[bb'] of the SGD formula is what the next Γ is made of.
        backward = slopes[0].component_mul(&errors[0]) * (gain * gain);
        let (features, orders) = if l == 0 {
            let mixed = inputs * signs.transpose() * (gain / (dimension as f64).sqrt());
            ([&gram * (gain * gain), &signs * signs.transpose(), mixed], (0.5, 1.0))
        } else {
            (forward_factors(&covariances[l - 1], phi, gain), (1.0, 2.0))
        };
        per_layer.push(LayerLimit::new(&features, &slopes, &errors, orders));
    }
    per_layer.reverse();
    let ntk = per_layer.iter().fold(DMatrix::zeros(count, count), |sum, layer| sum + &layer.sgd);
    LimitKernels { nngp, ntk, per_layer }
}

impl LayerLimit {
    /// The product of the factors from a layer's input, φ' and z, each in the order of [`Formula::ALL`].
    fn new(
        features: &[DMatrix<f64>; 3],
        slopes: &[DMatrix<f64>; 3],
        errors: &[DMatrix<f64>; 3],
        (asymmetric_order, signgd_order): (f64, f64),
    ) -> Self {
        let product = |i: usize| features[i].component_mul(&slopes[i]).component_mul(&errors[i]);
        let [sgd, signgd, asymmetric] = [product(0), product(1), product(2)];
        let sign_factors = [features[1].clone(), slopes[1].clone(), errors[1].clone()];
        Self { sgd, asymmetric, signgd, sign_factors, asymmetric_order, signgd_order }
    }
}

/// g² E\[xx'\], E\[sign x sign x'\] and g E\[x sign x'\], in the order of [`Formula::ALL`].
fn forward_factors(covariance: &DMatrix<f64>, phi: Activation, gain: f64) -> [DMatrix<f64>; 3] {
    Formula::ALL.map(|formula| {
        let power = match formula {
            Formula::Sgd => gain * gain,
            Formula::Asymmetric => gain,
            Formula::Signgd => 1.0,
        };
        expectations(covariance, |pair| pair.expectation(phi, Part::Value, formula)) * power
    })
}

/// Applies `f` to every pair of jointly Gaussian entries with this covariance.
fn expectations(covariance: &DMatrix<f64>, f: impl Fn(GaussianPair) -> f64) -> DMatrix<f64> {
    DMatrix::from_fn(covariance.nrows(), covariance.ncols(), |i, j| {
        f(GaussianPair::new(covariance[(i, i)], covariance[(j, j)], covariance[(i, j)]))
    })
}

#[cfg(test)]
mod tests;
