//! A random subspace of a few hundred dimensions keeps the kernel of all parameters
//!
//! **Statement.** Train `u` in `θ = θ_0 + Π u`, where `Π` has `P x k` independent entries `N(0, 1/k)`. The SGD kernel
//! of `u` at `u = 0` is `K_ID(ξ,ξ') = <Πᵀ∇f(ξ), Πᵀ∇f(ξ')>`. Its expectation is `K_SGD(ξ,ξ')`, its variance exactly
//! `(|g|²|g'|² + <g,g'>²)/k` with `g = ∇f(ξ)`, `g' = ∇f(ξ')`; the error falls as `k^(-1/2)` whatever the number of
//! parameters `P`. If `K_SGD(ξ,ξ) ≤ c` on `N` examples, then for `0 < ε < 1`
//! `Pr[some entry is off by at least cε] ≤ 4N² exp(-(ε² - ε³) k / 4)`.
//!
//! **Hypotheses.** `Π` is independent of the network and the examples; one fixed `θ_0`.
//!
//! **Derivation.** By the chain rule `∂f/∂u = Πᵀ∇f`. With the columns `π_r/√k` of `Π`,
//! `K_ID = (1/k) Σ_r <π_r,g> <π_r,g'>`: a mean of `k` independent products of two normal variables of variances
//! `|g|²`, `|g'|²` and covariance `<g,g'>`; such a product has mean `<g,g'>` and variance `|g|²|g'|² + <g,g'>²`
//! (Isserlis). For the bound, `k|Πᵀv|²/|v|²` is `χ²` with `k` degrees of freedom, so `|Πᵀv|²` is off by `ε|v|²` with
//! probability at most `2 exp(-(ε² - ε³) k / 4)` (Chernoff). Polarization, `4<Πᵀg,Πᵀg'> = |Πᵀ(g+g')|² - |Πᵀ(g-g')|²`,
//! turns two such events into one of `<g,g'>`, off by at most `(|g|²+|g'|²)ε/2 ≤ cε`; the union over `N²` pairs gives
//! the bound. Signs: `<π_r,g>` and `<π_r,g'>` are normal with the gradients' cosine `ρ` as correlation, so the mean
//! product of their signs is `(2/π) arcsin ρ` (Sheppard), a function of `K_SGD` alone.
//!
//! **Experiment.** First, on random networks, `∂f/∂u` by automatic differentiation against `Πᵀ∇f`. Then a perceptron with eight
//! inputs and many draws of `Π`: how often any entry is off by `c/2` at `k = 256` (upper confidence limit against the bound);
//! means and variances of all 36 entries, with simultaneous intervals that must lie close around the stated ones; the exponent
//! of the root mean square error in `k`; and the means of the sign kernel in the subspace against `(2/π) arcsin ρ`.
//!
//! **Control.** The sign kernel is not preserved, however large `k`: the same means must fail to be the cosines of
//! the gradients' signs, which are `K_SignGD` with its diagonal divided out. And the bound must fail for `Π` with
//! entries `N(0, 1/P)`, the variance of an orthonormal frame.
//!
//! **Meaning.** Where fine-tuning is in the kernel regime of SGD, a random subspace of `log(N)/ε²` dimensions learns
//! what all parameters learn: this explains why a low intrinsic dimension suffices. It says nothing about Adam: the
//! kernel of sign descent depends on the coordinate system. The bound is far from tight: 8.6% at `k = 256` for an
//! event of `5.7` standard deviations.

use std::f64::consts::FRAC_2_PI;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::cases::{NetworkCase, relative, worst};
use super::compression::{
    Agreement, BOUND_RANK, EPSILON, EXAMPLES, Moments, RANKS, VARIANCE_OFF, cosines, frobenius_error,
    largest_deviation, union_bound, variance_off,
};
use super::context::Context;
use super::scan::Scan;
use super::{Claim, Mutant, Topic, exactly};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings, Open};
use crate::jacobian::{Parameters, PlainTap};
use crate::kernel::dense_jacobian;
use crate::network::{Abc, Activation, Mlp, unit_inputs};
use crate::stats::Expectation;
use crate::subspace::Projection;

const VARIANCE_ONE_OVER_P: Mutant = Mutant { name: "variance-one-over-p", change: "entries of Π have variance 1/P" };
const NO_CROSS_TERM: Mutant = Mutant { name: "no-cross-term", change: "the variance formula lacks <g,g'>²" };
const HALF_RANK: Mutant = Mutant { name: "half-rank", change: "every direction of Π is used twice" };

pub(super) const CLAIM: Claim = Claim {
    id: "intrinsic-dimension",
    topic: Topic::Subspace,
    title: "A random subspace of a few hundred dimensions keeps the kernel of all parameters",
    source: "the paper, Section 7 (intrinsic dimension); exact variance ours",
    prediction: "error² = (|g|²|g'|² + <g,g'>²)/k; exceedance ≤ 4N² exp(-(ε²-ε³)k/4)",
    text: include_str!("intrinsic_dimension.rs"),
    mutants: &[VARIANCE_ONE_OVER_P, NO_CROSS_TERM, HALF_RANK],
    graded: &[VARIANCE_OFF],
    experiment,
};

