//! The kernel half of the dichotomy: if features move as n^-r, training departs from its kernel as n^-2r; for r = 0 the
//! departure does not shrink.
//!
//! **Statement.** Take a stable, non-trivial abc-parametrization under SGD in which every layer moves the outputs by order one, `r
//! = 1 - B` with `B = a_{L+1} + b_{L+1}` between 1/2 and 1, between the neural-tangent parametrization (`r = 1/2`) and muP (`r =
//! 0`). Over a fixed number of steps the gradient drift `|∇f_T - ∇f_0|/|∇f_0|` falls as `n^-r`; the kernel drift, and the relative
//! residual of outputs against descent with the kernel of `θ_0`, fall as `n^-2r`. So for `r > 0` training obeys the kernel equation
//! in the limit, and for `r = 0` it does not.
//!
//! **Hypotheses.** Outputs move by order one: measured.
//!
//! **Derivation.** Features and back-propagated signals each change by `n^-r` relative to their size: the readout's initial entries
//! are `n^-B`, what it learns is `n^-1 = n^-B n^-r`. Hence the gradient drift. A kernel entry changes to first order by terms with
//! an odd number of readouts, whose signs are random: `n^-r n^-1/2`, no more than `n^-2r` for `r ≤ 1/2`. To second order the signs
//! cancel: `n^-2r`. The residual of the outputs is the sum of such changes over the steps.
//!
//! **Experiment.** Tanh perceptrons with two hidden layers, full-batch SGD on three examples, for `r = 1/2` and `r = 1/4`;
//! exponents over widths with intervals that must lie around the theory's on both sides.
//!
//! **Control.** `r = 0` against the exponents of `r = 1/4`.
//!
//! **Meaning.** The dichotomy is about limits; at finite width `r` says how fast kernel behaviour sets in. With half the `r`
//! the same departure requires the square of the width.

use tch::{Kind, Tensor};

use super::context::{Context, SHIFTED};
use super::scan::{Scan, doubled, list};
use super::training::{loss_gradient, outputs, rms};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::measure::{gradient_drift, kernel_drift, relative_residual};
use crate::network::{Abc, Activation, Mlp, Scale, unit_inputs};
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::train::{Optimizer, OptimizerKind};

const TWO_ORDERS: Mutant = Mutant { name: "two-orders", change: "n^-2r for the gradient drift too" };
const LAZY: Mutant = Mutant { name: "always-lazy", change: "the exponents of r = 1/2 for every r" };
const HALF: Mutant = Mutant { name: "half-kernel", change: "descent with half of the kernel" };

pub(super) const CLAIM: Claim = Claim {
    id: "kernel-dichotomy",
    topic: Topic::Kernel,
    title: "Training departs from its kernel as n^-2r, so that r > 0 obeys the kernel equation and r = 0 does not",
    source: "Yang and Hu, Tensor Programs IV, dynamical dichotomy; exponents of the departure ours",
    prediction: "gradient drift n^-r, kernel drift and residual of kernel descent n^-2r",
    text: include_str!("kernel_dichotomy.rs"),
    mutants: &[TWO_ORDERS, LAZY, HALF],
    graded: &[SHIFTED],
    experiment,
};

const INPUT: i64 = 6;
const TRAIN: i64 = 3;
const PROBES: i64 = 5;
const STEPS: usize = 4;
const ETA: f64 = 0.5;

const OUTPUTS: &str = "output change";
const EQUATION: &str = "residual of kernel descent";
const WRONG: &str = "residual of descent with half of the kernel";
const GRADIENT: &str = "gradient drift";
const KERNEL: &str = "kernel drift";
const STATISTICS: [&str; 5] = [OUTPUTS, EQUATION, GRADIENT, KERNEL, WRONG];

/// Accepted distance of the gradient drift's exponent from -r: half the difference between neighbouring r.
const DRIFT: f64 = 0.125;
/// Accepted distance of the others' from -2r; it excludes the neighbouring r. Averages of random signs scatter over seeds.
const DEPARTURE: f64 = 0.3;
/// Accepted distance of the outputs' exponent from 0.
const STILL: f64 = 0.15;

