//! Kernels add over parameters: learning rates per tensor are weights of their shares, and any split of the parameters splits
//! the kernel.
//!
//! **Statement.** With learning rates `η_l` per parameter tensor, a step of SGD on one example moves outputs by `-χ Σ_l η_l K^l`, a
//! step of SignGD by `-sign(χ) Σ_l η_l K_A^l`, to first order, with `K^l` the share of tensor `l`. For any subset S of the
//! parameters `K_S + K_rest = K`, for all three kernels; so the kernel of bias-only fine-tuning (BitFit) and that of the rest add
//! up to the whole.
//!
//! **Hypotheses.** Learning rates do not depend on the gradient within a tensor. For the sign kernels, a single output.
//!
//! **Derivation.** An inner product is a sum over coordinates, and a learning rate per tensor is a weight per coordinate: `<∇f,
//! D χ∇f'> = χ Σ_l η_l <∇_l f, ∇_l f'>` with `D = diag(η)`, likewise with `sign ∇f'`. A rate enters once: `K_A` has the weight
//! `η_l`, not its square as a kernel of gradients rescaled on both sides would.
//!
//! **Experiment.** Random networks (perceptrons, transformers, language models), rates over four orders of magnitude. The
//! weighted sum of the structured engine's shares against the dense reference with `D`; against the derivative of outputs along
//! the optimizer's own step with those rates (central difference of fourth order); and both parts of a random split against the
//! whole, and of biases against the rest.
//!
//! **Control.** One rate for all tensors, the mean; and two subsets that share a tensor.
//!
//! **Meaning.** Which layers train, and how fast, is a choice of kernel: freezing, discriminative rates, BitFit and muP's rates are
//! all weights of the same shares.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::cases::{Network, NetworkCase, generator, larger, relative, worst};
use super::context::Context;
use super::training::{entries, moved_by_step};
use super::{Claim, Graded, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::jacobian::ParameterSpec;
use crate::kernel::{Formula, FormulaSet, GramOptions, dense_jacobian, sign_rows, structured_gram};
use crate::progress::Silent;
use crate::train::{Optimizer, OptimizerKind};

const SQUARED: Mutant = Mutant { name: "squared-rates", change: "shares weighed by η_l²" };
const UNWEIGHED_SIGNS: Mutant = Mutant { name: "one-rate-for-signs", change: "K_A weighed by the mean rate" };
const OVERLAP: Mutant =
    Mutant { name: "overlapping-subsets", change: "the first tensor counts in both parts of the split" };
const SCALED: Graded =
    Graded { name: "scaled-rates", change: "rates that are too large by the tolerance of the derivative of outputs" };

pub(super) const CLAIM: Claim = Claim {
    id: "layer-rates",
    topic: Topic::Identity,
    title: "Kernels add over parameters, weighed by learning rates: K_A = Σ η_l K_A^l",
    source: "the paper, Definition 3.3, for learning rates per tensor; Ben Zaken et al. 2022 (BitFit)",
    prediction: "Σ η_l K^l and Σ η_l K_A^l, exact to first order; K_S + K_rest = K",
    text: include_str!("layer_rates.rs"),
    mutants: &[SQUARED, UNWEIGHED_SIGNS, OVERLAP],
    graded: &[SCALED],
    experiment,
};

/// What is compared, with the accepted relative error: sums of up to 1e5 products in another order, and a central difference.
pub const LAWS: [(&str, f64); 5] = [
    ("Σ η_l K^l is the kernel of gradients weighed by η", 1e-11),
    ("Σ η_l K_A^l is the asymmetric kernel weighed by η", 1e-11),
    ("a step of SGD moves outputs by -χ Σ η_l K^l", DERIVATIVE),
    ("a step of SignGD moves outputs by -sign(χ) Σ η_l K_A^l", DERIVATIVE),
    ("K_S + K_rest = K, for random subsets and for biases", 1e-11),
];

const DERIVATIVE: f64 = 1e-8;

/// A network with learning rates and a subset of its tensors.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network, of one output.
    pub network: NetworkCase,
    /// Seed of rates and subset.
    pub seed: u64,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        let network = NetworkCase { outputs: 1, ..NetworkCase::random(rng) };
        Self { network, seed: rng.random() }
    }
}

/// Kernels \[N, N\] over the parameters that `include` marks.
fn kernel(network: &Network, include: Vec<bool>, formula: Formula) -> Result<Tensor> {
    let mut options = GramOptions::new(FormulaSet::of(&[formula]), include.len());
    options.include = include;
    let gram = structured_gram(&network.parameters, &*network.examples, None, &options, &Silent)?;
    Ok(gram.matrix(formula).expect("asked for").shallow_clone())
}

/// Number of groups of tensors with a common rate, which need one Gram matrix each.
const GROUPS: usize = 4;

/// The weighted sum of shares.
fn weighed(shares: &[Tensor], weights: &[f64]) -> Tensor {
    let products = shares.iter().zip(weights).map(|(share, weight)| share * *weight);
    products.reduce(|sum, share| sum + share).expect("a network has parameters")
}

/// A network with groups of tensors and their rates, between 0.01 and 100.
struct Rated {
    network: Network,
    /// Group of each tensor.
    groups: Vec<usize>,
    /// Rate of each group that has tensors.
    rates: Vec<f64>,
    rng: ChaCha8Rng,
}

