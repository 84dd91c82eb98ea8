//! Adam's ε leads from the kernel of SignGD to that of SGD.
//!
//! **Statement.** With bias correction Adam's first update is `-η g/(|g| + ε)` entry by entry, whatever its decay rates. On one
//! example with output derivative χ it moves outputs, to first order, by `-η sign(χ) K_{ε/|χ|}` with the kernel `K_s(ξ, ξ') =
//! <∇f(ξ), ∇f(ξ')/(|∇f(ξ')| + s)>`: of SignGD for small s, `K_s → K_A`, and of SGD for large s, `s K_s → K_SGD`. Both ends have
//! known rates: on the diagonal `K_A - K_s = s · #{∇f ≠ 0} + O(s²)` and `K_SGD - s K_s = Σ|∇f|³/s + O(s^-2)`.
//!
//! **Hypotheses.** Moments start at zero and are bias-corrected. For the kernel, one example and one output.
//!
//! **Derivation.** `m̂ = g`, `√v̂ = |g|` after one step (adam-first-step). With `g = χ∇f'` an entry is `χ∂f'/(|χ||∂f'| + ε) =
//! sign(χ) ∂f'/(|∂f'| + ε/|χ|)`: only the ratio of ε and |χ| counts. Expand `|g|²/(|g|+s) = |g| - s|g|/(|g|+s)` for small s and
//! `s|g|²/(|g|+s) = |g|² - |g|³/(|g|+s)` for large s.
//!
//! **Experiment.** The optimizer of the fine-tuning runs on random gradients over 20 orders of magnitude and random ε. Then
//! random networks with χ and ε over six orders of magnitude: the derivative of outputs along Adam's own step (central
//! difference of fourth order) against `K_{ε/|χ|}`; and both ends of the diagonal, a thousandth of the smallest gradient entry
//! and a thousand times the largest.
//!
//! **Control.** `K_A` and `K_SGD/s` with the median gradient entry for s; and ε in place of ε/|χ|.
//!
//! **Meaning.** Whether Adam is sign descent depends on the size of ε relative to χ times the gradient's entries: a prompt that
//! makes χ small, or a wide network in muP with its small gradients, can turn the default ε = 1e-8 into SGD.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::adam_first_step::{parameters_like, random_decay};
use super::cases::{NetworkCase, generator, larger, largest, relative, worst};
use super::context::Context;
use super::training::moved_by_step;
use super::{Claim, Graded, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::{Cell, Findings, Table};
use crate::kernel::dense_jacobian;
use crate::train::{Optimizer, OptimizerKind};

const INSIDE: Mutant = Mutant { name: "epsilon-inside-the-root", change: "g/√(g² + ε²) in place of g/(|g| + ε)" };
const WITHOUT_CHI: Mutant = Mutant { name: "epsilon-without-chi", change: "K at ε in place of ε/|χ|" };
const NO_EPSILON: Mutant = Mutant { name: "no-epsilon", change: "the kernel of SignGD whatever ε is" };
const SCALED: Graded = Graded {
    name: "scaled-kernel",
    change: "a kernel that is too large by the tolerance of the derivative of outputs",
};

pub(super) const CLAIM: Claim = Claim {
    id: "adam-epsilon",
    topic: Topic::Identity,
    title: "Adam's ε leads from the kernel of SignGD to that of SGD",
    source: "ours; the paper's Section 4.2 has ε = 0",
    prediction: "first step -η g/(|g|+ε); kernel <∇f, ∇f'/(|∇f'|+ε/|χ|)>, both ends with their rates",
    text: include_str!("adam_epsilon.rs"),
    mutants: &[INSIDE, WITHOUT_CHI, NO_EPSILON],
    graded: &[SCALED],
    experiment,
};

/// About ten roundings of 1.1e-16.
const UPDATE: f64 = 1e-14;
/// See vector-equation.
const DERIVATIVE: f64 = 1e-8;
/// The next term of either expansion is at most a thousandth of the leading one.
const ENDS: f64 = 1e-3;

/// A network with an ε and a χ.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network, of one output.
    pub network: NetworkCase,
    /// ε in units of |χ| times the median gradient entry, as a power of ten.
    pub epsilon: f64,
    /// |χ| as a power of ten, and its sign.
    pub chi: (f64, bool),
    /// Decays of Adam's moments.
    pub betas: (f64, f64),
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        let network = NetworkCase { outputs: 1, ..NetworkCase::random(rng) };
        let (epsilon, chi) = (rng.random_range(-3.0..3.0), (rng.random_range(-6.0..0.0), rng.random()));
        Self { network, epsilon, chi, betas: (random_decay(rng), random_decay(rng)) }
    }
}

/// A gradient divided by its size plus s.
fn damped(g: &Tensor, s: f64, context: &Context<'_>) -> Tensor {
    if context.is(INSIDE) { g / (g.square() + s * s).sqrt() } else { g / (g.abs() + s) }
}