/// The parametrization with this r in which every layer moves the outputs: neural-tangent for 1/2, muP for 0.
fn between(r: f64) -> Abc {
    let layers = vec![Scale { a: r - 0.5, b: 0.5 - r }, Scale { a: r, b: 0.5 - r }, Scale { a: 0.5, b: 0.5 - r }];
    Abc { layers, c: vec![0.0; 3] }
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let widths = context.pick(doubled(32.0, 5), doubled(64.0, 5), doubled(128.0, 6));
    let seeds = context.samples(40, 48, 48);
    let scan = |r: f64| {
        let stage = format!("r = {r}");
        Scan::over(context, &stage, &widths, seeds, &STATISTICS, |width, seed| departure(context, r, width, seed))
    };
    let scans = [(0.5, scan(0.5)?), (0.25, scan(0.25)?)];
    let learning = scan(0.0)?;
    let mut collected = Collected {
        settings: vec![
            ("network".into(), "tanh, two hidden layers, 6 inputs".into()),
            ("widths".into(), list(&widths)),
            ("seeds".into(), seeds.to_string()),
            (
                "training".into(),
                format!("{STEPS} steps of full-batch SGD on {TRAIN} examples, squared loss, η = {ETA}"),
            ),
        ],
        ..Collected::default()
    };
    let moves = Expectation::Within { target: 0.0, tolerance: STILL };
    let equation = if context.is(HALF) { WRONG } else { EQUATION };
    let expected = |r: f64, statistic: &str| {
        let r = if context.is(LAZY) { 0.5 } else { r };
        match statistic {
            GRADIENT if context.is(TWO_ORDERS) => context.expected(-2.0 * r, DRIFT),
            GRADIENT => context.expected(-r, DRIFT),
            _ => context.expected(-2.0 * r, DEPARTURE),
        }
    };
    for (r, scan) in &scans {
        collected.hypotheses.push(scan.scaling(format!("r = {r}: exponent of the {OUTPUTS}"), OUTPUTS, moves)?);
        for statistic in [equation, GRADIENT, KERNEL] {
            let title = format!("r = {r}: exponent of the {statistic}");
            collected.checks.push(scan.scaling(title, statistic, expected(*r, statistic))?);
        }
        let mut table = scan.local_slopes(&[(EQUATION, -2.0 * r), (GRADIENT, -r), (KERNEL, -2.0 * r)])?;
        table.title = format!("Slopes between neighbouring widths: r = {r}");
        collected.tables.push(table);
    }
    for statistic in [EQUATION, GRADIENT, KERNEL] {
        let title = format!("r = 0: exponent of the {statistic} against that of r = 1/4");
        let target = if statistic == GRADIENT { -0.25 } else { -0.5 };
        let tolerance = if statistic == GRADIENT { DRIFT } else { DEPARTURE };
        collected.controls.push(learning.scaling(title, statistic, Expectation::Within { target, tolerance })?);
        let series = scans.iter().map(|(r, scan)| {
            let slope = if statistic == GRADIENT { -r } else { -2.0 * r };
            scan.series(&format!("r = {r}"), statistic, Some(slope), false)
        });
        collected.figures.push(Figure {
            name: statistic.replace(' ', "-"),
            title: format!("Departure from the kernel: {statistic}"),
            x_label: "width n".into(),
            y_label: statistic.into(),
            series: series.chain([learning.series("r = 0", statistic, None, true)]).collect(),
        });
    }
    Ok(context.judged(collected))
}

/// Trains one network and measures the statistics.
fn departure(context: &Context<'_>, r: f64, width: f64, seed: usize) -> Result<Vec<f64>> {
    let (abc, activation) = (between(r), Activation::Tanh);
    let mlp = Mlp { input: INPUT, width: width as i64, depth: 2, outputs: 1, activation, gain: 1.0, abc };
    let start = mlp.parameters(context.seed(&format!("width {width}, seed {seed}")), Context::KIND, context.device);
    let draw = context.seed(&format!("inputs, seed {seed}"));
    let all = mlp.examples(unit_inputs(TRAIN + PROBES, INPUT, draw, Context::KIND, context.device));
    let (train, probes) =
        (mlp.examples(all.inputs().narrow(0, 0, TRAIN)), mlp.examples(all.inputs().narrow(0, TRAIN, PROBES)));
    let options = GramOptions::new(FormulaSet::SGD, start.len());
    let kernel = |p| structured_gram(p, &all, None, &options, &Silent).map(|gram| gram.sgd.expect("asked for"));
    let before = kernel(&start)?;

    // χ starts at ±1, whatever the random initial outputs.
    let signs = Tensor::from_slice(&[1.0, -1.0, 1.0]).view([TRAIN, 1]);
    let targets = outputs(&start, &train) + &signs;
    let indices: Vec<usize> = (0..TRAIN as usize).collect();
    let mut trainer = Optimizer::with_rates(OptimizerKind::Sgd, mlp.learning_rates(ETA));
    let mut end = start.detached_copy();
    // Descent with the initial kernel moves all outputs, of which the first are the training examples'.
    let descend = |predicted: &Tensor, factor: f64| -> Tensor {
        let chi = predicted.narrow(0, 0, TRAIN) - &signs;
        predicted - before.narrow(1, 0, TRAIN).matmul(&chi) * (ETA * factor)
    };
    let still = Tensor::zeros([TRAIN + PROBES, 1], (Kind::Double, before.device()));
    let (mut whole, mut half) = (still.copy(), still);
    for _ in 0..STEPS {
        let chi = outputs(&end, &train) - &targets;
        end = trainer.step(&end, &loss_gradient(&end, &train, &indices, &chi));
        (whole, half) = (descend(&whole, 1.0), descend(&half, 0.5));
    }
    let moved = outputs(&end, &all) - outputs(&start, &all);
    let of_probes = |t: &Tensor| t.narrow(0, TRAIN, PROBES);
    let residual =
        |predicted: &Tensor| relative_residual(&of_probes(&moved), &of_probes(predicted)).unwrap_or(f64::NAN);
    let include = vec![true; start.len()];
    let drift = gradient_drift(&start, &end, &probes, &include, PROBES as usize)?.map_or(f64::NAN, |d| d.total);
    let of_kernel = kernel_drift(&before, &kernel(&end)?, 1).map_or(f64::NAN, |d| d.frobenius);
    Ok(vec![rms(&of_probes(&moved)), residual(&whole), drift, of_kernel, residual(&half)])
}
