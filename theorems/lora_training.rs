//! During training LoRA's kernel stays that of full fine-tuning, up to its initial error.
//!
//! **Statement.** In the kernel regime train a network by SGD with one learning rate: once all its weights, and once adapters
//! `W + BA` of rank `k` on all its matrices, with both factors trained from entries of `A` from `N(0, 1/k)` and `B = 0`. After
//! any fixed number of steps the relative distance of both kernels is still that of the start (lora), and falls as `k^-1/2`; so
//! does the distance of the outputs' changes.
//!
//! **Hypotheses.** Kernel behaviour of the full network (ntk-regime); a learning rate that does not grow with `k`; outputs move:
//! measured.
//!
//! **Derivation.** At the start `K_LoRA = Σ <GAᵀ, G'Aᵀ>` has mean `K` and relative error `k^-1/2`, so the first steps differ by
//! that order. `B` moves by `-ηχGAᵀ`, which changes `∂f/∂A = BᵀG` and through it `A` by order η² and the adapted weight by
//! `BA`, that is by full fine-tuning's update times `AᵀA`. In the kernel regime neither changes the gradients of the network,
//! so that `K_LoRA` keeps the same `A` to leading order: its error neither shrinks nor grows.
//!
//! **Experiment.** Tanh perceptrons in NTK parametrization, four steps on four examples, ranks 8 to 256; kernels of eight examples
//! before and after. Exponents in `k` of the distance of the kernels after training and of the outputs, and the ratio of the
//! distances after and before.
//!
//! **Control.** Adapters on the first layer only: no rank closes the gap.
//!
//! **Meaning.** What LoRA cannot learn it cannot learn from the first step on; as long as training is in the kernel regime, it
//! needs the same rank as the kernel.

use std::cell::OnceCell;

use tch::{Kind, Tensor};

use super::compression::frobenius_error;
use super::context::{Context, SHIFTED};
use super::scan::{Scan, doubled, list};
use super::training::{loss_gradient, outputs, rms};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings, Open};
use crate::jacobian::{Examples, Param, Parameters};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::network::{Abc, Activation, Mlp, MlpExamples, unit_inputs};
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::subspace::{Init, Lora, Target, Trained};
use crate::train::{Optimizer, OptimizerKind};

const PEFT: Mutant = Mutant { name: "peft-variance", change: "PEFT's initial variance 1/(3 in) in place of 1/k" };
const SLOW: Mutant = Mutant { name: "slower-adapters", change: "adapters train with a learning rate that is halved" };
const STALE: Mutant = Mutant { name: "twice-the-scaling", change: "the factor s = 2 in place of 1" };

pub(super) const CLAIM: Claim = Claim {
    id: "lora-training",
    topic: Topic::Subspace,
    title: "LoRA's kernel stays that of full fine-tuning along training, up to the error it starts with",
    source: "the paper, Section 7 (LoRA), along training; ours",
    prediction: "distance of kernels and of outputs ~ k^-1/2 after training; error after over before: 1",
    text: include_str!("lora_training.rs"),
    mutants: &[PEFT, SLOW, STALE],
    graded: &[SHIFTED],
    experiment,
};

const BEFORE: &str = "distance of the kernels before training";
const AFTER: &str = "distance of the kernels after training";
const GROWTH: &str = "distance after over before";
const APART: &str = "distance of the outputs";
const MOVES: &str = "movement of the outputs";
const FIRST: &str = "distance of the kernels with adapters on the first layer";
const DRIFT: &str = "drift of A";
const STATISTICS: [&str; 7] = [BEFORE, AFTER, GROWTH, APART, MOVES, FIRST, DRIFT];

const TRAIN: i64 = 4;
const ALL: i64 = 8;
const STEPS: usize = 4;
const ETA: f64 = 0.2;

