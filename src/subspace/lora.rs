//! Low-rank adapters (LoRA): a weight W is replaced by `W + s B A`, A \[k, in\], B \[out, k\], and A and B are trained. With
//! magnitudes (DoRA, Liu et al. 2024) each row of the sum is rescaled to the norm m, which is trained too; the row's own
//! norm is treated as a constant in gradients, as in PEFT.
//!
//! This module places the adapters and extends the parameters; [`super::adapted`] applies them in a forward pass.

use std::sync::Arc;

use kernelview_loops::draws::Draws;
use tch::{Device, Kind, Tensor};

use super::adapted::{Adapted, ByUse, lengths};
use super::adapter::{Adapter, Use};
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Param, ParameterSpec, Parameters};

/// Numbers of a factor beyond which it cannot be meant: four terabytes.
const MOST: i64 = 1 << 40;

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

/// An adapter to put on one use of a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The weight, the rank and the factor.
    pub target: Target,
    /// The use.
    pub of: Use,
    /// Whether rows have trained magnitudes.
    pub magnitudes: bool,
    /// Prefix of the factors' names; `None` for the weight's own name without `.weight`.
    pub name: Option<String>,
}

impl From<Target> for Placement {
    fn from(target: Target) -> Self {
        Self { target, of: Use::Linear, magnitudes: false, name: None }
    }
}

/// How the entries of A are drawn. B always starts at zero, so that the network is initially unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// N(0, 1/k): the adapters' kernel has the adapted weights' kernel as its mean (for s = 1).
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

    /// The mean kernel of an adapter relative to that of its weight: `s² k Var(A)`.
    pub fn factor(self, rank: i64, input: i64, scaling: f64) -> f64 {
        scaling * scaling * rank as f64 * self.variance(rank, input)
    }

    /// A random A \[k, in\], the same on every machine.
    fn draw(self, rank: i64, input: i64, seed: u64, stream: u64) -> Tensor {
        let mut draws = Draws::new(seed, stream);
        let (deviation, count) = (self.variance(rank, input).sqrt(), (rank * input) as usize);
        let numbers = match self {
            Self::KaimingUniform => draws.uniform(3f64.sqrt() * deviation, count),
            Self::Gaussian | Self::PeftGaussian => draws.normal(0.0, deviation, count),
        };
        Tensor::from_slice(&numbers).view([rank, input])
    }
}

/// Which parameters of an adapted network are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// A and B, as in LoRA.
    Adapters,
    /// Only B, with A frozen. At B = 0 the kernel is the same, because A's gradient vanishes there.
    OnlyB,
}

/// The adapters of a network, which extend the network's parameters by their factors.
#[derive(Clone, Debug)]
pub struct Lora {
    specs: Arc<[ParameterSpec]>,
    adapters: Vec<Adapter>,
    base: usize,
    replaced: Vec<Param>,
}

impl Lora {
    /// Adapters for some weights of a network with these specifications. The extended parameters are the network's,
    /// followed by `….lora_A` and `….lora_B` of each target in turn.
    ///
    /// # Errors
    /// [`Error::Adapter`] if a target is not a matrix of the network or is given twice, or a rank is not positive;
    /// [`Error::Missing`] without targets.
    pub fn new(network: &[ParameterSpec], targets: &[Target]) -> Result<Self> {
        Self::placed(network, &targets.iter().map(|target| Placement::from(*target)).collect::<Vec<_>>())
    }

    /// The same for any use of the weights. Factors of embeddings are `….lora_embedding_A` and `….lora_embedding_B`;
    /// magnitudes, `….lora_magnitude_vector`, follow the factors.
    ///
    /// # Errors
    /// As [`Self::new`], and for magnitudes of anything but linear maps.
    pub fn placed(network: &[ParameterSpec], placements: &[Placement]) -> Result<Self> {
        if placements.is_empty() {
            return Err(Error::Missing { what: "targets".into(), needed: "LoRA adapts at least one weight".into() });
        }
        let mut specs = network.to_vec();
        let mut adapters: Vec<Adapter> = Vec::with_capacity(placements.len());
        for Placement { target: Target { weight, rank, scaling }, of, magnitudes, name } in placements {
            let Some(spec) = network.get(weight.0) else {
                let hint = format!("the network has {} of them, counted from 0", network.len());
                return Err(Error::Unknown { what: "parameter tensor".into(), name: weight.0.to_string(), hint });
            };
            let refused = |problem: String| Err(Error::Adapter { weight: spec.name.clone(), problem });
            let [out, input] = spec.shape[..] else {
                return refused(format!(
                    "its shape is {:?}, but only weights of linear maps can be adapted",
                    spec.shape
                ));
            };
            if *rank < 1 {
                return refused(format!("rank {rank} is not positive"));
            }
            if rank.checked_mul(out.max(input)).is_none_or(|numbers| numbers > MOST) {
                return refused(format!("factors of rank {rank} have more numbers than any memory holds"));
            }
            if adapters.iter().any(|a| (a.weight, a.of) == (*weight, *of)) {
                return refused("it is a target twice".into());
            }
            if *magnitudes && *of != Use::Linear {
                return refused("magnitudes are supported only for linear maps".into());
            }
            let stem = name.as_deref().unwrap_or_else(|| spec.name.strip_suffix(".weight").unwrap_or(&spec.name));
            let mut add = |suffix: &str, shape: &[i64]| {
                specs.push(ParameterSpec::new(format!("{stem}.{suffix}"), shape, spec.role, spec.layer.clone()));
                Param(specs.len() - 1)
            };
            let (a, b) = match of {
                Use::Embedding => (add("lora_embedding_A", &[out, *rank]), add("lora_embedding_B", &[input, *rank])),
                Use::Linear | Use::Decoder => (add("lora_A", &[*rank, input]), add("lora_B", &[out, *rank])),
            };
            let magnitude = magnitudes.then(|| add("lora_magnitude_vector", &[out]));
            adapters.push(Adapter { weight: *weight, of: *of, a, b, magnitude, scaling: *scaling });
        }
        Ok(Self { specs: specs.into(), adapters, base: network.len(), replaced: Vec::new() })
    }

