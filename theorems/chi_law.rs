//! From a pre-trained network, one step departs from its kernel by an amount proportional to the output derivative χ.
//!
//! **Statement.** At pre-trained weights `θ_0`, one SGD step on `(ξ', y)` moves outputs by
//! `Δf(ξ) = -ηχK(ξ,ξ') + ½η²χ² ∇f(ξ')ᵀH(ξ)∇f(ξ') + …`, with `H` the Hessian of `f`: relative to the kernel's prediction the residual is
//! proportional to χ, and so is the gradient drift `|∇f_1 - ∇f_0|/|∇f_0|`. Under SignGD, whose update does not shrink with χ, both
//! are proportional to η and independent of χ's size (the slope in χ is exactly 0: the update does not see it); Adam's first step is the
//! same (adam-first-step). This is the mechanism of the paper's Theorem 5.5: a natural task has a small χ.
//!
//! **Hypotheses.** The network is pre-trained: it predicts masked tokens it has not seen in training. The task is natural: with the right label words
//! χ is small on most examples before any fine-tuning. Both are measured.
//!
//! **Derivation.** Taylor's formula in the update `-ηχ∇f(ξ')`, respectively `-η sign(χ) sign ∇f(ξ')`. No width is involved: the law holds at
//! any size, and says how small χ must be for a network of that size to be in the kernel regime.
//!
//! **Experiment.** Transformers pre-trained (Adam, muP) to fill in masked tokens of arithmetic progressions; a downstream task that chooses
//! between two tokens, `f` the difference of their logits. Soft labels `σ(f_0) ± δ` make χ equal to `δ` exactly; slopes in `δ`, and for SignGD in η.
//!
//! **Control.** SignGD against SGD's slope in χ; and the same network with a new random readout, whose χ is not small: the task is not natural.
//!
//! **Meaning.** A good prompt makes fine-tuning lazy because the pre-trained model already gives nearly the right answer. For Adam a small χ
//! does not shrink the steps: it is the small learning rate, or the short run that a natural task allows, that keeps it near its kernel.

use tch::{Kind, Tensor};

use super::context::Context;
use super::pretraining::{Choice, Masked, accuracy, chi_sizes, pretrain, transformer};
use super::scan::{Scan, list};
use super::training::{loss_gradient, outputs};
use super::{Claim, Family, Mutant, check};
use crate::error::Result;
use crate::evidence::{Figure, Findings};
use crate::jacobian::{Examples, Parameters, Role};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::measure::{gradient_drift, relative_residual};
use crate::network::{Transformer, normal_tensor};
use crate::progress::Silent;
use crate::stats::{Expectation, student_mean};
use crate::train::{Optimizer, OptimizerKind};

pub(super) const CLAIM: Claim = Claim {
    id: "chi-law",
    family: Family::Prompt,
    title: "One step departs from its kernel in proportion to χ under SGD, to η under SignGD",
    source: "the paper, Theorem 5.5 (mechanism)",
    prediction: "slope 1 in χ (SGD); slope 0 in χ and 1 in η (SignGD)",
    text: include_str!("chi_law.rs"),
    mutants: &[
        Mutant { name: "missing-factor", change: "the kernel's prediction halved" },
        Mutant { name: "hard-labels", change: "labels at a fixed distance instead of δ" },
        Mutant { name: "wrong-update", change: "SignGD in place of SGD" },
        Mutant { name: "untrained", change: "random weights in place of pre-trained ones" },
    ],
    experiment,
};

const RESIDUAL: &str = "residual";
const DRIFT: &str = "gradient drift";
const PROBES: usize = 6;

/// Learning rates are chosen by how far the step moves the output of its own example, to first order: SGD by χ times
/// this, SignGD by this at most. The next term of the expansion is then a small part of the first.
const SGD_MOVE: f64 = 1.0;
const SIGN_MOVE: f64 = 0.1;

