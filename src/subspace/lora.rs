//! Low-rank adapters (LoRA): a weight W is replaced by `W + s B A`, A \[k, in\], B \[out, k\], and A and B are trained.
//!
//! Written as a tap around a tap: wherever the network's forward pass multiplies by an adapted W, the wrapper adds
//! `s B (A x)` through the same tap, so A and B are recorded, differentiated and updated like any other parameter.

use std::collections::HashMap;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::jacobian::{Examples, Param, ParameterSpec, Parameters, Tap};

/// A weight to adapt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The weight \[out, in\] in the network's parameters.
    pub weight: Param,
    /// Rank k.
    pub rank: i64,
    /// The factor s; PEFT's is `alpha / k`.
    pub scaling: f64,
}

/// Where the factors of one adapted weight are among the extended parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The adapted weight W \[out, in\].
    pub weight: Param,
    /// A \[k, in\].
    pub a: Param,
    /// B \[out, k\].
    pub b: Param,
    /// The factor s.
    pub scaling: f64,
}

/// How the entries of A are drawn. B is always zero at first, so that the network starts unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// N(0, 1/k): the kernel of the adapted weights keeps its expectation (with s = 1).
    Gaussian,
    /// PEFT's default, Kaiming-uniform with a = √5: uniform on ±1/√in, variance 1/(3 in).
    KaimingUniform,
    /// PEFT's `init_lora_weights="gaussian"`: N(0, 1/k²).
    PeftGaussian,
}

impl Init {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gaussian, Self::KaimingUniform, Self::PeftGaussian];

    /// Variance of an entry of A \[k, in\].
    pub fn variance(self, rank: i64, input: i64) -> f64 {
        match self {
            Self::Gaussian => 1.0 / rank as f64,
            Self::KaimingUniform => 1.0 / (3 * input) as f64,
            Self::PeftGaussian => 1.0 / (rank * rank) as f64,
        }
    }

    /// What the expected kernel of an adapted weight is multiplied by: `s² k Var(A)`.
    pub fn factor(self, rank: i64, input: i64, scaling: f64) -> f64 {
        scaling * scaling * rank as f64 * self.variance(rank, input)
    }

    /// A random A \[k, in\], the same on every machine.
    fn draw(self, rank: i64, input: i64, seed: u64, stream: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let deviation = self.variance(rank, input).sqrt();
        let entry = || match self {
            Self::KaimingUniform => 3f64.sqrt() * deviation * rng.random_range(-1.0..1.0),
            Self::Gaussian | Self::PeftGaussian => {
                let standard: f64 = StandardNormal.sample(&mut rng);
                deviation * standard
            }
        };
        let numbers: Vec<f64> = std::iter::repeat_with(entry).take((rank * input) as usize).collect();
        Tensor::from_slice(&numbers).view([rank, input])
    }
}

/// Which parameters of an adapted network are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// A and B, as LoRA does.
    Adapters,
    /// B only, A frozen as drawn. At B = 0 the kernel is the same, for A's gradient vanishes there.
    OnlyB,
}

/// A set of adapters of one network: where they are, and how the network's parameters are extended by their factors.
#[derive(Clone, Debug)]
pub struct Lora {
    specs: Arc<[ParameterSpec]>,
    adapters: Vec<Adapter>,
    base: usize,
}

