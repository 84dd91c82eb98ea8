//! LoRA keeps the kernel of the weights that it adapts, and drops that of the others
//!
//! **Statement.** Adapt some weights by `W + s B A`, `B = 0`, with `A` of `k x in` independent entries of variance `v`. Let
//! `G_l(ξ)` be the gradient of the `l`-th adapted weight and `M_l = G_l(ξ)ᵀ G_l(ξ')`. Then the expectation of `K_LoRA(ξ,ξ')` is
//! `Σ_l k s² v_l tr M_l`: with `s = 1`, `v = 1/k` exactly the share of `K_SGD` that the adapted weights have, with PEFT's
//! default (Kaiming-uniform, `v = 1/(3 in)`) that share times `s² k / (3 in)`, weight by weight. For normal entries the
//! variance is `k s⁴ Σ_l v_l² (|M_l|² + tr M_l²)`; if a weight sees one token per example, `G = b xᵀ`, a term is `<b,b'>²
//! (|x|²|x'|² + <x,x'>²)/k`. For uniform entries `-(6/5) Σ_a (M_l)_aa²` is added in the bracket. With `v = 1/k` the bound of
//! intrinsic-dimension holds unchanged: `Pr[some entry is off by at least cε] ≤ 4N² exp(-(ε² - ε³) k / 4)`, for any number of
//! adapted weights and tokens.
//!
//! **Hypotheses.** `A` independent of network and examples and between weights; `B = 0`, before training.
//!
//! **Derivation.** `K_LoRA = Σ_l s² <G_l Aᵀ, G_l' Aᵀ> = Σ_l s² Σ_r a_rᵀ M_l a_r` over the rows `a_r` of `A` (see
//! lora-at-init): a sum of quadratic forms in independent variables. `E[aᵀMa] = v tr M`;
//! `Var[aᵀMa] = v² (|M|² + tr M² + κ Σ M_aa²)` with excess kurtosis `κ`, 0 for normal and -6/5 for uniform entries;
//! rows and weights add. For the bound, `K_LoRA(ξ,ξ)` is `(1/k)` times a sum of `χ²_k` variables, weighted by the
//! squared singular values of the `G_l`, whose sum is `K_SGD(ξ,ξ)`. A weighted sum concentrates at least as well as
//! one variable of the same total weight, because its logarithmic moment generating function `ψ` is convex with
//! `ψ(0) = 0`, so that `Σ ψ(λ_i t) ≤ ψ(t Σ λ_i)`. Polarization and union as there.
//!
//! **Experiment.** First, on random networks: an `A` with orthonormal columns (`AᵀA = 1`) must give the share itself.
//! Then many draws of `A` for a perceptron (one token) and a small transformer (five tokens), kernels by the
//! structured engine on the adapted network: means and variances of all entries under normal and PEFT's initial
//! distribution; how often an entry is off by `c/2` at `k = 256`; the exponent of the error in `k`.
//!
//! **Control.** Adapters on the first layer only, compared with the kernel of all weights: no rank closes the gap. And the sign
//! kernel of the adapters, compared with that of the weights: not preserved either.
//!
//! **Meaning.** In the kernel regime LoRA of rank `log(N)/ε²` learns what fine-tuning of the same weights learns, and choosing
//! weights means choosing a share of the kernel. With PEFT's default the kernel is smaller by a known factor per weight, for
//! which the learning rate can compensate under SGD. Under Adam nothing of this is guaranteed.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::cases::{Network, NetworkCase, Shape, relative, worst};
use super::compression::{
    Agreement, BOUND_RANK, EPSILON, EXAMPLES, Moments, RANKS, VARIANCE_OFF, cosines, frobenius_error,
    largest_deviation, quadratic_moments, union_bound, variance_off,
};
use super::context::Context;
use super::scan::Scan;
use super::{Claim, Mutant, Topic, exactly};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings, Open};
use crate::jacobian::{Param, Parameters};
use crate::kernel::{FormulaSet, Gram, GramOptions, dense_jacobian, structured_gram};
use crate::network::Activation;
use crate::progress::{Silent, check_cancelled};
use crate::stats::Expectation;
use crate::subspace::{Init, Lora, Target, Trained};

