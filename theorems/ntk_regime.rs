//! In NTK parametrization wide networks train like their kernel: linearization and fixed features.
//!
//! **Statement.** Kernel behaviour (the paper's Definition 3.2) is (1) linearization, `f_T ≈ f_0 + <∇f_0, θ_T - θ_0>`, and (2)
//! fixed features, `∇f_T ≈ ∇f_0`. For networks in NTK parametrization, from random initialization, the relative residual of
//! (1), the gradient drift `|∇f_T - ∇f_0|/|∇f_0|` and the kernel drift `|K_T - K_0|/|K_0|` (Frobenius) fall with the width `n`:
//! the gradient drift as `n^-1/2`, residual and kernel drift as `1/n`.
//!
//! (The residual of single steps along the trajectory is what kernel-analog-sgd measures.)
//!
//! **Hypotheses.** Training moves the outputs by order one at every width (otherwise there would be nothing to linearize):
//! measured as the exponent of the output change, which must be 0.
//!
//! **Derivation.** One step changes the pre-activations of every layer by `n^-1/2` relative to their size (see
//! dynamical-dichotomy-sgd, `r = 1/2`), so activations and their derivatives, hence the gradient, change by that order, while
//! `n` such changes together move the output by order one: the gradient drift is `n^-1/2`. Residual and kernel drift are this
//! change along the directions of training, `∇f(ξ')ᵀ ∇²f(ξ) ∇f(ξ'')` to first order, where `n` terms of random sign average
//! out. Every factor is linear in the output weights, whose sign is random: the mean of an odd number of them is 0, and its
//! square, a correlation function of six outputs and their derivatives, all contracted with one another, is of order `n^-2`
//! (Dyer and Gur-Ari 2020, by counting powers; a theorem for some networks, a conjecture for the others). So both fall as
//! `1/n`. For a transformer the same holds of every weight matrix; attention and layer norm are smooth functions of averages
//! over `n` (or over the heads' fixed dimension).
//!
//! **Experiment.** A tanh perceptron with two hidden layers and a transformer encoder, full-batch SGD for several steps on a few
//! examples; slopes of the three statistics on probe inputs.
//!
//! Acceptance is two-sided: an exponent must lie around the theory's, so that -1 does not pass for -1/2, nor -1/2 for -1.
//!
//! **Control.** The same networks in muP, which learn features: residual and drifts must not fall at these rates.
//!
//! **Meaning.** Random initialization plus NTK scaling is enough for kernel behaviour. Pre-trained weights are neither random
//! nor scaled in this way; what takes the place of randomness is the subject of the claims on prompts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::context::{Context, SHIFTED};
use super::scan::{Scan, doubled, list};
use super::training::{loss_gradient, outputs, rms};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::jacobian::{Examples, Parameters};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::measure::{gradient_drift, kernel_drift, relative_residual, taylor};
use crate::network::{Abc, Activation, Heads, Mlp, Transformer, TransformerAbc, TransformerShape, unit_inputs};
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::train::{Optimizer, OptimizerKind};

const STANDARD_LEARNING_RATE: Mutant =
    Mutant { name: "standard-learning-rate", change: "the learning rate grows as n^1/2" };
const HALF_DIRECTION: Mutant =
    Mutant { name: "half-direction", change: "the Taylor expansion uses half of θ_T - θ_0" };
const MUP_WEIGHTS: Mutant = Mutant { name: "mup-weights", change: "muP in place of the NTK parametrization" };

pub(super) const CLAIM: Claim = Claim {
    id: "ntk-regime",
    topic: Topic::Kernel,
    title: "Networks in NTK parametrization show kernel behaviour from random initialization",
    source: "the paper, Definition 3.2; Jacot et al. 2018",
    prediction: "gradient drift falls as n^-1/2, residual and kernel drift as 1/n",
    text: include_str!("ntk_regime.rs"),
    mutants: &[STANDARD_LEARNING_RATE, HALF_DIRECTION, MUP_WEIGHTS],
    graded: &[SHIFTED],
    experiment,
};

const OUTPUTS: &str = "output change";
const RESIDUAL: &str = "linearization residual";
const GRADIENT: &str = "gradient drift";
const KERNEL: &str = "kernel drift";
const HALF_RESIDUAL: &str = "residual of half the expansion";
const STATISTICS: [&str; 5] = [OUTPUTS, RESIDUAL, GRADIENT, KERNEL, HALF_RESIDUAL];

const TRAIN: usize = 3;
const PROBES: usize = 5;
const STEPS: usize = 5;
const TOKENS: i64 = 6;