impl Lora {
    /// Adapters for some weights of a network with these specifications. The extended parameters are the network's,
    /// followed by `….lora_A` and `….lora_B` of each target in turn.
    ///
    /// # Errors
    /// [`Error::Settings`] when a target is not a matrix of the network or is named twice, a rank is not positive, or
    /// there is no target.
    pub fn new(network: &[ParameterSpec], targets: &[Target]) -> Result<Self> {
        if targets.is_empty() {
            return Err(Error::Settings("LoRA needs at least one weight to adapt".into()));
        }
        let mut specs = network.to_vec();
        let mut adapters: Vec<Adapter> = Vec::with_capacity(targets.len());
        for Target { weight, rank, scaling } in targets {
            let Some(spec) = network.get(weight.0) else {
                let message = format!("LoRA target {} does not exist: the network has {}", weight.0, network.len());
                return Err(Error::Settings(format!("{message} parameter tensors")));
            };
            let [out, input] = spec.shape[..] else {
                let message = format!("`{}` of shape {:?} cannot be a LoRA target", spec.name, spec.shape);
                return Err(Error::Settings(format!("{message}: only weights of linear maps can")));
            };
            if *rank < 1 {
                return Err(Error::Settings(format!("LoRA rank {rank} of `{}` is not positive", spec.name)));
            }
            if adapters.iter().any(|a| a.weight == *weight) {
                return Err(Error::Settings(format!("`{}` is a LoRA target twice", spec.name)));
            }
            let stem = spec.name.strip_suffix(".weight").unwrap_or(&spec.name);
            let factor = |suffix: &str, shape: [i64; 2]| ParameterSpec {
                name: format!("{stem}.{suffix}"),
                shape: shape.to_vec(),
                role: spec.role,
                layer: spec.layer.clone(),
                structural_zeros: 0..0,
            };
            let (a, b) = (Param(specs.len()), Param(specs.len() + 1));
            specs.extend([factor("lora_A", [*rank, input]), factor("lora_B", [out, *rank])]);
            adapters.push(Adapter { weight: *weight, a, b, scaling: *scaling });
        }
        Ok(Self { specs: specs.into(), adapters, base: network.len() })
    }

    /// The specifications of the extended parameters.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The specifications of the network's own parameters.
    pub fn network_specs(&self) -> &[ParameterSpec] {
        &self.specs[..self.base]
    }

    /// The adapters, in the order of the targets.
    pub fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// Initial extended parameters: the network's own, A drawn from the seed (each a stream of its own), B zero.
    pub fn parameters(&self, network: &Parameters, init: Init, seed: u64) -> Parameters {
        let factors = self.adapters.iter().enumerate().map(|(i, adapter)| {
            let shape = |p: Param| &self.specs[p.0].shape;
            let a = init.draw(shape(adapter.a)[0], shape(adapter.a)[1], seed, i as u64);
            (a, Tensor::zeros(shape(adapter.b).as_slice(), (Kind::Double, Device::Cpu)))
        });
        self.assemble(network, factors)
    }

    /// Extended parameters with given factors (A, B), one pair per adapter, converted to the network's precision and
    /// device.
    ///
    /// # Panics
    /// If the number of pairs or a shape is wrong: readers of files check them first.
    pub fn assemble(&self, network: &Parameters, factors: impl IntoIterator<Item = (Tensor, Tensor)>) -> Parameters {
        assert_eq!(network.len(), self.base, "the parameters of the network without adapters");
        let place = |t: &Tensor| t.to_kind(network.kind()).to_device(network.device());
        let mut values: Vec<Tensor> = network.values().iter().map(Tensor::shallow_clone).collect();
        values.extend(factors.into_iter().flat_map(|(a, b)| [place(&a), place(&b)]));
        Parameters::new(Arc::clone(&self.specs), values)
    }

    /// The network with `W + s B A` written into its weights: the same function without adapters.
    pub fn merged(&self, network: &Parameters, extended: &Parameters) -> Parameters {
        let by_weight = self.by_weight();
        let mut index = 0..;
        network.map(|value| {
            let weight = Param(index.next().expect("an open range"));
            match by_weight.get(&weight) {
                Some(x) => extended.get(weight) + extended.get(x.b).matmul(extended.get(x.a)) * x.scaling,
                None => value.shallow_clone(),
            }
        })
    }

    /// Flags of the extended parameters that are trained.
    pub fn include(&self, trained: Trained) -> Vec<bool> {
        let mut flags = vec![false; self.specs.len()];
        for adapter in &self.adapters {
            flags[adapter.a.0] = trained == Trained::Adapters;
            flags[adapter.b.0] = true;
        }
        flags
    }

    /// Flags of the network's own parameters that are adapted: the share of K_SGD that the adapters' kernel estimates.
    pub fn adapted_weights(&self) -> Vec<bool> {
        let mut flags = vec![false; self.base];
        for adapter in &self.adapters {
            flags[adapter.weight.0] = true;
        }
        flags
    }

    /// The network's examples, seen through the adapters; to be used with extended parameters.
    pub fn examples<'a>(&self, network: &'a dyn Examples) -> Adapted<'a> {
        Adapted { network, adapters: self.by_weight() }
    }

    fn by_weight(&self) -> HashMap<Param, Adapter> {
        self.adapters.iter().map(|a| (a.weight, *a)).collect()
    }
}

