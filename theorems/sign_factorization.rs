//! With one output, the sign of the loss gradient is the sign of χ times the sign of the output's gradient
//!
//! **Statement.** For a network with one output `f` and any loss of it, `sign(∇ℓ) = sign(χ) · sign(∇f)` entry by entry,
//! where `χ = ∂ℓ/∂f`. For `C > 1` outputs `∇ℓ = Σ_c χ_c ∇f_c`, and its sign is in general that of none of the terms.
//!
//! **Hypotheses.** One output, one example (a batch is a sum over examples, which does not factor either), and the rule
//! that gradients which vanish in exact arithmetic have sign zero.
//!
//! **Derivation.** `∇ℓ = χ ∇f` by the chain rule, and the sign of a product is the product of the signs. The sign of a sum of
//! several terms depends on their magnitudes.
//!
//! **Experiment.** Random perceptrons, transformers and language models with one output and the logistic loss on random labels,
//! `∇ℓ` by one backward pass through the loss and `∇f` by another through the output alone. Counted: entries whose signs
//! differ. Rounding can flip only entries that cancel to `1e-12` of the largest one; these have no meaningful sign in floating
//! point and are left out.
//!
//! **Control.** The same networks with three outputs and cross-entropy: `sign(χ_c) sign(∇f_c)` of every single output
//! `c` must differ from `sign(∇ℓ)` in many entries. A batch of two examples with one output must fail as well.
//!
//! **Meaning.** One step of SignGD changes `f(ξ)` by `-η <∇f(ξ), sign(∇ℓ)>`. Only because the sign factors is this a
//! scalar `sign(χ)` times a *kernel*, `K_A(ξ, ξ') = <∇f(ξ), sign ∇f(ξ')>`, that does not depend on the labels. This
//! is why the paper states its sign kernel for one output and batch size one, and why with several label words the
//! sign kernels are a convention (an output of its own for every label word) rather than a consequence of training.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::cases::{NetworkCase, largest, worst};
use super::context::Context;
use super::{Claim, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::jacobian::{Examples, Parameters, PlainTap};
use crate::kernel::{dense_jacobian, sign_rows};
use crate::train::{cross_entropy, output_derivative};

const NO_SIGN_OF_CHI: Mutant = Mutant { name: "no-sign-of-chi", change: "sign(∇f) in place of sign(χ) sign(∇f)" };
const OPPOSITE_LABEL: Mutant = Mutant { name: "opposite-label", change: "χ of the other label" };

pub(super) const CLAIM: Claim = Claim {
    id: "sign-factorization",
    topic: Topic::Identity,
    title: "With one output, the sign of the loss gradient is the sign of χ times the sign of the output's gradient",
    source: "the paper, Section 4.2 (derivation of its sign-based kernel)",
    prediction: "sign(∇ℓ) = sign(χ) sign(∇f) for C = 1",
    text: include_str!("sign_factorization.rs"),
    mutants: &[NO_SIGN_OF_CHI, OPPOSITE_LABEL],
    // Signs are equal or not: there is no tolerance to be off by.
    graded: &[],
    experiment,
};

/// Entries below this fraction of the largest are round-off of sums that cancel: at most 1e4 roundings of 1.1e-16.
const ROUND_OFF: f64 = 1e-12;

/// A network and a label.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network; each test sets its own numbers of examples and outputs.
    pub network: NetworkCase,
    /// Whether the first example is of the second class.
    pub positive: bool,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self { network: NetworkCase::random(rng), positive: rng.random() }
    }
}

/// Fraction of the gradient's entries whose sign is not sign(χ) sign(∇f).
pub fn error(case: &Case, context: &Context<'_>) -> Result<f64> {
    let network = NetworkCase { examples: 1, outputs: 1, ..case.network };
    Ok(mismatches(network, i64::from(case.positive), context)?[0])
}

