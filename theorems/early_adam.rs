//! Early Adam is SignGD as long as gradients stay near the first one; χ determines when it departs.
//!
//! **Statement.** While every later gradient stays within a relative distance `ρ` of the first, entry by entry, Adam's updates
//! are those of SignGD up to a factor in `[(1-ρ)/(1+ρ), (1+ρ)/(1-ρ)]` (adam-bound). In the kernel regime with one training
//! example the gradient is `χ_t ∇f_0`, so all entries share the factor `a_t = m̂_t/√v̂_t` of the scalar sequence χ, and outputs
//! move by `f_t(ξ) - f_{t-1}(ξ) ≈ -η a_t K_A(ξ, ξ_1)`, `a_1 = sign χ_1`. Adam departs from SignGD at the step at which `|a_t|`
//! departs from 1, which depends on `β₁`, `β₂` and how χ varies.
//!
//! **Hypotheses.** Kernel behaviour under sign updates (`r = 1/2`), one training example and one output, `ε = 0`.
//!
//! **Derivation.** With bias correction `m̂` is a weighted mean of the gradients so far and `v̂` one of their squares. In the
//! kernel regime entry `i` of the gradient at step `s` is `χ_s g_i`, so `m̂_i/√v̂_i = sign(g_i) m̂(χ)/√v̂(χ)`: the entry's size
//! cancels. The outputs then follow as for SignGD, up to a residual that falls as `1/n` (kernel-analog-signgd).
//!
//! **Experiment.** A tanh perceptron of growing width, Adam with several `(β₁, β₂)`, one example whose χ falls from 1 to 0 as
//! it is fitted, and overshoots. Entry by entry: updates against the adam-bound with the measured `ρ`. Outputs: the residual of
//! the prediction with `a_t`, in width; and the time at which a step's size on probes is 10% off SignGD's, interpolated between
//! steps and measured at the largest width, against the time that the scalar recursion gives.
//!
//! **Control.** Two training examples with opposite targets, where the sign of a sum is not the sum of signs; and Adam without bias
//! correction, whose updates leave the bound.
//!
//! **Meaning.** "Adam is SignGD early on" has a computable range of validity: with the usual `β₂ = 0.999` it ends when χ has
//! fallen by a certain factor, not after a certain number of steps.

use tch::{Kind, Tensor};

use super::context::{Context, SHIFTED};
use super::scan::{Scan, doubled, list};
use super::training::{loss_gradient, outputs};
use super::{Claim, Mutant, Topic, exactly};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Figure, Findings, Table};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::network::{Abc, Activation, Mlp, unit_inputs};
use crate::progress::Silent;
use crate::stats::Expectation;
use crate::train::{Optimizer, OptimizerKind};

const NO_BIAS_CORRECTION: Mutant = Mutant { name: "no-bias-correction", change: "Adam without bias correction" };
const EXCHANGED_BETAS: Mutant =
    Mutant { name: "exchanged-betas", change: "β₁ and β₂ exchanged in the scalar recursion" };
const TRANSPOSED_KERNEL: Mutant =
    Mutant { name: "transposed-kernel", change: "<sign ∇f(ξ), ∇f(ξ')> in place of <∇f(ξ), sign ∇f(ξ')>" };

pub(super) const CLAIM: Claim = Claim {
    id: "early-adam",
    topic: Topic::Kernel,
    title: "Early Adam follows SignGD and its kernel, and leaves when χ's recursion says",
    source: "the paper, Section 4",
    prediction: "no update outside the bound; residual falls as 1/n; time of leaving as computed",
    text: include_str!("early_adam.rs"),
    mutants: &[NO_BIAS_CORRECTION, EXCHANGED_BETAS, TRANSPOSED_KERNEL],
    graded: &[SHIFTED],
    experiment,
};

/// β₁, β₂: the usual ones, faster second moments, faster first moments, no first moments.
const BETAS: [(f64, f64); 4] = [(0.9, 0.999), (0.9, 0.95), (0.5, 0.999), (0.0, 0.9)];

