//! In the linearized model LoRA has no spurious local minimum once r(r+1)/2 exceeds the number of outputs; below, it can have one.
//!
//! **Statement.** In the kernel regime LoRA of rank `r` minimizes `½ Σ_i (<G_i, uvᵀ> - y_i)² + λ/2 (|u|² + |v|²)` over `u` and
//! `v`, with one gradient `G_i` for each of the `KN` outputs of `N` examples with `K` outputs. If `r(r+1)/2 > KN`, every
//! second-order stationary point of a generic such problem is a global minimum, and the product is that of full fine-tuning
//! with the nuclear norm as penalty (Jang, Lee and Ryu 2024). The condition is needed: with `K = 1`, `N = 4`, `r = 1` there is
//! a strict spurious local minimum.
//!
//! **Hypotheses.** Linearized outputs, squared loss, weight decay `λ > 0`.
//!
//! **Derivation.** With `M = Σ_i (y_i - <G_i, X>) G_i` a stationary point has `Mv = λu`, `Mᵀu = λv`, and `X = uvᵀ` is the
//! global minimum over all matrices if and only if the spectral norm of `M` is at most `λ`: the certificate. More than `KN`
//! quadratic conditions cannot all be independent, which leaves a direction, at rank `r`, in which columns can be merged. For
//! the example take `G = e₁e₁ᵀ, √w e₂e₂ᵀ, √c e₁e₂ᵀ, √c e₂e₁ᵀ` with `y = 1, √w, 0, 0`. At `u = v = √(1-λ) e₁` the gradient
//! vanishes, and the Hessian has the eigenvalues `2 - 2λ`, `2λ`, `c(1-λ) + λ ± w` and λ: all are positive for `w < c(1-λ) + λ`.
//! The loss is `λ - λ²/2 + w/2`; the pair `e₂` alone has `λ + 1/2 - λ²/2w`, which is less for `w > 1`. At rank 3, padded with
//! zeros, the same point has the eigenvalue `λ - w < 0`: a saddle.
//!
//! **Experiment.** The example (`w = 2`, `c = 4`, `λ = 0.1`, matrices of 6 x 6): gradient, loss and Hessian at the spurious
//! minimum, and the Hessian of the padded one. Then `KN = 4, r = 3` and `KN = 6, r = 4`: the example, and random networks'
//! gradients of a hidden matrix with random targets, minimized by alternating least squares from random starts, one of them
//! near the spurious minimum: the certificate at the end of each.
//!
//! **Control.** The example at rank 1: different runs must end differently.
//!
//! **Meaning.** A low rank does not make LoRA's linearized problem hard as long as `r` is of the order of the root of the number of
//! outputs: with 16 examples of two outputs, 8 is enough.

use nalgebra::{DMatrix, DVector};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::cases::{generator, larger};
use super::context::Context;
use super::limits::matrix;
use super::{Claim, Graded, Mutant, Topic, identity};
use crate::error::Result;
use crate::evidence::Findings;
use crate::kernel::dense_jacobian;
use crate::network::{Abc, Activation, Mlp, unit_inputs};

const RANK_ONE: Mutant = Mutant { name: "rank-one", change: "rank 1 in place of one with r(r+1)/2 > KN" };
const WEAK: Mutant = Mutant { name: "weak-coupling", change: "c = 1 in the example, below the bound for w" };
const EIGENVALUE: Graded =
    Graded { name: "eigenvalue-off", change: "stated eigenvalues of the Hessian that are a tolerance too large" };

pub(super) const CLAIM: Claim = Claim {
    id: "lora-landscape",
    topic: Topic::Subspace,
    title: "Linearized LoRA has no spurious local minimum if r(r+1)/2 > KN, and can have one below",
    source: "Jang, Lee and Ryu 2024; the example ours",
    prediction: "all runs end in the certified global minimum; the example's Hessian as computed",
    text: include_str!("lora_landscape.rs"),
    mutants: &[RANK_ONE, WEAK],
    graded: &[EIGENVALUE],
    experiment,
};

const SIDE: usize = 6;
const LAMBDA: f64 = 0.1;
const W: f64 = 2.0;
const C: f64 = 4.0;

/// Differences of exact gradients over 1e-5: their next term is 1e-10, round-off 1e-11.
const HESSIAN: f64 = 1e-7;
/// Alternating least squares stops when the loss changes by 1e-15; the certificate is of the order of its root.
const CERTIFICATE: f64 = 1e-5;
const MOST_ROUNDS: usize = 4000;

/// Gradients of outputs, with the outputs' targets.
struct Problem {
    gradients: Vec<DMatrix<f64>>,
    targets: DVector<f64>,
}

/// Factors u \[p, r\] and v \[q, r\].
#[derive(Clone)]
struct Factors {
    u: DMatrix<f64>,
    v: DMatrix<f64>,
}

