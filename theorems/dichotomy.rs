//! Shared by both dynamical dichotomies: random abc-parametrizations, and how the changes of a network's features and outputs
//! in a few training steps scale with width.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::Mutant;
use super::context::Context;
use super::scan::{Scan, doubled, list};
use super::training::{loss_gradient, outputs, rms};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Figure, Findings, Mark, Table};
use crate::network::{Abc, Activation, Classification, Mlp, Scale, unit_inputs};
use crate::stats::{Expectation, Exponent};
use crate::train::{Optimizer, OptimizerKind};

/// Wrong under every update rule.
pub(super) const UNSCALED_LEARNING_RATE: Mutant =
    Mutant { name: "unscaled-learning-rate", change: "the learning rate is η instead of η n^-c" };

/// Input dimension, training inputs and probe inputs.
const INPUT: i64 = 6;
const TRAIN: i64 = 3;
const PROBES: i64 = 8;

/// Accepted distance between a measured and a predicted exponent: half of 1/4, the spacing of the grid on which r is drawn.
const TOLERANCE: f64 = 0.125;

/// Exponents of unstable and trivial draws are at least 1/4 from zero; half of that is required.
const CLEARLY: f64 = 0.125;

const FEATURES: &str = "feature change";
const OUTPUTS: &str = "output change";
const INITIAL: &str = "initial output";
const STATISTICS: [&str; 3] = [FEATURES, OUTPUTS, INITIAL];

/// An update rule, with its theory.
pub(super) struct Rule {
    /// Draws exponents that are stable and non-trivial by construction.
    pub draw: fn(&mut Draws, usize) -> Draw,
    /// The theory's classification.
    pub classify: fn(&Abc) -> Classification,
    /// The predicted r: the classification's, or a mutant's.
    pub predicted: fn(&Context<'_>, &Abc) -> f64,
    /// The parametrizations of the controls: with feature learning and in the kernel regime.
    pub feature_learning: fn(usize) -> Abc,
    pub kernel_regime: fn(usize) -> Abc,
    /// The optimizer for controls and unstable draws.
    pub optimizer: OptimizerKind,
}

/// A drawn parametrization, with the settings for measuring it.
pub(super) struct Draw {
    pub abc: Abc,
    pub optimizer: OptimizerKind,
    /// η, the part of the learning rate that does not depend on the width.
    pub eta: f64,
}

/// Trains a tanh network and measures root mean squares over probe inputs: change of the last hidden layer's features, change
/// of the output, initial output.
fn movement(context: &Context<'_>, draw: &Draw, steps: usize, width: f64, seed: &str) -> Vec<f64> {
    let mlp = Mlp {
        input: INPUT,
        width: width as i64,
        depth: draw.abc.hidden(),
        outputs: 1,
        activation: Activation::Tanh,
        gain: 1.0,
        abc: draw.abc.clone(),
    };
    let weights = context.seed(&format!("{seed}, weights of width {width}"));
    let mut parameters = mlp.parameters(weights, Context::KIND, context.device);
    // One seed has the same inputs at every width, so that their spread cancels in the seed's slope.
    let inputs = context.seed(&format!("{seed}, inputs"));
    let inputs = unit_inputs(TRAIN + PROBES, INPUT, inputs, Context::KIND, context.device);
    let train = mlp.examples(inputs.narrow(0, 0, TRAIN));
    let probes = mlp.examples(inputs.narrow(0, TRAIN, PROBES));
    let last = |p: &_| Activation::Tanh.apply(mlp.hidden(p, probes.inputs()).last().expect("a hidden layer"));
    let (features, start) = (last(&parameters), outputs(&parameters, &probes));
    // Targets one unit above and below the initial outputs: χ starts at ∓1 for every network, so that the spread of the initial
    // output is not added to that of the measured change.
    let targets = outputs(&parameters, &train) + Tensor::from_slice(&[1.0, -1.0, 1.0]).view([TRAIN, 1]);
    let indices: Vec<usize> = (0..TRAIN as usize).collect();
    let rates = if context.is(UNSCALED_LEARNING_RATE) {
        vec![draw.eta; draw.abc.layers.len()]
    } else {
        mlp.learning_rates(draw.eta)
    };
    let mut trainer = Optimizer::with_rates(draw.optimizer, rates);
    for _ in 0..steps {
        let chi = outputs(&parameters, &train) - &targets;
        let gradients = loss_gradient(&parameters, &train, &indices, &chi);
        parameters = trainer.step(&parameters, &gradients);
    }
    let moved = outputs(&parameters, &probes) - &start;
    vec![rms(&(last(&parameters) - features)), rms(&moved), rms(&start)]
}

/// Sizes of an experiment.
struct Size {
    widths: Vec<f64>,
    seeds: usize,
    draws: usize,
}

impl Size {
    fn of(context: &Context<'_>) -> Self {
        Self {
            widths: context.pick(doubled(64.0, 5), doubled(128.0, 5), doubled(256.0, 5)),
            seeds: context.seeds(28, 24, 24),
            // A mutant is wrong for all draws of some kind, and the first four draws include all kinds.
            draws: if context.is_mutant() { 4 } else { context.pick(6, 12, 12) },
        }
    }