/// A pre-trained network with a task.
struct Pretrained {
    parameters: Parameters,
    prompt: Masked,
    words: Tensor,
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let network = transformer(context.pick(32, 64, 256));
    let seeds = context.seeds(12, 20, 24);
    let steps = if context.is("untrained") { 0 } else { context.pick(150, 300, 1000) };
    context.monitor.begin("pre-training", seeds as u64);
    let (mut models, mut accuracies, mut natural, mut random) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for seed in 0..seeds {
        let name = format!("seed {seed}");
        let parameters = pretrain(context, &network, steps, &name)?;
        let unseen = Masked::draw(200, context.seed(&format!("{name}, unseen")));
        let examples = unseen.examples(context, &network);
        accuracies.push(accuracy(&parameters, &examples, &unseen.tokens));
        let (words, right) = Choice::words(&unseen.tokens, context.seed(&format!("{name}, unseen words")));
        let task = Choice { prompts: examples, words: words.into() };
        let mean = |v: Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
        natural.push(mean(chi_sizes(&parameters, &task, &right)));
        random.push(mean(chi_sizes(&new_readout(context, &network, &parameters, &name), &task, &right)));
        let prompt = Masked::draw(1 + PROBES, context.seed(&format!("{name}, prompts")));
        let (words, _) = Choice::words(&prompt.tokens, context.seed(&format!("{name}, words")));
        models.push(Pretrained { parameters, prompt, words });
        context.monitor.advance(1);
    }
    context.monitor.end();

    let confidence = context.confidence(10);
    let statistics = [RESIDUAL, DRIFT];
    let deltas = [0.001, 0.003, 0.01, 0.03, 0.1];
    let rates = [0.003, 0.01, 0.03, SIGN_MOVE];
    let sgd_update = if context.is("wrong-update") { OptimizerKind::Signgd } else { OptimizerKind::Sgd };
    let in_chi = Scan::over(context, "SGD over χ", &deltas, seeds, &statistics, |delta, seed| {
        one_step(context, &network, &models[seed], sgd_update, delta, SGD_MOVE)
    })?;
    let sign_in_chi = Scan::over(context, "SignGD over χ", &deltas, seeds, &statistics, |delta, seed| {
        one_step(context, &network, &models[seed], OptimizerKind::Signgd, delta, SIGN_MOVE)
    })?;
    let in_eta = Scan::over(context, "SignGD over η", &rates, seeds, &statistics, |rate, seed| {
        one_step(context, &network, &models[seed], OptimizerKind::Signgd, 0.1, rate)
    })?;

    let mut findings = Findings {
        settings: vec![
            ("network".into(), format!("transformer, 2 layers, width {}, muP", network.shape().width)),
            ("pre-training".into(), format!("{steps} steps of Adam on masked progressions")),
            ("seeds (pre-trained networks)".into(), seeds.to_string()),
            ("χ".into(), list(&deltas)),
            ("first-order movement of the output by SignGD".into(), list(&rates)),
        ],
        ..Findings::default()
    };
    let trained = Expectation::AtLeast { bound: 0.5 };
    let title = "pre-trained: share of unseen masked tokens predicted (chance is 1/11)";
    findings.hypotheses.push(check(title, trained, student_mean(&accuracies, confidence)));
    let small = Expectation::AtMost { bound: 0.25 };
    let title = "natural: mean |χ| with the right label words (an undecided network has 1/2)";
    findings.hypotheses.push(check(title, small, student_mean(&natural, confidence)));
    let title = "natural, with a new random readout: mean |χ|";
    findings.controls.push(check(title, small, student_mean(&random, confidence)));

