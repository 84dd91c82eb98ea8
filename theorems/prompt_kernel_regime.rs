//! Prompt-based fine-tuning of pre-trained networks stays near its kernel, nearer as naturalness grows with the width; a random head
//! does not.
//!
//! **Statement.** If the pre-training scheme is stable (outputs do not grow with the width) and non-trivial (outputs can be updated),
//! and the task is natural in it (χ vanishes), then prompt-based fine-tuning shows kernel behaviour in the limit of infinite width (the
//! paper, Theorem 5.5). At finite width: the departure from the kernel is that of an unnatural task times the share that χ is of the
//! unnatural task's, so that it falls faster with the width; and standard fine-tuning, with a random head in place of the prompt, departs by
//! far more.
//!
//! **Hypotheses.** Measured first, on the same networks and tasks: the mean |χ| is below an undecided network's 1/2; with three widths or more also
//! the exponents of the outputs' size (stable: it must not grow), of the kernel's diagonal in the parametrization's own learning rates
//! (non-trivial: it must neither vanish nor explode), and of |χ| (natural: it must fall).
//!
//! **Derivation.** In muP one step with output derivative χ of order one changes features by order one at every width (`r = 0`,
//! dynamical-dichotomy-sgd): no kernel behaviour. The change is proportional to χ (chi-law); where χ falls, so do the departures from
//! the kernel. A wide but finite network has corrections of its own, which fall with the width whatever the task is; the same prompt
//! with unrelated words as labels has these corrections and nothing else, so it is what the task is compared with.
//!
//! **Experiment.** The family of natural-task on its cloze tasks: full-batch fine-tuning in muP's learning rates, of several few-shot draws, with a
//! base rate at which a step on one sentence alone would move its own output by half its χ to first order, at every width and for every variant;
//! relative residual of the linearization, gradient drift and kernel drift on other sentences. SignGD and early Adam, with a learning rate in proportion to the
//! mean |χ|, where there are three widths: described, not judged. The intervals are over tasks and draws; they say nothing of
//! other seeds of pre-training.
//!
//! **Control.** Unrelated label words in place of the random head: a residual far above the prompt's is the work of the head and the lost prompt,
//! not of wrong words.
//!
//! **Meaning.** What makes fine-tuning of pre-trained networks lazy is the prompt, not the width alone.

use tch::{Kind, Tensor};

use super::context::Context;
use super::family::{Family, PER_WORD, labels, tasks, tasks_setting};
use super::scan::Scan;
use super::training::{loss_gradient, outputs, rms};
use super::{Claim, Mutant, Topic, check};
use crate::analysis::{SplitName, Study};
use crate::error::Result;
use crate::evidence::{Cell, Figure, Findings, Table};
use crate::jacobian::{Examples, Parameters, Rescaled};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::lm::{LanguageModel, NetworkFacts, OutputMode, Parametrization, Scaling, with_head};
use crate::measure::{gradient_drift, kernel_drift, relative_residual, taylor};
use crate::natural::{random_head, unrelated_words};
use crate::progress::Silent;
use crate::stats::{Expectation, student_mean};
use crate::train::{Optimizer, OptimizerKind, output_derivative};

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-kernel-regime",
    topic: Topic::Prompt,
    title: "With a prompt, fine-tuning of pre-trained networks stays near its kernel, by as much as χ is small; with a random head it does not",
    source: "the paper, Theorem 5.5",
    prediction: "residual of a random head at least 10 times the prompt's; drift falls faster than an unnatural task's",
    text: include_str!("prompt_kernel_regime.rs"),
    mutants: &[
        Mutant { name: "half-direction", change: "the Taylor expansion uses half of θ_T - θ_0" },
        Mutant { name: "no-prompt", change: "the random head in place of the prompt" },
    ],
    graded: &[],
    experiment,
};

const STEPS: usize = 5;
const PROBES: usize = 16;
/// What a step on one example alone would do to its own output, to first order, at every width alike: under SGD this times its χ,
/// under sign updates this times 2|χ|, which is 1 for an undecided network.
const SGD_MOVE: f64 = 0.5;
const SIGN_MOVE: f64 = 0.05;

