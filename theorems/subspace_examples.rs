//! The error of a compressed kernel grows as the root of the logarithm of the number of examples, and not with the number of
//! parameters.
//!
//! **Statement.** Let `δ_ij = |K_ID - K|(i,j)/√((K_ii K_jj + K_ij²)/k)` be the error of an entry in standard deviations, for a
//! random subspace of `k` dimensions (intrinsic-dimension). Over `N` examples the largest of the `M = N(N-1)/2` errors grows as
//! `√(2 log M)`, so that `k ~ log(N)/ε²` dimensions keep all entries to ε: no more, by the union bound, and no less, for gradients
//! that are not nearly alike. At fixed `N` it does not depend on the number `P` of parameters. The same holds of LoRA with a fixed
//! random `A`, where the width takes the place of `P`.
//!
//! **Hypotheses.** `Π`, `A` independent of network and examples; `k` large against `log M`, so that entries are nearly normal.
//!
//! **Derivation.** `Πᵀ∇f` depends on the gradients only through their Gram matrix, because a normal `Π` looks the same in every
//! basis: `P` drops out exactly. The largest of `M` nearly independent normal variables is `√(2 log M)` to leading order, whose
//! local exponent in `log M` is 0.47 to 0.51 for `M` from ten to ten thousand; dependence only makes it smaller, and here does not
//! make it smaller by much.
//!
//! **Experiment.** A perceptron with 32 inputs and 64 examples: the largest error over nested sets of 4 to 64 examples, as an
//! exponent in `log M`. Then twelve examples and networks of growing width: its exponent in `P`; and for LoRA of rank 32, in the
//! width.
//!
//! **Control.** The root mean square error in place of the largest, which does not grow with N.
//!
//! **Meaning.** A dimension that suffices for a kernel of 64 examples suffices for a million parameters, and half as much again
//! suffices for the kernel of a thousand examples.

use tch::{Kind, Tensor};

use super::context::{Context, SHIFTED};
use super::scan::{Scan, doubled, list};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Findings};
use crate::jacobian::Param;
use crate::kernel::{FormulaSet, GramOptions, dense_jacobian, structured_gram};
use crate::network::{Abc, Activation, Mlp, unit_inputs};
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::subspace::{Init, Lora, Projection, Target, Trained};

const RMS: Mutant = Mutant { name: "mean-error", change: "the root mean square over entries in place of the largest" };
const LOGARITHM: Mutant = Mutant { name: "logarithm", change: "growth as log M in place of its root" };
const COUNTS: Mutant = Mutant { name: "counts-parameters", change: "growth as the root of the number of parameters" };

pub(super) const CLAIM: Claim = Claim {
    id: "subspace-examples",
    topic: Topic::Subspace,
    title: "A compressed kernel's largest error grows as √log N, and not with the number of parameters",
    source: "the paper, Section 7 (Johnson-Lindenstrauss); both sides ours",
    prediction: "exponent 1/2 in log of the pairs; exponent 0 in P (random subspace) and in the width (LoRA)",
    text: include_str!("subspace_examples.rs"),
    mutants: &[RMS, LOGARITHM, COUNTS],
    graded: &[SHIFTED],
    experiment,
};

const LARGEST: &str = "largest error";
const MEAN: &str = "root mean square error";

/// Accepted distance of the exponent in log M from 1/2.
const IN_LOG: f64 = 0.2;
/// Accepted distance of the exponents in P and in the width from 0.
const FLAT: f64 = 0.15;

/// Dimensions: for the dependence on the number of examples; for that on the number of parameters, and LoRA's rank.
const DIMENSION: i64 = 256;
const RANK: i64 = 32;
/// Draws of A per sample.
const ADAPTERS: usize = 3;
/// Number of examples for the dependence on the number of parameters.
const FEW: i64 = 12;
const INPUT: i64 = 32;