const ONE: &str = "one training example";
const TWO: &str = "two training examples";
const MOVES: &str = "movement of the outputs";

const PROBES: i64 = 6;
const INPUT: i64 = 6;

/// Steps, and η such that χ falls to zero in about half of them.
const STEPS: usize = 20;
const ETA: f64 = 0.2;

/// Accepted distance of the residual's exponent from -1; it excludes -1/2.
const MARGIN: f64 = 0.3;

/// A step whose size differs by this much from SignGD's counts as a departure.
const LEFT: f64 = 0.1;

/// The trajectory of a network.
#[derive(Clone, Copy, Debug)]
struct Case {
    betas: (f64, f64),
    examples: usize,
    width: f64,
    seed: usize,
    /// Whether to compare its updates with the adam-bound.
    compare: bool,
}

/// A trajectory, with the kernels at its start.
#[derive(Clone)]
struct Run {
    /// χ of every example before each step \[steps, examples\].
    chi: Vec<f64>,
    /// The outputs' change in each step \[steps, probes\].
    moves: Vec<f64>,
    /// `<∇f(ξ), sign ∇f(ξ')>` for probes ξ and examples ξ' \[probes, examples\].
    kernel: Vec<f64>,
    /// `<sign ∇f(ξ), ∇f(ξ')>`.
    transposed: Vec<f64>,
    /// The learning rate.
    rate: f64,
    /// Number of updates outside the adam-bound, and of all compared updates.
    outside: f64,
    compared: f64,
}

/// Measurements of one trajectory.
struct Trajectory {
    /// χ before each step.
    chi: Vec<f64>,
    /// Size of each step on the probes in units of SignGD's.
    factors: Vec<f64>,
    /// Root mean square of the steps on the probes.
    moved: f64,
    /// Relative residual of the predicted outputs, over all steps.
    residual: f64,
    outside: f64,
    compared: f64,
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let widths = context.pick(doubled(32.0, 5), doubled(32.0, 6), doubled(128.0, 5));
    let seeds = context.seeds(40, 32, 32);
    let names = [ONE, TWO, MOVES];
    let (mut outside, mut compared) = (0.0, 0.0);
    let mut rows = Vec::new();
    let mut worst_step = 0.0f64;
    let scan = Scan::watched(context, "trajectories", &widths, seeds, &names, |width, seed| {
        // The bound is exact at every width, and the smallest is the cheapest.
        let compare = Some(&width) == widths.first();
        let numbers = trajectories(context, (width, seed), compare)?;
        outside += numbers[names.len()];
        compared += numbers[names.len() + 1];
        if Some(&width) == widths.last() {
            for (betas, of) in BETAS.into_iter().zip(numbers[names.len() + 2..].chunks_exact(3)) {
                let [measured, computed, variation] = *of else { unreachable!("chunks of three") };
                worst_step = worst_step.max((measured - computed).abs());
                if seed == 0 {
                    rows.push([betas.0, betas.1, measured, computed, variation].map(Cell::from).to_vec());
                }
            }
        }
        Ok(numbers[..names.len()].to_vec())
    })?;
    let wrong = run(context, Case { betas: BETAS[0], examples: 1, width: widths[0], seed: 0, compare: true }, false)?;
    let (uncorrected_outside, uncorrected_compared) = (wrong.outside, wrong.compared);
    let falls = context.expected(-1.0, MARGIN);
    let mut findings = Collected {
        settings: vec![
            ("network".into(), format!("tanh, two hidden layers, NTK parametrization, learning rate {ETA}/n, ε = 0")),
            ("widths".into(), list(&widths)),
            ("seeds".into(), seeds.to_string()),
            ("training".into(), format!("{STEPS} steps on one example, squared loss")),
        ],
        tables: vec![
            Table {
                title: "Time, in steps, at which Adam's outputs leave SignGD's by 10% (first seed, largest width)"
                    .into(),
                columns: ["β₁", "β₂", "measured", "computed", "χ there over χ at the start"].map(Into::into).to_vec(),
                rows,
            },
            scan.local_slopes(&[(ONE, -1.0)])?,
        ],
        ..Collected::default()
    };
    let moves = Expectation::Within { target: 0.0, tolerance: 0.15 };
    let title = "exponent of the outputs' movement (there is something to predict)";
    findings.hypotheses.push(scan.scaling(title, MOVES, moves)?);
    findings.checks.push(exactly("updates outside the adam-bound", 0.5, outside, compared as usize));
    // Finite width shifts the factor by a few percent, and it changes by as much in a step: hence one step either way.
    let steps = "steps between the measured and the computed departure from SignGD, at the largest width";
    findings.checks.push(exactly(steps, 1.0, worst_step, BETAS.len() * seeds));
    let title = |name: &str| format!("{name}: exponent of the residual of -η a_t K(A-SignGD)");
    findings.checks.push(scan.scaling(title(ONE), ONE, falls)?);
    findings.controls.push(scan.scaling(title(TWO), TWO, falls)?);
    let series = vec![scan.series(ONE, ONE, Some(-1.0), false), scan.series(TWO, TWO, None, true)];
    let title = "without bias correction: updates outside the adam-bound";
    findings.controls.push(exactly(title, 0.5, uncorrected_outside, uncorrected_compared as usize));
    findings.figures.push(Figure {
        name: "residual".into(),
        title: "Residual of Adam's outputs predicted by K(A-SignGD)".into(),
        x_label: "width n".into(),
        y_label: "relative residual".into(),
        series,
    });
    Ok(context.judged(findings))
}