const VARIANCE_ONE_OVER_N: Mutant =
    Mutant { name: "variance-one-over-n", change: "entries of A have variance 1/in instead of 1/k" };
const HALF_RANK: Mutant = Mutant { name: "half-rank", change: "every row of A is used twice" };
const NO_CROSS_TERM: Mutant =
    Mutant { name: "no-cross-term", change: "the variance formula lacks tr M² (<x,x'>² for one token)" };
const PEFT_VARIANCE: Mutant =
    Mutant { name: "peft-variance", change: "PEFT's initial variance taken for 1/in instead of 1/(3 in)" };

pub(super) const CLAIM: Claim = Claim {
    id: "lora",
    topic: Topic::Subspace,
    title: "LoRA keeps the kernel of the weights that it adapts, and drops that of the others",
    source: "the paper, Section 7 (LoRA); exact variances ours",
    prediction: "E K_LoRA = share of K_SGD; error ~ k^-1/2 with exact variance; PEFT's init: times s²k/(3 in)",
    text: include_str!("lora.rs"),
    mutants: &[VARIANCE_ONE_OVER_N, HALF_RANK, NO_CROSS_TERM, PEFT_VARIANCE],
    graded: &[VARIANCE_OFF],
    experiment,
};

/// Sums of up to 1e4 products in another order, with an orthonormal factor in between.
const TOLERANCE: f64 = 1e-11;
/// Accepted error of the exponent (see intrinsic-dimension).
const SLOPE_TOLERANCE: f64 = 0.1;
/// Kernels whose moments are tested: perceptron, perceptron with PEFT's initialization, transformer.
const KERNELS: usize = 3;
/// Rank at which means and variances are tested; they are exact at every rank.
const MOMENT_RANK: i64 = 16;
/// PEFT's alpha in the test; s = alpha / k.
const ALPHA: f64 = 12.0;

/// A network and an A with orthonormal columns for each of its matrices.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network.
    pub network: NetworkCase,
    /// Excess of the rank over the largest fan-in.
    pub excess: i64,
    /// Seed of A.
    pub seed: u64,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self { network: NetworkCase::random(rng), excess: rng.random_range(0..4), seed: rng.random() }
    }
}

/// Relative difference between K_LoRA for AᵀA = 1 and the adapted weights' share of K_SGD.
pub fn error(case: &Case, context: &Context<'_>) -> Result<f64> {
    let network = case.network.build(context);
    let weights = linear_weights(&network.parameters);
    let rank = weights.iter().map(|w| network.parameters.get(*w).size()[1]).max().expect("a network has weights");
    let lora = adapters(&network, rank + case.excess, 1.0)?;
    let start = lora.parameters(&network.parameters, Init::Gaussian, case.seed);
    let factors = lora.adapters().iter().map(|x| {
        let (a, _) = Tensor::linalg_qr(start.get(x.a), "reduced");
        (a, start.get(x.b).shallow_clone())
    });
    let extended = lora.assemble(&network.parameters, factors);
    let kernel = gram(&lora, &extended, &network, false)?.sgd.expect("asked for");
    let mut options = GramOptions::new(FormulaSet::SGD, network.parameters.len());
    options.include = lora.adapted_weights();
    let share = structured_gram(&network.parameters, &*network.examples, None, &options, &Silent)?.sgd;
    Ok(relative(&kernel, &share.expect("asked for")))
}

/// The matrices of a network's linear maps.
fn linear_weights(parameters: &Parameters) -> Vec<Param> {
    let is_linear = |name: &str| !(name.contains("embedding") || name.ends_with("decoder.weight"));
    let specs = parameters.specs().iter().enumerate();
    specs.filter(|(_, s)| s.shape.len() == 2 && is_linear(&s.name)).map(|(i, _)| Param(i)).collect()
}

