//! The algebra of the three kernels
//!
//! **Statement.** With `∇f` the gradient of one output at fixed parameters, `K_SGD(ξ,ξ') = <∇f(ξ), ∇f(ξ')>`,
//! `K_SignGD(ξ,ξ') = <sign ∇f(ξ), sign ∇f(ξ')>` and `K_A-SignGD(ξ,ξ') = <∇f(ξ), sign ∇f(ξ')>`. Then (1) the first two
//! are symmetric and positive semi-definite; (2) the entries of `K_SignGD` are integers and `K_SignGD(ξ,ξ)` counts
//! the non-zero entries of `∇f(ξ)`; (3) `K_A-SignGD(ξ,ξ) = |∇f(ξ)|_1`, and in general `K_A-SignGD` is not symmetric;
//! (4) each kernel is the sum of the kernels of the single parameter tensors; (5) replacing `f` by `c f`, `c > 0`,
//! multiplies the kernels by `c²`, `1` and `c`; (6) none of them depends on how examples are batched, parameters
//! blocked, or examples ordered; (7) two engines that share no code beyond the forward pass agree, sign kernels bit
//! for bit.
//!
//! **Hypotheses.** The network is differentiable at its parameters, and an example's outputs do not depend on which
//! other examples share its batch. Outputs are kept apart: with `C` outputs and `N` examples every kernel is a
//! `NC x NC` matrix.
//!
//! **Derivation.** With the Jacobian `J`, one row per output of an example, `K_SGD = J Jᵀ` and `K_SignGD = S Sᵀ` with
//! `S = sign J`; Gram matrices are symmetric and positive semi-definite. A product of signs is -1, 0 or 1; a square
//! of a sign is 1 unless the entry is zero. `g · sign g = |g|`. Inner products split over coordinates.
//! `∇(c f) = c ∇f` and `sign(c g) = sign g`. Nothing else enters.
//!
//! **Experiment.** Random perceptrons (any depth, width, activation), transformers and language models, random
//! examples: every law, as the largest error over all cases. The structured engine forms gradients from recorded
//! layer inputs and output gradients; the reference engine differentiates one example at a time.
//!
//! **Control.** `K_A-SignGD` must fail the symmetry that the other two have, and a kernel that skips one parameter
//! tensor must fail to be the whole.
//!
//! **Meaning.** These are the properties on which kernel solvers rely (a symmetric positive semi-definite Gram matrix) or must
//! do without (`K_A-SignGD` is the kernel of sign descent, but not a Mercer kernel). The scale invariance of `K_SignGD` shows
//! what signs discard; all other measurements of this suite rest on the agreement of the engines.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::cases::{Network, NetworkCase, Shape, larger, largest, relative, worst};
use super::context::Context;
use super::{Claim, Graded, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::jacobian::{Examples, Tap};
use crate::kernel::{FormulaSet, Gram, GramOptions, dense_jacobian, reference_gram, sign_rows, structured_gram};
use crate::progress::Silent;

const SIGN_OF_ZERO: Mutant = Mutant { name: "sign-of-zero", change: "sign(0) = 1 in K_SignGD" };
const TRANSPOSED: Mutant = Mutant { name: "transposed", change: "K_A-SignGD with plain gradients on the right" };
const SCALED_TWICE: Mutant = Mutant { name: "scaled-twice", change: "K_A-SignGD is expected to scale with c² too" };
const FORGOTTEN_TENSOR: Mutant =
    Mutant { name: "forgotten-tensor", change: "shares are added without the last parameter tensor" };
const BATCH_ORDER: Mutant =
    Mutant { name: "batch-order", change: "rows come in the order of the batches, not of the examples" };
const SCALED: Graded = Graded { name: "scaled", change: "the scaled K_SGD is expected 1e-10 of itself too large" };

pub(super) const CLAIM: Claim = Claim {
    id: "kernel-algebra",
    topic: Topic::Identity,
    title: "The algebra of the three kernels",
    source: "the paper, Definition 3.3 and Section 4",
    prediction: "symmetry, positive semi-definiteness, diagonals, shares, scaling c², 1, c, invariances",
    text: include_str!("kernel_algebra.rs"),
    mutants: &[SIGN_OF_ZERO, TRANSPOSED, SCALED_TWICE, FORGOTTEN_TENSOR, BATCH_ORDER],
    graded: &[SCALED],
    experiment,
};

/// Sums of up to 1e4 products in another order, and factors computed in another way: 1e4 roundings of 1.1e-16 at worst, and
/// cancellation between them. Measured errors stay below 1e-13.
const TOLERANCE: f64 = 1e-10;

/// The laws, in the order of [`errors`], with their tolerances.
pub const LAWS: [(&str, f64); 12] = [
    ("K_SGD and K_SignGD are symmetric", 1e-13),
    // The error of a matrix's eigenvalues is 1e-16 of its norm, times its order.
    ("K_SGD and K_SignGD are positive semi-definite: -(smallest eigenvalue) / trace", TOLERANCE),
    ("K_SignGD has integer entries", 0.0),
    ("K_SignGD(ξ,ξ) counts the non-zero gradient entries", 0.0),
    ("K_A-SignGD(ξ,ξ) = |∇f(ξ)|_1", TOLERANCE),
    ("K_SGD and K_A-SignGD are sums over parameter tensors", TOLERANCE),
    ("K_SignGD is a sum over parameter tensors", 0.0),
    ("scaling f by c scales K_SGD by c² and K_A-SignGD by c", TOLERANCE),
    ("scaling f by c does not change K_SignGD", 0.0),
    ("batches, blocks and order change K_SGD and K_A-SignGD by round-off only", TOLERANCE),
    ("batches, blocks and order do not change K_SignGD", 0.0),
    ("the engines agree (infinite where sign kernels differ at all)", TOLERANCE),
];

/// A network, with the settings for computing its kernels.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network.
    pub network: NetworkCase,
    /// Examples per batch.
    pub batch: usize,
    /// Entries per materialized block.
    pub block_entries: i64,
    /// Factor of the outputs.
    pub scale: f64,
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self {
            network: NetworkCase::random(rng),
            batch: rng.random_range(1..5),
            block_entries: 1 << rng.random_range(0..15),
            scale: 10f64.powf(rng.random_range(-2.0..2.0)),
        }
    }
}

