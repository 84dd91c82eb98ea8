//! A multilayer perceptron without biases in any abc-parametrization, written over the tap. Knows no limit and no
//! training.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::abc::Abc;
use super::activation::Activation;
use super::random::normal_tensor;
use crate::jacobian::{Examples, Frozen, Param, ParameterSpec, Parameters, PlainTap, Role, Tap};

/// `h¹ = g n^-a₁ w¹ξ/√d`, `h^l = g n^-a_l w^l φ(h^{l-1})`, `f = g n^-a_{L+1} w^{L+1} φ(h^L)`, with entries of w^l drawn
/// from N(0, n^-2b_l) and a gain g common to all layers. Inputs with |ξ|² = d give h¹ entries of order one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    /// Input dimension d.
    pub input: i64,
    /// Width n of every hidden layer.
    pub width: i64,
    /// Number of hidden layers L.
    pub depth: usize,
    /// Number of outputs C.
    pub outputs: i64,
    /// The nonlinearity φ.
    pub activation: Activation,
    /// Multiplier g of every layer, e.g. √2 for relu, which keeps the variance of h^l.
    pub gain: f64,
    /// Exponents of its L + 1 layers.
    pub abc: Abc,
}

impl Mlp {
    /// Specifications of its L + 1 weights, in order: `layer 1`, …, `layer L`, `output`.
    ///
    /// # Panics
    /// If the parametrization has another number of layers.
    pub fn specs(&self) -> Arc<[ParameterSpec]> {
        assert!(self.depth > 0, "a network has at least one hidden layer");
        assert_eq!(self.abc.hidden(), self.depth, "hidden layers of the parametrization and of the network");
        (0..=self.depth)
            .map(|l| {
                let (role, layer) = match l {
                    0 => (Role::Embedding, "layer 1".to_string()),
                    _ if l < self.depth => (Role::Body, format!("layer {}", l + 1)),
                    _ => (Role::Head, "output".to_string()),
                };
                let rows = if l == self.depth { self.outputs } else { self.width };
                let columns = if l == 0 { self.input } else { self.width };
                let name = format!("{}.weight", layer.replace(' ', "."));
                ParameterSpec::new(name, &[rows, columns], role, layer)
            })
            .collect()
    }

    /// Random initial weights, each from a separate random stream (see [`normal_tensor`]).
    pub fn parameters(&self, seed: u64, kind: Kind, device: Device) -> Parameters {
        let specs = self.specs();
        let values = specs
            .iter()
            .zip(&self.abc.layers)
            .enumerate()
            .map(|(l, (spec, scale))| normal_tensor(&spec.shape, self.power(-scale.b), seed, l as u64, kind, device))
            .collect();
        Parameters::new(specs, values)
    }

    /// The network applied to inputs \[N, d\], of the same precision and on the same device as its parameters.
    pub fn examples(&self, inputs: Tensor) -> MlpExamples {
        MlpExamples { mlp: self.clone(), inputs: inputs.into() }
    }

    /// Pre-activations h¹, …, h^L, each \[N, n\], of inputs \[N, d\]; without gradients.
    pub fn hidden(&self, parameters: &Parameters, inputs: &Tensor) -> Vec<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut hidden = Vec::with_capacity(self.depth);
        let _ = self.forward(&mut PlainTap::new(parameters), inputs, |h| hidden.push(h.shallow_clone()));
        hidden
    }

    /// Learning rates η n^-c_l, one per parameter.
    pub fn learning_rates(&self, eta: f64) -> Vec<f64> {
        self.abc.c.iter().map(|c| eta * self.power(-c)).collect()
    }

    /// The factor in front of the weights of layer l = 0, …, L.
    fn multiplier(&self, l: usize) -> f64 {
        let fan = if l == 0 { (self.input as f64).sqrt() } else { 1.0 };
        self.gain * self.power(-self.abc.layers[l].a) / fan
    }

    fn power(&self, exponent: f64) -> f64 {
        (self.width as f64).powf(exponent)
    }

    /// Outputs \[B, C\] of inputs \[B, d\]; `visit` sees every pre-activation.
    fn forward(&self, tap: &mut dyn Tap, inputs: &Tensor, mut visit: impl FnMut(&Tensor)) -> Tensor {
        let mut x = inputs.shallow_clone();
        for l in 0..self.depth {
            let h = tap.linear(&x, Param(l), None) * self.multiplier(l);
            visit(&h);
            x = self.activation.apply(&h);
        }
        tap.linear(&x, Param(self.depth), None) * self.multiplier(self.depth)
    }
}