/// Adapters for all matrices, with the same rank and factor.
fn adapters(network: &Network, rank: i64, scaling: f64) -> Result<Lora> {
    let targets: Vec<Target> =
        linear_weights(&network.parameters).into_iter().map(|weight| Target { weight, rank, scaling }).collect();
    Lora::new(network.parameters.specs(), &targets)
}

/// K_SGD of the adapters' parameters; with `all` also their K_SignGD, and each one's share of K_SGD.
fn gram(lora: &Lora, extended: &Parameters, network: &Network, all: bool) -> Result<Gram> {
    let formulas = FormulaSet { sgd: true, asymmetric: false, signgd: all };
    let mut options = GramOptions::new(formulas, extended.len());
    options.include = lora.include(Trained::OnlyB);
    options.share_matrices = all;
    structured_gram(extended, &lora.examples(&*network.examples), None, &options, &Silent)
}

/// Initial parameters of a draw, or a mutant's.
fn draw(lora: &Lora, network: &Network, init: Init, name: &str, context: &Context<'_>) -> Parameters {
    let extended = lora.parameters(&network.parameters, init, context.seed(&format!("lora {name}")));
    if init != Init::Gaussian || !(context.is(VARIANCE_ONE_OVER_N) || context.is(HALF_RANK)) {
        return extended;
    }
    let factors = lora.adapters().iter().map(|x| {
        let a = extended.get(x.a);
        let (rank, input) = a.size2().expect("A is a matrix");
        let a = if context.is(HALF_RANK) {
            let half = a.narrow(0, 0, rank / 2);
            Tensor::cat(&[half.shallow_clone(), half], 0)
        } else {
            a * (rank as f64 / input as f64).sqrt()
        };
        (a, extended.get(x.b).shallow_clone())
    });
    lora.assemble(&network.parameters, factors)
}

/// The gradients of a network's matrices, with quantities derived from them.
struct Compressed {
    network: Network,
    /// Gradients \[N, out, in\] of the matrices.
    gradients: Vec<Tensor>,
    /// The matrices' share of K_SGD.
    kernel: Tensor,
    /// Cosines of their K_SignGD.
    sign_cosines: Tensor,
}

impl Compressed {
    fn new(shape: Shape, name: &str, context: &Context<'_>) -> Result<Self> {
        let seed = context.seed(&format!("lora {name}"));
        let network = NetworkCase { shape, examples: EXAMPLES, outputs: 1, seed }.build(context);
        let jacobian = dense_jacobian(&network.parameters, &*network.examples)?.to_device(Device::Cpu);
        let (mut start, mut starts) = (0, Vec::new());
        for spec in network.parameters.specs() {
            starts.push(start);
            start += spec.numel();
        }
        let of = |w: &Param| {
            let shape = &network.parameters.specs()[w.0].shape;
            jacobian.narrow(1, starts[w.0], shape[0] * shape[1]).reshape([-1, shape[0], shape[1]])
        };
        let gradients: Vec<Tensor> = linear_weights(&network.parameters).iter().map(of).collect();
        let flat = Tensor::cat(&gradients.iter().map(|g| g.flatten(1, 2)).collect::<Vec<_>>(), 1);
        let signs = flat.sign();
        let (kernel, sign_cosines) = (flat.matmul(&flat.tr()), cosines(&signs.matmul(&signs.tr())));
        Ok(Self { network, gradients, kernel, sign_cosines })
    }