/// A perceptron with this many examples of different lengths.
fn perceptron(context: &Context<'_>, width: f64, examples: i64) -> (Mlp, Tensor) {
    let (depth, activation) = (2, Activation::Tanh);
    let mlp = Mlp { input: INPUT, width: width as i64, depth, outputs: 1, activation, gain: 1.0, abc: Abc::ntk(depth) };
    let lengths = Tensor::linspace(0.7, 1.4, examples, (Context::KIND, context.device)).unsqueeze(1);
    let inputs = unit_inputs(examples, INPUT, context.seed("inputs"), Context::KIND, context.device) * lengths;
    (mlp, inputs)
}

fn jacobian(context: &Context<'_>, width: f64, examples: i64, seed: usize) -> Result<Tensor> {
    let (mlp, inputs) = perceptron(context, width, examples);
    let weights = context.seed(&format!("width {width}, seed {seed}"));
    dense_jacobian(&mlp.parameters(weights, Context::KIND, context.device), &mlp.examples(inputs))
}

/// Errors of all pairs in standard deviations.
fn errors(found: &Tensor, kernel: &Tensor, rank: i64) -> Tensor {
    let diagonal = kernel.diagonal(0, 0, 1);
    let variance = (diagonal.unsqueeze(0) * diagonal.unsqueeze(1) + kernel.square()) / rank as f64;
    ((found - kernel) / variance.sqrt()).triu(1)
}

fn largest(errors: &Tensor) -> f64 {
    errors.abs().max().double_value(&[])
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let in_examples = over_examples(context)?;
    let parameters = context.pick(vec![8.0, 24.0, 64.0], doubled(8.0, 4), doubled(16.0, 5));
    let numbers: Vec<f64> = parameters.iter().map(|n| n * n + (INPUT + 1) as f64 * n).collect();
    let seeds = context.samples(40, 48, 64);
    let in_parameters = Scan::over(context, "parameters", &numbers, seeds, &[LARGEST], |number, seed| {
        let place = numbers.iter().position(|n| *n == number).expect("one of the sizes");
        let rows = jacobian(context, parameters[place], FEW, seed)?;
        let kernel = rows.matmul(&rows.tr());
        let projection = Projection::new(RANK, context.seed(&format!("subspace {number} {seed}")));
        let found = projection.kernel(&rows);
        Ok(vec![largest(&errors(&found, &kernel, RANK))])
    })?;
    let widths = context.pick(doubled(32.0, 3), doubled(32.0, 4), doubled(64.0, 4));
    let in_width = Scan::over(context, "LoRA", &widths, seeds, &[LARGEST], |width, seed| {
        // A mean over a few draws of A, because the largest of a few dozen errors scatters.
        let draws =
            (0..ADAPTERS).map(|draw| adapted(context, width, seed * ADAPTERS + draw)).collect::<Result<Vec<_>>>()?;
        Ok(vec![draws.iter().sum::<f64>() / ADAPTERS as f64])
    })?;

    let growing = if context.is(RMS) { MEAN } else { LARGEST };
    let target = if context.is(LOGARITHM) { 1.0 } else { 0.5 };
    let in_number = context.expected(if context.is(COUNTS) { 0.5 } else { 0.0 }, FLAT);
    let flat = context.expected(0.0, FLAT);
    let within = Expectation::Within { target: 0.5, tolerance: IN_LOG };
    let figure = Figure {
        name: "examples".into(),
        title: "Error of a kernel in a random subspace".into(),
        x_label: "log of the number of pairs".into(),
        y_label: "error, in standard deviations of an entry".into(),
        series: vec![
            in_examples.series("largest", LARGEST, Some(0.5), false),
            in_examples.series("root mean square", MEAN, None, true),
        ],
    };
    Ok(context.judged(Collected {
        settings: vec![
            ("examples N".into(), list(&EXAMPLES)),
            ("numbers of parameters".into(), list(&numbers)),
            ("widths for LoRA".into(), list(&widths)),
            ("seeds".into(), seeds.to_string()),
        ],
        checks: vec![
            in_examples.scaling("exponent of the largest error in log M", growing, context.expected(target, IN_LOG))?,
            in_parameters.scaling("exponent of the largest error in P", LARGEST, in_number)?,
            in_width.scaling("LoRA: exponent of the largest error in the width", LARGEST, flat)?,
        ],
        controls: vec![in_examples.scaling("exponent of the root mean square error in log M", MEAN, within)?],
        tables: vec![in_examples.local_slopes(&[(LARGEST, 0.5)])?, in_parameters.local_slopes(&[(LARGEST, 0.0)])?],
        figures: vec![figure],
        ..Collected::default()
    }))
}

