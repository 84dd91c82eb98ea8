//! While gradients vary little, Adam stays close to sign descent
//!
//! **Statement.** Let `g` be a reference gradient (say, the first) and let all gradients until step `t` satisfy
//! `|g_s - g| ≤ ρ|g|` entry by entry with `ρ < 1`. Then Adam with bias correction and `ε = 0` updates every entry by
//! `-η r sign(g)` with `(1-ρ)/(1+ρ) ≤ r ≤ (1+ρ)/(1-ρ)`, for all decay rates `β1, β2` in `[0, 1)`. Neither limit can
//! be improved for all decay rates at once.
//!
//! **Hypotheses.** Moments start at zero and are bias-corrected; `ε = 0`; `ρ < 1`, so that no gradient changes its
//! sign.
//!
//! **Derivation.** `m̂_t = Σ_s w_s g_s` with weights `w_s = (1-β1) β1^(t-s) / (1-β1^t)`, positive and of sum one: bias
//! correction makes the moment a weighted mean. A mean lies between the extremes, so `m̂ = a g` with `a` in `[1-ρ, 1+ρ]`.
//! Likewise `v̂` is a weighted mean of `g_s²`, so `√v̂ = b |g|` with `b` in the same interval. The update is `-η m̂/√v̂ = -η
//! (a/b) sign(g)`. They are sharp: `β1 = 0`, gradients `(1-ρ) g` until the last one, `(1+ρ) g`, make `a = 1+ρ`, and `b → 1-ρ`
//! as `β2 → 1`, `t → ∞`.
//!
//! **Experiment.** The optimizer of the fine-tuning runs on random gradient sequences: uniform and two-valued noise, and
//! sequences that switch once from one extreme to the other, at a different step in every entry. The measure is how far any
//! update of any step leaves the interval. Then the two extremal sequences: how close they come to its ends.
//!
//! **Control.** Sequences with twice the variation must leave the interval, and so must Adam without bias correction.
//!
//! **Meaning.** A certificate, from gradients alone, for how long the kernel analog of sign descent describes Adam: with
//! gradients that vary by 10% updates are within 23% of sign descent's; beyond `ρ = 1/2` they may differ threefold.

use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::adam_first_step::{parameters_like, random_decay, without_correction};
use super::cases::{generator, larger, worst};
use super::context::Context;
use super::{Claim, Graded, Mutant, Topic, check, identity};
use crate::error::Result;
use crate::evidence::{Findings, Table};
use crate::stats::{Estimate, Expectation};
use crate::train::{Optimizer, OptimizerKind};

const NO_BIAS_CORRECTION: Mutant = Mutant { name: "no-bias-correction", change: "moments are not bias-corrected" };
const NARROW_BOUND: Mutant =
    Mutant { name: "narrow-bound", change: "the bound [1-ρ, 1+ρ], which forgets that the second moment varies too" };
const LOOSE_BOUND: Mutant = Mutant { name: "loose-bound", change: "the bound with 2ρ in place of ρ" };
const WIDER: Graded = Graded { name: "wider", change: "the bound a hundredth of itself too far from 1" };

pub(super) const CLAIM: Claim = Claim {
    id: "adam-bound",
    topic: Topic::Identity,
    title: "While gradients vary little, Adam stays close to sign descent",
    source: "ours; quantifies the paper's remark that early Adam behaves like SignGD (Section 4.2)",
    prediction: "update / (-η sign g) within [(1-ρ)/(1+ρ), (1+ρ)/(1-ρ)]",
    text: include_str!("adam_bound.rs"),
    mutants: &[NO_BIAS_CORRECTION, NARROW_BOUND, LOOSE_BOUND],
    graded: &[WIDER],
    experiment,
};

/// A weighted mean's weights sum to one up to roundings of `1.1e-16 / (1-β)`, at most 1.1e-12 for β ≤ 0.9999, which enter the
/// result a few times; the bound itself has a margin of one rounding.
const TOLERANCE: f64 = 1e-11;

/// Part of the bound that extremal sequences may miss. With β2 = 0.999 the last step weighs 0.001 in the second moment: at
/// ρ = 0.4 it misses the ends by 0.2%.
const SLACK: f64 = 0.01;