/// Accepted distance of exponents from -1/2, far from 0 and -1.
const SLOPE: f64 = 0.15;
/// Accepted distance of the logarithm of the error's growth from 0.
const KEPT: f64 = 0.2;

/// Adapters, with their learning rate.
struct Adapted {
    lora: Lora,
    init: Init,
    eta: f64,
}

/// A network with its examples, of which the first are for training.
struct Task {
    network: Parameters,
    all: MlpExamples,
    targets: Tensor,
    /// The kernels of the full network before and after its training, and its outputs after.
    before: Tensor,
    after: Tensor,
    end: Tensor,
}

/// Trains parameters on the first examples.
fn train(start: &Parameters, examples: &dyn Examples, targets: &Tensor, include: &[bool], eta: f64) -> Parameters {
    let indices: Vec<usize> = (0..TRAIN as usize).collect();
    let mut trainer = Optimizer::new(OptimizerKind::Sgd, eta, start.len());
    let mut parameters = start.detached_copy();
    for _ in 0..STEPS {
        let chi = outputs(&parameters, examples).narrow(0, 0, TRAIN) - targets;
        let gradients = loss_gradient(&parameters, examples, &indices, &chi);
        let gradients: Vec<Option<Tensor>> =
            gradients.into_iter().zip(include).map(|(g, included)| g.filter(|_| *included)).collect();
        parameters = trainer.step(&parameters, &gradients);
    }
    parameters
}

fn kernel(parameters: &Parameters, examples: &dyn Examples, include: Vec<bool>) -> Result<Tensor> {
    let options = GramOptions { include, ..GramOptions::new(FormulaSet::SGD, parameters.len()) };
    Ok(structured_gram(parameters, examples, None, &options, &Silent)?.sgd.expect("asked for"))
}

impl Task {
    fn new(context: &Context<'_>, width: i64, seed: usize) -> Result<Self> {
        let (input, depth, activation) = (12, 2, Activation::Tanh);
        let mlp = Mlp { input, width, depth, outputs: 1, activation, gain: 1.0, abc: Abc::ntk(depth) };
        let network = mlp.parameters(context.seed(&format!("network {seed}")), Context::KIND, context.device);
        let inputs = unit_inputs(ALL, input, context.seed(&format!("inputs {seed}")), Context::KIND, context.device);
        let all = mlp.examples(inputs);
        // χ starts at ±1/5, whatever the random initial outputs.
        let signs = Tensor::from_slice(&[0.2, -0.2, 0.2, -0.2]).view([TRAIN, 1]).to_device(context.device);
        let targets = outputs(&network, &all).narrow(0, 0, TRAIN) + signs;
        let include = vec![true; network.len()];
        let trained = train(&network, &all, &targets, &include, ETA);
        let before = kernel(&network, &all, include.clone())?;
        let (after, end) = (kernel(&trained, &all, include)?, outputs(&trained, &all));
        Ok(Self { network, all, targets, before, after, end })
    }

    /// Kernels of adapters before and after training, outputs after it, and the change of A relative to its size.
    fn adapt(&self, adapted: &Adapted, seed: u64) -> Result<(Tensor, Tensor, Tensor, f64)> {
        let Adapted { lora, init, eta } = adapted;
        let start = lora.parameters(&self.network, *init, seed);
        let (examples, include) = (lora.examples(&self.all), lora.include(Trained::Adapters));
        let trained = train(&start, &examples, &self.targets, &include, *eta);
        let square = |t: &Tensor| t.square().sum(Kind::Double).double_value(&[]);
        let (moved, size) = lora.adapters().iter().fold((0.0, 0.0), |(moved, size), x| {
            (moved + square(&(trained.get(x.a) - start.get(x.a))), size + square(start.get(x.a)))
        });
        let (before, after) = (kernel(&start, &examples, include.clone())?, kernel(&trained, &examples, include)?);
        Ok((before, after, outputs(&trained, &examples), (moved / size).sqrt()))
    }
}

