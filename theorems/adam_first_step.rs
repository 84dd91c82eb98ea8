//! Adam's first step is a step of sign descent
//!
//! **Statement.** With bias correction and `ε = 0`, Adam's first update is exactly `-η sign(g)`, whatever its decay
//! rates `β1, β2` in `[0, 1)`; an entry whose gradient is zero does not move.
//!
//! **Hypotheses.** Moments start at zero, both are bias-corrected, `ε` is zero (or far below every gradient entry).
//!
//! **Derivation.** After one step `m = (1-β1) g` and `v = (1-β2) g²`. Bias correction divides by `1-β1` and `1-β2`,
//! so `m̂ = g`, `v̂ = g²`, and `-η m̂/√v̂ = -η g/|g|`. With `ε > 0` the factor is `|g|/(|g|+ε)` instead of 1; without
//! correction it is `(1-β1)/√(1-β2)`, which is 3.16 for the usual 0.9 and 0.999.
//!
//! **Experiment.** The optimizer that fine-tuning runs use, on random tensors whose entries span 200 orders of
//! magnitude and include zeros, with random decay rates and learning rates.
//!
//! **Control.** The same comparison with `ε` of the size of the gradients, and without the correction must fail.
//!
//! **Meaning.** This links the optimizer that everybody uses to sign descent, which has a kernel analog. It also says when the
//! link is weak: gradients as small as `ε`, which are more likely with a good prompt (small `χ`), turn Adam's first step
//! towards plain gradient descent.

use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::Tensor;

use super::cases::{larger, relative, worst};
use super::context::Context;
use super::{Claim, Graded, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::jacobian::{ParameterSpec, Parameters, Role};
use crate::train::{Optimizer, OptimizerKind};

const NO_BIAS_CORRECTION: Mutant = Mutant { name: "no-bias-correction", change: "moments are not bias-corrected" };
const DEFAULT_EPSILON: Mutant = Mutant { name: "default-epsilon", change: "ε = 1e-8 in place of 0" };
const SIGN_OF_ZERO: Mutant = Mutant { name: "sign-of-zero", change: "an entry without gradient is expected to move" };
const SCALED: Graded = Graded { name: "scaled", change: "updates 1e-14 of themselves too large" };

pub(super) const CLAIM: Claim = Claim {
    id: "adam-first-step",
    topic: Topic::Identity,
    title: "Adam's first step is a step of sign descent",
    source: "the paper, Section 4.2 (early stage of Adam)",
    prediction: "first update = -η sign(g) for ε = 0",
    text: include_str!("adam_first_step.rs"),
    mutants: &[NO_BIAS_CORRECTION, DEFAULT_EPSILON, SIGN_OF_ZERO],
    graded: &[SCALED],
    experiment,
};

/// About ten roundings of 1.1e-16: two moments, a root, two corrections, a quotient.
const TOLERANCE: f64 = 1e-14;

/// Gradients of a few parameter tensors and settings of Adam.
#[derive(Clone, Debug)]
pub struct Case {
    /// Shapes of the parameter tensors.
    pub shapes: Vec<Vec<i64>>,
    /// Gradient entries have magnitudes from 10^-orders to 10^orders.
    pub orders: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// Learning rate.
    pub eta: f64,
    /// Seed of the gradients.
    pub seed: u64,
}

impl Case {
    /// A random case with ε = 0.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        let shape = |rng: &mut ChaCha8Rng| (0..rng.random_range(1..4)).map(|_| rng.random_range(1..6)).collect();
        Self {
            shapes: (0..rng.random_range(1..4)).map(|_| shape(rng)).collect(),
            orders: 100.0,
            beta1: random_decay(rng),
            beta2: random_decay(rng),
            epsilon: 0.0,
            eta: 10f64.powf(rng.random_range(-6.0..0.0)),
            seed: rng.random(),
        }
    }

    /// Random gradients, one entry in ten zero.
    fn gradients(&self, context: &Context<'_>) -> Vec<Tensor> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut entry = || {
            let magnitude = 10f64.powf(self.orders * rng.random_range(-1.0..1.0));
            if rng.random_range(0..10) == 0 { 0.0 } else { magnitude * if rng.random() { 1.0 } else { -1.0 } }
        };
        let mut tensor = |shape: &Vec<i64>| {
            let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| entry()).collect();
            Tensor::from_slice(&numbers).view(shape.as_slice()).to_device(context.device)
        };
        self.shapes.iter().map(&mut tensor).collect()
    }
}