/// The numbers of one seed at one width: the residuals with one example and with two, the outputs' movement; updates outside the
/// adam-bound and all that were compared; and for each pair of decay rates the measured and the computed time at which Adam
/// leaves SignGD, and χ there over χ at the start.
fn trajectories(context: &Context<'_>, (width, seed): (f64, usize), compare: bool) -> Result<Vec<f64>> {
    // One network per pair of decay rates; the root mean square over them is one sample.
    let (mut squares, mut moved, mut outside, mut compared) = (0.0, 0.0, 0.0, 0.0);
    let mut steps = Vec::new();
    for (k, betas) in BETAS.into_iter().enumerate() {
        let run = trajectory(context, Case { betas, examples: 1, width, seed: seed * BETAS.len() + k, compare })?;
        outside += run.outside;
        compared += run.compared;
        squares += run.residual.powi(2) / BETAS.len() as f64;
        moved += run.moved.powi(2) / BETAS.len() as f64;
        let computed = leaves(&scalar_factors(context, &run.chi, betas));
        let there = (computed.ceil() as usize).clamp(1, STEPS);
        steps.extend([leaves(&run.factors), computed, run.chi[there - 1] / run.chi[0]]);
    }
    let two = trajectory(context, Case { betas: BETAS[0], examples: 2, width, seed, compare: false })?;
    let numbers = [squares.sqrt(), two.residual, moved.sqrt(), outside, compared];
    Ok(numbers.into_iter().chain(steps).collect())
}

/// Ratio of Adam's updates without and with bias correction at step t (ε = 0).
fn uncorrected(step: i32, (beta1, beta2): (f64, f64)) -> f64 {
    (1.0 - beta1.powi(step)) / (1.0 - beta2.powi(step)).sqrt()
}

/// `a_t = m̂_t/√v̂_t` of a scalar sequence of gradients.
fn scalar_factors(context: &Context<'_>, chi: &[f64], (beta1, beta2): (f64, f64)) -> Vec<f64> {
    let (beta1, beta2) = if context.is(EXCHANGED_BETAS) { (beta2, beta1) } else { (beta1, beta2) };
    let (mut m, mut v) = (0.0, 0.0);
    let step = |(t, chi): (usize, &f64)| {
        m = beta1 * m + (1.0 - beta1) * chi;
        v = beta2 * v + (1.0 - beta2) * chi * chi;
        let t = t as i32 + 1;
        (m / (1.0 - beta1.powi(t))) / (v / (1.0 - beta2.powi(t))).sqrt()
    };
    chi.iter().enumerate().map(step).collect()
}