/// A network with adapters, applied to its examples. Its parameters are those of [`Lora::parameters`].
///
/// Only products with an adapted weight get an adapter. A table that is also used as an embedding or a decoder (tied
/// weights) keeps those uses unadapted.
pub struct Adapted<'a> {
    network: &'a dyn Examples,
    adapters: HashMap<Param, Adapter>,
}

impl Examples for Adapted<'_> {
    fn len(&self) -> usize {
        self.network.len()
    }

    fn outputs(&self) -> usize {
        self.network.outputs()
    }

    fn cost(&self, index: usize) -> usize {
        self.network.cost(index)
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        self.network.forward(&mut AdaptedTap { inner: tap, adapters: &self.adapters }, indices)
    }
}

/// A tap that adds `s B (A x)` to products with adapted weights.
struct AdaptedTap<'a> {
    inner: &'a mut dyn Tap,
    adapters: &'a HashMap<Param, Adapter>,
}

impl Tap for AdaptedTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let y = self.inner.linear(x, weight, bias);
        let Some(adapter) = self.adapters.get(&weight) else { return y };
        let low = self.inner.linear(x, adapter.a, None);
        y + self.inner.linear(&low, adapter.b, None) * adapter.scaling
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        self.inner.embedding(table, ids)
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        self.inner.scale_shift(x, weight, bias)
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        self.inner.select_rows(h, table, bias, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Abc, Activation, Mlp, normal_tensor};

    fn mlp() -> Mlp {
        Mlp { input: 3, width: 5, depth: 2, outputs: 2, activation: Activation::Tanh, gain: 1.0, abc: Abc::ntk(2) }
    }

    #[test]
    fn an_adapted_network_is_the_merged_one() {
        let mlp = mlp();
        let network = mlp.parameters(1, Kind::Double, Device::Cpu);
        let inputs = normal_tensor(&[4, 3], 1.0, 2, 0, Kind::Double, Device::Cpu);
        let target = |i, rank| Target { weight: Param(i), rank, scaling: 0.5 + i as f64 };
        let lora = Lora::new(network.specs(), &[target(2, 1), target(0, 4)]).expect("valid targets");
        let draw = |shape: &[i64], stream| normal_tensor(shape, 1.0, 3, stream, Kind::Double, Device::Cpu);
        let factors = [(draw(&[1, 5], 0), draw(&[2, 1], 1)), (draw(&[4, 3], 2), draw(&[5, 4], 3))];
        let extended = lora.assemble(&network, factors);
        let examples = mlp.examples(inputs);
        let adapted = crate::jacobian::outputs(&extended, &lora.examples(&examples), 3);
        let merged = crate::jacobian::outputs(&lora.merged(&network, &extended), &examples, 3);
        let plain = crate::jacobian::outputs(&network, &examples, 3);
        assert!((&adapted - merged).abs().max().double_value(&[]) < 1e-14);
        assert!((adapted - plain).abs().max().double_value(&[]) > 1e-2, "the adapters do something");
        let names: Vec<&str> = lora.specs()[3..].iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["output.lora_A", "output.lora_B", "layer.1.lora_A", "layer.1.lora_B"]);
        assert_eq!(lora.include(Trained::OnlyB), [false, false, false, false, true, false, true]);
        assert_eq!(lora.adapted_weights(), [true, false, true]);
    }

    #[test]
    fn initial_entries_have_the_stated_variance() {
        for init in Init::ALL {
            let a = init.draw(40, 500, 7, 0);
            let square = a.square().mean(Kind::Double).double_value(&[]);
            assert!((square / init.variance(40, 500) - 1.0).abs() < 0.05, "{init:?}: {square}");
        }
    }

    #[test]
    fn impossible_targets_are_refused() {
        let specs = mlp().specs();
        let target = |i, rank| Target { weight: Param(i), rank, scaling: 1.0 };
        for (targets, message) in [
            (vec![], "at least one"),
            (vec![target(3, 1)], "does not exist"),
            (vec![target(1, 0)], "not positive"),
            (vec![target(1, 1), target(1, 2)], "twice"),
        ] {
            let error = Lora::new(&specs, &targets).expect_err(message).to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