/// Sums of P ≤ 1e4 products in another order.
const TOLERANCE: f64 = 1e-11;
/// Accepted error of the exponent: the power law is exact for the mean square, and the mean of its logarithm over a finite
/// number of draws adds less than 0.01.
const SLOPE_TOLERANCE: f64 = 0.1;
/// Rank at which means and variances are tested; they are exact at every rank.
const MOMENT_RANK: i64 = 16;

/// A network and the dimension of its subspace.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network.
    pub network: NetworkCase,
    /// Dimension k.
    pub rank: i64,
    /// Seed of Π.
    pub seed: u64,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self { network: NetworkCase::random(rng), rank: rng.random_range(1..40), seed: rng.random() }
    }
}

/// Relative difference between ∂f/∂u at u = 0 by automatic differentiation through θ_0 + Πu and Πᵀ∇f, over all
/// outputs of the first example.
pub fn error(case: &Case, context: &Context<'_>) -> Result<f64> {
    let network = NetworkCase { examples: 1, ..case.network };
    let built = network.build(context);
    let projection = Projection::new(case.rank, case.seed);
    let expected = projection.gradients(&dense_jacobian(&built.parameters, &*built.examples)?);
    let u = Tensor::zeros([case.rank], (Kind::Double, context.device)).set_requires_grad(true);
    let f = built.examples.forward(&mut PlainTap::new(&moved(&built.parameters, &projection, &u)), &[0]);
    let gradients: Vec<Tensor> = (0..network.outputs as i64)
        .map(|c| Tensor::run_backward(&[f.get(0).get(c)], &[&u], true, false).remove(0))
        .collect();
    Ok(relative(&Tensor::stack(&gradients, 0), &expected))
}

/// θ_0 + Πu.
fn moved(parameters: &Parameters, projection: &Projection, u: &Tensor) -> Parameters {
    let offset = projection.offset(parameters.numel(), u);
    let mut start = 0;
    parameters.map(|value| {
        let count = value.numel() as i64;
        start += count;
        value + offset.narrow(0, start - count, count).view_as(value)
    })
}

/// The Jacobian \[N, P\] of the compressed network.
fn jacobian(context: &Context<'_>) -> Result<Tensor> {
    let width = context.pick(16, 24, 48);
    // relu, because its sign kernel differs most from that of random projections.
    let gain = std::f64::consts::SQRT_2;
    let mlp = Mlp { input: 8, width, depth: 3, outputs: 1, activation: Activation::Relu, gain, abc: Abc::ntk(3) };
    let seed = context.seed("intrinsic-dimension network");
    let inputs = unit_inputs(EXAMPLES as i64, mlp.input, seed, Context::KIND, context.device);
    dense_jacobian(&mlp.parameters(seed, Context::KIND, context.device), &mlp.examples(inputs))
}