/// The time, in steps from 1 and interpolated between them, at which a step's factor is off by more than [`LEFT`]; the last step
/// if none is.
fn leaves(factors: &[f64]) -> f64 {
    let off: Vec<f64> = factors.iter().map(|a| (a * factors[0].signum() - 1.0).abs()).collect();
    let Some(step) = off.iter().position(|off| *off > LEFT) else { return factors.len() as f64 };
    let before = if step == 0 { 0.0 } else { off[step - 1] };
    step as f64 + (LEFT - before) / (off[step] - before)
}

/// A run and its prediction. Mutants of the prediction share the run.
fn trajectory(context: &Context<'_>, case: Case) -> Result<Trajectory> {
    let run = context
        .independent(&format!("{case:?}"), case.width, case.seed, |own| run(own, case, !own.is(NO_BIAS_CORRECTION)))?;
    Ok(predicted(context, case, &run))
}

fn run(context: &Context<'_>, case: Case, corrected: bool) -> Result<Run> {
    let Case { betas, examples, width, seed, compare } = case;
    let number = examples as i64;
    let abc = Abc::ntk(2).with_learning_rates(vec![1.0; 3]);
    let mlp =
        Mlp { input: INPUT, width: width as i64, depth: 2, outputs: 1, activation: Activation::Tanh, gain: 1.0, abc };
    let weights = context.seed(&format!("width {width}, seed {seed}"));
    let start = mlp.parameters(weights, Context::KIND, context.device);
    let inputs = context.seed(&format!("inputs, seed {seed}"));
    let inputs = unit_inputs(number + PROBES, INPUT, inputs, Context::KIND, context.device);
    // Different lengths, so that K_A is not symmetric.
    let lengths = Tensor::linspace(0.6, 1.5, number + PROBES, (Context::KIND, context.device)).unsqueeze(1);
    let inputs = inputs * lengths;
    let train = mlp.examples(inputs.narrow(0, 0, number));
    let probes = mlp.examples(inputs.narrow(0, number, PROBES));
    let formulas = FormulaSet { sgd: false, asymmetric: true, signgd: false };
    let gram = structured_gram(&start, &probes, Some(&train), &GramOptions::new(formulas, 3), &Silent)?;
    // χ starts at 1 on the first example and at -1 on a second.
    let signs = Tensor::linspace(1.0, if examples == 1 { 1.0 } else { -1.0 }, number, (Kind::Double, tch::Device::Cpu));
    let targets = outputs(&start, &train) - signs.unsqueeze(1);
    let rates = mlp.learning_rates(ETA);
    let rate = rates[1];
    let (beta1, beta2) = betas;
    let mut trainer = Optimizer::with_rates(OptimizerKind::Adam { beta1, beta2, epsilon: 0.0 }, rates);
    let indices: Vec<usize> = (0..examples).collect();
    let mut bound = Bound::default();
    let mut parameters = start.detached_copy();
    let (mut chis, mut moves) = (Vec::new(), Vec::new());
    for step in 1..=STEPS {
        let chi = outputs(&parameters, &train) - &targets;
        let gradients = loss_gradient(&parameters, &train, &indices, &chi);
        let factor = if corrected { 1.0 } else { uncorrected(step as i32, betas) };
        let after = trainer.scaled_step(&parameters, &gradients, factor);
        if compare {
            let updates: Vec<Tensor> = after.minus(&parameters).values().iter().map(|u| u / -rate).collect();
            bound.compare(&gradients, &updates);
        }
        moves.push((outputs(&after, &probes) - outputs(&parameters, &probes)).squeeze_dim(1));
        chis.push(chi);
        parameters = after;
    }
    let numbers = |t: &Tensor| Vec::<f64>::try_from(t.reshape([-1])).expect("a vector of f64");
    let matrix = |side: Option<Tensor>| numbers(&side.expect("asked for"));
    Ok(Run {
        chi: numbers(&Tensor::cat(&chis, 0)),
        moves: numbers(&Tensor::cat(&moves, 0)),
        kernel: matrix(gram.asymmetric),
        transposed: matrix(gram.asymmetric_reversed),
        rate,
        outside: bound.outside as f64,
        compared: bound.compared as f64,
    })
}

