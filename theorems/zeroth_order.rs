//! Zeroth-order steps follow the SGD kernel on average; their scatter depends on the kernel's spectrum, not on the number of
//! parameters.
//!
//! **Statement.** MeZO replaces the gradient `g` by `ĝ = <g, z> z`, with `z` standard normal and `<g, z>` from two values of the
//! loss. A step with `q` directions on `ξ'` moves `f(ξ)` on average by SGD's `-ηχK(ξ, ξ')`, with the variance `η²χ² (K(ξ,ξ)
//! K(ξ',ξ') + K(ξ,ξ')²)/q`, to first order: what SGD does in a fresh random subspace of `q` dimensions. The second-order term of
//! the loss is that of SGD times `(|g|² tr H + 2gᵀHg)/gᵀHg`, which the spectrum of the curvature `H` bounds by 2 plus its effective
//! rank where g is its top direction; the number of parameters `P` is not in it, though `|ĝ|²` is `(P + 2)|g|²` on average.
//!
//! **Hypotheses.** Two continuous derivatives; differences small enough for the loss to be linear.
//!
//! **Derivation.** `<∇f, z><g, z>` is a product of two normal variables of variances `|∇f|²`, `|g|²` and covariance `<∇f, g>`
//! (Isserlis): see intrinsic-dimension with `k = q`. `E[<g,z>² zᵀHz] = |g|² tr H + 2gᵀHg` by the same rule, and with `H = 1`
//! the size of ĝ. With squared loss and fixed features `H = JᵀJ/N`: its trace and spectrum are the kernel's, whatever P is.
//!
//! **Experiment.** `<g, z>` from differences of outputs against autograd, on random networks. Then many draws of steps of a
//! perceptron of eight examples, by differences: means and variances of all entries. Then perceptrons of growing width, whose
//! kernel hardly changes while P grows: the exponents in P of the second-order factor, 0, and of `|ĝ|²/|g|²`, 1, and the factor
//! against its closed form.
//!
//! **Control.** The sign of `<g, z>` in place of its value, whose mean step is not a kernel's.
//!
//! **Meaning.** It explains why fine-tuning with two forward passes works at all with a billion parameters (Malladi et al.
//! 2023): the kernel has a small effective rank, and the mean of the steps is the kernel's.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::cases::{NetworkCase, relative, worst};
use super::compression::{Agreement, EXAMPLES, VARIANCE_OFF, variance_off};
use super::context::Context;
use super::intrinsic_dimension::moments;
use super::scan::{Scan, list};
use super::training::outputs;
use super::{Claim, Mutant, Topic, exactly};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::jacobian::{Examples, Parameters};
use crate::kernel::dense_jacobian;
use crate::network::{Abc, Activation, Mlp, normal_tensor, unit_inputs};
use crate::progress::check_cancelled;
use crate::stats::Expectation;

const NO_CROSS_TERM: Mutant = Mutant { name: "no-cross-term", change: "the variance formula lacks K(ξ,ξ')²" };
const ONE_DIRECTION: Mutant = Mutant { name: "one-direction", change: "the variance of one direction in place of q" };
const ONE_SIDED: Mutant = Mutant { name: "one-sided", change: "the difference of f(θ + εz) and f(θ) with ε = 0.1" };
const COUNTS: Mutant = Mutant { name: "counts-parameters", change: "(P + 2)|g|² in place of |g|² tr H + 2gᵀHg" };

pub(super) const CLAIM: Claim = Claim {
    id: "zeroth-order",
    topic: Topic::Subspace,
    title: "Zeroth-order steps are kernel steps on average, with a scatter that knows the effective rank and not P",
    source: "Malladi et al. 2023 (MeZO); exact variances ours",
    prediction: "mean -ηχK; variance η²χ²(KK' + K²)/q; second-order factor of exponent 0 in P, |ĝ|² of exponent 1",
    text: include_str!("zeroth_order.rs"),
    mutants: &[NO_CROSS_TERM, ONE_DIRECTION, ONE_SIDED, COUNTS],
    graded: &[VARIANCE_OFF],
    experiment,
};

/// A central difference of second order with steps of 1e-5 along a direction of length √P, a few hundred: its next term is
/// 1e-10 of the first, times P and a third derivative along the direction.
const DIFFERENCE: f64 = 1e-5;
const STEP: f64 = 1e-5;

/// Directions per step.
const DIRECTIONS: i64 = 4;

const CURVATURE: &str = "second-order factor";
const CLOSED: &str = "second-order factor over its closed form";
const SIZE: &str = "|ĝ|² over |g|²";
const COUNTED: &str = "P + 2 over the second-order factor's closed form";

/// Accepted distance of the second-order factor's exponent from 0: the kernel of a finite network still changes with its width.
const STILL: f64 = 0.15;
/// Accepted distance of the size's exponent from 1.
const SHARP: f64 = 0.05;
/// Accepted distance of the mean logarithm of factor over closed form from 0.
const FACTOR: f64 = 0.25;

