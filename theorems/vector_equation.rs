//! With batches and several outputs SGD obeys one vector equation, with the kernel of all outputs.
//!
//! **Statement.** A step of SGD on a batch of `B` examples with `C` outputs moves output `c` of any `ξ_i` by `-η/B Σ_j Σ_d
//! K(ic, jd) χ_jd`, to first order in η, where `K(ic, jd) = <∇f_c(ξ_i), ∇f_d(ξ_j)>` and `χ_jd = ∂ℓ_j/∂f_d`. The equation holds
//! at any weights; in the kernel regime it holds along training with the kernel of `θ_0`, up to a residual that falls as `1/n`.
//!
//! **Hypotheses.** Differentiable outputs; along training, kernel behaviour (ntk-regime), and outputs that move by order one:
//! measured.
//!
//! **Derivation.** The loss `1/B Σ_j ℓ(f(ξ_j))` has the gradient `1/B Σ_jd χ_jd ∇f_d(ξ_j)`, and `f_c(ξ_i)` moves by its inner
//! product with `-η` times that: linear in χ, so that examples and outputs add. Along training both errors, of linearization
//! and of moving features, are of relative order `1/n`, output by output as in kernel-analog-sgd.
//!
//! **Experiment.** Exactly: on random networks (perceptrons, transformers, language models) with random χ, the derivative of
//! all outputs along the optimizer's step, by a central difference of fourth order, against the equation. Along training: a
//! tanh perceptron of growing width, batches of three of five examples, three outputs, cross-entropy; the exponent of the
//! residual of all steps on probes.
//!
//! **Control.** The equation without interaction of outputs (`d = c` only), whose error falls only as `n^-1/2`, because the
//! other blocks vanish only in the limit; and `K(A-SignGD)` with its best-fitting scale.
//!
//! **Meaning.** Kernel regression with several classes needs the kernel of all pairs of outputs; dropping blocks costs an order
//! in width.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::batch::{Predicted, TOLERANCE, Trajectories, fall, figure, movement, smallness};
use super::cases::{NetworkCase, relative, worst};
use super::context::{Context, SHIFTED};
use super::training::moved_by_step;
use super::{Claim, Graded, Mutant, Topic, exactly};
use crate::error::Result;
use crate::evidence::{Collected, Findings};
use crate::kernel::{FormulaSet, GramOptions, structured_gram};
use crate::network::{Abc, normal_tensor};
use crate::progress::Silent;
use crate::train::{Optimizer, OptimizerKind};

const SUMMED: Mutant = Mutant { name: "summed-batch", change: "the sum over the batch in place of its mean" };
const BY_OUTPUT: Mutant =
    Mutant { name: "chi-by-output", change: "χ read output by output instead of example by example" };
const SCALED: Graded =
    Graded { name: "scaled-kernel", change: "a kernel that is too large by the tolerance of the exact equation" };

pub(super) const CLAIM: Claim = Claim {
    id: "vector-equation",
    topic: Topic::Kernel,
    title: "With batches and several outputs SGD moves outputs by -η/B Σ K(ic, jd) χ(jd)",
    source: "the paper, Definition 3.3, for C > 1 and batches",
    prediction: "exact to first order; residual along training falls as 1/n",
    text: include_str!("vector_equation.rs"),
    mutants: &[SUMMED, BY_OUTPUT],
    graded: &[SHIFTED, SCALED],
    experiment,
};

/// Accepted distance of the residual's exponent from -1; it excludes -1/2.
const MARGIN: f64 = 0.25;

const CLAIMED: &str = "K(SGD) of all outputs";
const OWN: &str = "K(SGD) of each output alone";
const ASYMMETRIC: &str = "K(A-SignGD)";
const SUM: &str = "sum over the batch";
const MIXED: &str = "χ output by output";