impl Problem {
    /// The example, with its coupling c.
    fn example(coupling: f64) -> Self {
        let unit = |i: usize, j: usize, size: f64| {
            let mut g = DMatrix::zeros(SIDE, SIDE);
            g[(i, j)] = size;
            g
        };
        let (w, c) = (W.sqrt(), coupling.sqrt());
        let gradients = vec![unit(0, 0, 1.0), unit(1, 1, w), unit(0, 1, c), unit(1, 0, c)];
        Self { gradients, targets: DVector::from_vec(vec![1.0, w, 0.0, 0.0]) }
    }

    /// A random perceptron's gradients of its hidden matrix.
    fn linearized(context: &Context<'_>, examples: i64, outputs: i64, number: usize) -> Result<Self> {
        let (input, width, activation) = (4, SIDE as i64, Activation::Tanh);
        let mlp = Mlp { input, width, depth: 2, outputs, activation, gain: 1.5, abc: Abc::ntk(2) };
        let seed = context.seed(&format!("lora-landscape network {outputs} {number}"));
        let parameters = mlp.parameters(seed, Context::KIND, context.device);
        let inputs = mlp.examples(unit_inputs(examples, input, seed, Context::KIND, context.device));
        let rows = dense_jacobian(&parameters, &inputs)?.narrow(1, input * width, width * width);
        let gradients = (0..examples * outputs).map(|i| matrix(&rows.get(i).view([width, width])) * 3.0).collect();
        let mut rng = generator(context, &format!("lora-landscape targets {outputs} {number}"));
        let targets = DVector::from_fn((examples * outputs) as usize, |_, _| rng.random_range(-1.0..1.0));
        Ok(Self { gradients, targets })
    }

    /// `y - <G, uvᵀ>`.
    fn residuals(&self, at: &Factors) -> DVector<f64> {
        let product = &at.u * at.v.transpose();
        let values = self.gradients.iter().zip(self.targets.iter()).map(|(g, y)| y - g.dot(&product));
        DVector::from_iterator(self.targets.len(), values)
    }

    fn loss(&self, at: &Factors) -> f64 {
        0.5 * self.residuals(at).norm_squared() + 0.5 * LAMBDA * (at.u.norm_squared() + at.v.norm_squared())
    }

    /// `M = Σ (y - <G, uvᵀ>) G`.
    fn pull(&self, at: &Factors) -> DMatrix<f64> {
        let residuals = self.residuals(at);
        let terms = self.gradients.iter().zip(residuals.iter()).map(|(g, r)| g * *r);
        terms.reduce(|sum, term| sum + term).expect("a problem has outputs")
    }

    /// The gradient of the loss, u before v.
    fn gradient(&self, at: &Factors) -> DVector<f64> {
        let pull = self.pull(at);
        let (u, v) = (&at.u * LAMBDA - &pull * &at.v, &at.v * LAMBDA - pull.transpose() * &at.u);
        DVector::from_iterator(u.len() + v.len(), u.iter().chain(v.iter()).copied())
    }

    /// Smallest eigenvalue of the Hessian, by central differences of the gradient.
    fn smallest_curvature(&self, at: &Factors) -> f64 {
        let count = at.u.len() + at.v.len();
        let step = 1e-5;
        let moved = |i: usize, by: f64| {
            let mut there = at.clone();
            let place = if i < at.u.len() { &mut there.u[i] } else { &mut there.v[i - at.u.len()] };
            *place += by;
            self.gradient(&there)
        };
        let columns: Vec<DVector<f64>> =
            (0..count).map(|i| (moved(i, step) - moved(i, -step)) / (2.0 * step)).collect();
        let hessian = DMatrix::from_columns(&columns);
        ((&hessian + hessian.transpose()) * 0.5).symmetric_eigenvalues().min()
    }

    /// How far the spectral norm of `M` exceeds λ, relative to λ: 0 at the global minimum over all matrices.
    fn certificate(&self, at: &Factors) -> f64 {
        larger(self.pull(at).singular_values().max() / LAMBDA - 1.0, 0.0)
    }

    /// Minimizes over u and v in turn, each exactly, until the loss is constant, and then for as many rounds again: when the
    /// loss is constant to round-off, its point is known only to the root of that.
    fn minimize(&self, mut at: Factors) -> Factors {
        let (mut loss, mut last) = (self.loss(&at), MOST_ROUNDS);
        for round in 1.. {
            at.v = self.ridge(self.gradients.iter().map(|g| g.transpose() * &at.u).collect());
            at.u = self.ridge(self.gradients.iter().map(|g| g * &at.v).collect());
            let now = self.loss(&at);
            if loss - now <= 1e-15 * now {
                last = last.min(2 * round);
            }
            if round >= last {
                break;
            }
            loss = now;
        }
        at
    }

    /// The factor that minimizes `½ Σ (<A_i, factor> - y_i)² + λ/2 |factor|²`.
    fn ridge(&self, features: Vec<DMatrix<f64>>) -> DMatrix<f64> {
        let count = features.len();
        let gram =
            DMatrix::from_fn(count, count, |i, j| features[i].dot(&features[j]) + if i == j { LAMBDA } else { 0.0 });
        let weights = gram.cholesky().expect("a Gram matrix plus λ is positive").solve(&self.targets);
        let terms = features.into_iter().zip(weights.iter()).map(|(feature, weight)| feature * *weight);
        terms.reduce(|sum, term| sum + term).expect("a problem has outputs")
    }
}