/// For every Jacobian row of a network, the fraction of entries in which the sign of the loss gradient differs from that row's
/// factored sign. All examples have the same label.
fn mismatches(network: NetworkCase, label: i64, context: &Context<'_>) -> Result<Vec<f64>> {
    let built = network.build(context);
    let (parameters, examples) = (&built.parameters, &*built.examples);
    let labels = Tensor::full([network.examples as i64], label, (Kind::Int64, context.device));
    let f = crate::jacobian::outputs(parameters, examples, network.examples).to_device(context.device);
    let chi = output_derivative(&f, &labels);
    let gradient = loss_gradient(parameters, examples, &labels);
    let signs = sign_rows(parameters, &gradient);
    let jacobian = dense_jacobian(parameters, examples)?;
    let assumed = match () {
        () if context.is(NO_SIGN_OF_CHI) => chi.ones_like(),
        () if context.is(OPPOSITE_LABEL) => output_derivative(&f, &(1 - labels)),
        () => chi,
    };
    let predicted = sign_rows(parameters, &jacobian) * assumed.reshape([-1, 1]).sign();
    let sound = gradient.abs().gt(ROUND_OFF * largest(&gradient));
    let different = predicted.not_equal_tensor(&signs).logical_and(&sound);
    let counts = different.sum_dim_intlist(1, false, Kind::Double) / sound.sum(Kind::Double).clamp_min(1.0);
    Ok(Vec::try_from(counts.to_device(tch::Device::Cpu)).expect("a flat f64 tensor"))
}

/// Gradient \[1, P\] of the loss of all examples: logistic for one output, cross-entropy for several.
fn loss_gradient(parameters: &Parameters, examples: &dyn Examples, labels: &Tensor) -> Tensor {
    let leaves = parameters.map(|v| v.detach().set_requires_grad(true));
    let f = examples.forward(&mut PlainTap::new(&leaves), &(0..examples.len()).collect::<Vec<_>>());
    let loss = if examples.outputs() == 1 {
        let y = (labels * 2 - 1).unsqueeze(1).to_kind(Kind::Double);
        -(y * f).log_sigmoid().sum(Kind::Double)
    } else {
        cross_entropy(&f, labels)
    };
    // Adding 0·Σθ makes every parameter part of the graph, so that one the outputs do not reach has gradient zero.
    let anchor = leaves.values().iter().fold(Tensor::zeros_like(&loss), |sum, p| sum + p.sum(Kind::Double));
    let gradients = Tensor::run_backward(&[loss + anchor * 0.0], leaves.values(), false, false);
    Tensor::cat(&gradients.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0).unsqueeze(0)
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(20, 200, 1000);
    let [wrong] =
        worst(context, "sign-factorization", cases, Case::random, |case, context| Ok([error(case, context)?]))?;
    let checks = vec![identity("one output: part of the signs that do not factor", 0.0, wrong, cases)];

    // The smallest mismatch over rows and networks: even there the signs must not factor.
    let (mut several, mut batch): (f64, f64) = (1.0, 1.0);
    for i in 0..8 {
        let mut rng = super::cases::generator(context, &format!("sign-factorization control {i}"));
        let network = NetworkCase::random_language_model(&mut rng);
        let least = |examples, outputs| -> Result<f64> {
            let rows = mismatches(NetworkCase { examples, outputs, ..network }, 0, context)?;
            Ok(rows.into_iter().fold(1.0, f64::min))
        };
        several = several.min(least(1, 3)?);
        batch = batch.min(least(2, 1)?);
    }
    let controls = vec![
        identity("three outputs: smallest part that does not factor for any one of them", 0.0, several, 8),
        identity("two examples: smallest part that does not factor for either of them", 0.0, batch, 8),
    ];
    let notes = vec![format!(
        "With three outputs at least {:.1}% of the signs differ from those of any single output, with two examples {:.1}% \
         from those of either.",
        100.0 * several,
        100.0 * batch
    )];
    Ok(Findings { settings: vec![("cases".into(), cases.to_string())], checks, controls, notes, ..Findings::default() })
}