const PREDICTIONS: [Predicted; 5] = [
    Predicted { name: CLAIMED, scaled: false, step: |b| b.sgd(&b.chi()) },
    Predicted { name: OWN, scaled: false, step: |b| b.sgd_of_own_outputs(&b.chi()) },
    Predicted { name: ASYMMETRIC, scaled: true, step: |b| b.asymmetric(&b.chi()) },
    Predicted { name: SUM, scaled: false, step: |b| b.sgd(&b.chi()) * 3.0 },
    Predicted { name: MIXED, scaled: false, step: |b| b.sgd(&b.chi_by_output()) },
];

/// A network whose examples are one batch, and the seed of χ.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The network.
    pub network: NetworkCase,
    /// Seed of χ.
    pub seed: u64,
}

impl Case {
    /// A random case with several outputs.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        let network = NetworkCase { outputs: rng.random_range(2..4), ..NetworkCase::random(rng) };
        Self { network, seed: rng.random() }
    }

    /// χ \[N, C\].
    pub(super) fn chi(&self, context: &Context<'_>) -> Tensor {
        let shape = [self.network.examples as i64, self.network.outputs as i64];
        normal_tensor(&shape, 1.0, self.seed, 0, Context::KIND, context.device)
    }
}

/// Relative difference between the derivative of outputs along a step of SGD and the equation.
pub fn error(case: &Case, context: &Context<'_>) -> Result<f64> {
    let network = case.network.smooth().build(context);
    let (examples, count) = (&*network.examples, case.network.examples as f64);
    let chi = case.chi(context);
    let indices: Vec<usize> = (0..examples.len()).collect();
    let optimizer = Optimizer::new(OptimizerKind::Sgd, 1.0, network.parameters.len());
    let moved = moved_by_step(optimizer, &network.parameters, examples, (&indices, &(&chi / count)));
    let options = GramOptions::new(FormulaSet::SGD, network.parameters.len());
    let kernel = structured_gram(&network.parameters, examples, None, &options, &Silent)?.sgd.expect("asked for");
    let order = if context.is(BY_OUTPUT) { chi.tr().reshape([-1]) } else { chi.reshape([-1]) };
    let batch = if context.is(SUMMED) { 1.0 } else { count };
    let factor = (1.0 + TOLERANCE * context.off(SCALED)) / -batch;
    Ok(relative(&moved, &(kernel.matmul(&order) * factor)))
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let trajectories =
        Trajectories { optimizer: OptimizerKind::Sgd, abc: Abc::ntk(2), eta: 0.5, predictions: &PREDICTIONS };
    let seeds = context.samples(40, 48, 48);
    let scan = trajectories.scan(context, seeds)?;
    let cases = context.cases(20, 200, 1000);
    let [wrong] = worst(context, "vector-equation", cases, Case::random, |case, context| Ok([error(case, context)?]))?;
    let claimed = match () {
        () if context.is(SUMMED) => SUM,
        () if context.is(BY_OUTPUT) => MIXED,
        () => CLAIMED,
    };
    let falls = context.expected(-1.0, MARGIN);
    let series = vec![
        scan.series(CLAIMED, CLAIMED, Some(-1.0), false),
        scan.series(OWN, OWN, Some(-0.5), true),
        scan.series(ASYMMETRIC, ASYMMETRIC, None, true),
    ];
    Ok(context.judged(Collected {
        settings: trajectories.settings(context, seeds, cases),
        hypotheses: vec![movement(&scan)?],
        checks: vec![
            exactly("relative error of -1/B Σ K χ as the derivative of outputs", TOLERANCE, wrong, cases),
            fall(&scan, claimed, falls)?,
            smallness(&scan, claimed),
        ],
        controls: vec![fall(&scan, OWN, falls)?, fall(&scan, ASYMMETRIC, falls)?],
        tables: vec![scan.local_slopes(&[(CLAIMED, -1.0), (OWN, -0.5)])?],
        figures: vec![figure("Residual of predicted steps", series)],
        ..Collected::default()
    }))
}
