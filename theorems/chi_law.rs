//! Taylor's theorem in χ: the departure of one SGD step from its kernel is proportional to the output derivative χ, whatever
//! the network.
//!
//! **Statement.** At any weights `θ_0`, one SGD step on `(ξ', y)` moves outputs by `Δf(ξ) = -ηχK(ξ,ξ') + ½η²χ²
//! ∇f(ξ')ᵀH(ξ)∇f(ξ') + …`, with `H` the Hessian of `f`: relative to the kernel's prediction the residual is proportional to χ,
//! and so is the gradient drift `|∇f_1 - ∇f_0|/|∇f_0|`. Under SignGD, whose update does not shrink with χ, both are
//! proportional to η and independent of χ's size (the slope in χ is exactly 0, because the update does not depend on it);
//! Adam's first step is the same (adam-first-step).
//!
//! **Hypotheses.** Two continuous derivatives of the network in its parameters. Nothing else.
//!
//! **Derivation.** Taylor's formula in the update `-ηχ∇f(ξ')`, respectively `-η sign(χ) sign ∇f(ξ')`. No width, no pre-training
//! and no task is involved.
//!
//! **Experiment.** Transformers pre-trained (Adam, muP) to fill in masked tokens of arithmetic progressions, and the same
//! transformers at their random initial weights; `f` is the difference of two tokens' logits. Soft labels `σ(f_0) ± δ` make χ
//! equal to `δ` exactly: χ is set, not measured. Slopes in `δ`, and for SignGD in η.
//!
//! **Control.** The other update's kernel in the place of SGD's, at its best scale: what it leaves does not fall with χ.
//!
//! **Meaning.** An identity: it is no evidence for the paper's Theorem 5.5, but its mechanism. The theorem is about the χ of
//! true labels at pre-trained weights, and how small pre-training makes it. For Adam it follows that a small χ does not shrink
//! the steps; what keeps Adam near its kernel is the small learning rate, or the short run, that a natural task allows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::Tensor;

use super::context::{Context, SHIFTED};
use super::pretraining::{Choice, Masked, pretrain, transformer};
use super::scan::{Scan, list};
use super::steps::Fit;
use super::training::{loss_gradient, outputs};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::jacobian::{Examples, Parameters};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::measure::{gradient_drift, relative_residual};
use crate::network::Transformer;
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::train::{Optimizer, OptimizerKind};

pub(super) const MISSING_FACTOR: Mutant = Mutant { name: "missing-factor", change: "the kernel's prediction halved" };
pub(super) const HARD_LABELS: Mutant =
    Mutant { name: "hard-labels", change: "labels at a fixed distance instead of δ" };
pub(super) const WRONG_UPDATE: Mutant = Mutant { name: "wrong-update", change: "SignGD in place of SGD" };

pub(super) const CLAIM: Claim = Claim {
    id: "chi-law",
    topic: Topic::Identity,
    title: "Taylor's theorem: one step departs from its kernel in proportion to χ under SGD, to η under SignGD, at any weights",
    source: "Taylor's theorem; the mechanism of the paper's Theorem 5.5",
    prediction: "slope 1 in χ (SGD); slope 0 in χ and 1 in η (SignGD)",
    text: include_str!("chi_law.rs"),
    mutants: &[MISSING_FACTOR, HARD_LABELS, WRONG_UPDATE],
    graded: &[SHIFTED],
    experiment,
};

pub(super) const RESIDUAL: &str = "residual";
pub(super) const DRIFT: &str = "gradient drift";
pub(super) const OTHER: &str = "residual of the other kernel";
/// The kernel of controls.
pub(super) const OTHER_KERNEL: &str = "K_A in K_SGD's place, at its best scale";

/// Accepted distance of a slope over two decades of an expansion whose next term is at most a tenth of the leading one at the
/// largest δ: the slope is off by less than 0.01.
pub(super) const TOLERANCE: f64 = 0.02;

/// The χ of hard labels.
const HARD: f64 = 0.1;
const PROBES: usize = 6;

/// Learning rates are chosen by the step's first-order effect on the output of its own example: χ times this for SGD, at most
/// this for SignGD. The next term of the expansion is then a small part of the first.
const SGD_MOVE: f64 = 1.0;
const SIGN_MOVE: f64 = 0.1;

/// A network and its task.
struct Model {
    parameters: Parameters,
    prompt: Masked,
    words: Tensor,
}

/// Networks by seed and length of pre-training, made when needed: a mutant that shares all measurements needs none.
struct Models<'a> {
    context: &'a Context<'a>,
    network: &'a Transformer,
    kept: RefCell<BTreeMap<(usize, usize), Rc<Model>>>,
}