fn measure(context: &Context<'_>, task: &Task, rank: i64, seed: usize) -> Result<Vec<f64>> {
    let scaling = if context.is(STALE) { 2.0 } else { 1.0 };
    let adapters = |weights: usize| {
        let targets: Vec<Target> = (0..weights).map(|l| Target { weight: Param(l), rank, scaling }).collect();
        Lora::new(task.network.specs(), &targets)
    };
    let init = if context.is(PEFT) { Init::KaimingUniform } else { Init::Gaussian };
    let eta = if context.is(SLOW) { 0.5 * ETA } else { ETA };
    let draw = context.seed(&format!("adapters {rank} {seed}"));
    let whole = Adapted { lora: adapters(task.network.len())?, init, eta };
    let (before, after, end, drift) = task.adapt(&whole, draw)?;
    let (_, first, _, _) = task.adapt(&Adapted { lora: adapters(1)?, ..whole }, draw)?;
    let distances = (frobenius_error(&before, &task.before), frobenius_error(&after, &task.after));
    let moved = &task.end - outputs(&task.network, &task.all);
    Ok(vec![
        distances.0,
        distances.1,
        distances.1 / distances.0,
        rms(&(end - &task.end)) / rms(&moved),
        rms(&moved),
        frobenius_error(&first, &task.after),
        drift,
    ])
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let ranks = doubled(8.0, 6);
    let width = context.pick(64, 128, 512);
    let seeds = context.seeds(32, 40, 40);
    // Trained once for all ranks, and only if measured.
    let tasks: Vec<OnceCell<Task>> = (0..seeds).map(|_| OnceCell::new()).collect();
    let scan = Scan::over(context, "ranks", &ranks, seeds, &STATISTICS, |rank, seed| {
        if tasks[seed].get().is_none() {
            let _ = tasks[seed].set(Task::new(context, width, seed)?);
        }
        measure(context, tasks[seed].get().expect("trained"), rank as i64, seed)
    })?;
    let falls = context.expected(-0.5, SLOPE);
    let title = |name: &str| format!("exponent in k of the {name}");
    let growth = |place: usize| -> Vec<f64> { scan.at(GROWTH, place).iter().map(|ratio| ratio.ln()).collect() };
    let kept = |place: usize| {
        let title = format!("logarithm of the {GROWTH}, k = {}", ranks[place]);
        Open::mean(title, context.expected(0.0, KEPT), growth(place))
    };
    let moves = Expectation::AtLeast { bound: 0.03 };
    Ok(context.judged(Collected {
        settings: vec![
            ("network".into(), format!("tanh, two hidden layers of width {width}, NTK parametrization")),
            ("ranks".into(), list(&ranks)),
            ("seeds".into(), seeds.to_string()),
            ("training".into(), format!("{STEPS} steps on {TRAIN} examples, squared loss, η = {ETA}")),
        ],
        hypotheses: vec![scan.level("root mean square of the outputs' movement", MOVES, moves)],
        checks: vec![
            scan.scaling(title(AFTER), AFTER, falls)?,
            scan.scaling(title(APART), APART, falls)?,
            kept(0),
            kept(ranks.len() - 1),
        ],
        controls: vec![scan.scaling(title(FIRST), FIRST, falls)?],
        tables: vec![scan.local_slopes(&[(BEFORE, -0.5), (AFTER, -0.5), (APART, -0.5), (DRIFT, -0.5)])?],
        figures: vec![Figure {
            name: "rank".into(),
            title: "Distance of LoRA from full fine-tuning after training".into(),
            x_label: "rank k".into(),
            y_label: "relative distance".into(),
            series: vec![
                scan.series("kernels", AFTER, Some(-0.5), false),
                scan.series("outputs", APART, Some(-0.5), false),
                scan.series("kernels, first layer only", FIRST, None, true),
            ],
        }],
        ..Collected::default()
    }))
}