/// Errors of the laws (see [`LAWS`]), all relative to the largest entry of the kernel in question.
pub fn errors(case: &Case, context: &Context<'_>) -> Result<[f64; 12]> {
    let network = case.network.build(context);
    let rows = network.examples.len() * network.examples.outputs();
    let (parameters, examples) = (&network.parameters, &*network.examples);
    let include = vec![true; parameters.len()];
    let reference = Kernels::of(&reference_gram(parameters, examples, None, FormulaSet::ALL, &include)?);
    let mut kernels = compute(&network, examples, case.batch, case.block_entries, &include)?;
    let jacobian = dense_jacobian(parameters, examples)?;
    let signs = sign_rows(parameters, &jacobian);
    if context.is(SIGN_OF_ZERO) {
        let ones = &signs + signs.eq(0.0).to_kind(Kind::Double);
        kernels.signgd = ones.matmul(&ones.tr()).to_device(tch::Device::Cpu);
    }
    if context.is(TRANSPOSED) {
        kernels.asymmetric = kernels.asymmetric.tr();
    }
    let Kernels { sgd, asymmetric, signgd } = &kernels;

    let symmetry = larger(relative(&sgd.tr(), sgd), relative(&signgd.tr(), signgd));
    let definiteness = larger(negative_part(sgd), negative_part(signgd));
    let integers = largest(&(signgd - signgd.round()));
    let diagonal = |k: &Tensor| k.diagonal(0, 0, 1).copy();
    let sum_rows = |t: Tensor| t.sum_dim_intlist(1, false, Kind::Double).to_device(tch::Device::Cpu);
    let counts = largest(&(diagonal(signgd) - sum_rows(signs.abs())));
    // Structurally zero entries are round-off in the gradient, but zero in the kernel.
    let norms = relative(&diagonal(asymmetric), &sum_rows(&jacobian * &signs));

    let parts = parts(case.network, parameters.len());
    let parts = if context.is(FORGOTTEN_TENSOR) { &parts[..parts.len() - 1] } else { &parts[..] };
    let mut total = Kernels::zeros(rows);
    for include in parts {
        total.add(&compute(&network, examples, case.batch, case.block_entries, include)?);
    }
    let scaled = Scaled(examples, case.scale);
    let scaled = compute(&network, &scaled, case.batch, case.block_entries, &include)?;
    let power = if context.is(SCALED_TWICE) { 2 } else { 1 };
    let expected = Kernels {
        sgd: sgd * (case.scale.powi(2) * (1.0 + TOLERANCE * context.off(SCALED))),
        asymmetric: asymmetric * case.scale.powi(power),
        signgd: signgd.shallow_clone(),
    };
    let order: Vec<usize> = (0..examples.len()).rev().collect();
    let reordered = Reordered(examples, &order);
    let other = compute(&network, &reordered, case.batch % 4 + 1, case.block_entries * 3 + 1, &include)?;
    let other = if context.is(BATCH_ORDER) { other } else { other.reordered(&order, examples.outputs()) };

    let engines = if signgd == &reference.signgd { kernels.real_error(&reference) } else { f64::INFINITY };
    Ok([
        symmetry,
        definiteness,
        integers,
        counts,
        norms,
        total.real_error(&kernels),
        relative(&total.signgd, signgd),
        scaled.real_error(&expected),
        relative(&scaled.signgd, signgd),
        other.real_error(&kernels),
        relative(&other.signgd, signgd),
        engines,
    ])
}

