//! The kernel analog of SignGD is the asymmetric kernel of gradients and signs: each step moves outputs by -η sign(χ)
//! K_A.
//!
//! **Statement.** In the kernel regime of SignGD, with batches of one example, `f_t(ξ) - f_{t-1}(ξ) ≈ -η sign(χ_t) K_A(ξ, ξ_t)`
//! at every step, with `K_A(ξ, ξ') = <∇f(ξ), sign ∇f(ξ')>` taken once, at `θ_0` (the paper's Theorem 4.3).
//!
//! **Hypotheses.** Kernel behaviour under sign updates: the NTK parametrization with learning rate `η n^-1`, whose `r` is 1/2
//! (dynamical-dichotomy-sign).
//!
//! **Derivation.** With one example and one output the loss gradient is `χ_t ∇f(ξ_t)`, whose sign is `sign(χ_t) sign(∇f(ξ_t))`
//! (sign-factorization); the update is `-η` times that. Linearization gives `<∇f_{t-1}(ξ), -η sign(χ_t) sign ∇f_{t-1}(ξ_t)>`,
//! and fixed features replace the gradients by those of `θ_0`: the entries whose sign has changed are those near zero, a
//! fraction `n^-1/2` of all. Their contribution to the inner product with `∇f(ξ)` has a random sign except for the correlation
//! of `∇f(ξ)` with the change, which is `1/n` as in the kernel drift (ntk-regime).
//!
//! **Experiment.** As for SGD, with SignGD; inputs and targets have different sizes, so that χ differs from its sign and `K_A`
//! from its transpose.
//!
//! **Control.** χ in place of its sign, the SGD kernel, and the transposed kernel `<sign ∇f(ξ), ∇f(ξ_t)>`, each with its
//! best-fitting scale: the residual must neither fall as `1/n` nor become small.
//!
//! **Meaning.** Early Adam is SignGD up to the bound of adam-bound, so this is the kernel of fine-tuning with Adam. It is not
//! symmetric: it matters which side carries the sign.

use tch::Tensor;

use super::analog::{self, Kernels, Prediction, Predictions, Setting};
use super::context::{Context, SHIFTED};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::Findings;
use crate::network::Abc;
use crate::train::OptimizerKind;

const TRANSPOSED_KERNEL: Mutant =
    Mutant { name: "transposed-kernel", change: "the sign on the probe's gradient instead of the training example's" };
const CHI_FOR_ITS_SIGN: Mutant = Mutant { name: "chi-for-its-sign", change: "χ in place of sign(χ)" };
const WRONG_SIGN: Mutant = Mutant { name: "wrong-sign", change: "+η in place of -η" };
const SGD_UPDATES: Mutant = Mutant { name: "sgd-updates", change: "SGD in place of SignGD" };

pub(super) const CLAIM: Claim = Claim {
    id: "kernel-analog-signgd",
    topic: Topic::Kernel,
    title: "Each SignGD step moves outputs by -η sign(χ) K(A-SignGD)",
    source: "the paper, Theorem 4.3",
    prediction: "residual falls as 1/n",
    text: include_str!("kernel_analog_signgd.rs"),
    mutants: &[TRANSPOSED_KERNEL, CHI_FOR_ITS_SIGN, WRONG_SIGN, SGD_UPDATES],
    graded: &[SHIFTED],
    experiment,
};

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let factor: fn(f64) -> f64 = match () {
        () if context.is(CHI_FOR_ITS_SIGN) => |chi| chi,
        () if context.is(WRONG_SIGN) => |chi| -chi.signum(),
        () => f64::signum,
    };
    let kernel: fn(&Kernels) -> Tensor =
        if context.is(TRANSPOSED_KERNEL) { |k| k.transposed.shallow_clone() } else { |k| k.asymmetric.shallow_clone() };
    let setting = Setting {
        optimizer: if context.is(SGD_UPDATES) { OptimizerKind::Sgd } else { OptimizerKind::Signgd },
        abc: Abc::ntk(2).with_learning_rates(vec![1.0; 3]),
        eta: 0.3,
        text: "tanh, two hidden layers, NTK parametrization, learning rate 0.3/n",
    };
    let predictions = Predictions {
        claimed: Prediction { name: "K(A-SignGD)", kernel, factor },
        controls: vec![
            Prediction { name: "χ in place of its sign", kernel: |k| k.asymmetric.shallow_clone(), factor: |chi| chi },
            Prediction { name: "K(SGD)", kernel: |k| k.sgd.shallow_clone(), factor: f64::signum },
            Prediction {
                name: "K(A-SignGD) transposed",
                kernel: |k| k.transposed.shallow_clone(),
                factor: f64::signum,
            },
        ],
    };
    analog::experiment(context, &setting, &predictions)
}