/// A network and the seed of a direction.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network.
    pub network: NetworkCase,
    /// Seed of z.
    pub seed: u64,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self { network: NetworkCase::random(rng), seed: rng.random() }
    }
}

/// `<∇f, z>` \[N·C\] of all outputs, by the difference of two forward passes.
fn difference(parameters: &Parameters, examples: &dyn Examples, z: &Tensor, one_sided: bool) -> Tensor {
    let at = |factor: f64| {
        let mut start = 0;
        let there = parameters.map(|value| {
            let count = value.numel() as i64;
            start += count;
            value + z.narrow(0, start - count, count).view_as(value) * factor
        });
        outputs(&there, examples).reshape([-1])
    };
    if one_sided { (at(0.1) - at(0.0)) / 0.1 } else { (at(STEP) - at(-STEP)) / (2.0 * STEP) }
}

/// A standard normal direction.
fn direction(numel: i64, seed: u64, stream: u64, context: &Context<'_>) -> Tensor {
    normal_tensor(&[numel], 1.0, seed, stream, Context::KIND, context.device)
}

/// Relative difference between `<∇f, z>` by two forward passes and by autograd, over all outputs.
pub fn error(case: &Case, context: &Context<'_>) -> Result<f64> {
    let network = case.network.smooth().build(context);
    let z = direction(network.parameters.numel(), case.seed, 0, context);
    let found = difference(&network.parameters, &*network.examples, &z, context.is(ONE_SIDED));
    Ok(relative(&found, &dense_jacobian(&network.parameters, &*network.examples)?.matmul(&z)))
}

/// A perceptron on the claim's examples, of different lengths.
fn perceptron(context: &Context<'_>, width: i64, seed: u64) -> (Parameters, Box<dyn Examples>) {
    let (input, activation) = (6, Activation::Tanh);
    let mlp = Mlp { input, width, depth: 2, outputs: 1, activation, gain: 1.0, abc: Abc::ntk(2) };
    let lengths = Tensor::linspace(0.4, 2.2, EXAMPLES as i64, (Kind::Double, Device::Cpu)).unsqueeze(1);
    let inputs =
        unit_inputs(EXAMPLES as i64, mlp.input, context.seed("zeroth-order inputs"), Kind::Double, Device::Cpu);
    let examples = mlp.examples((inputs * lengths).to_device(context.device));
    (mlp.parameters(seed, Context::KIND, context.device), Box::new(examples))
}

/// Draws of steps \[N, N\] in units of -ηχ, by differences of outputs, then the same with the sign of `<g, z>`, and the kernel.
fn steps(context: &Context<'_>) -> Result<([Vec<Tensor>; 2], Tensor)> {
    let (parameters, examples) = perceptron(context, 10, context.seed("zeroth-order network"));
    let (numel, draws, n) = (parameters.numel(), context.samples(2000, 6000, 20_000), EXAMPLES as i64);
    let seed = context.seed("zeroth-order draws");
    // No mutant changes the steps.
    let moves = context.shared(&format!("steps, {draws} draws"), 0.0, 0, || {
        let mut numbers = Vec::with_capacity(draws * EXAMPLES * DIRECTIONS as usize);
        for draw in 0..draws as u64 * DIRECTIONS as u64 {
            check_cancelled()?;
            let moved = difference(&parameters, &*examples, &direction(numel, seed, draw, context), false);
            numbers.extend(Vec::<f64>::try_from(moved.to_device(Device::Cpu)).expect("a vector of f64"));
        }
        Ok(numbers)
    })?;
    let draws = moves.chunks(EXAMPLES * DIRECTIONS as usize);
    let draws: Vec<Tensor> = draws.map(|m| Tensor::from_slice(m).view([DIRECTIONS, n]).tr()).collect();
    let values = draws.iter().map(|moved| moved.matmul(&moved.tr()) / DIRECTIONS as f64).collect();
    let signs = draws.iter().map(|moved| moved.matmul(&moved.sign().tr()) / DIRECTIONS as f64).collect();
    let jacobian = dense_jacobian(&parameters, &*examples)?;
    Ok(([values, signs], jacobian.matmul(&jacobian.tr()).to_device(Device::Cpu)))
}

/// The checks of the draws against their closed moments.
fn agreements(context: &Context<'_>, [values, signs]: &[Vec<Tensor>; 2], kernel: &Tensor) -> [Agreement; 2] {
    let directions = if context.is(ONE_DIRECTION) { 1 } else { DIRECTIONS };
    let stated = variance_off(context, moments(kernel, directions, !context.is(NO_CROSS_TERM)));
    let [mut of_values, mut of_signs] = [(); 2].map(|()| Agreement::default());
    of_values.add(values, &stated);
    // The best-fitting scale for all entries together.
    let mean = Tensor::stack(signs, 0).mean_dim(0i64, false, Kind::Double);
    let scale = ((&mean * kernel).sum(Kind::Double) / kernel.square().sum(Kind::Double)).double_value(&[]);
    of_signs.add_means(signs, &(kernel * scale));
    [of_values, of_signs]
}