/// An [`Mlp`] applied to N inputs.
pub struct MlpExamples {
    mlp: Mlp,
    inputs: Frozen,
}

impl MlpExamples {
    /// The inputs \[N, d\].
    pub fn inputs(&self) -> &Tensor {
        &self.inputs
    }
}

impl Examples for MlpExamples {
    fn len(&self) -> usize {
        self.inputs.size()[0] as usize
    }

    fn outputs(&self) -> usize {
        self.mlp.outputs as usize
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let rows: Vec<i64> = indices.iter().map(|i| *i as i64).collect();
        let rows = Tensor::from_slice(&rows).to_device(self.inputs.device());
        self.mlp.forward(tap, &self.inputs.index_select(0, &rows), |_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::unit_inputs;

    fn mlp(abc: Abc) -> Mlp {
        let gain = 2f64.sqrt();
        Mlp { input: 5, width: 512, depth: abc.hidden(), outputs: 2, activation: Activation::Relu, gain, abc }
    }

    /// With |ξ|² = d every hidden layer of every parametrization has entries of order one; relu with gain √2 keeps
    /// their variance at 2 (the first layer's is g²).
    #[test]
    fn hidden_layers_are_of_order_one() {
        for abc in [Abc::standard(3), Abc::ntk(3), Abc::mup(3)] {
            let mlp = mlp(abc);
            let parameters = mlp.parameters(1, Kind::Double, Device::Cpu);
            let inputs = unit_inputs(6, 5, 2, Kind::Double, Device::Cpu);
            let hidden = mlp.hidden(&parameters, &inputs);
            assert_eq!(hidden.len(), 3);
            for h in &hidden {
                assert_eq!(h.size(), [6, 512]);
                let variance = h.square().mean(Kind::Double).double_value(&[]);
                assert!((variance - 2.0).abs() < 0.4, "{variance}");
            }
        }
    }

    /// The function of the same draws does not depend on how exponents are split between a and b.
    #[test]
    fn a_shift_of_exponents_changes_nothing() {
        let inputs = unit_inputs(3, 5, 2, Kind::Double, Device::Cpu);
        let run = |abc: Abc| {
            let mlp = mlp(abc);
            let parameters = mlp.parameters(4, Kind::Double, Device::Cpu);
            crate::jacobian::outputs(&parameters, &mlp.examples(inputs.shallow_clone()), 2)
        };
        let plain = run(Abc::ntk(2));
        let shifted = run(Abc::ntk(2).shifted_for_sgd(&[0.3, -0.4, 0.25]));
        assert!((plain - shifted).abs().max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn learning_rates_follow_the_exponents() {
        let mlp = mlp(Abc::mup_sign(3));
        let n = 512f64;
        let expected = [n.powf(-0.5), 1.0 / n, 1.0 / n, n.powf(-0.5)].map(|x| 0.1 * x);
        for (rate, expected) in mlp.learning_rates(0.1).iter().zip(expected) {
            assert!((rate / expected - 1.0).abs() < 1e-14);
        }
        let names: Vec<String> = mlp.specs().iter().map(|s| s.layer.clone()).collect();
        assert_eq!(names, ["layer 1", "layer 2", "layer 3", "output"]);
    }
}