/// Relative errors of the first update, of the kernel as the derivative of outputs, and of the rates at either end.
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 4]> {
    let network = case.network.smooth().build(context);
    let (parameters, examples) = (&network.parameters, &*network.examples);
    let jacobian = dense_jacobian(parameters, examples)?;
    let own = jacobian.get(0);
    let sizes = own.abs();
    // The departures of smaller entries are lost in the round-off of the others'.
    let moving = sizes.masked_select(&sizes.gt_tensor(&(sizes.max() * 1e-6)));
    let median = moving.median().double_value(&[]);
    let chi = 10f64.powf(case.chi.0) * if case.chi.1 { 1.0 } else { -1.0 };
    let epsilon = 10f64.powf(case.epsilon) * chi.abs() * median;

    let (beta1, beta2) = case.betas;
    let kind = OptimizerKind::Adam { beta1, beta2, epsilon };
    let optimizer = Optimizer::new(kind, 1.0, parameters.len());
    let moved = moved_by_step(optimizer, parameters, examples, (&[0], &Tensor::from_slice(&[chi]).view([1, 1])));
    let s = match () {
        () if context.is(NO_EPSILON) => 0.0,
        () if context.is(WITHOUT_CHI) => epsilon,
        () => epsilon / chi.abs(),
    };
    let direction = if s == 0.0 { own.sign() } else { damped(&own, s, context) };
    let factor = 1.0 + DERIVATIVE * context.off(SCALED);
    let stated = jacobian.matmul(&direction) * (-chi.signum() * factor);

    let sum = |t: Tensor| t.sum(Kind::Double).double_value(&[]);
    let small = moving.min().double_value(&[]) * 1e-3;
    // Computed entry by entry, so that nothing cancels.
    let departure = sum(&moving - &moving * damped(&moving, small, context));
    let low = (departure / small / moving.numel() as f64 - 1.0).abs();
    let large = moving.max().double_value(&[]) * 1e3;
    let remainder = sum(moving.square() - &moving * damped(&moving, large, context) * large);
    let high = (remainder * large / sum(moving.pow_tensor_scalar(3)) - 1.0).abs();
    Ok([update_error(case, context), relative(&moved, &stated), low, high])
}

/// Largest difference between Adam's first update of random gradients and `-g/(|g| + ε)`.
fn update_error(case: &Case, context: &Context<'_>) -> f64 {
    let mut rng: ChaCha8Rng = rand_chacha::rand_core::SeedableRng::seed_from_u64(case.network.seed);
    let entry =
        |rng: &mut ChaCha8Rng| 10f64.powf(rng.random_range(-10.0..10.0)) * if rng.random() { 1.0 } else { -1.0 };
    let g = Tensor::from_slice(&(0..40).map(|_| entry(&mut rng)).collect::<Vec<f64>>()).to_device(context.device);
    let epsilon = 10f64.powf(rng.random_range(-10.0..10.0));
    let kind = OptimizerKind::Adam { beta1: case.betas.0, beta2: case.betas.1, epsilon };
    let parameters = parameters_like(&[g.shallow_clone()]);
    let updates = Optimizer::new(kind, 1.0, 1).updates(&parameters, &[Some(g.shallow_clone())], 1.0);
    let update = updates[0].as_ref().expect("the tensor has a gradient");
    let stated = -damped(&g, epsilon, context);
    largest(&((update - &stated) / &stated))
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.cases(20, 200, 1000);
    let [update, derivative, low, high] = worst(context, "adam-epsilon", cases, Case::random, errors)?;
    let checks = vec![
        identity("relative error of the first update -g/(|g| + ε)", UPDATE, update, 40 * cases),
        identity("relative error of -sign(χ) K_{ε/|χ|} as the derivative of outputs", DERIVATIVE, derivative, cases),
        identity("small s: (K_A - K_s)/s over the number of moving entries, from 1", ENDS, low, cases),
        identity("large s: (K_SGD - s K_s) s over Σ|∇f|³, from 1", ENDS, high, cases),
    ];
    let [mut sign, mut sgd, mut without] = [f64::INFINITY; 3];
    for i in 0..8 {
        let case = Case::random(&mut generator(context, &format!("adam-epsilon control {i}")));
        let network = case.network.build(context);
        let jacobian = dense_jacobian(&network.parameters, &*network.examples)?;
        let own = jacobian.get(0);
        let sizes = own.abs();
        let s = sizes.masked_select(&sizes.gt(0.0)).median().double_value(&[]);
        let kernel = |direction: Tensor| jacobian.matmul(&direction);
        let right = kernel(&own / (&sizes + s));
        sign = sign.min(larger(relative(&kernel(own.sign()), &right), 0.0));
        sgd = sgd.min(larger(relative(&kernel(&own / s), &right), 0.0));
        without = without.min(larger(relative(&kernel(&own / (&sizes + s * 0.1)), &right), 0.0));
    }
    let controls = vec![
        identity("K_A where ε is the median entry (smallest relative error)", DERIVATIVE, sign, 8),
        identity("K_SGD/s where ε is the median entry (smallest relative error)", DERIVATIVE, sgd, 8),
        identity("ε in place of ε/|χ|, |χ| = 0.1 (smallest relative error)", DERIVATIVE, without, 8),
    ];
    Ok(Findings {
        settings: vec![("cases".into(), cases.to_string())],
        checks,
        controls,
        tables: vec![crossover(context)?],
        ..Findings::default()
    })
}

/// Ratios of the diagonal to both kernels' for one network, over s in units of the median gradient entry.
fn crossover(context: &Context<'_>) -> Result<Table> {
    let network = NetworkCase::random_mlp(&mut generator(context, "adam-epsilon crossover")).smooth().build(context);
    let own = dense_jacobian(&network.parameters, &*network.examples)?.get(0);
    let sizes = own.abs();
    let moving = sizes.masked_select(&sizes.gt(0.0));
    let median = moving.median().double_value(&[]);
    let sum = |t: Tensor| t.sum(Kind::Double).double_value(&[]);
    let row = |power: i32| {
        let s = median * 10f64.powi(power);
        let kernel = sum(moving.square() / (&moving + s));
        [10f64.powi(power), kernel / sum(moving.copy()), kernel * s / sum(moving.square())].map(Cell::from).to_vec()
    };
    Ok(Table {
        title: "The diagonal between both ends, for one perceptron".into(),
        columns: ["s over the median gradient entry", "K_s / K_A", "s K_s / K_SGD"].map(str::to_owned).to_vec(),
        rows: (-3..=3).map(row).collect(),
    })
}