    // Slopes over two decades of an expansion whose next term is a tenth of the leading one at the largest δ: the slope
    // is off by less than 0.01.
    let slope = |target: f64| Expectation::Within { target, tolerance: 0.02 };
    for statistic in statistics {
        let title = |update: &str, x: &str| format!("{update}: exponent of the {statistic} in {x}");
        findings.checks.push(in_chi.slope(title("SGD", "χ"), statistic, slope(1.0), confidence)?);
        findings.checks.push(sign_in_chi.slope(title("SignGD", "χ"), statistic, slope(0.0), confidence)?);
        findings.checks.push(in_eta.slope(title("SignGD", "η"), statistic, slope(1.0), confidence)?);
    }
    let title = format!("SignGD: exponent of the {RESIDUAL} in χ against SGD's");
    findings.controls.push(sign_in_chi.slope(title, RESIDUAL, slope(1.0), confidence)?);
    findings.figures.push(Figure {
        name: "chi".into(),
        title: "Departure from the kernel after one step".into(),
        x_label: "output derivative χ".into(),
        y_label: "relative to the kernel's prediction".into(),
        series: vec![
            in_chi.series("SGD, residual", RESIDUAL, Some(1.0), false),
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
    Ok(findings)
}

/// The same network with a readout drawn anew.
fn new_readout(context: &Context<'_>, network: &Transformer, parameters: &Parameters, name: &str) -> Parameters {
    let seed = context.seed(&format!("{name}, readout"));
    let mut specs = network.specs().to_vec().into_iter();
    parameters.map(|value| {
        let spec = specs.next().expect("one specification per value");
        if spec.role == Role::Head && spec.shape.len() == 2 {
            // As large as the trained one, so that only its direction is lost.
            let size = value.square().mean(Kind::Double).sqrt().double_value(&[]);
            normal_tensor(&spec.shape, size, seed, 0, Context::KIND, context.device)
        } else {
            value.shallow_clone()
        }
    })
}

/// Residual and gradient drift of one step on the first prompt, measured on the others.
fn one_step(
    context: &Context<'_>,
    network: &Transformer,
    model: &Pretrained,
    update: OptimizerKind,
    delta: f64,
    movement: f64,
) -> Result<Vec<f64>> {
    let part = |from: i64, count: i64| Choice {
        prompts: network
            .examples(model.prompt.ids.narrow(0, from, count).to_device(context.device))
            .read_at(model.prompt.positions.narrow(0, from, count).to_device(context.device)),
        words: model.words.narrow(0, from, count).into(),
    };
    departure(context, &model.parameters, (&part(0, 1), &part(1, PROBES as i64)), Step { update, delta, movement })
}

/// One step of fine-tuning.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// SGD or SignGD.
    pub update: OptimizerKind,
    /// Size of the output derivative, made so by a soft label.
    pub delta: f64,
    /// What the step does to the output of its own example, to first order: under SGD in units of χ.
    pub movement: f64,
}

/// Residual against the kernel's prediction and gradient drift of one step on an example of one output, measured on
/// probes. The mutants of the claims that ask this are wrong here.
pub(super) fn departure(
    context: &Context<'_>,
    start: &Parameters,
    (train, probes): (&dyn Examples, &dyn Examples),
    step: Step,
) -> Result<Vec<f64>> {
    // χ = σ(f) - p for the soft label p = σ(f) - δ; the sign keeps p between 0 and 1.
    let likely = outputs(start, train).sigmoid().double_value(&[0, 0]) > 0.5;
    let size = if context.is("hard-labels") { 0.1 } else { step.delta };
    let chi = if likely { size } else { -size };
    let gradients = loss_gradient(start, train, &[0], &Tensor::from_slice(&[chi]).view([1, 1]));
    let options = GramOptions::new(FormulaSet { sgd: true, asymmetric: true, signgd: false }, start.len());
    let own = structured_gram(start, train, None, &options, &Silent)?;
    let gram = structured_gram(start, probes, Some(train), &options, &Silent)?;
    let own = if step.update == OptimizerKind::Signgd { own.asymmetric } else { own.sgd };
    // One learning rate for all tensors, so that the kernel is the plain sum over them.
    let rate = step.movement / own.expect("asked for").double_value(&[0, 0]);
    let end = Optimizer::with_rates(step.update, vec![rate; start.len()]).step(start, &gradients);
    let signs = step.update == OptimizerKind::Signgd && !context.is("wrong-update");
    let (kernel, factor) = if signs { (gram.asymmetric, chi.signum()) } else { (gram.sgd, chi) };
    let factor = if context.is("missing-factor") { 0.5 * factor } else { factor };
    let predicted = kernel.expect("asked for") * (-rate * factor);
    let moved = outputs(&end, probes) - outputs(start, probes);
    let residual = relative_residual(&moved, &predicted).unwrap_or(f64::NAN);
    let include = vec![true; start.len()];
    let drift = gradient_drift(start, &end, probes, &include, probes.len())?.map_or(f64::NAN, |d| d.total);
    Ok(vec![residual, drift])
}