impl Rated {
    fn new(case: &Case, context: &Context<'_>) -> Self {
        let network = case.network.smooth().build(context);
        let mut rng = ChaCha8Rng::seed_from_u64(case.seed);
        let count = network.parameters.len().min(GROUPS);
        // Every group has a tensor.
        let groups = (0..network.parameters.len()).map(|l| if l < count { l } else { rng.random_range(0..count) });
        let groups = groups.collect();
        let rates = (0..count).map(|_| 10f64.powf(rng.random_range(-2.0..2.0))).collect();
        Self { network, groups, rates, rng }
    }

    /// The rate of each tensor.
    fn of_tensors(&self) -> Vec<f64> {
        self.groups.iter().map(|group| self.rates[*group]).collect()
    }

    /// The groups' shares of a kernel.
    fn shares(&self, formula: Formula) -> Result<Vec<Tensor>> {
        let of_group = |group: usize| -> Vec<bool> { self.groups.iter().map(|g| *g == group).collect() };
        (0..self.rates.len()).map(|group| kernel(&self.network, of_group(group), formula)).collect()
    }

    /// The mean rate, for every group.
    fn common(&self) -> Vec<f64> {
        let mean = self.rates.iter().sum::<f64>() / self.rates.len() as f64;
        vec![mean; self.rates.len()]
    }

    /// First-order change of the outputs \[N\] by a step on the first example.
    fn step(&self, optimizer: OptimizerKind, chi: f64) -> Tensor {
        let (parameters, examples) = (&self.network.parameters, &*self.network.examples);
        let optimizer = Optimizer::with_rates(optimizer, self.of_tensors());
        moved_by_step(optimizer, parameters, examples, (&[0], &Tensor::from_slice(&[chi]).view([1, 1])))
    }
}

/// The errors of [`LAWS`].
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 5]> {
    let mut rated = Rated::new(case, context);
    let (sgd, signs) = (rated.shares(Formula::Sgd)?, rated.shares(Formula::Asymmetric)?);
    let squares: Vec<f64> = rated.rates.iter().map(|rate| rate * rate).collect();
    let stated = if context.is(SQUARED) { &squares } else { &rated.rates };
    let for_signs = if context.is(UNWEIGHED_SIGNS) { &rated.common() } else { stated };
    let (own_sgd, own_signs) = (weighed(&sgd, stated), weighed(&signs, for_signs));

    let parameters = &rated.network.parameters;
    let jacobian = dense_jacobian(parameters, &*rated.network.examples)?;
    let left = &jacobian * entries(parameters, &rated.of_tensors());
    let (dense_sgd, dense_signs) = (left.matmul(&jacobian.tr()), left.matmul(&sign_rows(parameters, &jacobian).tr()));

    let chi = rated.rng.random_range(0.1..1.0) * if rated.rng.random() { 1.0 } else { -1.0 };
    let factor = 1.0 + DERIVATIVE * context.off(SCALED);
    let sgd_step = relative(&rated.step(OptimizerKind::Sgd, chi), &(own_sgd.select(1, 0) * (-chi * factor)));
    let sign_step =
        relative(&rated.step(OptimizerKind::Signgd, chi), &(own_signs.select(1, 0) * (-chi.signum() * factor)));

    let random: Vec<bool> = (0..rated.groups.len()).map(|_| rated.rng.random()).collect();
    let biases: Vec<bool> = rated.network.parameters.specs().iter().map(ParameterSpec::is_bias).collect();
    let mut split = 0.0;
    for subset in [random, biases] {
        for formula in [Formula::Sgd, Formula::Asymmetric, Formula::Signgd] {
            split = larger(split, splitting(&rated.network, &subset, formula, context.is(OVERLAP))?);
        }
    }
    Ok([relative(&own_sgd, &dense_sgd), relative(&own_signs, &dense_signs), sgd_step, sign_step, split])
}

/// Relative error of the sum of the kernels of a subset and of the rest; with `overlap` the first tensor is in both.
fn splitting(network: &Network, subset: &[bool], formula: Formula, overlap: bool) -> Result<f64> {
    let mut rest: Vec<bool> = subset.iter().map(|own| !own).collect();
    let mut own = subset.to_vec();
    if overlap {
        (own[0], rest[0]) = (true, true);
    }
    let parts = [own, rest].into_iter().filter(|part| part.contains(&true));
    let parts: Vec<Tensor> = parts.map(|part| kernel(network, part, formula)).collect::<Result<_>>()?;
    let sum = parts.into_iter().reduce(|a, b| a + b).expect("a tensor is in one of the parts");
    Ok(relative(&sum, &kernel(network, vec![true; subset.len()], formula)?))
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.cases(16, 100, 500);
    let found = worst(context, "layer-rates", cases, Case::random, errors)?;
    let checks = LAWS.iter().zip(found).map(|((law, tolerance), error)| identity(*law, *tolerance, error, cases));
    let (mut common, mut overlapping) = (f64::INFINITY, f64::INFINITY);
    for i in 0..8 {
        let case = Case::random(&mut generator(context, &format!("layer-rates control {i}")));
        let rated = Rated::new(&case, context);
        let shares = rated.shares(Formula::Sgd)?;
        common = common.min(relative(&weighed(&shares, &rated.common()), &weighed(&shares, &rated.rates)));
        let subset: Vec<bool> = (0..rated.groups.len()).map(|l| l % 2 == 0).collect();
        overlapping = overlapping.min(splitting(&rated.network, &subset, Formula::Signgd, true)?);
    }
    let controls = vec![
        identity("one rate for all tensors (smallest relative error)", LAWS[0].1, common, 8),
        identity("subsets that share the first tensor (smallest relative error)", LAWS[4].1, overlapping, 8),
    ];
    Ok(Findings {
        settings: vec![("cases".into(), cases.to_string())],
        checks: checks.collect(),
        controls,
        ..Findings::default()
    })
}