/// The transformer's kernel is a sum over many more parameters than the perceptron's: the same rate would overshoot.
const TRANSFORMER_RATE: f64 = 0.05;

/// Accepted distance of the gradient drift's exponent from -1/2; transformers of these widths are further from their limit.
const MARGINS: [(&str, f64); 2] = [("perceptron", 0.1), ("transformer", 0.15)];

/// Accepted distance of the other two exponents from -1, which excludes -1/2. Averages of random signs scatter over seeds.
const AVERAGED: f64 = 0.4;

/// Accepted distance of the outputs' exponent from 0.
const STILL: f64 = 0.15;

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let widths = context.pick(doubled(64.0, 4), doubled(128.0, 5), doubled(256.0, 5));
    let transformer_widths = context.pick(doubled(32.0, 4), doubled(64.0, 4), doubled(128.0, 5));
    let seeds = context.seeds(40, 40, 40);
    // Enough seeds to detect an exponent that is off by 0.9 of the tolerance nine times out of ten. Controls are off by more.
    let (of_transformers, of_controls) = (seeds * 8 / 5, seeds * 3 / 5);
    let perceptrons = |name: &str, abc: Abc, seeds: usize| {
        Scan::independent(context, name, &widths, seeds, &STATISTICS, |own, width, seed| {
            perceptron(own, abc.clone(), width, seed)
        })
    };
    let transformers = |name: &str, abc: &TransformerAbc, seeds: usize| {
        Scan::independent(context, name, &transformer_widths, seeds, &STATISTICS, |own, width, seed| {
            transformer(own, *abc, width, seed)
        })
    };
    let mup = perceptrons("perceptron in muP", Abc::mup(2), of_controls)?;
    let ntk;
    let mlp = if context.is(MUP_WEIGHTS) {
        &mup
    } else {
        ntk = perceptrons("perceptron", Abc::ntk(2), seeds)?;
        &ntk
    };
    let attention = transformers("transformer", &TransformerAbc::ntk(), of_transformers)?;
    let attention_mup = transformers("transformer in muP", &TransformerAbc::mup(), of_controls)?;
    let residual = if context.is(HALF_DIRECTION) { HALF_RESIDUAL } else { RESIDUAL };
    let mut findings = Collected {
        settings: vec![
            ("perceptron".into(), format!("tanh, two hidden layers, widths {}", list(&widths))),
            (
                "transformer".into(),
                format!("pre-LN, 2 layers, heads of dimension 8, gelu, widths {}", list(&transformer_widths)),
            ),
            ("seeds".into(), format!("{seeds}; transformer {of_transformers}; controls {of_controls}")),
            ("training".into(), format!("{STEPS} steps of full-batch SGD on {TRAIN} examples, squared loss")),
        ],
        ..Collected::default()
    };
    let moves = Expectation::Within { target: 0.0, tolerance: STILL };
    let mut figure = |name: &str, statistic: &str| {
        findings.figures.push(Figure {
            name: name.into(),
            title: format!("{} in width", capital(statistic)),
            x_label: "width n".into(),
            y_label: statistic.into(),
            series: vec![
                mlp.series("perceptron", statistic, Some(predicted(statistic)), false),
                attention.series("transformer", statistic, Some(predicted(statistic)), false),
                mup.series("perceptron in muP", statistic, None, true),
                attention_mup.series("transformer in muP", statistic, None, true),
            ],
        });
    };
    figure("residual", RESIDUAL);
    figure("gradient-drift", GRADIENT);
    for ((network, margin), scan, in_mup) in
        MARGINS.into_iter().zip([(mlp, &mup), (&attention, &attention_mup)]).map(|(m, (a, b))| (m, a, b))
    {
        let title = format!("{network}: exponent of the output change");
        findings.hypotheses.push(scan.scaling(title, OUTPUTS, moves)?);
        for statistic in [RESIDUAL, GRADIENT, KERNEL] {
            let title = format!("{network}: exponent of the {statistic}");
            let tolerance = if statistic == GRADIENT { margin } else { AVERAGED };
            let falls = context.expected(predicted(statistic), tolerance);
            let measured = if statistic == RESIDUAL { residual } else { statistic };
            findings.checks.push(scan.scaling(title, measured, falls)?);
            let title = format!("{network} in muP: exponent of the {statistic}");
            findings.controls.push(in_mup.scaling(title, measured, falls)?);
        }
        let mut table = scan.local_slopes(&[RESIDUAL, GRADIENT, KERNEL].map(|s| (s, predicted(s))))?;
        table.title = format!("Slopes between neighbouring widths: {network}");
        findings.tables.push(table);
    }
    Ok(context.judged(findings))
}

