//! The output derivative is the derivative of the loss in the network's output
//!
//! **Statement.** For a loss `ℓ(f, y)` of a network's output `f` the paper calls `χ = ∂ℓ/∂f` the *output derivative*
//! (its Definition 3.1). For cross-entropy over the logits of `C` label words `χ = softmax(f) - e_y`, with `e_y` the
//! unit vector of the true class; for the logistic loss `log(1 + e^(-y f))` of one output and `y = ±1` it is
//! `χ = -y σ(-y f)`, with `σ` the logistic function; for `½ |f - y|²` it is `χ = f - y`. The gradient of the loss in
//! the parameters is `Σ_c χ_c ∇f_c`.
//!
//! **Hypotheses.** None: the formulas hold for every output, and the last one for every network that is differentiable
//! at its parameters.
//!
//! **Derivation.** Cross-entropy is `log Σ_c e^(f_c) - f_y`; the derivative of its first term in `f_c` is
//! `softmax(f)_c`, of its second `-1(c = y)`. The logistic loss has the derivative
//! `-y e^(-y f) / (1 + e^(-y f)) = -y σ(-y f)`. The square's is immediate. The gradient in the parameters is the
//! chain rule.
//!
//! **Experiment.** Random outputs, from nearly undecided to far beyond saturation, and random labels: the formulas
//! that kernels and training use, against automatic differentiation of the loss. Then random perceptrons,
//! transformers and language models: `Σ_c χ_c ∇f_c` of a batch, with `∇f_c` from one backward pass per output,
//! against the gradient of the loss itself.
//!
//! **Control.** The same formulas with the label of another class, or with the opposite sign of `y`: they must be far
//! off.
//!
//! **Meaning.** `χ` is all that a kernel method needs to know of the loss. Every statement about kernel behaviour is about `χ`
//! times a kernel, and "natural task" means that `χ` is small at the pre-trained parameters; any error in `χ` is an error in
//! both.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::cases::{NetworkCase, larger, largest, relative, worst};
use super::context::Context;
use super::{Claim, Graded, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::kernel::dense_jacobian;
use crate::network::normal_tensor;
use crate::train::{cross_entropy, loss_gradient, output_derivative};

const NO_ONE_HOT: Mutant = Mutant { name: "no-one-hot", change: "χ = softmax(f), without subtracting the true class" };
const WRONG_SIDE: Mutant = Mutant { name: "wrong-side", change: "χ = -yσ(yf) for the logistic loss" };
const HALF_SQUARE: Mutant = Mutant { name: "half-square", change: "χ = 2(f - y), the derivative of |f - y|²" };
const SCALED: Graded = Graded { name: "scaled", change: "Σ χ_c ∇f_c is 1e-11 of itself too large" };

pub(super) const CLAIM: Claim = Claim {
    id: "output-derivative",
    topic: Topic::Identity,
    title: "The output derivative is the derivative of the loss in the network's output",
    source: "the paper, Definition 3.1",
    prediction: "χ = softmax(f) - e_y, -yσ(-yf), f - y; ∇ℓ = Σ χ_c ∇f_c",
    text: include_str!("output_derivative.rs"),
    mutants: &[NO_ONE_HOT, WRONG_SIDE, HALF_SQUARE],
    graded: &[SCALED],
    experiment,
};

/// Formulas and autograd divide and sum a handful of terms of order one (|χ| ≤ 1): a few roundings of 1.1e-16.
const OUTPUT_TOLERANCE: f64 = 1e-14;
/// Sums of at most 15 gradients of a network of four layers, taken in two orders: about a hundred roundings.
const GRADIENT_TOLERANCE: f64 = 1e-11;

/// Outputs, labels and a network to differentiate.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Number of outputs of the cross-entropy, at least two.
    pub classes: usize,
    /// Standard deviation of the outputs.
    pub scale: f64,
    /// The network for the chain rule, with `classes` in place of its number of outputs.
    pub network: NetworkCase,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        let scale = 10f64.powf(rng.random_range(-3.0..2.0));
        Self { classes: rng.random_range(2..7), scale, network: NetworkCase::random(rng) }
    }
}