/// Statistics of draws of ĝ for one network of a width.
fn curvature(context: &Context<'_>, width: f64, seed: usize) -> Result<Vec<f64>> {
    let (parameters, examples) =
        perceptron(context, width as i64, context.seed(&format!("width {width}, seed {seed}")));
    let jacobian = dense_jacobian(&parameters, &*examples)?;
    let (kernel, numel) = (jacobian.matmul(&jacobian.tr()), jacobian.size()[1]);
    let number = |t: Tensor| t.double_value(&[]);
    let g =
        jacobian.tr().matmul(&normal_tensor(&[EXAMPLES as i64], 1.0, seed as u64, 1, Context::KIND, context.device));
    let size = number(g.square().sum(Kind::Double));
    // gᵀHg and tr H, times N.
    let (own, trace) = (number(jacobian.matmul(&g).square().sum(Kind::Double)), number(kernel.trace()));
    let closed = 2.0 + size * trace / own;
    let draws = context.pick(64, 96, 200);
    let z = normal_tensor(
        &[draws, numel],
        1.0,
        context.seed(&format!("directions {width} {seed}")),
        0,
        Context::KIND,
        context.device,
    );
    let weights = z.matmul(&g).square();
    // Both moments have the weight <g, z>², whose mean is |g|²; dividing by its sum reduces the scatter.
    let weighed = |of: Tensor| number((&weights * of).sum(Kind::Double) / weights.sum(Kind::Double));
    let curvature = weighed(z.matmul(&jacobian.tr()).square().sum_dim_intlist(1i64, false, Kind::Double)) * size / own;
    let length = weighed(z.square().sum_dim_intlist(1i64, false, Kind::Double));
    Ok(vec![curvature, curvature / closed, length, (numel as f64 + 2.0) / closed, numel as f64])
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    // Measured before any question about mutants, so that all share it.
    let (draws, kernel) = steps(context)?;
    let widths =
        context.pick(vec![8.0, 16.0, 32.0, 64.0], vec![16.0, 32.0, 64.0, 128.0], vec![32.0, 64.0, 128.0, 256.0]);
    let seeds = context.samples(32, 40, 40);
    // Parameters of a perceptron with six inputs, two hidden layers and one output.
    let numbers: Vec<f64> = widths.iter().map(|n| n * n + 7.0 * n).collect();
    let names = [CURVATURE, CLOSED, SIZE, COUNTED, "P"];
    let scan = Scan::over(context, "curvature", &numbers, seeds, &names, |number, seed| {
        let place = numbers.iter().position(|n| *n == number).expect("one of the sizes");
        curvature(context, widths[place], seed)
    })?;
    let cases = context.cases(20, 200, 1000);
    let [wrong] = worst(context, "zeroth-order", cases, Case::random, |case, context| Ok([error(case, context)?]))?;
    let [mut values, mut signs] = agreements(context, &draws, &kernel);
    let factor = if context.is(COUNTS) { COUNTED } else { CLOSED };
    let logs = scan.last(factor).iter().map(|ratio| ratio.ln()).collect();
    let within = |target: f64, tolerance: f64| Expectation::Within { target, tolerance };
    let title = |name: &str| format!("exponent in P of the {name}");
    let figure = Figure {
        name: "parameters".into(),
        title: "What zeroth-order noise grows with".into(),
        x_label: "number of parameters P".into(),
        y_label: "in units of the gradient's own".into(),
        series: vec![
            scan.series("second-order term", CURVATURE, Some(0.0), false),
            scan.series("squared length", SIZE, Some(1.0), false),
        ],
    };
    Ok(context.judged(Collected {
        settings: vec![
            ("examples".into(), EXAMPLES.to_string()),
            ("directions of a step".into(), DIRECTIONS.to_string()),
            ("numbers of parameters".into(), list(&numbers)),
            ("seeds".into(), seeds.to_string()),
        ],
        checks: vec![
            exactly("relative error of <∇f, z> by two forward passes", DIFFERENCE, wrong, cases),
            values.of_means("mean steps of all pairs, in standard deviations from -ηχK"),
            values.of_variances("logarithm of each pair's variance over the stated one"),
            values.overall("logarithm of the variance over the stated one, on average over pairs"),
            scan.scaling(title(CURVATURE), CURVATURE, within(0.0, STILL))?,
            scan.scaling(title(SIZE), SIZE, within(1.0, SHARP))?,
            crate::evidence::Open::mean(
                format!("logarithm of the {CLOSED} at the largest P"),
                within(0.0, FACTOR),
                logs,
            ),
        ],
        controls: vec![
            signs.of_means("mean steps by the sign of <g, z>, in standard deviations from the best multiple of K"),
        ],
        tables: vec![scan.local_slopes(&[(CURVATURE, 0.0), (SIZE, 1.0)])?],
        figures: vec![figure],
        ..Collected::default()
    }))
}
