//! Under SGD every stable, non-trivial parametrization either learns features or is in the kernel regime; the exponents
//! say which.
//!
//! **Statement.** In the parametrization `h¹ = n^-a₁ w¹ξ`, `h^l = n^-a_l w^l x^{l-1}`, `f = n^-a_{L+1} w^{L+1}·x^L`, with
//! entries of `w^l` drawn from `N(0, n^-2b_l)` and learning rate `η n^-c`, let
//! `r = min(a_{L+1} + b_{L+1}, 2a_{L+1} + c) + c - 1 + min_l [2a_l + 1(l=1)]`. Features move by `n^-r` over a fixed number of
//! steps: not at all in the limit if `r > 0` (kernel regime), by order one if `r = 0` (feature learning).
//!
//! **Hypotheses.** Stable: `a₁ + b₁ = 0`, `a_l + b_l = 1/2` for hidden layers, `a_{L+1} + b_{L+1} ≥ 1/2`, `r ≥ 0`,
//! `2a_{L+1} + c ≥ 1`, `a_{L+1} + b_{L+1} + r ≥ 1`. Non-trivial: one of the last two is an equality. Then outputs move by
//! order one, which is measured.
//!
//! **Derivation.** `∂f/∂x^L = n^-a_{L+1} w^{L+1}` has entries of size `n^-(a+b)` at first and gains entries
//! `n^-(2a+c)` by the output layer's first update, so of size `n^-s`, `s = min(a+b, 2a+c)`; back-propagation through layers of
//! order one keeps that size. One update of layer `l` changes `h^l` by `n^-(2a_l+c) ∂f/∂h^l <x^{l-1}, x'^{l-1}>`, where the inner
//! product is of order `n`, or of order one for inputs: `n^-(s + c + 2a_l - 1 + 1(l=1))`. The fastest layer decides. Outputs
//! move by `n^(1-2a_{L+1}-c)` through the output layer and by `n^(1-a_{L+1}-b_{L+1}-r)` through features (Yang and Hu,
//! Tensor Programs IV).
//!
//! **Experiment.** Parametrizations are drawn among the stable, non-trivial ones: `r` is 0, 1/4, …, 1 in turn, the other exponents
//! are random; with 1 to 3 hidden layers. Networks of growing width are trained for three steps; the slope of the features' change on logarithmic
//! axes must be `-r`. A sum of two powers of `n` shows the larger one's exponent only if they differ enough: layers are drawn
//! to be equally fast or `n` times slower, and gradients through initial and through learned output weights to be at least a
//! factor `n` apart, or of different order in the step size, which is then small. Then inequalities are violated, and the
//! outputs must blow up or stand still.
//!
//! **Control.** A feature-learning parametrization (muP) measured against the kernel regime's exponent, and the NTK parametrization
//! against feature learning's.
//!
//! **Meaning.** Whether a network trains like its kernel is decided by how it is parametrized, before any data. The NTK
//! parametrization (`r = 1/2`) does, muP (`r = 0`) does not.

use super::context::{Context, SHIFTED};
use super::dichotomy::{self, Draw, Draws, FEATURES_ALONE, LEARNING, Measured, Rule, UNSCALED_LEARNING_RATE, in_turn};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::Findings;
use crate::network::{Abc, Scale, classify_sgd};
use crate::train::OptimizerKind;

const INPUT_LAYER_AS_HIDDEN: Mutant = Mutant { name: "input-layer-as-hidden", change: "r without the term 1(l=1)" };
const SLOWEST_LAYER: Mutant =
    Mutant { name: "slowest-layer", change: "r with the maximum over layers instead of the minimum" };
const SIGN_UPDATES: Mutant = Mutant { name: "sign-updates", change: "SignGD in place of SGD" };

pub(super) const CLAIM: Claim = Claim {
    id: "dynamical-dichotomy-sgd",
    topic: Topic::Width,
    title: "Features move as n^-r under SGD, with r from the parametrization's exponents",
    source: "Yang and Hu, Tensor Programs IV, dynamical dichotomy",
    prediction: "slope -r for every stable, non-trivial (a, b, c)",
    text: include_str!("dynamical_dichotomy_sgd.rs"),
    mutants: &[UNSCALED_LEARNING_RATE, INPUT_LAYER_AS_HIDDEN, SLOWEST_LAYER, SIGN_UPDATES],
    graded: &[SHIFTED],
    experiment,
};

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
        draw: if context.is(SIGN_UPDATES) { draw_with_signs } else { draw },
        classify: classify_sgd,
        predicted,
        feature_learning: Abc::mup,
        kernel_regime: Abc::ntk,
        optimizer: OptimizerKind::Sgd,
    }
}

/// Predicted r, or a mutant's.
fn predicted(context: &Context<'_>, abc: &Abc) -> f64 {
    let hidden = abc.hidden();
    let (a, b, c) = (abc.layers[hidden].a, abc.layers[hidden].b, abc.c[hidden]);
    let backward = (a + b).min(2.0 * a + c) + c - 1.0;
    let own = |l: usize| 2.0 * abc.layers[l].a;
    if context.is(INPUT_LAYER_AS_HIDDEN) {
        return backward + (0..hidden).map(own).fold(f64::INFINITY, f64::min);
    }
    if context.is(SLOWEST_LAYER) {
        return backward + (0..hidden).map(|l| own(l) + f64::from(l == 0)).fold(f64::NEG_INFINITY, f64::max);
    }
    classify_sgd(abc).r
}

/// A stable, non-trivial parametrization. With `B = a_{L+1} + b_{L+1}` and `S = 2a_{L+1} + c` there are three kinds, drawn in turn,
/// each with its values of r in turn, which together are 0, 1/4, …, 1: the output layer learns (S = 1) and gradients come from its
/// initial weights (B ≤ 1); it learns and gradients come from what it has learned (B > 1); only features move the output (S > 1,
/// B + r = 1).
fn draw(draws: &mut Draws, number: usize) -> Draw {
    let lags = draws.lags(number);
    let turn = number / 3;
    let (big_b, big_s, r, eta) = match number % 3 {
        0 => {
            let (b, r) = in_turn(&LEARNING, turn);
            (b, 1.0, r, 0.25)
        }
        1 => (draws.eighths(2.0, 2.5), 1.0, in_turn(&[0.5, 0.25, 0.0], turn), 1.0),
        _ => {
            let (b, r) = in_turn(&FEATURES_ALONE, turn);
            (b, draws.eighths(1.5, 2.0), r, 0.25)
        }
    };
    let a = draws.eighths(-0.5, 1.0);
    let c = big_s - 2.0 * a;
    // min_l [2a_l + 1(l=1)] that makes r what was drawn.
    let fastest = r - (big_b.min(big_s) + c - 1.0);
    let hidden: Vec<f64> = lags.iter().enumerate().map(|(l, lag)| (fastest + lag - f64::from(l == 0)) / 2.0).collect();
    let layers = Draws::layers(&hidden, Scale { a, b: big_b - a });
    Draw { abc: Abc { layers, c: vec![c; lags.len() + 1] }, optimizer: OptimizerKind::Sgd, eta }
}

fn draw_with_signs(draws: &mut Draws, number: usize) -> Draw {
    Draw { optimizer: OptimizerKind::Signgd, ..draw(draws, number) }
}