impl Factors {
    /// The example's spurious minimum, padded with zeros to this rank.
    fn spurious(rank: usize) -> Self {
        let mut factor = DMatrix::zeros(SIDE, rank);
        factor[(0, 0)] = (1.0 - LAMBDA).sqrt();
        Self { u: factor.clone(), v: factor }
    }

    /// The same, plus normal entries times `scale`.
    fn disturbed(&self, scale: f64, rng: &mut ChaCha8Rng) -> Self {
        let mut noise =
            || DMatrix::from_fn(self.u.nrows(), self.u.ncols(), |_, _| -> f64 { StandardNormal.sample(rng) });
        Self { u: &self.u + noise() * scale, v: &self.v + noise() * scale }
    }
}

/// The smallest rank with `r(r+1)/2` above this number, or a mutant's.
fn enough(outputs: usize, context: &Context<'_>) -> usize {
    if context.is(RANK_ONE) {
        return 1;
    }
    (1..=outputs + 1).find(|r| r * (r + 1) / 2 > outputs).expect("a rank above the number itself is enough")
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let coupling = if context.is(WEAK) { 1.0 } else { C };
    let example = Problem::example(coupling);
    let one = Factors::spurious(1);
    let off = HESSIAN * context.off(EIGENVALUE);
    let smallest = (2.0 * LAMBDA).min(LAMBDA).min(C * (1.0 - LAMBDA) + LAMBDA - W);
    let stated_loss = LAMBDA - 0.5 * LAMBDA * LAMBDA + 0.5 * W;

    let networks = context.pick(3, 8, 20);
    let mut problems = vec![Problem::example(coupling)];
    for number in 0..networks {
        problems.push(Problem::linearized(context, 4, 1, number)?);
        problems.push(Problem::linearized(context, 3, 2, number)?);
    }
    let runs = context.pick(5, 20, 50);
    let mut rng = generator(context, "lora-landscape starts");
    let (mut uncertified, mut apart): (f64, f64) = (0.0, 0.0);
    for (number, problem) in problems.iter().enumerate() {
        let rank = enough(problem.targets.len(), context);
        let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
        for run in 0..runs {
            let scale = if run == 0 && number == 0 { 1e-3 } else { 1.0 };
            let end = problem.minimize(Factors::spurious(rank).disturbed(scale, &mut rng));
            uncertified = larger(uncertified, problem.certificate(&end));
            let loss = problem.loss(&end);
            (lowest, highest) = (lowest.min(loss), highest.max(loss));
        }
        apart = larger(apart, highest / lowest - 1.0);
    }
    let ends: Vec<f64> = [Factors::spurious(1), second(1)]
        .iter()
        .map(|start| Problem::example(C).minimize(start.disturbed(1e-3, &mut rng)))
        .map(|end| Problem::example(C).loss(&end))
        .collect();

    let all = runs * problems.len();
    let checks = vec![
        identity("rank 1: gradient at the spurious minimum", 1e-12, example.gradient(&one).amax(), 1),
        identity("rank 1: its loss, from the stated one", 1e-12, (example.loss(&one) - stated_loss).abs(), 1),
        identity(
            "rank 1: smallest eigenvalue of its Hessian, from the stated positive one",
            HESSIAN,
            (example.smallest_curvature(&one) - smallest - off).abs(),
            1,
        ),
        identity(
            "rank 3: smallest eigenvalue of the padded point's Hessian, from λ - w",
            HESSIAN,
            (example.smallest_curvature(&Factors::spurious(3)) - (LAMBDA - W) - off).abs(),
            1,
        ),
        identity("r(r+1)/2 > KN: excess of the certificate over runs", CERTIFICATE, uncertified, all),
        identity("r(r+1)/2 > KN: relative difference of the losses of runs", CERTIFICATE, apart, all),
    ];
    let controls =
        vec![identity("rank 1: relative difference of the losses of runs", CERTIFICATE, ends[0] / ends[1] - 1.0, 2)];
    Ok(Findings {
        settings: vec![
            ("problems".into(), format!("the example and {} linearized networks", 2 * networks)),
            ("starts of each".into(), runs.to_string()),
            ("λ, w, c".into(), format!("{LAMBDA}, {W}, {C}")),
        ],
        checks,
        controls,
        notes: vec![format!(
            "At rank 1 the spurious minimum has the loss {:.3}, the better one {:.4}; at rank 3 all runs of the example end at {:.4}.",
            ends[0],
            ends[1],
            LAMBDA * (2.0 - LAMBDA - LAMBDA / W) + 0.5 * LAMBDA * LAMBDA * (1.0 + 1.0 / W)
        )],
        ..Findings::default()
    })
}

/// An approximation of the better of the example's minima at rank 1.
fn second(rank: usize) -> Factors {
    let mut factor = DMatrix::zeros(SIDE, rank);
    factor[(1, 0)] = (1.0 - LAMBDA / W).sqrt();
    Factors { u: factor.clone(), v: factor }
}