    /// Kernels of many draws.
    fn draws(
        &self,
        init: Init,
        rank: i64,
        scaling: f64,
        count: usize,
        name: &str,
        context: &Context<'_>,
    ) -> Result<Vec<Tensor>> {
        let lora = adapters(&self.network, rank, scaling)?;
        // Only mutants of the Gaussian initialization change draws, and those of the moments do not.
        let flat = context.independent(&format!("{count} draws, {name}"), rank as f64, 0, |own| {
            let mut numbers = Vec::with_capacity(count * EXAMPLES * EXAMPLES);
            for i in 0..count {
                check_cancelled()?;
                let extended = draw(&lora, &self.network, init, &format!("{name} {i}"), own);
                let kernel = gram(&lora, &extended, &self.network, false)?.sgd.expect("asked for");
                numbers.extend(Vec::<f64>::try_from(kernel.reshape([-1])).expect("a vector of f64"));
            }
            Ok(numbers)
        })?;
        let n = EXAMPLES as i64;
        Ok(flat.chunks(EXAMPLES * EXAMPLES).map(|kernel| Tensor::from_slice(kernel).view([n, n])).collect())
    }

    /// Exact moments of the entries of K_LoRA.
    fn moments(&self, init: Init, rank: i64, scaling: f64, context: &Context<'_>) -> Moments {
        let n = EXAMPLES as i64;
        let wrong = if context.is(PEFT_VARIANCE) && init == Init::KaimingUniform { 3.0 } else { 1.0 };
        let terms = |i: i64, j: i64| -> Vec<(Tensor, f64)> {
            let term = |g: &Tensor| {
                let variance = init.variance(rank, g.size()[2]) * wrong;
                (g.get(i).tr().matmul(&g.get(j)), scaling * scaling * variance)
            };
            self.gradients.iter().map(term).collect()
        };
        let matrices: Vec<Vec<_>> = (0..n).map(|i| (0..n).map(|j| terms(i, j)).collect()).collect();
        let kurtosis = if init == Init::KaimingUniform { -1.2 } else { 0.0 };
        let moments = variance_off(context, quadratic_moments(&matrices, rank, kurtosis));
        if !context.is(NO_CROSS_TERM) {
            return moments;
        }
        let first = |terms: &Vec<(Tensor, f64)>| -> f64 {
            terms.iter().map(|(m, s)| s * s * rank as f64 * m.square().sum(Kind::Double).double_value(&[])).sum()
        };
        let variance: Vec<f64> = matrices.iter().flatten().map(first).collect();
        Moments { variance: Tensor::from_slice(&variance).view([n, n]), ..moments }
    }

    /// Root mean square errors over k: of the adapted weights' kernel, of the first layer's adapters compared with all weights,
    /// and of the sign kernel's cosines.
    fn scan(&self, context: &Context<'_>) -> Result<Scan> {
        let (seeds, draws) = (context.samples(40, 60, 100), context.pick(3, 12, 30));
        let names = ["error", "first layer", "sign"];
        Scan::independent(context, "lora", &RANKS, seeds, &names, |own, k, seed| {
            let lora = adapters(&self.network, k as i64, 1.0)?;
            let mut squares = [0.0; 3];
            for i in 0..draws {
                let name = format!("scan {k} {seed} {i}");
                let extended = draw(&lora, &self.network, Init::Gaussian, &name, own);
                let gram = gram(&lora, &extended, &self.network, true)?;
                let of_first = gram.shares[lora.adapters()[0].b.0].sgd.as_ref().expect("shares were asked for");
                let signs = cosines(gram.signgd.as_ref().expect("asked for"));
                squares[0] += frobenius_error(gram.sgd.as_ref().expect("asked for"), &self.kernel).powi(2);
                squares[1] += frobenius_error(of_first, &self.kernel).powi(2);
                squares[2] += frobenius_error(&signs, &self.sign_cosines).powi(2);
            }
            Ok(squares.iter().map(|s| (s / f64::from(draws)).sqrt()).collect())
        })
    }
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(20, 200, 1000);
    let [wrong] = worst(context, "lora", cases, Case::random, |case, context| Ok([error(case, context)?]))?;

