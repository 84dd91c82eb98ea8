//! With batches or several outputs sign descent has no equation with one kernel, but a nonlinear operator of χ.
//!
//! **Statement.** A step of SignGD on a batch moves output `c` of any `ξ_i` by `-<η ∇f_c(ξ_i), sign(Σ_jd χ_jd ∇f_d(ξ_j))>`, to
//! first order in the learning rates η (one per tensor). This operator `T(χ)` does not depend on the size of χ, is not additive in
//! χ, and is the equation of `K(A-SignGD)` for one example and one output. In the kernel regime it describes training with the
//! gradients of `θ_0`, up to a residual that falls with the width as `n^-3/4`; no kernel of the asymmetric kind does, whatever its
//! scale.
//!
//! **Hypotheses.** Differentiable outputs; along training, kernel behaviour under sign updates, and outputs that move by order one:
//! measured.
//!
//! **Derivation.** The update is `-η sign(g)` with `g = 1/B Σ_jd χ_jd ∇f_d(ξ_j)`; the sign does not depend on `1/B` or any
//! positive factor. The sign of a sum is not the sum of the signs: with `χ` and `χ'` on different examples `T(χ + χ') ≠ T(χ) +
//! T(χ')`, so that no linear map of χ or of its signs is `T`. For one term `sign(χ∇f) = sign(χ) sign(∇f)` (sign-factorization).
//! Along training an entry of the gradient changes by `n^-1/2` of its size, so that a share `n^-1/2` of the signs flips. In the
//! first and last layer, with `n` entries per column, the flips scatter by `√(n · n^-1/2)` of `n`, which is `n^-3/4`. In a
//! hidden matrix the entries of a row flip together or not at all, smoothly, and the error is `1/n`. Tensor Programs IVb has
//! the same operator as the limit of entrywise optimizers.
//!
//! **Experiment.** Exactly: on random networks with random χ, the derivative of outputs along the optimizer's step, by a central
//! difference of fourth order, against `T(χ)`; `T(cχ)` against `T(χ)`; and `T` of one example and output against the structured
//! engine's kernel. Along training: a tanh perceptron of growing width, batches of three of five examples, three outputs,
//! cross-entropy.
//!
//! **Control.** `Σ K_A(ic, jd) sign(χ_jd)`, `Σ K_A χ` and `Σ K(SGD) χ`, each with its best-fitting scale; and additivity of
//! `T`.
//!
//! **Meaning.** The paper states its sign kernel for one example and one output. For anything else kernel regression with it
//! models another optimizer; early Adam follows `T`.

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::batch::{Predicted, TOLERANCE, Trajectories, fall, figure, movement, smallness};
use super::cases::{Network, NetworkCase, generator, larger, relative, worst};
use super::context::{Context, SHIFTED};
use super::training::moved_by_step;
pub use super::vector_equation::Case;
use super::{Claim, Graded, Mutant, Topic, exactly};
use crate::error::Result;
use crate::evidence::{Collected, Findings};
use crate::kernel::{Formula, FormulaSet, GramOptions, dense_jacobian, sign_rows, structured_gram};
use crate::network::Abc;
use crate::progress::Silent;
use crate::train::{Optimizer, OptimizerKind};

const BY_EXAMPLE: Mutant =
    Mutant { name: "signs-by-example", change: "the mean of the signs of every example's gradient" };
const NAIVE: Mutant = Mutant { name: "one-kernel", change: "Σ K_A(ic, jd) sign(χ_jd) in place of the operator" };
const SCALED: Graded =
    Graded { name: "scaled-operator", change: "an operator that is too large by the tolerance of the exact equation" };

pub(super) const CLAIM: Claim = Claim {
    id: "sign-operator",
    topic: Topic::Kernel,
    title: "With batches or several outputs SignGD follows a nonlinear operator, and no kernel",
    source: "the paper, Section 4.2; Yang and Littwin, Tensor Programs IVb",
    prediction: "-<η ∇f, sign(Σ χ ∇f)>, exact to first order; residual along training falls as n^-3/4",
    text: include_str!("sign_operator.rs"),
    mutants: &[BY_EXAMPLE, NAIVE],
    graded: &[SHIFTED, SCALED],
    experiment,
};

const CLAIMED: &str = "operator";
const SIGNS: &str = "Σ K(A-SignGD) sign χ";
const ASYMMETRIC: &str = "Σ K(A-SignGD) χ";
const SGD: &str = "Σ K(SGD) χ";
const EXAMPLES: &str = "signs by example";

const PREDICTIONS: [Predicted; 5] = [
    Predicted { name: CLAIMED, scaled: false, step: |b| b.operator() },
    Predicted { name: SIGNS, scaled: true, step: |b| b.asymmetric(&b.chi().sign()) },
    Predicted { name: ASYMMETRIC, scaled: true, step: |b| b.asymmetric(&b.chi()) },
    Predicted { name: SGD, scaled: true, step: |b| b.sgd(&b.chi()) },
    Predicted { name: EXAMPLES, scaled: false, step: |b| b.signs_by_example() },
];

/// Exponent of the residual, and the accepted distance from it, which excludes -1/2 and -1.
const EXPONENT: f64 = -0.75;
const MARGIN: f64 = 0.2;

/// Homogeneity and the case of one example involve sums of the same products in another order.
const EXACT: f64 = 1e-12;