/// A decay rate between 0 and 0.9999, as likely near the upper end as near the lower.
pub(super) fn random_decay(rng: &mut ChaCha8Rng) -> f64 {
    1.0 - 10f64.powf(rng.random_range(-4.0..0.0))
}

/// Zero parameters with the shapes of these tensors.
pub(super) fn parameters_like(tensors: &[Tensor]) -> Parameters {
    let spec = |(i, t): (usize, &Tensor)| ParameterSpec::new(format!("tensor.{i}"), &t.size(), Role::Body, "body");
    let specs: Arc<[ParameterSpec]> = tensors.iter().enumerate().map(spec).collect();
    Parameters::new(specs, tensors.iter().map(Tensor::zeros_like).collect())
}

/// The factor of an update that removes the bias correction of step t.
pub(super) fn without_correction(beta1: f64, beta2: f64, step: i32) -> f64 {
    (1.0 - beta1.powi(step)) / (1.0 - beta2.powi(step)).sqrt()
}

/// Largest difference between the first update and -η sign(g), relative to η.
pub fn error(case: &Case, context: &Context<'_>) -> Result<f64> {
    let factor = if context.is(NO_BIAS_CORRECTION) { without_correction(case.beta1, case.beta2, 1) } else { 1.0 };
    let factor = factor * (1.0 + TOLERANCE * context.off(SCALED));
    let epsilon = if context.is(DEFAULT_EPSILON) { 1e-8 } else { case.epsilon };
    Ok(difference(case, epsilon, factor, context))
}

/// The error with this ε when updates are multiplied by a factor.
fn difference(case: &Case, epsilon: f64, factor: f64, context: &Context<'_>) -> f64 {
    let gradients = case.gradients(context);
    let parameters = parameters_like(&gradients);
    let kind = OptimizerKind::Adam { beta1: case.beta1, beta2: case.beta2, epsilon };
    let wanted: Vec<Option<Tensor>> = gradients.iter().map(|g| Some(g.shallow_clone())).collect();
    let updates = Optimizer::new(kind, case.eta, gradients.len()).updates(&parameters, &wanted, 1.0);
    gradients.iter().zip(updates).fold(0.0, |found, (g, update)| {
        let signs = if context.is(SIGN_OF_ZERO) { g.ge(0.0).to_kind(Context::KIND) * 2.0 - 1.0 } else { g.sign() };
        let update = update.expect("every tensor has a gradient") * factor;
        larger(found, relative(&update, &(signs * -case.eta)))
    })
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(50, 500, 5000);
    let [wrong] = worst(context, "adam-first-step", cases, Case::random, |case, context| Ok([error(case, context)?]))?;
    let checks = vec![identity("|update + η sign(g)| / η", TOLERANCE, wrong, cases)];
    let (mut epsilon, mut uncorrected) = (0.0, 0.0);
    for i in 0..8 {
        let case = Case::random(&mut super::cases::generator(context, &format!("adam-first-step control {i}")));
        let case = Case { orders: 1.0, beta1: 0.9, beta2: 0.999, ..case };
        epsilon = larger(epsilon, difference(&case, 1.0, 1.0, context));
        uncorrected = larger(uncorrected, difference(&case, 0.0, without_correction(0.9, 0.999, 1), context));
    }
    let controls = vec![
        identity("with ε of the size of the gradients", TOLERANCE, epsilon, 8),
        identity("without bias correction, β1 = 0.9, β2 = 0.999", TOLERANCE, uncorrected, 8),
    ];
    Ok(Findings { settings: vec![("cases".into(), cases.to_string())], checks, controls, ..Findings::default() })
}