    fn scan(&self, context: &Context<'_>, stage: &str, draw: &Draw, steps: usize) -> Result<Scan> {
        // Mutants change what is drawn, too.
        let drawn = format!("{stage}: {}, η {}", describe(draw), draw.eta);
        Scan::watched(context, stage, &self.widths, self.seeds, &STATISTICS, |width, seed| {
            context.independent(&drawn, width, seed, |own| {
                Ok(movement(own, draw, steps, width, &format!("{stage}, seed {seed}")))
            })
        })
    }
}

/// A drawn parametrization, with its prediction and measurement.
pub struct Measured {
    /// The exponents.
    pub abc: Abc,
    /// Their classification by the theory.
    pub class: Classification,
    /// Measured exponent of the feature change, which must be -r.
    pub features: Exponent,
    /// Measured exponent of the output change, which must be 0.
    pub outputs: Exponent,
}

/// Draws a stable, non-trivial parametrization of the `number`-th kind from the context's seed and measures it on small
/// networks.
pub(super) fn measure(context: &Context<'_>, rule: &Rule, number: usize) -> Result<Measured> {
    let draw = (rule.draw)(&mut Draws::new(context, &format!("parametrization of kind {number}")), number);
    let size = Size { widths: doubled(64.0, 4), seeds: 24, draws: 1 };
    let scan = size.scan(context, "one parametrization", &draw, STEPS)?;
    let exponent = |statistic| scan.exponent(statistic, 0.999);
    let class = (rule.classify)(&draw.abc);
    Ok(Measured { class, features: exponent(FEATURES)?, outputs: exponent(OUTPUTS)?, abc: draw.abc })
}

/// Training steps: only from the second step on do features respond to what the output layer has learned.
const STEPS: usize = 3;

/// The whole experiment of a dichotomy.
pub(super) fn experiment(context: &Context<'_>, rule: &Rule) -> Result<Findings> {
    let size = Size::of(context);
    let mut draws = Draws::new(context, "parametrizations");
    let mut findings = Collected {
        settings: vec![
            ("network".into(), "tanh, 1 to 3 hidden layers, 6 inputs".into()),
            ("widths".into(), list(&size.widths)),
            ("seeds".into(), size.seeds.to_string()),
            ("random stable and non-trivial parametrizations".into(), size.draws.to_string()),
            ("training".into(), format!("{STEPS} steps on {TRAIN} examples, squared loss")),
        ],
        ..Collected::default()
    };
    let mut figure = Figure {
        name: "features".into(),
        title: "Feature change in three steps".into(),
        x_label: "width n".into(),
        y_label: "RMS change of x^L".into(),
        series: vec![],
    };
    let mut rows = Vec::new();
    for number in 1..=size.draws {
        let draw = (rule.draw)(&mut draws, number);
        let scan = size.scan(context, &format!("parametrization {number}"), &draw, STEPS)?;
        // After the measurement, so that mutants of the prediction share it.
        let r = (rule.predicted)(context, &draw.abc);
        let title = format!("parametrization {number}: outputs move by order one (stable, non-trivial), exponent");
        let moves = Expectation::Within { target: 0.0, tolerance: 2.0 * TOLERANCE };
        findings.hypotheses.push(scan.scaling(title, OUTPUTS, moves)?);
        let within = context.expected(-r, TOLERANCE);
        let title = format!("parametrization {number}: exponent of the feature change");
        findings.checks.push(scan.scaling(title, FEATURES, within)?);
        let fit = scan.exponent(FEATURES, Mark::CONFIDENCE)?;
        let mut row = vec![Cell::from(number as f64), describe(&draw).into(), (-r).into(), fit.slope.value.into()];
        row.extend(fit.local_slopes.into_iter().map(Cell::from));
        rows.push(row);
        if number <= 4 {
            figure.series.push(scan.series(&format!("parametrization {number}"), FEATURES, Some(-r), false));
        }
    }
    let mut columns: Vec<String> =
        ["", "(a, b, c) per layer", "predicted -r", "measured"].into_iter().map(Into::into).collect();
    columns.extend(size.widths.windows(2).map(|w| format!("{} → {}", w[0], w[1])));
    findings.tables.push(Table { title: "Exponents, and slopes between neighbouring widths".into(), columns, rows });
    show_violations(context, rule, &size, &mut findings)?;

    for (name, abc, wrong) in [
        ("features of a feature-learning parametrization against the kernel regime's -1/2", rule.feature_learning, 0.5),
        ("features in the kernel regime against feature learning's 0", rule.kernel_regime, 0.0),
    ] {
        let draw = Draw { abc: abc(2), optimizer: rule.optimizer, eta: 0.5 };
        let scan = size.scan(context, name, &draw, STEPS)?;
        let within = Expectation::Within { target: -wrong, tolerance: TOLERANCE };
        findings.controls.push(scan.scaling(name, FEATURES, within)?);
        figure.series.push(scan.series(name.split(" against").next().unwrap_or(name), FEATURES, None, true));
    }
    findings.figures.push(figure);
    Ok(context.judged(findings))
}

/// A parametrization that violates one inequality: its name, the statistic that shows it after a step, and how.
type Violation = (&'static str, &'static str, Abc, Expectation);

/// Parametrizations that violate one inequality of the theory each.
fn violations(rule: &Rule) -> [Violation; 4] {
    let changed = |change: &dyn Fn(&mut Abc)| {
        let mut abc = (rule.kernel_regime)(2);
        change(&mut abc);
        abc
    };
    let last = 2;
    let grows = Expectation::AtLeast { bound: CLEARLY };
    let vanishes = Expectation::AtMost { bound: -CLEARLY };
    [
        ("unstable: the output layer learns too fast", OUTPUTS, changed(&|p| p.c[last] -= 0.5), grows),
        ("unstable: hidden layers learn too fast", OUTPUTS, changed(&|p| p.c[1] -= 0.75), grows),
        ("unstable: the initial output is too large", INITIAL, changed(&|p| p.layers[last].b -= 0.5), grows),
        (
            "trivial: every layer learns too slowly",
            OUTPUTS,
            changed(&|p| p.c.iter_mut().for_each(|c| *c += 0.5)),
            vanishes,
        ),
    ]
}

/// The first step must show that an inequality is violated.
fn show_violations(context: &Context<'_>, rule: &Rule, size: &Size, findings: &mut Collected) -> Result<()> {
    for (name, statistic, abc, expectation) in violations(rule) {
        let draw = Draw { abc, optimizer: rule.optimizer, eta: 0.5 };
        let scan = size.scan(context, name, &draw, 1)?;
        findings.checks.push(scan.scaling(format!("{name}: exponent of the {statistic}"), statistic, expectation)?);
    }
    Ok(())
}

/// Exponents in one line.
fn describe(draw: &Draw) -> String {
    let layers = draw.abc.layers.iter().zip(&draw.abc.c).map(|(s, c)| format!("({}, {}, {})", s.a, s.b, c));
    format!("{} {}", draw.optimizer.name(), layers.collect::<Vec<_>>().join(" "))
}

/// `B = a_{L+1} + b_{L+1}` and r where the output layer learns and gradients come from its initial weights: B + r is 1 or 3/2, so
/// that outputs move by features at order one, or by `n^-1/2`.
pub(super) const LEARNING: [(f64, f64); 4] = [(0.75, 0.75), (1.0, 0.0), (0.75, 0.25), (0.5, 1.0)];

/// The same where only features move the output: B + r is 1.
pub(super) const FEATURES_ALONE: [(f64, f64); 3] = [(0.75, 0.25), (0.5, 0.5), (1.0, 0.0)];

/// The values in turn, so that a few draws have them all.
pub(super) fn in_turn<T: Copy>(values: &[T], turn: usize) -> T {
    values[turn % values.len()]
}

/// Draws exponents on grids of powers of 1/2, so that drawn equalities hold exactly in floating point.
pub(super) struct Draws {
    rng: ChaCha8Rng,
}

impl Draws {
    fn new(context: &Context<'_>, name: &str) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(context.seed(name)) }
    }