/// How gradients vary around their reference, in units of ρ|g|.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variation {
    /// Uniform on [-1, 1], independent.
    Uniform,
    /// -1 or 1, independent.
    TwoValued,
    /// -1 until a random step, 1 from then on.
    Rising,
    /// 1 until a random step, -1 from then on.
    Falling,
}

/// A gradient sequence and settings of Adam.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// How gradients vary.
    pub variation: Variation,
    /// Relative size ρ of the variation.
    pub rho: f64,
    /// Number of entries; each switches at another step.
    pub entries: i64,
    /// Number of steps.
    pub steps: i32,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Seed of the gradients.
    pub seed: u64,
}

impl Variation {
    /// All variations.
    pub const ALL: [Self; 4] = [Self::Uniform, Self::TwoValued, Self::Rising, Self::Falling];
}

impl Case {
    /// A random case.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self {
            variation: *Variation::ALL.choose(rng).expect("there are four"),
            rho: rng.random_range(0.0..0.95),
            entries: rng.random_range(1..40),
            steps: rng.random_range(1..80),
            beta1: random_decay(rng),
            beta2: random_decay(rng),
            seed: rng.random(),
        }
    }

    /// The interval of r.
    fn interval(&self) -> (f64, f64) {
        ((1.0 - self.rho) / (1.0 + self.rho), (1.0 + self.rho) / (1.0 - self.rho))
    }

    /// Variations \[steps, entries\], in [-1, 1].
    fn variations(&self, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
        let (steps, entries) = (self.steps as usize, self.entries as usize);
        let switches: Vec<usize> = (0..entries).map(|_| rng.random_range(0..steps)).collect();
        let mut at = |step: usize, entry: usize| match self.variation {
            Variation::Uniform => rng.random_range(-1.0..=1.0),
            Variation::TwoValued if rng.random() => 1.0,
            Variation::Rising if step >= switches[entry] => 1.0,
            Variation::Falling if step < switches[entry] => 1.0,
            _ => -1.0,
        };
        (0..steps).map(|step| (0..entries).map(|entry| at(step, entry)).collect()).collect()
    }

    /// Ratios r of every update \[steps, entries\] to a step of sign descent at the same rate. `spread` is a factor of the
    /// variation; `corrected`, whether moments are bias-corrected.
    fn ratios(&self, spread: f64, corrected: bool, context: &Context<'_>) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut entry = || 10f64.powf(rng.random_range(-10.0..10.0)) * if rng.random() { 1.0 } else { -1.0 };
        let numbers: Vec<f64> = (0..self.entries).map(|_| entry()).collect();
        let g = Tensor::from_slice(&numbers).to_device(context.device);
        let gradient =
            |u: &Vec<f64>| &g * (Tensor::from_slice(u).to_device(context.device) * (self.rho * spread) + 1.0);
        let gradients: Vec<Tensor> = self.variations(&mut rng).iter().map(gradient).collect();
        self.run(&g, &gradients, corrected)
    }

    /// Ratios \[steps, entries\] for these gradients around `g`.
    fn run(&self, g: &Tensor, gradients: &[Tensor], corrected: bool) -> Tensor {
        let parameters = parameters_like(&[g.shallow_clone()]);
        let kind = OptimizerKind::Adam { beta1: self.beta1, beta2: self.beta2, epsilon: 0.0 };
        let mut optimizer = Optimizer::new(kind, 1.0, 1);
        let mut step = 0;
        let mut ratio = |gradient: &Tensor| {
            step += 1;
            let factor = if corrected { 1.0 } else { without_correction(self.beta1, self.beta2, step) };
            let updates = optimizer.updates(&parameters, &[Some(gradient.shallow_clone())], 1.0);
            updates[0].as_ref().expect("the tensor has a gradient") * -g.sign() * factor
        };
        Tensor::stack(&gradients.iter().map(&mut ratio).collect::<Vec<_>>(), 0)
    }
}

/// How far an update lies beyond an end of the interval, relative to that end; at least 1 for an update of the wrong sign.
fn excess(ratios: &Tensor, (low, high): (f64, f64)) -> f64 {
    let (smallest, largest) = (ratios.min().double_value(&[]), ratios.max().double_value(&[]));
    larger(larger(largest / high - 1.0, 1.0 - smallest / low), 0.0)
}

