//! Under sign updates, and Adam, the same dichotomy holds with exponents of their own.
//!
//! **Statement.** In an abc-parametrization trained by sign updates of size `η n^-c_l`, let
//! `r = min(a₁ + c₁, a_l + c_l - 1 for hidden l ≥ 2)`. Features move by `n^-r`: kernel regime if `r > 0`, feature
//! learning if `r = 0`. Adam, whose first step is a sign update and whose later steps have the same size, has the same `r`.
//!
//! **Hypotheses.** Stable: `a₁ + b₁ = 0`, `a_l + b_l = 1/2` for hidden layers, `a_{L+1} + b_{L+1} ≥ 1/2`, `r ≥ 0`,
//! `a_{L+1} + c_{L+1} ≥ 1`, `a_{L+1} + b_{L+1} + r ≥ 1`. Non-trivial: one of the last two is an equality. Then outputs move by
//! order one, which is measured.
//!
//! **Derivation.** An update of layer `l` has entries `± η n^-c_l`, whatever the size of the gradient. Its signs are those
//! of `g_i x_j` (one example), so it changes `h^l_i` by `n^-(a_l+c_l) Σ_j sign(x_j) x'_j`: a coherent sum of order `n`, or of order
//! one for inputs. The fastest layer decides. Outputs move by `n^(1-a_{L+1}-c_{L+1})` through the output layer and by
//! `n^(1-a_{L+1}-b_{L+1}-r)` through features (Yang and Littwin, Tensor Programs IVb).
//!
//! **Experiment.** As for SGD: stable, non-trivial parametrizations with `r` of 0, 1/4, …, 1 in turn and random exponents besides,
//! every third with SignGD and the others with Adam (with ε = 0), three steps, the slope of the features' change against `-r`; then inequalities are violated.
//!
//! **Control.** A feature-learning parametrization (muP with the learning rates of sign updates) measured against the kernel
//! regime's exponent, and the NTK parametrization against feature learning's.
//!
//! **Meaning.** Adam needs other learning-rate exponents than SGD to be in the kernel regime: a parametrization that is lazy
//! under SGD may learn features, or blow up, under Adam.

use super::context::{Context, SHIFTED};
use super::dichotomy::{self, Draw, Draws, FEATURES_ALONE, LEARNING, Measured, Rule, UNSCALED_LEARNING_RATE, in_turn};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::Findings;
use crate::network::{Abc, Scale, classify_sign};
use crate::train::OptimizerKind;

const INCOHERENT_SUM: Mutant = Mutant {
    name: "incoherent-sum",
    change: "r with a_l + c_l - 1/2 for hidden layers, as if signs and features were independent",
};
const SGD_EXPONENT: Mutant = Mutant { name: "sgd-exponent", change: "the r of SGD" };
const SGD_UPDATES: Mutant = Mutant { name: "sgd-updates", change: "SGD in place of SignGD and Adam" };

pub(super) const CLAIM: Claim = Claim {
    id: "dynamical-dichotomy-sign",
    topic: Topic::Width,
    title: "Features move as n^-r under sign updates and Adam, with an r of their own",
    source: "Yang and Littwin, Tensor Programs IVb, dynamical dichotomy of adaptive optimizers",
    prediction: "slope -r for every stable, non-trivial (a, b, c)",
    text: include_str!("dynamical_dichotomy_sign.rs"),
    mutants: &[UNSCALED_LEARNING_RATE, INCOHERENT_SUM, SGD_EXPONENT, SGD_UPDATES],
    graded: &[SHIFTED],
    experiment,
};

/// Adam without ε, which would introduce a scale that the exponents do not account for.
const ADAM: OptimizerKind = OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0 };

fn experiment(context: &Context<'_>) -> Result<Findings> {
    dichotomy::experiment(context, &rule(context))
}

/// Draws a stable, non-trivial parametrization of the `number`-th kind from the context's seed and measures it on small
/// networks.
pub fn measure(context: &Context<'_>, number: usize) -> Result<Measured> {
    dichotomy::measure(context, &rule(context), number)
}

pub(super) fn rule(context: &Context<'_>) -> Rule {
    Rule {
        draw: if context.is(SGD_UPDATES) { draw_with_sgd } else { draw },
        classify: classify_sign,
        predicted,
        feature_learning: Abc::mup_sign,
        kernel_regime: Abc::ntk_sign,
        optimizer: OptimizerKind::Signgd,
    }
}

/// Predicted r, or a mutant's.
fn predicted(context: &Context<'_>, abc: &Abc) -> f64 {
    if context.is(SGD_EXPONENT) {
        return crate::network::classify_sgd(abc).r;
    }
    if context.is(INCOHERENT_SUM) {
        let own = |l: usize| abc.layers[l].a + abc.c[l] - if l == 0 { 0.0 } else { 0.5 };
        return (0..abc.hidden()).map(own).fold(f64::INFINITY, f64::min);
    }
    classify_sign(abc).r
}

/// A stable, non-trivial parametrization, with the r of its kind in turn, which together are 0, 1/4, …, 1. With
/// `B = a_{L+1} + b_{L+1}` and `S = a_{L+1} + c_{L+1}`: the output layer learns (S = 1), or only features move the output (S > 1,
/// B + r = 1).
fn draw(draws: &mut Draws, number: usize) -> Draw {
    let lags = draws.lags(number);
    let (kind, turn) = (number / 2 % 2, number / 4 * 2 + number % 2);
    let (big_s, (b, r)) = if kind == 0 {
        (1.0, in_turn(&LEARNING, turn))
    } else {
        (draws.eighths(1.5, 2.0), in_turn(&FEATURES_ALONE, turn))
    };
    let a = draws.eighths(-0.5, 1.0);
    let hidden: Vec<f64> = (0..lags.len()).map(|_| draws.eighths(-0.5, 1.0)).collect();
    let mut c: Vec<f64> = lags.iter().enumerate().map(|(l, lag)| r + lag - hidden[l] + f64::from(l > 0)).collect();
    c.push(big_s - a);
    let optimizer = if number.is_multiple_of(3) { OptimizerKind::Signgd } else { ADAM };
    Draw { abc: Abc { layers: Draws::layers(&hidden, Scale { a, b: b - a }), c }, optimizer, eta: 0.25 }
}

fn draw_with_sgd(draws: &mut Draws, number: usize) -> Draw {
    Draw { optimizer: OptimizerKind::Sgd, ..draw(draws, number) }
}