    /// A multiple of 1/8 between two others.
    pub(super) fn eighths(&mut self, low: f64, high: f64) -> f64 {
        f64::from(self.rng.random_range((low * 8.0).round() as i32..=(high * 8.0).round() as i32)) / 8.0
    }

    /// One of two values.
    fn either(&mut self, one: f64, other: f64) -> f64 {
        if self.rng.random() { one } else { other }
    }

    /// Power of n, 0 or 1, by which each of 1 to 3 hidden layers is slower than the fastest. In odd draws the first is the
    /// fastest, in even ones it is not; every fourth network has only one layer.
    pub(super) fn lags(&mut self, number: usize) -> Vec<f64> {
        let depth = if number % 4 == 3 { 1 } else { self.rng.random_range(2..=3) };
        let fastest = if number % 2 == 1 { 0 } else { self.rng.random_range(1..depth) };
        let mut lags: Vec<f64> = (0..depth).map(|_| self.either(0.0, 1.0)).collect();
        lags[0] = 1.0;
        lags[fastest] = 0.0;
        lags
    }

    /// Hidden layers with these a, and with b such that initial features are of order one.
    pub(super) fn layers(a: &[f64], last: Scale) -> Vec<Scale> {
        let hidden = a.iter().enumerate().map(|(l, a)| Scale { a: *a, b: if l == 0 { -a } else { 0.5 - a } });
        hidden.chain([last]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Profile;

    /// The theory's inequalities find what was drawn to be stable and non-trivial so, with all r of the grid in the first twelve
    /// draws, and every violation.
    #[test]
    fn the_theory_recognizes_what_is_drawn() {
        let context = Context::silent(Profile::Quick, 13);
        for (name, rule) in [
            ("SGD", super::super::dynamical_dichotomy_sgd::rule(&context)),
            ("sign", super::super::dynamical_dichotomy_sign::rule(&context)),
        ] {
            let mut draws = Draws::new(&context, name);
            let mut found = std::collections::BTreeSet::new();
            for number in 1..=48 {
                let class = (rule.classify)(&(rule.draw)(&mut draws, number).abc);
                assert!(class.stable && class.non_trivial, "{name}, draw {number}: {class:?}");
                assert_eq!((class.r * 4.0).fract(), 0.0, "{name}, draw {number}: {class:?}");
                if number <= 12 {
                    found.insert((class.r * 4.0) as i64);
                }
            }
            assert_eq!(found, [0, 1, 2, 3, 4].into(), "{name}: r in quarters");
            for (violation, _, abc, _) in violations(&rule) {
                let class = (rule.classify)(&abc);
                let is_found =
                    if violation.starts_with("trivial") { class.stable && !class.non_trivial } else { !class.stable };
                assert!(is_found, "{name}, {violation}: {class:?}");
            }
        }
    }
}
