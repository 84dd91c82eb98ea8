//! What a LoRA adapter computes before training
//!
//! **Statement.** Let a weight `W` be replaced by `W + s B A` with `B = 0`. Then the network's outputs are unchanged,
//! `∂f/∂A = 0`, and `∂f/∂B = s (∂f/∂W) Aᵀ`. Hence the SGD kernel of the adapters' parameters is
//! `K_LoRA(ξ,ξ') = Σ s² <G Aᵀ, G' Aᵀ>` over the adapted weights, where `G = ∂f(ξ)/∂W` and `G' = ∂f(ξ')/∂W`.
//!
//! **Hypotheses.** `W` enters `f` through products `W x` alone, all of which are adapted.
//!
//! **Derivation.** By the chain rule at `V = W + s B A`: `∂f/∂B = s (∂f/∂V) Aᵀ` and `∂f/∂A = s Bᵀ (∂f/∂V)`; at
//! `B = 0` the second vanishes and `V = W`. A kernel is the sum of the kernels of its parameter tensors (see
//! kernel-algebra).
//!
//! **Experiment.** Random perceptrons, transformers and language models, a random choice of weights to adapt, random
//! ranks, factors and initial distributions. Outputs and Jacobian of the adapted network (automatic differentiation
//! and recorded factors) against those of the plain one; the structured engine's kernel of the adapted network
//! against the formula.
//!
//! **Control.** The same comparisons with `B` drawn at random, as after some training: outputs differ, `A` has a
//! gradient, and the kernel is no longer that of `B` alone.
//!
//! **Meaning.** At the start LoRA is full fine-tuning seen through a random matrix: each weight's gradient is
//! multiplied by `Aᵀ` before inner products are taken. What that does to the kernel is a question about random
//! projections (see lora).

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::cases::{Network, NetworkCase, generator, larger, largest, relative, worst};
use super::context::Context;
use super::{Claim, Graded, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::jacobian::{Param, ParameterSpec, Parameters, outputs, record};
use crate::kernel::{FormulaSet, GramOptions, dense_jacobian, structured_gram};
use crate::network::normal_tensor;
use crate::progress::Silent;
use crate::subspace::{Init, Lora, Target, Trained};

const RANDOM_B: Mutant = Mutant { name: "random-b", change: "B starts at random too" };
const UNSCALED: Mutant = Mutant { name: "unscaled", change: "∂f/∂B without the factor s" };
const REVERSED_A: Mutant = Mutant { name: "reversed-a", change: "∂f/∂B with the rows of A in reversed order" };
const WHOLE_GRADIENT: Mutant = Mutant { name: "whole-gradient", change: "K_LoRA = Σ s² <G, G'>, without A" };
const SCALED: Graded = Graded { name: "scaled", change: "the stated ∂f/∂B is 1e-11 of itself too large" };

pub(super) const CLAIM: Claim = Claim {
    id: "lora-at-init",
    topic: Topic::Identity,
    title: "What a LoRA adapter computes before it is trained",
    source: "the paper, Section 7 (kernel view of LoRA)",
    prediction: "f unchanged, ∂f/∂A = 0, ∂f/∂B = s (∂f/∂W) Aᵀ, K_LoRA = Σ s² <GAᵀ, G'Aᵀ>",
    text: include_str!("lora_at_init.rs"),
    mutants: &[RANDOM_B, UNSCALED, REVERSED_A, WHOLE_GRADIENT],
    graded: &[SCALED],
    experiment,
};

/// Products of a gradient of a network of a few layers with A, formed in two orders: sums of up to 1e3 terms.
const TOLERANCE: f64 = 1e-11;

/// A network and its adapters.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network.
    pub network: NetworkCase,
    /// One weight in this many is adapted, at least one in all.
    pub sparsity: u64,
    /// Rank of all adapters.
    pub rank: i64,
    /// Their factor s.
    pub scaling: f64,
    /// Distribution of A.
    pub init: Init,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self {
            network: NetworkCase::random(rng),
            sparsity: rng.random_range(1..4),
            rank: rng.random_range(1..9),
            scaling: rng.random_range(0.1..3.0),
            init: Init::ALL[rng.random_range(0..3)],
        }
    }

    fn lora(&self, network: &Network) -> Result<Lora> {
        let is_linear = |spec: &ParameterSpec| spec.shape.len() == 2 && !spec.name.contains("embedding");
        let is_decoder = |spec: &ParameterSpec| spec.name.ends_with("decoder.weight");
        let specs = network.parameters.specs();
        let weights = (0..specs.len()).filter(|i| is_linear(&specs[*i]) && !is_decoder(&specs[*i])).map(Param);
        let weights: Vec<Param> = weights.collect();
        let first = (self.network.seed % weights.len() as u64) as usize;
        let chosen = weights.iter().cycle().skip(first).step_by(self.sparsity as usize);
        let count = weights.len().div_ceil(self.sparsity as usize);
        let targets: Vec<Target> = chosen
            .take(count)
            .map(|weight| Target { weight: *weight, rank: self.rank, scaling: self.scaling })
            .collect();
        Lora::new(specs, &targets)
    }
}

/// Change of the outputs; largest gradient of A relative to the largest of B; relative error of B's gradient by
/// autograd and by recorded factors; relative error of the kernel.
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 4]> {
    measure(case, context.is(RANDOM_B), context)
}