/// The projection of a draw, or a mutant's.
fn projection(rank: i64, name: &str, numel: i64, context: &Context<'_>) -> Projection {
    let seed = context.seed(&format!("intrinsic-dimension {name}"));
    match () {
        () if context.is(HALF_RANK) => Projection::new(rank / 2, seed),
        () if context.is(VARIANCE_ONE_OVER_P) => Projection::new(rank, seed).with_variance(1.0 / numel as f64),
        () => Projection::new(rank, seed),
    }
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(20, 200, 1000);
    let [wrong] =
        worst(context, "intrinsic-dimension", cases, Case::random, |case, context| Ok([error(case, context)?]))?;

    let jacobian = jacobian(context)?;
    let numel = jacobian.size()[1];
    let kernel = jacobian.matmul(&jacobian.tr());

    let trials = context.pick(200, 1000, 4000);
    let (mut exceeded, mut exceeded_wrong, mut deviation): (usize, usize, f64) = (0, 0, 0.0);
    for i in 0..trials {
        crate::progress::check_cancelled()?;
        let projection = projection(BOUND_RANK, &format!("bound {i}"), numel, context);
        let compressed = projection.kernel(&jacobian);
        let off = largest_deviation(&compressed, &kernel);
        deviation = deviation.max(off);
        exceeded += usize::from(off >= EPSILON);
        // The same directions with variance 1/P: every entry is multiplied by k/P.
        let shrunk = compressed * (BOUND_RANK as f64 / numel as f64);
        exceeded_wrong += usize::from(largest_deviation(&shrunk, &kernel) >= EPSILON);
    }
    let bound = union_bound(BOUND_RANK);
    let at_most = Expectation::AtMost { bound };

    let draws = context.samples(1500, 6000, 20_000);
    let (mut kernels, mut sign_kernels) = (Vec::with_capacity(draws), Vec::with_capacity(draws));
    for i in 0..draws {
        crate::progress::check_cancelled()?;
        let g = projection(MOMENT_RANK, &format!("moments {i}"), numel, context).gradients(&jacobian);
        kernels.push(g.matmul(&g.tr()).to_device(Device::Cpu));
        sign_kernels.push(cosines_of_signs(&g).to_device(Device::Cpu));
    }
    let [mut agreement, mut of_angles, mut of_signs] = [(); 3].map(|()| Agreement::default());
    let stated = variance_off(context, moments(&kernel, MOMENT_RANK, !context.is(NO_CROSS_TERM)));
    agreement.add(&kernels, &stated);
    let arcsines = cosines(&kernel).clamp(-1.0, 1.0).asin() * FRAC_2_PI;
    of_angles.add_means(&sign_kernels, &arcsines);
    of_signs.add_means(&sign_kernels, &cosines_of_signs(&jacobian));

    let scan = scan(&jacobian, &kernel, context)?;
    let slope = Expectation::Within { target: -0.5, tolerance: SLOPE_TOLERANCE };
    let checks = vec![
        exactly("relative error of ∂f/∂u = Πᵀ∇f", TOLERANCE, wrong, cases),
        Open::proportion("frequency of an entry off by c/2, k = 256", at_most, exceeded, trials),
        agreement.of_means("means of all entries, in standard deviations from the stated ones"),
        agreement.of_variances("logarithm of each entry's variance over the stated one"),
        agreement.overall("logarithm of the variance over the stated one, on average over entries"),
        scan.scaling("exponent in k of the kernel's relative error", "error", slope)?,
        of_angles.of_means("means of the sign kernel's entries, in standard deviations from (2/π) arcsin ρ"),
    ];
    let controls = vec![
        of_signs.of_means("means of the sign kernel's entries, in standard deviations from K_SignGD"),
        Open::proportion(
            "frequency of an entry off by c/2 when Π has entries N(0, 1/P)",
            at_most,
            exceeded_wrong,
            trials,
        ),
    ];
    let figure = Figure {
        name: "error".into(),
        title: "Error of the kernel in a random subspace".into(),
        x_label: "dimension k".into(),
        y_label: "relative error (Frobenius)".into(),
        series: vec![
            scan.series("K_ID", "error", Some(-0.5), false),
            scan.series("sign kernel in the subspace", "sign", None, true),
        ],
    };
    Ok(context.judged(Collected {
        settings: vec![
            ("parameters P".into(), numel.to_string()),
            ("examples N".into(), EXAMPLES.to_string()),
            ("draws for the bound".into(), trials.to_string()),
            (format!("draws for moments, at k = {MOMENT_RANK}"), draws.to_string()),
        ],
        checks,
        controls,
        tables: vec![scan.local_slopes(&[("error", -0.5)])?],
        figures: vec![figure],
        notes: vec![format!(
            "The bound at k = {BOUND_RANK} is {bound:.3}; the largest deviation of {trials} draws was {deviation:.2} c, \
                 where ε = {EPSILON}."
        )],
        ..Collected::default()
    }))
}

/// Exact moments of the entries of K_ID at a rank, from K_SGD alone.
pub(super) fn moments(kernel: &Tensor, rank: i64, cross_term: bool) -> Moments {
    let k = rank as f64;
    let diagonal = kernel.diagonal(0, 0, 1);
    let lengths = diagonal.unsqueeze(0) * diagonal.unsqueeze(1);
    let square = kernel.square();
    let variance = if cross_term { (&lengths + &square) / k } else { &lengths / k };
    // Cumulants of a product of two normal variables of correlation ρ: 1 + ρ² and 6(1 + 6ρ² + ρ⁴).
    let rho = square / lengths;
    let excess: Tensor = (rho.square() + &rho * 6.0 + 1.0) * 6.0 / (rho + 1.0).square() / k;
    Moments { mean: kernel.copy(), variance, excess }
}

/// Cosines between the signs of gradients \[N, P\].
fn cosines_of_signs(gradients: &Tensor) -> Tensor {
    let signs = gradients.sign();
    cosines(&signs.matmul(&signs.tr()))
}

/// Root mean square errors over k: of the kernel, and of the sign kernel's cosines.
fn scan(jacobian: &Tensor, kernel: &Tensor, context: &Context<'_>) -> Result<Scan> {
    let (seeds, draws) = (context.samples(60, 60, 100), context.pick(3, 15, 40));
    let sign_kernel = cosines_of_signs(jacobian);
    Scan::over(context, "intrinsic-dimension", &RANKS, seeds, &["error", "sign"], |k, seed| {
        let (mut error, mut sign) = (0.0, 0.0);
        for draw in 0..draws {
            let name = format!("scan {k} {seed} {draw}");
            let g = projection(k as i64, &name, jacobian.size()[1], context).gradients(jacobian);
            error += frobenius_error(&g.matmul(&g.tr()), kernel).powi(2);
            sign += frobenius_error(&cosines_of_signs(&g), &sign_kernel).powi(2);
        }
        Ok(vec![(error / f64::from(draws)).sqrt(), (sign / f64::from(draws)).sqrt()])
    })
}
