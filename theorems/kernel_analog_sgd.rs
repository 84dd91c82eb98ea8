//! The kernel analog of SGD is the empirical NTK: each step moves outputs by -ηχK.
//!
//! **Statement.** In the kernel regime, with batches of one example, `f_t(ξ) - f_{t-1}(ξ) ≈ -η χ_t K(ξ, ξ_t)` at every step of the
//! trajectory, with `K(ξ, ξ') = <∇f(ξ), ∇f(ξ')>` taken once, at `θ_0` (the paper's Definition 3.3 for SGD).
//!
//! **Hypotheses.** Kernel behaviour, which the NTK parametrization has (ntk-regime).
//!
//! **Derivation.** The update is `θ_t - θ_{t-1} = -η χ_t ∇f_{t-1}(ξ_t)`. Linearization gives
//! `f_t(ξ) - f_{t-1}(ξ) ≈ <∇f_{t-1}(ξ), -η χ_t ∇f_{t-1}(ξ_t)>`, and fixed features replace both gradients by those of `θ_0`. Both
//! errors are second derivatives along the directions that training takes, of relative order `1/n` (ntk-regime).
//!
//! **Experiment.** A tanh perceptron of growing width, twelve steps through four examples; the residual of the predicted steps on
//! probe inputs, relative to the actual steps, over the whole trajectory: its exponent, and its size at the largest width.
//!
//! **Control.** The SignGD kernels in its place, and the kernel of the wrong training example, each with its best-fitting
//! scale: the residual must neither fall as `1/n` nor become small.
//!
//! **Meaning.** Where this holds, fine-tuning with SGD is kernel regression with the empirical NTK.

use super::analog::{self, Prediction, Predictions, Setting, permuted};
use super::context::{Context, SHIFTED};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::Findings;
use crate::network::Abc;
use crate::train::OptimizerKind;

const MISSING_CHI: Mutant = Mutant { name: "missing-chi", change: "the sign of χ in place of χ" };
const WRONG_SIGN: Mutant = Mutant { name: "wrong-sign", change: "+ηχK in place of -ηχK" };
const DOUBLE_KERNEL: Mutant =
    Mutant { name: "double-kernel", change: "a factor 2, as from the gradient of (f-y)² without its ½" };

pub(super) const CLAIM: Claim = Claim {
    id: "kernel-analog-sgd",
    topic: Topic::Kernel,
    title: "Each SGD step moves outputs by -ηχK(SGD)",
    source: "the paper, Definition 3.3",
    prediction: "residual falls as 1/n",
    text: include_str!("kernel_analog_sgd.rs"),
    mutants: &[MISSING_CHI, WRONG_SIGN, DOUBLE_KERNEL],
    graded: &[SHIFTED],
    experiment,
};

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let factor: fn(f64) -> f64 = match () {
        () if context.is(MISSING_CHI) => f64::signum,
        () if context.is(WRONG_SIGN) => |chi| -chi,
        () if context.is(DOUBLE_KERNEL) => |chi| 2.0 * chi,
        () => |chi| chi,
    };
    let setting = Setting {
        optimizer: OptimizerKind::Sgd,
        abc: Abc::ntk(2),
        eta: 0.3,
        text: "tanh, two hidden layers, NTK parametrization, learning rate 0.3",
    };
    let predictions = Predictions {
        claimed: Prediction { name: "K(SGD)", kernel: |k| k.sgd.shallow_clone(), factor },
        controls: vec![
            Prediction { name: "K(SignGD)", kernel: |k| k.signgd.shallow_clone(), factor: |chi| chi },
            Prediction { name: "K(A-SignGD)", kernel: |k| k.asymmetric.shallow_clone(), factor: |chi| chi },
            Prediction { name: "K(SGD) of another example", kernel: |k| permuted(&k.sgd), factor: |chi| chi },
        ],
    };
    analog::experiment(context, &setting, &predictions)
}