impl Models<'_> {
    /// The network of a seed after so many steps.
    fn of(&self, seed: usize, steps: usize) -> Result<Rc<Model>> {
        if let Some(model) = self.kept.borrow().get(&(seed, steps)) {
            return Ok(Rc::clone(model));
        }
        let name = format!("seed {seed}");
        let prompt = Masked::draw(1 + PROBES, self.context.seed(&format!("{name}, prompts")));
        let (words, _) = Choice::words(&prompt.tokens, self.context.seed(&format!("{name}, words")));
        let parameters = pretrain(self.context, self.network, steps, &name)?;
        let model = Rc::new(Model { parameters, prompt, words });
        self.kept.borrow_mut().insert((seed, steps), Rc::clone(&model));
        Ok(model)
    }
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let network = transformer(context.pick(32, 64, 128));
    let seeds = context.seeds(12, 20, 24);
    let steps = context.pick(100, 300, 300);
    let models = Models { context, network: &network, kept: RefCell::default() };
    let deltas = [0.001, 0.003, 0.01, 0.03, 0.1];
    let rates = [0.003, 0.01, 0.03, SIGN_MOVE];
    let sgd = |own: &Context<'_>| if own.is(WRONG_UPDATE) { OptimizerKind::Signgd } else { OptimizerKind::Sgd };
    let train = |own: &Context<'_>, update, steps, delta, movement, seed| {
        one_step(own, &network, &*models.of(seed, steps)?, Step { update, delta, movement })
    };
    let in_chi = over_chi(context, "SGD over χ", &deltas, seeds, |own, delta, seed| {
        train(own, sgd(own), steps, delta, SGD_MOVE, seed)
    })?;
    let at_random = over_chi(context, "SGD over χ, random weights", &deltas, seeds, |own, delta, seed| {
        train(own, sgd(own), 0, delta, SGD_MOVE, seed)
    })?;
    let sign_in_chi = over_chi(context, "SignGD over χ", &deltas, seeds, |own, delta, seed| {
        train(own, OptimizerKind::Signgd, steps, delta, SIGN_MOVE, seed)
    })?;
    let in_eta = departures(
        context,
        "SignGD over η",
        &rates,
        seeds,
        |rate| rate,
        |own, rate, seed| train(own, OptimizerKind::Signgd, steps, HARD, rate, seed),
    )?;

    let mut findings = Collected {
        settings: vec![
            ("network".into(), format!("transformer, 2 layers, width {}, muP", network.shape().width)),
            ("pre-training".into(), format!("{steps} steps of Adam on masked progressions")),
            ("seeds (pre-trained networks)".into(), seeds.to_string()),
            ("χ".into(), list(&deltas)),
            ("first-order movement of the output by SignGD".into(), list(&rates)),
        ],
        ..Collected::default()
    };
    let slope = |target: f64| context.expected(target, TOLERANCE);
    // Random networks have directions of little curvature, where the next term matters sooner.
    let at_random_slope = context.expected(1.0, 0.05);
    for statistic in [RESIDUAL, DRIFT] {
        let title = |update: &str, x: &str| format!("{update}: exponent of the {statistic} in {x}");
        findings.checks.push(in_chi.scaling(title("SGD", "χ"), statistic, slope(1.0))?);
        let title_random = title("SGD at random weights", "χ");
        findings.checks.push(at_random.scaling(title_random, statistic, at_random_slope)?);
        findings.checks.push(sign_in_chi.scaling(title("SignGD", "χ"), statistic, slope(0.0))?);
        findings.checks.push(in_eta.scaling(title("SignGD", "η"), statistic, slope(1.0))?);
    }
    let title = format!("SGD, {OTHER_KERNEL}: exponent of the {RESIDUAL} in χ");
    findings.controls.push(in_chi.scaling(title, OTHER, Expectation::Within { target: 1.0, tolerance: TOLERANCE })?);
    findings.figures.push(Figure {
        name: "chi".into(),
        title: "Departure from the kernel after one step".into(),
        x_label: "output derivative χ".into(),
        y_label: "relative to the kernel's prediction".into(),
        series: vec![
            in_chi.series("SGD, residual", RESIDUAL, Some(1.0), false),
            at_random.series("SGD, residual at random weights", RESIDUAL, Some(1.0), false),
            in_chi.series("SGD, gradient drift", DRIFT, Some(1.0), false),
            sign_in_chi.series("SignGD, residual", RESIDUAL, Some(0.0), false),
        ],
    });
    findings.figures.push(Figure {
        name: "eta".into(),
        title: "Departure from the kernel after one SignGD step".into(),
        x_label: "learning rate η, as first-order movement of the output".into(),
        y_label: "relative to the kernel's prediction".into(),
        series: vec![
            in_eta.series("residual", RESIDUAL, Some(1.0), false),
            in_eta.series("gradient drift", DRIFT, Some(1.0), false),
        ],
    });
    Ok(context.judged(findings))
}