const RESIDUAL: &str = "linearization residual";
const GRADIENT: &str = "gradient drift";
const KERNEL: &str = "kernel drift";
const CHI: &str = "mean |χ|";
const OUTPUT: &str = "size of the outputs";
const DIAGONAL: &str = "kernel diagonal";
const MOVES: &str = "output change";
const STATISTICS: [&str; 7] = [RESIDUAL, GRADIENT, KERNEL, CHI, OUTPUT, DIAGONAL, MOVES];

/// How many times the prompt's residual a random head's must be. Ten is far from either side: a hundred was seen for the head, and two for
/// unrelated words.
const FAR: f64 = 10.0;

/// Mean |χ| of a network that does not know which word is right.
const UNDECIDED: f64 = 0.5;

/// Accepted distance of a hypothesis' exponent from the theory's 0.
const STILL: f64 = 0.15;

/// Widths that exponents need: two points have no deviation from a line.
const EXPONENT_WIDTHS: usize = 3;

/// What is fine-tuned on the sentences.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// The prompt with the task's label words.
    Prompt,
    /// The prompt with other words of the vocabulary as label words: the task is not natural, all else is the same.
    Unrelated,
    /// No prompt: a random head on the first token.
    Head,
}

/// How a network is fine-tuned.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    task: Task,
    /// `sgd`, `signgd` or `adam`.
    update: &'static str,
}

impl Way {
    fn optimizer(self) -> OptimizerKind {
        match self.update {
            "sgd" => OptimizerKind::Sgd,
            "signgd" => OptimizerKind::Signgd,
            _ => OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0 },
        }
    }

    fn name(self) -> String {
        let update = match self.update {
            "sgd" => "SGD",
            "signgd" => "SignGD",
            _ => "Adam",
        };
        let task = match self.task {
            Task::Prompt => "",
            Task::Unrelated => ", unrelated label words",
            Task::Head => ", no prompt, random head",
        };
        format!("{update}{task}")
    }
}