/// Compares a run with the kernel at its start.
fn predicted(context: &Context<'_>, Case { betas, examples, .. }: Case, run: &Run) -> Trajectory {
    let probes = PROBES as usize;
    let kernel = if context.is(TRANSPOSED_KERNEL) { &run.transposed } else { &run.kernel };
    let column = |i: usize| -> Vec<f64> { kernel.iter().skip(i).step_by(examples).copied().collect() };
    let sequence = |i: usize| -> Vec<f64> { run.chi.iter().skip(i).step_by(examples).copied().collect() };
    // With two examples each has its own recursion, which would hold if signs of sums were sums of signs.
    let mut guess = vec![0.0; STEPS * probes];
    for i in 0..examples {
        let factors = scalar_factors(context, &sequence(i), betas);
        for (step, a) in guess.chunks_exact_mut(probes).zip(factors) {
            step.iter_mut().zip(column(i)).for_each(|(sum, k)| *sum -= run.rate * a * k);
        }
    }
    let square = |of: &[f64]| of.iter().map(|x| x * x).sum::<f64>();
    let unit: Vec<f64> = column(0).iter().map(|k| -run.rate * k).collect();
    let along = |step: &[f64]| step.iter().zip(&unit).map(|(m, u)| m * u).sum::<f64>() / square(&unit);
    let missed: Vec<f64> = run.moves.iter().zip(&guess).map(|(actual, guess)| actual - guess).collect();
    let norm = square(&run.moves).sqrt();
    Trajectory {
        chi: sequence(0),
        factors: run.moves.chunks_exact(probes).map(along).collect(),
        residual: square(&missed).sqrt() / norm,
        moved: norm / (run.moves.len() as f64).sqrt(),
        outside: run.outside,
        compared: run.compared,
    }
}

/// The adam-bound, entry by entry, with each entry's own ρ so far.
#[derive(Default)]
struct Bound {
    /// The first gradients and each entry's largest relative distance from them.
    state: Vec<(Tensor, Tensor)>,
    outside: usize,
    compared: usize,
}

impl Bound {
    /// Compares updates in units of -η with the bound for the gradients so far. Rounding may exceed it by 1e-9.
    fn compare(&mut self, gradients: &[Option<Tensor>], updates: &[Tensor]) {
        for (k, gradient) in gradients.iter().flatten().enumerate() {
            if self.state.len() == k {
                self.state.push((gradient.copy(), gradient.zeros_like()));
            }
            let (first, rho) = &mut self.state[k];
            *rho = rho.maximum(&((gradient - &*first) / &*first).abs());
            let ratio = &updates[k] * first.sign();
            // An entry whose first gradient is zero has ρ = NaN or ∞ and no bound.
            let applies = rho.lt(1.0);
            let low = (1.0 - &*rho) / (1.0 + &*rho) - 1e-9;
            let high = (1.0 + &*rho) / (1.0 - &*rho) + 1e-9;
            let within = ratio.ge_tensor(&low).logical_and(&ratio.le_tensor(&high));
            let count = |t: &Tensor| t.sum(Kind::Int64).int64_value(&[]) as usize;
            self.compared += count(&applies);
            self.outside += count(&applies.logical_and(&within.logical_not()));
        }
    }
}