/// Largest difference between formula and autograd: cross-entropy, logistic loss, squared loss (the latter relative),
/// and the gradient of a network (relative).
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 4]> {
    let network = NetworkCase { outputs: case.classes, ..case.network };
    let (examples, classes) = (network.examples as i64, case.classes as i64);
    let draw = |stream: u64| {
        normal_tensor(&[examples, classes], case.scale, network.seed, (1 << 20) + stream, Kind::Double, context.device)
    };
    // The order of independent numbers is a random label.
    let labels = draw(0).argmax(1, false);
    let outputs = draw(1);

    let formula =
        if context.is(NO_ONE_HOT) { outputs.softmax(-1, Kind::Double) } else { output_derivative(&outputs, &labels) };
    // The loss is a mean, while χ is per example.
    let autograd = gradient(&outputs, |f| cross_entropy(f, &labels) * examples);
    let cross = largest(&(formula - autograd));

    let (one, sign) = (outputs.narrow(1, 0, 1), (&labels.clamp_max(1) * 2 - 1).unsqueeze(1).to_kind(Kind::Double));
    let formula = if context.is(WRONG_SIDE) {
        -&sign * (&sign * &one).sigmoid()
    } else {
        output_derivative(&one, &labels.clamp_max(1))
    };
    let autograd = gradient(&one, |f| -(&sign * f).log_sigmoid().sum(Kind::Double));
    let logistic = largest(&(formula - autograd));

    let targets = draw(2);
    let factor = if context.is(HALF_SQUARE) { 2.0 } else { 1.0 };
    let formula = (&outputs - &targets) * factor;
    let squared = relative(&formula, &gradient(&outputs, |f| (f - &targets).square().sum(Kind::Double) * 0.5));

    let built = network.build(context);
    let indices: Vec<usize> = (0..network.examples).collect();
    let include = vec![true; built.parameters.len()];
    let (_, direct) = loss_gradient(&built.parameters, &*built.examples, &labels, &indices, &include);
    let direct: Vec<Tensor> =
        direct.into_iter().map(|g| g.expect("every parameter is included").reshape([-1])).collect();
    let f = crate::jacobian::outputs(&built.parameters, &*built.examples, network.examples).to_device(context.device);
    let chi = output_derivative(&f, &labels).reshape([1, -1]) / examples;
    let jacobian = dense_jacobian(&built.parameters, &*built.examples)?;
    let sum = chi.matmul(&jacobian).squeeze_dim(0) * (1.0 + GRADIENT_TOLERANCE * context.off(SCALED));
    let chain = relative(&sum, &Tensor::cat(&direct, 0));
    Ok([cross, logistic, squared, chain])
}

/// Gradient of a scalar function of a tensor.
fn gradient(at: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let leaf = at.copy().set_requires_grad(true);
    Tensor::run_backward(&[f(&leaf)], &[&leaf], false, false).remove(0)
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(20, 200, 1000);
    let [cross, logistic, squared, chain] = worst(context, "output-derivative", cases, Case::random, errors)?;
    let checks = vec![
        identity("cross-entropy: |softmax(f) - e_y - ∂ℓ/∂f|", OUTPUT_TOLERANCE, cross, cases),
        identity("logistic loss: |-yσ(-yf) - ∂ℓ/∂f|", OUTPUT_TOLERANCE, logistic, cases),
        identity("squared loss: relative error of f - y", OUTPUT_TOLERANCE, squared, cases),
        identity("relative error of ∇ℓ = Σ χ_c ∇f_c", GRADIENT_TOLERANCE, chain, cases),
    ];
    let (class, side) = (0..8).fold((0.0, 0.0), |(class, side), i| {
        let (c, s) = wrong_labels(context.seed(&format!("output-derivative control {i}")), context.device);
        (larger(class, c), larger(side, s))
    });
    let controls = vec![
        identity("cross-entropy, χ of the next class", OUTPUT_TOLERANCE, class, 8),
        identity("logistic loss, χ of the opposite label", OUTPUT_TOLERANCE, side, 8),
    ];
    Ok(Findings { settings: vec![("cases".into(), cases.to_string())], checks, controls, ..Findings::default() })
}

/// Differences between χ and autograd if χ gets the label of the next class, or the opposite of two labels.
fn wrong_labels(seed: u64, device: Device) -> (f64, f64) {
    let f = normal_tensor(&[5, 3], 1.0, seed, 0, Kind::Double, device);
    let labels = normal_tensor(&[5, 3], 1.0, seed, 1, Kind::Double, device).argmax(1, false);
    let next = (&labels + 1).remainder(3);
    let class = largest(&(output_derivative(&f, &next) - gradient(&f, |f| cross_entropy(f, &labels) * 5)));
    let (one, two) = (f.narrow(1, 0, 1), labels.clamp_max(1));
    let sign = (&two * 2 - 1).unsqueeze(1).to_kind(Kind::Double);
    let logistic = gradient(&one, |f| -(&sign * f).log_sigmoid().sum(Kind::Double));
    (class, largest(&(output_derivative(&one, &(1 - two)) - logistic)))
}