    let width = context.pick(12, 24, 48);
    let shape = Shape::Mlp { input: 8, width, depth: 3, activation: Activation::Tanh };
    let perceptron = Compressed::new(shape, "perceptron", context)?;
    let shape = Shape::Transformer { width: context.pick(6, 8, 16), layers: 1, length: 5 };
    let transformer = Compressed::new(shape, "transformer", context)?;

    let trials = context.pick(200, 1000, 4000);
    let kernels = perceptron.draws(Init::Gaussian, BOUND_RANK, 1.0, trials, "bound", context)?;
    let off: Vec<f64> = kernels.iter().map(|k| largest_deviation(k, &perceptron.kernel)).collect();
    let exceeded = off.iter().filter(|off| **off >= EPSILON).count();
    let bound = union_bound(BOUND_RANK);

    let all = context.samples(2500, 4000, 10_000);
    // Wrong draws are far off.
    let draws = if context.is(VARIANCE_ONE_OVER_N) || context.is(HALF_RANK) { all / 4 } else { all };
    let mut agreement = Agreement::default();
    let kernels: [_; KERNELS] = [
        (&perceptron, Init::Gaussian, 1.0, "perceptron"),
        (&perceptron, Init::KaimingUniform, ALPHA / MOMENT_RANK as f64, "perceptron, PEFT"),
        (&transformer, Init::Gaussian, 1.0, "transformer"),
    ];
    let scan = perceptron.scan(context)?;
    let of_kernel = |(compressed, init, scaling, name): &(&Compressed, Init, f64, &str)| {
        compressed.draws(*init, MOMENT_RANK, *scaling, draws, name, context)
    };
    let drawn: Vec<Vec<Tensor>> = kernels.iter().map(of_kernel).collect::<Result<_>>()?;
    for ((compressed, init, scaling, _), drawn) in kernels.iter().zip(&drawn) {
        agreement.add(drawn, &compressed.moments(*init, MOMENT_RANK, *scaling, context));
    }
    let slope = Expectation::Within { target: -0.5, tolerance: SLOPE_TOLERANCE };
    let checks = vec![
        exactly("relative error of K_LoRA = share of K_SGD when AᵀA = 1", TOLERANCE, wrong, cases),
        Open::proportion("frequency of an entry off by c/2, k = 256", Expectation::AtMost { bound }, exceeded, trials),
        agreement.of_means("means of all entries, in standard deviations from the stated ones"),
        agreement.of_variances("logarithm of each entry's variance over the stated one"),
        agreement.overall("logarithm of the variance over the stated one, on average over entries"),
        scan.scaling("exponent in k of the kernel's relative error", "error", slope)?,
    ];
    let controls = vec![
        scan.scaling("exponent in k with adapters on the first layer only", "first layer", slope)?,
        scan.scaling("exponent in k of the sign kernel's error", "sign", slope)?,
    ];
    let figure = Figure {
        name: "error".into(),
        title: "Error of LoRA's kernel".into(),
        x_label: "rank k".into(),
        y_label: "relative error (Frobenius)".into(),
        series: vec![
            scan.series("all weights adapted", "error", Some(-0.5), false),
            scan.series("first layer only", "first layer", None, true),
            scan.series("sign kernel", "sign", None, true),
        ],
    };
    let largest = off.into_iter().fold(0.0, f64::max);
    Ok(context.judged(Collected {
        settings: vec![
            ("examples N".into(), EXAMPLES.to_string()),
            ("draws for the bound".into(), trials.to_string()),
            (format!("draws for moments, at k = {MOMENT_RANK}"), draws.to_string()),
            ("PEFT's alpha".into(), ALPHA.to_string()),
        ],
        checks,
        controls,
        tables: vec![scan.local_slopes(&[("error", -0.5)])?],
        figures: vec![figure],
        notes: vec![format!(
            "The bound at k = {BOUND_RANK} is {bound:.3}; the largest deviation of {trials} draws was {largest:.2} c, \
                 where ε = {EPSILON}."
        )],
        ..Collected::default()
    }))
}