/// Residual and gradient drift of one step on the first prompt, measured on the others.
fn one_step(context: &Context<'_>, network: &Transformer, model: &Model, step: Step) -> Result<Vec<f64>> {
    let part = |from: i64, count: i64| Choice {
        prompts: network
            .examples(model.prompt.ids.narrow(0, from, count).to_device(context.device))
            .read_at(model.prompt.positions.narrow(0, from, count).to_device(context.device)),
        words: model.words.narrow(0, from, count).into(),
    };
    departure(context, &model.parameters, (&part(0, 1), &part(1, PROBES as i64)), step)
}

/// One step of fine-tuning.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// SGD or SignGD.
    pub update: OptimizerKind,
    /// Size of the output derivative, set by a soft label.
    pub delta: f64,
    /// First-order change of the output of the step's own example; under SGD, in units of χ.
    pub movement: f64,
}

/// Departures over χ. `measure` gets a context in which nothing was asked yet, the χ and the seed's number.
pub(super) fn over_chi(
    context: &Context<'_>,
    stage: &str,
    deltas: &[f64],
    seeds: usize,
    measure: impl Fn(&Context<'_>, f64, usize) -> Result<Vec<f64>>,
) -> Result<Scan> {
    let hard = context.is(HARD_LABELS);
    departures(context, stage, deltas, seeds, |delta| if hard { HARD } else { delta }, measure)
}

/// Departures over any x, measured at another one if `at` says so.
fn departures(
    context: &Context<'_>,
    stage: &str,
    x: &[f64],
    seeds: usize,
    at: impl Fn(f64) -> f64,
    measure: impl Fn(&Context<'_>, f64, usize) -> Result<Vec<f64>>,
) -> Result<Scan> {
    let residual = usize::from(context.is(MISSING_FACTOR));
    Scan::watched(context, stage, x, seeds, &[RESIDUAL, DRIFT, OTHER], |x, seed| {
        let found = context.independent(stage, at(x), seed, |own| measure(own, at(x), seed))?;
        Ok(vec![found[residual], found[2], found[3]])
    })
}

/// Residual of the kernel's prediction, of half of it, gradient drift, and residual of the other update's kernel at its best
/// scale, after one step on an example with one output, measured on probes.
pub(super) fn departure(
    context: &Context<'_>,
    start: &Parameters,
    (train, probes): (&dyn Examples, &dyn Examples),
    step: Step,
) -> Result<Vec<f64>> {
    // χ = σ(f) - p for the soft label p = σ(f) - δ; the sign keeps p between 0 and 1.
    let likely = outputs(start, train).sigmoid().double_value(&[0, 0]) > 0.5;
    let chi = if likely { step.delta } else { -step.delta };
    let gradients = loss_gradient(start, train, &[0], &Tensor::from_slice(&[chi]).view([1, 1]));
    let options = GramOptions::new(FormulaSet { sgd: true, asymmetric: true, signgd: false }, start.len());
    let own = structured_gram(start, train, None, &options, &Silent)?;
    let gram = structured_gram(start, probes, Some(train), &options, &Silent)?;
    let own = if step.update == OptimizerKind::Signgd { own.asymmetric } else { own.sgd };
    // One learning rate for all tensors, so that the kernel is the plain sum over them.
    let rate = step.movement / own.expect("asked for").double_value(&[0, 0]);
    let end = Optimizer::with_rates(step.update, vec![rate; start.len()]).step(start, &gradients);
    let signs = step.update == OptimizerKind::Signgd && !context.is(WRONG_UPDATE);
    let (asymmetric, sgd) = (gram.asymmetric.expect("asked for"), gram.sgd.expect("asked for"));
    let (kernel, other, factor) = if signs { (asymmetric, sgd, chi.signum()) } else { (sgd, asymmetric, chi) };
    let predicted = kernel * (-rate * factor);
    let moved = outputs(&end, probes) - outputs(start, probes);
    let residual = |predicted: &Tensor| relative_residual(&moved, predicted).unwrap_or(f64::NAN);
    let include = vec![true; start.len()];
    let drift = gradient_drift(start, &end, probes, &include, probes.len())?.map_or(f64::NAN, |d| d.total);
    Ok(vec![residual(&predicted), residual(&(&predicted * 0.5)), drift, Fit::of(&other, &moved).left_at_best()])
}
