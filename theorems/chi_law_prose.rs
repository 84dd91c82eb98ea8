//! Taylor's theorem in χ at the weights of language models pre-trained on text.
//!
//! **Statement.** As chi-law, but at the weights of masked language models pre-trained on English prose, with prompts of real
//! words: the residual of one SGD step against `-ηχK(ξ,ξ')` and its gradient drift are proportional to χ; those of a SignGD
//! step do not depend on χ's size.
//!
//! **Hypotheses.** Two continuous derivatives. Labels are soft ones that set χ: neither pre-training nor a task is presupposed.
//!
//! **Derivation.** Taylor's formula, see chi-law. It requires nothing of width, data or architecture.
//!
//! **Experiment.** Every network of the family in `fixtures/family`; sentences of the eight built-in cloze tasks, `f` the
//! difference of the two words' logits. One step on a sentence with the soft label `σ(f_0) ± δ`, which makes χ equal to `δ`;
//! residual and drift on six others. Slopes in `δ`, one for each network.
//!
//! **Control.** As in chi-law: K_A in the place of K_SGD, at its best scale.
//!
//! **Meaning.** An identity: it tests this program's kernels and steps on language models, not the paper's Theorem 5.5. What it
//! gives is a unit: how far one step departs from its kernel per unit of χ, and where the second order begins to matter.

use super::chi_law::{
    DRIFT, HARD_LABELS, MISSING_FACTOR, OTHER, OTHER_KERNEL, RESIDUAL, Step, TOLERANCE, departure, over_chi,
};
use super::context::{Context, SHIFTED};
use super::family::{Family, tasks, tasks_setting};
use super::scan::list;
use super::{Claim, Topic};
use crate::analysis::{SplitName, Study, StudyExamples};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::lm::OutputMode;
use crate::stats::Expectation;
use crate::train::OptimizerKind;

pub(super) const CLAIM: Claim = Claim {
    id: "chi-law-prose",
    topic: Topic::Identity,
    title: "Taylor's theorem at real pre-trained weights: one step departs from its kernel in proportion to χ under SGD alone",
    source: "Taylor's theorem; the mechanism of the paper's Theorem 5.5",
    prediction: "slope 1 in χ (SGD); slope 0 in χ (SignGD)",
    text: include_str!("chi_law_prose.rs"),
    mutants: &[MISSING_FACTOR, HARD_LABELS],
    graded: &[SHIFTED],
    experiment,
};

const PROBES: usize = 6;

/// As in chi-law; steps are smaller because the outputs of these networks have more curvature.
const SGD_MOVE: f64 = 0.25;
const SIGN_MOVE: f64 = 0.02;

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let family = Family::open(context)?;
    let widths = family.widths();
    let seeds = context.seeds(8, 32, 64);
    let deltas = [0.001, 0.003, 0.01, 0.03, 0.1];
    let mut collected = Collected {
        settings: vec![
            family.setting(),
            tasks_setting(),
            ("seeds (sentences stepped on)".into(), seeds.to_string()),
            ("χ".into(), list(&deltas)),
        ],
        ..Collected::default()
    };
    let slope = |target: f64| context.expected(target, TOLERANCE);
    let mut series = Vec::new();
    for (member, width) in widths.iter().enumerate() {
        let studies: Vec<Study> = tasks()
            .iter()
            .map(|task| family.study(member, task, context.seed(task.name), context.device))
            .collect::<Result<_>>()?;
        let scan = |update: OptimizerKind, movement: f64| {
            let stage = format!("width {width}, {}", if update == OptimizerKind::Sgd { "SGD" } else { "SignGD" });
            over_chi(context, &stage, &deltas, seeds, |own, delta, seed| {
                let study = &studies[seed % studies.len()];
                let (train, probes) = sentences(study, seed / studies.len())?;
                departure(own, &study.parameters, (&train, &probes), Step { update, delta, movement })
            })
        };
        let (sgd, sign) = (scan(OptimizerKind::Sgd, SGD_MOVE)?, scan(OptimizerKind::Signgd, SIGN_MOVE)?);
        for statistic in [RESIDUAL, DRIFT] {
            let title = |update: &str| format!("width {width}, {update}: exponent of the {statistic} in χ");
            collected.checks.push(sgd.scaling(title("SGD"), statistic, slope(1.0))?);
            collected.checks.push(sign.scaling(title("SignGD"), statistic, slope(0.0))?);
        }
        let title = format!("width {width}, SGD, {OTHER_KERNEL}: exponent of the {RESIDUAL} in χ");
        let one = Expectation::Within { target: 1.0, tolerance: TOLERANCE };
        collected.controls.push(sgd.scaling(title, OTHER, one)?);
        series.push(sgd.series(&format!("width {width}, SGD"), RESIDUAL, Some(1.0), false));
        series.push(sign.series(&format!("width {width}, SignGD"), RESIDUAL, Some(0.0), false));
    }
    collected.figures.push(Figure {
        name: "chi".into(),
        title: "Departure from the kernel after one step at pre-trained weights".into(),
        x_label: "output derivative χ".into(),
        y_label: "residual relative to the kernel's prediction".into(),
        series,
    });
    Ok(context.judged(collected))
}

/// One sentence for the step, and others for measurements.
fn sentences(study: &Study, draw: usize) -> Result<(StudyExamples<'_>, StudyExamples<'_>)> {
    let all = study.examples(SplitName::Test, OutputMode::Difference)?;
    let first = draw * (1 + PROBES);
    Ok((all.select(&[first]), all.select(&(first + 1..first + 1 + PROBES).collect::<Vec<_>>())))
}