/// Largest `|K - Kᵀ|` of K_A-SignGD: the symmetry that it must not have.
fn asymmetry(network: NetworkCase, context: &Context<'_>) -> Result<f64> {
    let built = network.build(context);
    let include = vec![true; built.parameters.len()];
    let kernel = compute(&built, &*built.examples, 32, 1 << 20, &include)?.asymmetric;
    Ok(relative(&kernel.tr(), &kernel))
}

/// Relative difference between K_SGD and K_SGD without the first parameter tensor.
fn without_one_tensor(network: NetworkCase, context: &Context<'_>) -> Result<f64> {
    let built = network.build(context);
    let include = vec![true; built.parameters.len()];
    let whole = compute(&built, &*built.examples, 32, 1 << 20, &include)?;
    let part: Vec<bool> = (0..include.len()).map(|i| i > 0).collect();
    Ok(relative(&compute(&built, &*built.examples, 32, 1 << 20, &part)?.sgd, &whole.sgd))
}

/// The three kernels \[NC, NC\].
struct Kernels {
    sgd: Tensor,
    asymmetric: Tensor,
    signgd: Tensor,
}

impl Kernels {
    fn of(gram: &Gram) -> Self {
        let copy = |k: &Option<Tensor>| k.as_ref().expect("all formulas were asked for").copy();
        Self { sgd: copy(&gram.sgd), asymmetric: copy(&gram.asymmetric), signgd: copy(&gram.signgd) }
    }

    fn zeros(rows: usize) -> Self {
        let zeros = || Tensor::zeros([rows as i64, rows as i64], (Kind::Double, tch::Device::Cpu));
        Self { sgd: zeros(), asymmetric: zeros(), signgd: zeros() }
    }

    fn add(&mut self, other: &Self) {
        self.sgd += &other.sgd;
        self.asymmetric += &other.asymmetric;
        self.signgd += &other.signgd;
    }

    /// The larger relative error of the two kernels that are not integers.
    fn real_error(&self, expected: &Self) -> f64 {
        larger(relative(&self.sgd, &expected.sgd), relative(&self.asymmetric, &expected.asymmetric))
    }