/// Sizes of the nested sets of examples.
const EXAMPLES: [f64; 5] = [4.0, 8.0, 16.0, 32.0, 64.0];

/// Largest and root mean square errors over log M.
fn over_examples(context: &Context<'_>) -> Result<Scan> {
    let rows = jacobian(context, 16.0, 64, 0)?;
    let kernel = rows.matmul(&rows.tr());
    let logs: Vec<f64> = EXAMPLES.iter().map(|n| ((n * (n - 1.0) / 2.0).ln() * 100.0).round() / 100.0).collect();
    let (seeds, draws) = (context.samples(24, 40, 60), context.pick(4, 10, 20));
    let sets = |seed: usize| -> Result<Vec<f64>> {
        let mut sums = vec![[0.0; 2]; EXAMPLES.len()];
        for draw in 0..draws {
            let projection = Projection::new(DIMENSION, context.seed(&format!("examples {seed} {draw}")));
            let all = errors(&projection.kernel(&rows), &kernel, DIMENSION);
            for (sum, n) in sums.iter_mut().zip(EXAMPLES) {
                let set = all.narrow(0, 0, n as i64).narrow(1, 0, n as i64);
                let pairs = n * (n - 1.0) / 2.0;
                sum[0] += largest(&set) / f64::from(draws);
                sum[1] += set.square().sum(Kind::Double).double_value(&[]) / pairs / f64::from(draws);
            }
        }
        Ok(sums.concat())
    };
    let shared = |seed: usize| context.shared("sets of examples", 0.0, seed, || sets(seed));
    let all: Vec<Vec<f64>> = (0..seeds).map(shared).collect::<Result<_>>()?;
    Scan::over(context, "examples", &logs, seeds, &[LARGEST, MEAN], |log, seed| {
        let place = logs.iter().position(|x| *x == log).expect("one of the sets");
        Ok(vec![all[seed][2 * place], all[seed][2 * place + 1].sqrt()])
    })
}

/// Largest error of LoRA's kernel, in standard deviations of an entry in a random subspace of as many dimensions as its rank.
fn adapted(context: &Context<'_>, width: f64, seed: usize) -> Result<f64> {
    let (mlp, inputs) = perceptron(context, width, FEW);
    let network =
        mlp.parameters(context.seed(&format!("LoRA, width {width}, seed {seed}")), Context::KIND, context.device);
    let examples = mlp.examples(inputs);
    let targets: Vec<Target> =
        (0..network.len()).map(|l| Target { weight: Param(l), rank: RANK, scaling: 1.0 }).collect();
    let lora = Lora::new(network.specs(), &targets)?;
    let extended = lora.parameters(&network, Init::Gaussian, context.seed(&format!("A, width {width}, seed {seed}")));
    let mut options = GramOptions::new(FormulaSet::SGD, extended.len());
    options.include = lora.include(Trained::OnlyB);
    let found = structured_gram(&extended, &lora.examples(&examples), None, &options, &Silent)?.sgd.expect("asked for");
    let options = GramOptions::new(FormulaSet::SGD, network.len());
    let kernel = structured_gram(&network, &examples, None, &options, &Silent)?.sgd.expect("asked for");
    Ok(largest(&errors(&found, &kernel, RANK)))
}