/// Largest excess of an update over the bound, relative to it.
pub fn error(case: &Case, context: &Context<'_>) -> Result<f64> {
    let interval = if context.is(NARROW_BOUND) { (1.0 - case.rho, 1.0 + case.rho) } else { case.interval() };
    Ok(excess(&case.ratios(1.0, !context.is(NO_BIAS_CORRECTION), context), interval))
}

/// Largest and smallest r of extremal sequences, relative to the bounds: entries rise (fall) from one extreme to the other 1,
/// 2, …, 64 steps before the end.
fn sharpness(beta1: f64, beta2: f64, steps: i32, rho: f64, context: &Context<'_>) -> (f64, f64) {
    let case = Case { variation: Variation::Rising, rho, entries: 128, steps, beta1, beta2, seed: 0 };
    let g = Tensor::ones([case.entries], (Kind::Double, context.device));
    let length = Tensor::arange(case.entries, (Kind::Double, context.device)).floor_divide_scalar(2.0) + 1.0;
    let direction = Tensor::arange(case.entries, (Kind::Int64, context.device)).remainder(2) * -2 + 1;
    let gradient = |step: i32| {
        let risen = length.ge(f64::from(steps - step)).to_kind(Kind::Double) * 2.0 - 1.0;
        &g + risen * &direction * rho
    };
    let ratios = case.run(&g, &(0..steps).map(gradient).collect::<Vec<_>>(), true).get(i64::from(steps) - 1);
    let rho = if context.is(LOOSE_BOUND) { (2.0 * rho).min(0.99) } else { rho };
    let (low, high) = Case { rho, ..case }.interval();
    let wider = 1.0 + SLACK * context.off(WIDER);
    let (low, high) = (low / wider, high * wider);
    (ratios.max().double_value(&[]) / high, low / ratios.min().double_value(&[]))
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let cases = context.pick(40, 400, 4000);
    let [overstep] = worst(context, "adam-bound", cases, Case::random, |case, context| Ok([error(case, context)?]))?;
    let rho = 0.4;
    let settings = [(0.0, 0.999), (0.9, 0.999), (0.9, 0.98)];
    let reached: Vec<(f64, f64)> =
        settings.iter().map(|(beta1, beta2)| sharpness(*beta1, *beta2, 3000, rho, context)).collect();
    let nearness = reached[0].0.min(reached[0].1);
    let checks = vec![
        identity("part by which an update leaves the interval", TOLERANCE, overstep, cases),
        check(
            "part of the bound that extremal sequences reach (β1 = 0, β2 = 0.999)",
            Expectation::AtLeast { bound: 1.0 - SLACK },
            Estimate::exact(nearness, 2),
        ),
    ];

    let (mut wild, mut uncorrected) = (0.0, 0.0);
    for i in 0..8 {
        let case = Case::random(&mut generator(context, &format!("adam-bound control {i}")));
        let case = Case { variation: Variation::Rising, rho: 0.4, steps: 60, beta1: 0.5, beta2: 0.99, ..case };
        wild = larger(wild, excess(&case.ratios(2.0, true, context), case.interval()));
        uncorrected = larger(uncorrected, excess(&case.ratios(1.0, false, context), case.interval()));
    }
    let controls = vec![
        identity("gradients that vary by 2ρ", TOLERANCE, wild, 8),
        identity("without bias correction", TOLERANCE, uncorrected, 8),
    ];
    let mut table = Table {
        title: format!("Part of the bounds that one switch between the extremes reaches, ρ = {rho}, 3000 steps"),
        columns: ["β1", "β2", "largest / upper bound", "lower bound / smallest"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
    };
    for ((beta1, beta2), (high, low)) in settings.into_iter().zip(reached) {
        table.rows.push([beta1, beta2, high, low].map(Into::into).to_vec());
    }
    Ok(Findings {
        settings: vec![("cases".into(), cases.to_string())],
        checks,
        controls,
        tables: vec![table],
        ..Findings::default()
    })
}