const PROMPT: Way = Way { task: Task::Prompt, update: "sgd" };
const SIGNS: [Way; 2] = [Way { task: Task::Prompt, update: "signgd" }, Way { task: Task::Prompt, update: "adam" }];
const UNRELATED: Way = Way { task: Task::Unrelated, update: "sgd" };
const HEAD: Way = Way { task: Task::Head, update: "sgd" };

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let family = Family::open(context)?;
    let widths = family.widths();
    // Many where exponents are compared, few for what is told apart by orders of magnitude.
    let (draws, few) = (context.seeds(4, 16, 32), context.seeds(4, 4, 8));
    let scan = |way: Way, draws: usize| {
        Scan::over(context, &way.name(), &widths, draws * tasks().len(), &STATISTICS, |width, seed| {
            let member = widths.iter().position(|w| *w == width).expect("one of the widths");
            let (task, draw) = (&tasks()[seed % tasks().len()], seed / tasks().len());
            let name = format!("{}, draw {draw}", task.name);
            let study = family.study(member, task, context.seed(&name), context.device)?;
            one_run(context, &study, way, &name)
        })
    };
    // The prompt last: mutants change it alone, and share the others.
    let (unrelated, head) = (scan(UNRELATED, draws)?, scan(HEAD, few)?);
    let prompt = scan(PROMPT, draws)?;
    let exponents = widths.len() >= EXPONENT_WIDTHS;

    let confidence = context.family_confidence(3 * widths.len() + 4);
    let mut findings = Findings {
        settings: vec![
            family.setting(),
            tasks_setting(),
            ("few-shot draws of each".into(), format!("{draws}; {few} of the random head and of sign updates")),
            ("fine-tuning".into(), format!("{STEPS} full-batch steps on {} sentences", 2 * PER_WORD)),
        ],
        ..Findings::default()
    };
    let natural = Expectation::AtMost { bound: UNDECIDED };
    let far = Expectation::AtLeast { bound: FAR.ln() };
    for (at, width) in widths.iter().enumerate() {
        let title = format!("width {width}: mean |χ| of the task (an undecided network has 1/2)");
        findings.hypotheses.push(check(title, natural, student_mean(&prompt.at(CHI, at), confidence)));
        let title = |what: &str| format!("width {width}: logarithm of the {RESIDUAL} {what} over the prompt's");
        let ratio = |other: &Scan| student_mean(&other.log_ratios(&prompt, RESIDUAL, at), confidence);
        findings.checks.push(check(title("of a random head"), far, ratio(&head)));
        findings.controls.push(check(title("with unrelated words"), far, ratio(&unrelated)));
    }
    let mut shown = vec![(PROMPT.name(), prompt), (UNRELATED.name(), unrelated), (HEAD.name(), head)];
    if exponents {
        let (prompt, unrelated) = (&shown[0].1, &shown[1].1);
        let stable = Expectation::AtMost { bound: STILL };
        let nontrivial = Expectation::Within { target: 0.0, tolerance: STILL };
        let falls = Expectation::AtMost { bound: 0.0 };
        for (what, statistic, expected) in
            [("stable", OUTPUT, stable), ("non-trivial", DIAGONAL, nontrivial), ("natural", CHI, falls)]
        {
            let title = format!("{what}: exponent of the {statistic}");
            findings.hypotheses.push(prompt.slope(title, statistic, expected, confidence)?);
        }
        let title = format!("exponent of the {GRADIENT} less that with unrelated words");
        findings.checks.push(check(title, falls, prompt.slope_against(unrelated, GRADIENT, confidence)?));
        for way in SIGNS {
            shown.push((way.name(), scan(way, few)?));
        }
        let mut columns = vec!["fine-tuning".to_owned()];
        columns.extend(STATISTICS.map(|s| format!("exponent of the {s}")));
        let rows = shown.iter().map(|(name, scan)| {
            let mut row = vec![Cell::from(name.as_str())];
            for statistic in STATISTICS {
                row.push(Cell::from(scan.exponent(statistic, 0.95)?.slope));
            }
            Ok(row)
        });
        let rows = rows.collect::<Result<_>>()?;
        findings.tables.push(Table { title: "Exponents in width with 95% intervals".into(), columns, rows });
    }
    findings.tables.push(levels(&widths, &shown));
    for (name, statistic) in [("residual", RESIDUAL), ("gradient-drift", GRADIENT), ("chi", CHI)] {
        findings.figures.push(Figure {
            name: name.into(),
            title: format!("Fine-tuning over widths: {statistic}"),
            x_label: "width n".into(),
            y_label: statistic.into(),
            series: shown
                .iter()
                .enumerate()
                .map(|(i, (name, scan))| scan.series(name, statistic, None, i == 1 || i == 2))
                .collect(),
        });
    }
    Ok(findings)
}

/// Geometric means of what was measured, by width.
fn levels(widths: &[f64], shown: &[(String, Scan)]) -> Table {
    let mut columns = vec!["fine-tuning".to_owned(), "width".to_owned()];
    columns.extend(STATISTICS.map(str::to_owned));
    let mut rows = Vec::new();
    for (name, scan) in shown {
        for (at, width) in widths.iter().enumerate() {
            let mut row = vec![Cell::from(name.as_str()), Cell::from(*width)];
            for statistic in STATISTICS {
                let values = scan.at(statistic, at);
                let mean = values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64;
                row.push(Cell::from(mean.exp()));
            }
            rows.push(row);
        }
    }
    Table { title: "Geometric means over tasks and draws".into(), columns, rows }
}

/// Fine-tunes one network and measures the statistics.
fn one_run(context: &Context<'_>, study: &Study, way: Way, name: &str) -> Result<Vec<f64>> {
    let chosen: Vec<usize> = (0..PROBES).collect();
    let task = if way.task == Task::Prompt && context.is("no-prompt") { Task::Head } else { way.task };
    match task {
        Task::Prompt => {
            let train = study.examples(SplitName::Train, OutputMode::Difference)?;
            let probes = study.examples(SplitName::Test, OutputMode::Difference)?.select(&chosen);
            behaviour(context, study, &study.parameters, (&train, &probes), way)
        }
        Task::Unrelated => {
            let words = unrelated_words(study, context.seed(name), 1)?;
            let train = study.examples_for(SplitName::Train, &words, OutputMode::Difference)?;
            let probes = study.examples_for(SplitName::Test, &words, OutputMode::Difference)?.select(&chosen);
            behaviour(context, study, &study.parameters, (&train, &probes), way)
        }
        Task::Head => {
            let width = study.model.facts().width;
            let head = random_head(study, 1, context.seed(&format!("head of {name}, width {width}")));
            let train = study.head_examples(SplitName::Train, 1)?;
            let probes = study.head_examples(SplitName::Test, 1)?.select(&chosen);
            behaviour(context, study, &with_head(&study.parameters, &head, None), (&train, &probes), way)
        }
    }
}