/// Gradients \[N·C, P\] of a network, with its parameters.
struct Gradients<'a> {
    network: &'a Network,
    rows: Tensor,
}

impl Gradients<'_> {
    /// `T(χ)` at learning rate 1, or a mutant's.
    fn operator(&self, chi: &Tensor, context: &Context<'_>) -> Tensor {
        let signs = |t: &Tensor| sign_rows(&self.network.parameters, t);
        let x = chi.reshape([-1]);
        let direction = if context.is(NAIVE) {
            signs(&self.rows).tr().matmul(&x.sign())
        } else if context.is(BY_EXAMPLE) {
            let products = &self.rows * x.unsqueeze(1);
            let examples =
                products.view([chi.size()[0], chi.size()[1], -1]).sum_dim_intlist(1i64, false, Context::KIND);
            signs(&examples).mean_dim(0i64, false, Context::KIND)
        } else {
            signs(&x.unsqueeze(0).matmul(&self.rows)).squeeze_dim(0)
        };
        -self.rows.matmul(&direction)
    }
}

fn gradients(network: &Network) -> Result<Gradients<'_>> {
    Ok(Gradients { network, rows: dense_jacobian(&network.parameters, &*network.examples)? })
}

/// Relative errors of the operator as the derivative of outputs along a step of SignGD, of `T(3χ) = T(χ)`, and of the operator
/// for one example and output as the kernel's.
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 3]> {
    let network = case.network.smooth().build(context);
    let chi = case.chi(context);
    let indices: Vec<usize> = (0..network.examples.len()).collect();
    let optimizer = Optimizer::new(OptimizerKind::Signgd, 1.0, network.parameters.len());
    let moved = moved_by_step(optimizer, &network.parameters, &*network.examples, (&indices, &chi));
    let all = gradients(&network)?;
    let operator = all.operator(&chi, context);
    let larger_chi = all.operator(&(&chi * 3.0), context);

    let one = NetworkCase { examples: 1, outputs: 1, ..case.network }.build(context);
    let options = GramOptions::new(FormulaSet::of(&[Formula::Asymmetric]), one.parameters.len());
    let kernel = structured_gram(&one.parameters, &*one.examples, None, &options, &Silent)?.asymmetric;
    let of_one =
        gradients(&one)?.operator(&Tensor::from_slice(&[-0.3]).view([1, 1]).to_device(context.device), context);
    let stated = &operator * (1.0 + TOLERANCE * context.off(SCALED));
    Ok([
        relative(&moved, &stated),
        relative(&larger_chi, &operator),
        relative(&of_one, &kernel.expect("asked for").view(-1)),
    ])
}

/// Distance of `T(χ) + T(χ')` from `T(χ + χ')`, relative to the latter.
fn additivity(case: &Case, context: &Context<'_>) -> Result<f64> {
    let network = case.network.build(context);
    let (one, other) = (case.chi(context), Case { seed: case.seed ^ 1, ..*case }.chi(context));
    let all = gradients(&network)?;
    let apart = all.operator(&one, context) + all.operator(&other, context);
    Ok(relative(&apart, &all.operator(&(one + other), context)))
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let trajectories =
        Trajectories { optimizer: OptimizerKind::Signgd, abc: Abc::ntk_sign(2), eta: 0.1, predictions: &PREDICTIONS };
    let seeds = context.samples(28, 40, 40);
    let scan = trajectories.scan(context, seeds)?;
    let cases = context.cases(20, 200, 1000);
    let random = |rng: &mut ChaCha8Rng| Case::random(rng);
    let [wrong, size, single] = worst(context, "sign-operator", cases, random, errors)?;
    let mut apart = f64::INFINITY;
    for i in 0..8 {
        let case = Case::random(&mut generator(context, &format!("sign-operator control {i}")));
        let network = NetworkCase { examples: 3, ..case.network };
        apart = apart.min(larger(additivity(&Case { network, ..case }, context)?, 0.0));
    }
    let claimed = match () {
        () if context.is(NAIVE) => SIGNS,
        () if context.is(BY_EXAMPLE) => EXAMPLES,
        () => CLAIMED,
    };
    let falls = context.expected(EXPONENT, MARGIN);
    let mut controls = vec![exactly("T(χ) + T(χ') = T(χ + χ') (smallest relative error)", TOLERANCE, apart, 8)];
    let mut series = vec![scan.series(CLAIMED, CLAIMED, Some(EXPONENT), false)];
    for wrong in [SIGNS, ASYMMETRIC, SGD] {
        controls.push(fall(&scan, wrong, falls)?);
        series.push(scan.series(wrong, wrong, None, true));
    }
    Ok(context.judged(Collected {
        settings: trajectories.settings(context, seeds, cases),
        hypotheses: vec![movement(&scan)?],
        checks: vec![
            exactly("relative error of T(χ) as the derivative of outputs", TOLERANCE, wrong, cases),
            exactly("relative error of T(3χ) = T(χ)", EXACT, size, cases),
            exactly("relative error of T = -sign(χ) K(A-SignGD) for one example and output", EXACT, single, cases),
            fall(&scan, claimed, falls)?,
            smallness(&scan, claimed),
        ],
        controls,
        tables: vec![scan.local_slopes(&[(CLAIMED, EXPONENT)])?],
        figures: vec![figure("Residual of predicted steps of SignGD", series)],
        ..Collected::default()
    }))
}