fn measure(case: &Case, random_b: bool, context: &Context<'_>) -> Result<[f64; 4]> {
    let network = case.network.build(context);
    let lora = case.lora(&network)?;
    let mut extended = lora.parameters(&network.parameters, case.init, case.network.seed);
    if random_b {
        extended = with_random_b(&lora, &extended, case.network.seed);
    }
    let examples = lora.examples(&*network.examples);
    let all: Vec<usize> = (0..case.network.examples).collect();

    let plain = outputs(&network.parameters, &*network.examples, 2);
    let change = largest(&(outputs(&extended, &examples, 2) - &plain));

    let of_network = Columns::new(&network.parameters, dense_jacobian(&network.parameters, &*network.examples)?);
    let autograd = Columns::new(&extended, dense_jacobian(&extended, &examples)?);
    let recorded = Columns::new(&extended, record(&extended, &examples, &all).dense());
    let rows = of_network.jacobian.size()[0];
    let mut kernel = Tensor::zeros([rows, rows], (Kind::Double, context.device));
    let (mut of_a, mut largest_b, mut of_b) = (0.0, 0.0, 0.0);
    for adapter in lora.adapters() {
        let a = extended.get(adapter.a);
        let a = if context.is(REVERSED_A) { a.flip([0]) } else { a.shallow_clone() };
        let scaling = if context.is(UNSCALED) { 1.0 } else { adapter.scaling };
        let g = of_network.of(adapter.weight);
        let expected = g.matmul(&a.tr()) * scaling;
        let stated = &expected * (1.0 + TOLERANCE * context.off(SCALED));
        for found in [&autograd, &recorded] {
            of_a = larger(of_a, largest(&found.of(adapter.a)));
            of_b = larger(of_b, relative(&found.of(adapter.b), &stated));
        }
        largest_b = larger(largest_b, largest(&expected));
        let projected = if context.is(WHOLE_GRADIENT) { g * scaling } else { expected };
        let flat = projected.reshape([rows, -1]);
        kernel += flat.matmul(&flat.tr());
    }
    let options =
        GramOptions { include: lora.include(Trained::Adapters), ..GramOptions::new(FormulaSet::SGD, extended.len()) };
    let engine = structured_gram(&extended, &examples, None, &options, &Silent)?.sgd.expect("asked for");
    // A perceptron of dead units has no gradients.
    let of_a = if of_a == 0.0 { 0.0 } else { of_a / largest_b };
    Ok([change, of_a, of_b, relative(&engine, &kernel.to_device(tch::Device::Cpu))])
}

/// The same parameters with random factors B.
fn with_random_b(lora: &Lora, extended: &Parameters, seed: u64) -> Parameters {
    let mut index = 0..;
    extended.map(|value| {
        let p = Param(index.next().expect("an open range"));
        if lora.adapters().iter().any(|a| a.b == p) {
            normal_tensor(&value.size(), 0.5, seed, 1 << 40 | p.0 as u64, value.kind(), value.device())
        } else {
            value.shallow_clone()
        }
    })
}

/// A Jacobian with lookup of its columns by parameter.
struct Columns {
    jacobian: Tensor,
    starts: Vec<i64>,
    shapes: Vec<Vec<i64>>,
}

impl Columns {
    fn new(parameters: &Parameters, jacobian: Tensor) -> Self {
        let mut start = 0;
        let starts = parameters.specs().iter().map(|spec| {
            start += spec.numel();
            start - spec.numel()
        });
        let starts = starts.collect();
        Self { jacobian, starts, shapes: parameters.specs().iter().map(|s| s.shape.clone()).collect() }
    }

    /// Gradients \[R, rows, columns\] of a matrix.
    fn of(&self, p: Param) -> Tensor {
        let shape = &self.shapes[p.0];
        self.jacobian.narrow(1, self.starts[p.0], shape[0] * shape[1]).reshape([-1, shape[0], shape[1]])
    }
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(20, 200, 1000);
    let [change, of_a, of_b, kernel] = worst(context, "lora-at-init", cases, Case::random, errors)?;
    let checks = vec![
        identity("change of the outputs", 0.0, change, cases),
        identity("gradient of A relative to that of B", 0.0, of_a, cases),
        identity("relative error of ∂f/∂B = s (∂f/∂W) Aᵀ", TOLERANCE, of_b, cases),
        identity("relative error of K_LoRA = Σ s² <GAᵀ, G'Aᵀ>", TOLERANCE, kernel, cases),
    ];
    let mut trained = [0.0; 4];
    for i in 0..4 {
        let mut rng = generator(context, &format!("lora-at-init control {i}"));
        let network = NetworkCase::random_language_model(&mut rng);
        let case = Case { network, ..Case::random(&mut rng) };
        for (all, one) in trained.iter_mut().zip(measure(&case, true, context)?) {
            *all = larger(*all, one);
        }
    }
    let controls = vec![
        identity("B at random: change of the outputs", 0.0, trained[0], 4),
        identity("B at random: gradient of A relative to that of B", 0.0, trained[1], 4),
        identity("B at random: relative error of K_LoRA = Σ s² <GAᵀ, G'Aᵀ>", TOLERANCE, trained[3], 4),
    ];
    Ok(Findings { settings: vec![("cases".into(), cases.to_string())], checks, controls, ..Findings::default() })
}