/// Square roots of SGD's learning rates, or the sign updates' rates: the coordinates in which one rate is right for all.
fn factors(model: &dyn LanguageModel, start: &Parameters, sign: bool) -> Vec<f64> {
    let NetworkFacts { width, mup_base_width, .. } = model.facts();
    let base_width = mup_base_width.unwrap_or(width);
    let scale = Parametrization { scaling: Scaling::Mup, base_width, embedding_deviation: 1.0 };
    let own = model.specs().len();
    let of = |(p, spec): (usize, &crate::jacobian::ParameterSpec)| match (p < own, sign) {
        (true, true) => scale.sign_rate(width, spec),
        (true, false) => scale.sgd_rate(width, spec).sqrt(),
        // A head from n numbers to one.
        (false, true) => scale.shrinkage(width),
        (false, false) => scale.shrinkage(width).sqrt(),
    };
    start.specs().iter().enumerate().map(of).collect()
}

fn behaviour(
    context: &Context<'_>,
    study: &Study,
    own: &Parameters,
    (train, probes): (&dyn Examples, &dyn Examples),
    way: Way,
) -> Result<Vec<f64>> {
    let sign = way.update != "sgd";
    let factors = factors(study.masked()?, own, sign);
    let (train, probes) = (Rescaled::new(train, &factors), Rescaled::new(probes, &factors));
    let start = Rescaled::parameters(own, &factors);
    let labels = Tensor::from_slice(&labels(study, SplitName::Train));
    let derivative = |p: &Parameters| output_derivative(&outputs(p, &train), &labels);
    let chi = derivative(&start).abs().mean(Kind::Double).double_value(&[]);

    let options = GramOptions::new(FormulaSet { sgd: true, asymmetric: sign, signgd: false }, start.len());
    let gram = structured_gram(&start, &probes, None, &options, &Silent)?;
    let sgd = gram.sgd.expect("asked for");
    let own_kernel = if sign { gram.asymmetric.expect("asked for") } else { sgd.shallow_clone() };
    let diagonal = own_kernel.diagonal(0, 0, 1).mean(Kind::Double).double_value(&[]);
    let movement = if sign { SIGN_MOVE * 2.0 * chi } else { SGD_MOVE };
    let rate = movement / diagonal;

    let indices: Vec<usize> = (0..train.len()).collect();
    let mut optimizer = Optimizer::new(way.optimizer(), rate, start.len());
    let mut end = start.detached_copy();
    for _ in 0..STEPS {
        let gradients = loss_gradient(&end, &train, &indices, &(derivative(&end) / train.len() as f64));
        end = optimizer.step(&end, &gradients);
    }
    let include = vec![true; start.len()];
    let direction = end.minus(&start);
    let direction = if way == PROMPT && context.is("half-direction") { direction.map(|d| d * 0.5) } else { direction };
    let expansion = taylor(&start, &direction, &probes, &include, PROBES)?;
    let moved = outputs(&end, &probes) - &expansion.value;
    let residual = relative_residual(&moved, &expansion.slope).unwrap_or(f64::NAN);
    let gradient = gradient_drift(&start, &end, &probes, &include, PROBES)?.map_or(f64::NAN, |d| d.total);
    let options = GramOptions::new(FormulaSet::SGD, start.len());
    let after = structured_gram(&end, &probes, None, &options, &Silent)?.sgd.expect("asked for");
    let kernel = kernel_drift(&sgd, &after, 1).map_or(f64::NAN, |d| d.frobenius);
    Ok(vec![residual, gradient, kernel, chi, rms(&expansion.value), diagonal, rms(&moved)])
}