    /// The kernels of examples in the given order, rearranged into the original one.
    fn reordered(&self, order: &[usize], outputs: usize) -> Self {
        let mut rows = vec![0; order.len() * outputs];
        for (place, example) in order.iter().enumerate() {
            for c in 0..outputs {
                rows[example * outputs + c] = (place * outputs + c) as i64;
            }
        }
        let rows = Tensor::from_slice(&rows);
        let turned = |k: &Tensor| k.index_select(0, &rows).index_select(1, &rows);
        Self { sgd: turned(&self.sgd), asymmetric: turned(&self.asymmetric), signgd: turned(&self.signgd) }
    }
}

/// All kernels by the structured engine.
fn compute(network: &Network, examples: &dyn Examples, batch: usize, block: i64, include: &[bool]) -> Result<Kernels> {
    let options = GramOptions {
        batch,
        block_entries: block,
        include: include.to_vec(),
        ..GramOptions::new(FormulaSet::ALL, network.parameters.len())
    };
    Ok(Kernels::of(&structured_gram(&network.parameters, examples, None, &options, &Silent)?))
}

/// A partition of the parameter tensors: single tensors for a perceptron, three parts for other networks, whose dozens of
/// tensors would cost as much as everything else.
fn parts(network: NetworkCase, tensors: usize) -> Vec<Vec<bool>> {
    let count = if matches!(network.shape, Shape::Mlp { .. }) { tensors } else { 3 };
    // The seed varies the three parts from case to case.
    let part = |i: usize| (i + (network.seed as usize >> (i % 32)) % 2) % count;
    let mut parts: Vec<Vec<bool>> = vec![vec![false; tensors]; count];
    for i in 0..tensors {
        parts[if count == tensors { i } else { part(i) }][i] = true;
    }
    parts
}

/// How far the smallest eigenvalue is below zero, relative to the trace.
fn negative_part(kernel: &Tensor) -> f64 {
    let trace = kernel.trace().double_value(&[]);
    let smallest = kernel.linalg_eigvalsh("L").min().double_value(&[]);
    // A network of dead units has no gradients: its kernels are zero.
    if trace == 0.0 { -smallest } else { larger(-smallest / trace, 0.0) }
}

/// Outputs times a constant.
struct Scaled<'a>(&'a dyn Examples, f64);

impl Examples for Scaled<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn outputs(&self) -> usize {
        self.0.outputs()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        self.0.forward(tap, indices) * self.1
    }
}

/// The examples in another order.
struct Reordered<'a>(&'a dyn Examples, &'a [usize]);

impl Examples for Reordered<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn outputs(&self) -> usize {
        self.0.outputs()
    }

    fn cost(&self, index: usize) -> usize {
        self.0.cost(self.1[index])
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        self.0.forward(tap, &indices.iter().map(|i| self.1[*i]).collect::<Vec<_>>())
    }
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(20, 200, 1000);
    let found = worst(context, "kernel-algebra", cases, Case::random, errors)?;
    let checks = LAWS.iter().zip(found).map(|((law, tolerance), error)| identity(*law, *tolerance, error, cases));
    let (mut symmetric, mut whole): (f64, f64) = (1.0, 1.0);
    for i in 0..8 {
        let mut rng = super::cases::generator(context, &format!("kernel-algebra control {i}"));
        let network = NetworkCase { examples: 4, ..NetworkCase::random_language_model(&mut rng) };
        symmetric = symmetric.min(asymmetry(network, context)?);
        whole = whole.min(without_one_tensor(network, context)?);
    }
    let controls = vec![
        identity("K_A-SignGD is symmetric (smallest relative asymmetry)", LAWS[0].1, symmetric, 8),
        identity("K_SGD without the token table is K_SGD (smallest relative error)", TOLERANCE, whole, 8),
    ];
    Ok(Findings {
        settings: vec![("cases".into(), cases.to_string())],
        checks: checks.collect(),
        controls,
        ..Findings::default()
    })
}