    /// The same, with some of the network's own parameters replaced by values that came with the adapters and are not
    /// trained.
    #[must_use]
    pub fn with_replaced(self, replaced: Vec<Param>) -> Self {
        Self { replaced, ..self }
    }

    /// The network's own parameters that came with the adapters.
    pub fn replaced(&self) -> &[Param] {
        &self.replaced
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

    /// Initial extended parameters: the network's own; A drawn from the seed, each from its own stream, and B zero; for
    /// embeddings, B drawn and A zero; magnitudes are the norms of W's rows.
    pub fn parameters(&self, network: &Parameters, init: Init, seed: u64) -> Parameters {
        let values = self.adapters.iter().enumerate().flat_map(|(i, adapter)| {
            let shape = |p: Param| &self.specs[p.0].shape;
            let zeros = |p: Param| Tensor::zeros(shape(p).as_slice(), (Kind::Double, Device::Cpu));
            let draw = |rank: i64, input: i64| init.draw(rank, input, seed, i as u64);
            let (a, b) = match (adapter.of, shape(adapter.a).as_slice(), shape(adapter.b).as_slice()) {
                (Use::Embedding, _, [width, rank]) => (zeros(adapter.a), draw(*rank, *width).tr().contiguous()),
                (_, [rank, input], _) => (draw(*rank, *input), zeros(adapter.b)),
                _ => unreachable!("factors are matrices"),
            };
            [Some(a), Some(b), adapter.magnitude.map(|_| lengths(network.get(adapter.weight)))]
        });
        self.extend(network, values.flatten())
    }

    /// Extended parameters with given factors (A, B), one pair per adapter, converted to the network's precision and
    /// device.
    ///
    /// # Panics
    /// If the number of pairs or a shape is wrong: readers of files check them first.
    pub fn assemble(&self, network: &Parameters, factors: impl IntoIterator<Item = (Tensor, Tensor)>) -> Parameters {
        self.extend(network, factors.into_iter().flat_map(|(a, b)| [a, b]))
    }

    /// Extended parameters with the given values after the network's own, in the order of the specifications, converted to
    /// the network's precision and device.
    ///
    /// # Panics
    /// If their number or a shape is wrong: readers of files check them first.
    pub fn extend(&self, network: &Parameters, values: impl IntoIterator<Item = Tensor>) -> Parameters {
        assert_eq!(network.len(), self.base, "the parameters of the network without adapters");
        let place = |t: Tensor| t.to_kind(network.kind()).to_device(network.device());
        let own = network.values().iter().map(Tensor::shallow_clone);
        Parameters::new(Arc::clone(&self.specs), own.chain(values.into_iter().map(place)).collect())
    }

    /// The network with `W + s B A` merged into the weights of its linear maps: the same function without adapters, if only
    /// linear maps are adapted.
    pub fn merged(&self, network: &Parameters, extended: &Parameters) -> Parameters {
        let by_weight = self.by_weight();
        let mut index = 0..;
        network.map(|value| {
            let weight = Param(index.next().expect("an open range"));
            let Some(x) = by_weight.get(&(weight, Use::Linear)) else { return value.shallow_clone() };
            let sum = extended.get(weight) + extended.get(x.b).matmul(extended.get(x.a)) * x.scaling;
            match x.magnitude {
                Some(m) => &sum * (extended.get(m) / lengths(&sum)).unsqueeze(1),
                None => sum,
            }
        })
    }

    /// Whether each extended parameter is trained.
    pub fn include(&self, trained: Trained) -> Vec<bool> {
        let mut flags = vec![false; self.specs.len()];
        for adapter in &self.adapters {
            flags[adapter.a.0] = trained == Trained::Adapters;
            flags[adapter.b.0] = true;
            if let Some(magnitude) = adapter.magnitude {
                flags[magnitude.0] = trained == Trained::Adapters;
            }
        }
        flags
    }

    /// Whether each of the network's own parameters is adapted: the share of K_SGD that the adapters' kernel estimates.
    pub fn adapted_weights(&self) -> Vec<bool> {
        let mut flags = vec![false; self.base];
        for adapter in &self.adapters {
            flags[adapter.weight.0] = true;
        }
        flags
    }

    /// The network's examples with the adapters applied; to be used with extended parameters.
    pub fn examples<'a>(&self, network: &'a dyn Examples) -> Adapted<'a> {
        Adapted::new(network, self.by_weight())
    }

    fn by_weight(&self) -> ByUse {
        self.adapters.iter().map(|a| ((a.weight, a.of), *a)).collect()
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
            (vec![], "no targets"),
            (vec![target(3, 1)], "unknown parameter tensor `3`"),
            (vec![target(1, 0)], "not positive"),
            (vec![target(1, 1), target(1, 2)], "twice"),
        ] {
            let error = Lora::new(&specs, &targets).expect_err(message).to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