/// The predicted exponent of a statistic in width.
fn predicted(statistic: &str) -> f64 {
    if statistic == GRADIENT { -0.5 } else { -1.0 }
}

fn capital(text: &str) -> String {
    text[..1].to_uppercase() + &text[1..]
}

fn perceptron(context: &Context<'_>, abc: Abc, width: f64, seed: usize) -> Result<Vec<f64>> {
    let (input, gain) = (6, 1.0);
    let mlp = Mlp { input, width: width as i64, depth: 2, outputs: 1, activation: Activation::Tanh, gain, abc };
    let weights = context.seed(&format!("perceptron, width {width}, seed {seed}"));
    let parameters = mlp.parameters(weights, Context::KIND, context.device);
    let inputs = context.seed(&format!("perceptron, inputs, seed {seed}"));
    let inputs = unit_inputs((TRAIN + PROBES) as i64, input, inputs, Context::KIND, context.device);
    let train = mlp.examples(inputs.narrow(0, 0, TRAIN as i64));
    let probes = mlp.examples(inputs.narrow(0, TRAIN as i64, PROBES as i64));
    behaviour(&parameters, &train, &probes, &mlp.learning_rates(rate(context, 0.5, width)))
}

fn transformer(context: &Context<'_>, abc: TransformerAbc, width: f64, seed: usize) -> Result<Vec<f64>> {
    let shape = TransformerShape {
        vocab: 8,
        positions: TOKENS,
        width: width as i64,
        heads: Heads::Dimension(8),
        layers: 2,
        inner: 2,
        outputs: 1,
        activation: Activation::Gelu,
    };
    let transformer = Transformer::new(shape, abc);
    let weights = context.seed(&format!("transformer, width {width}, seed {seed}"));
    let parameters = transformer.parameters(weights, Context::KIND, context.device);
    let mut rng = ChaCha8Rng::seed_from_u64(context.seed(&format!("transformer, tokens, seed {seed}")));
    let tokens: Vec<i64> = (0..(TRAIN + PROBES) as i64 * TOKENS).map(|_| rng.random_range(0..8)).collect();
    let ids = Tensor::from_slice(&tokens).view([-1, TOKENS]).to_device(context.device);
    let train = transformer.examples(ids.narrow(0, 0, TRAIN as i64));
    let probes = transformer.examples(ids.narrow(0, TRAIN as i64, PROBES as i64));
    let rates = transformer.learning_rates(rate(context, TRANSFORMER_RATE, width));
    behaviour(&parameters, &train, &probes, &rates)
}

/// The learning rate's part that does not depend on the width, or a mutant's.
fn rate(context: &Context<'_>, own: f64, width: f64) -> f64 {
    if context.is(STANDARD_LEARNING_RATE) { own * width.sqrt() / 8.0 } else { own }
}

/// Trains and measures the statistics.
fn behaviour(start: &Parameters, train: &dyn Examples, probes: &dyn Examples, rates: &[f64]) -> Result<Vec<f64>> {
    // χ starts at ±1, whatever the random initial outputs.
    let signs: Vec<f64> = (0..TRAIN).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let targets = outputs(start, train) + Tensor::from_slice(&signs).view([TRAIN as i64, 1]);
    let indices: Vec<usize> = (0..TRAIN).collect();
    let mut trainer = Optimizer::with_rates(OptimizerKind::Sgd, rates.to_vec());
    let mut end = start.detached_copy();
    for _ in 0..STEPS {
        let chi = outputs(&end, train) - &targets;
        let gradients = loss_gradient(&end, train, &indices, &chi);
        end = trainer.step(&end, &gradients);
    }
    let include = vec![true; start.len()];
    let expansion = taylor(start, &end.minus(start), probes, &include, PROBES)?;
    let moved = outputs(&end, probes) - &expansion.value;
    let residual = |slope: &Tensor| relative_residual(&moved, slope).unwrap_or(f64::NAN);
    let gradient = gradient_drift(start, &end, probes, &include, PROBES)?.map_or(f64::NAN, |d| d.total);
    let options = GramOptions::new(FormulaSet { sgd: true, asymmetric: false, signgd: false }, start.len());
    let kernel =
        |p: &Parameters| structured_gram(p, probes, None, &options, &Silent).map(|g| g.sgd.expect("asked for"));
    let kernel = kernel_drift(&kernel(start)?, &kernel(&end)?, 1).map_or(f64::NAN, |d| d.frobenius);
    let (whole, half) = (residual(&expansion.slope), residual(&(&expansion.slope * 0.5)));
    Ok(vec![rms(&moved), whole, gradient, kernel, half])
}
