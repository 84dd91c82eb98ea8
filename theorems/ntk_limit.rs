//! Empirical NTK and NNGP kernels of wide perceptrons converge to their closed limits.
//!
//! **Statement.** For a perceptron in NTK parametrization with Gaussian weights, the empirical tangent kernel and the covariance of
//! the outputs given the hidden layers converge, as the width `n` grows, to deterministic kernels `Θ` and `K`; the relative error
//! falls as `n^-1/2`.
//!
//! **Hypotheses.** Independent Gaussian weights at initialization, a fixed number of layers, `h¹ = g W¹ξ/√d`, `h^l = g W^l
//! x^{l-1}/√n`, `f = g v·x^L/√n`.
//!
//! **Derivation.** `Σ¹ = g² ξ·ξ'/d` and `Σ^{l+1} = g² E[φ(h^l)φ(h'^l)]` with `(h^l, h'^l)` Gaussian of covariance `Σ^l`; the
//! back-propagated `z^l = √n ∂f/∂x^l` are Gaussian too, with `Γ^L = g²` and `Γ^l = g² E[φ'(h^{l+1})φ'(h'^{l+1})] Γ^{l+1}`. With
//! `b^l = φ'(h^l) z^l` a hidden layer's share of the kernel is `g² E[b^l b'^l] E[x^{l-1} x'^{l-1}]`, the first layer's `g² E[b¹
//! b'¹] ξ·ξ'/d`, the output layer's `g² E[x^L x'^L]`, which is also the NNGP kernel `K`; `Θ` is their sum. For relu the
//! expectations are the arc-cosine kernels, for erf the arcsine kernel; tanh and gelu are integrated by quadrature. Averages over
//! `n` independent entries fluctuate by `n^-1/2`.
//!
//! **Experiment.** Closed values first, against numbers computed independently; then random networks of growing width: the
//! exponent of the relative error (Frobenius norm over four inputs of different lengths), and the mean ratio of kernel and
//! limit at the largest width. Constants layer by layer, to 2%: the limit as sampled by a tensor program, without the error of
//! a finite width, over its closed form.
//!
//! **Control.** The NNGP kernel in place of the NTK, and the limit of a network with one layer less: their errors must not fall as
//! `n^-1/2`.
//!
//! **Meaning.** The kernel of a wide network at initialization is known without drawing its weights. All other claims on width
//! measure departures from such limits.

use std::f64::consts::FRAC_2_PI;

use nalgebra::DMatrix;

use super::context::{Context, SHIFTED};
use super::limits::{
    BIAS, CONSTANT, Design, Setting, block, distance, error_exponent, error_figure, inputs, layer_name, matrix, ratio,
    root_mean_squares, sgd_shares, unbiased,
};
use super::scan::Scan;
use super::{Claim, Mutant, Topic, exactly};
use crate::error::Result;
use crate::evidence::{Findings, Open};
use crate::kernel::Formula;
use crate::network::Activation;
use crate::network::limits::{LimitKernels, limit_kernels};

const SMALLER_GAIN: Mutant = Mutant { name: "smaller-gain", change: "a gain g that is a tenth too small" };
const MISSING_FIRST_LAYER: Mutant =
    Mutant { name: "missing-first-layer", change: "the first layer's share left out of Θ" };
const OTHER_ACTIVATION: Mutant = Mutant { name: "other-activation", change: "the limits of another activation" };

pub(super) const CLAIM: Claim = Claim {
    id: "ntk-limit",
    topic: Topic::Width,
    title: "Empirical NTK and NNGP kernels converge to their closed limits",
    source: "Jacot et al. 2018; Lee et al. 2018; Cho and Saul 2009",
    prediction: "relative error falls as n^-1/2",
    text: include_str!("ntk_limit.rs"),
    mutants: &[SMALLER_GAIN, MISSING_FIRST_LAYER, OTHER_ACTIVATION],
    graded: &[SHIFTED],
    experiment,
};

/// ReLU with weight variance 2, inputs with |x|²/n = 1: cosine, hidden layers, K, Θ.
const VALUES: [(f64, usize, f64, f64); 4] = [
    (0.5, 1, 1.217_995_562, 1.884_662_229),
    (0.5, 2, 1.367_811_302, 2.702_959_122),
    (0.5, 3, 1.476_256_385, 3.475_689_358),
    (0.0, 1, FRAC_2_PI, FRAC_2_PI),
];

const NTK: &str = "NTK";
const NNGP: &str = "NNGP";
const NTK_RATIO: &str = "NTK over its limit";
const NNGP_FOR_NTK: &str = "NNGP in place of the NTK";
const SHALLOWER: &str = "NTK of one layer less";
const STATISTICS: [&str; 5] = [NTK, NNGP, NTK_RATIO, NNGP_FOR_NTK, SHALLOWER];

fn experiment(context: &Context<'_>) -> Result<Findings> {
    // The NTK's error has a longer tail than those of the other claim.
    let design = Design::new(context, 2 * block(context), Activation::Erf, [Activation::Tanh, Activation::Gelu]);
    let measured = design.measure(context, |setting, width, seed| sgd_shares(context, setting, width, seed))?;
    let Design { widths, seeds, .. } = &design;
    let mut findings = design.findings();
    let mut figure = error_figure("empirical NTK");
    for (number, measured) in measured.iter().enumerate() {
        let setting = measured.setting;
        let limits = limits(context, setting);
        let scan = Scan::over(context, &setting.name(), widths, *seeds, &STATISTICS, |width, seed| {
            let rows: Vec<Vec<f64>> = measured.networks(width, seed).iter().map(|n| errors(n, &limits)).collect();
            let mut sample = root_mean_squares(&rows);
            let ratio = STATISTICS.iter().position(|s| *s == NTK_RATIO).expect("a statistic");
            sample[ratio] = rows.iter().map(|r| r[ratio]).sum::<f64>() / rows.len() as f64;
            Ok(sample)
        })?;
        for kernel in [NTK, NNGP] {
            let title = format!("{}: exponent of the {kernel}'s relative error", setting.name());
            findings.checks.push(scan.scaling(title, kernel, error_exponent(context))?);
        }
        let title = format!("{}: mean ratio of the NTK and its limit at width {}", setting.name(), design.widest());
        findings.checks.push(scan.level(title, NTK_RATIO, unbiased(context, BIAS)));
        for layer in 0..=setting.depth {
            let name = layer_name(layer, setting.depth);
            let title = format!("{}: sampled limit of the kernel of {name} over its closed form", setting.name());
            let ratios = measured.constants(layer, Formula::Sgd, &limits.0.per_layer);
            findings.checks.push(Open::mean(title, unbiased(context, CONSTANT), ratios));
        }
        let mut table = scan.local_slopes(&[(NTK, -0.5), (NNGP, -0.5)])?;
        table.title = format!("Slopes between neighbouring widths: {}", setting.name());
        findings.tables.push(table);
        figure.series.push(scan.series(&setting.name(), NTK, Some(-0.5), false));
        if number == 0 {
            for wrong in [NNGP_FOR_NTK, SHALLOWER] {
                let title = format!("{}: exponent of the error of the {wrong}", setting.name());
                findings.controls.push(scan.scaling(title, wrong, error_exponent(context))?);
                figure.series.push(scan.series(wrong, wrong, None, true));
            }
        }
    }
    // The published values have nine decimals.
    findings.checks.push(exactly("closed values of K and Θ for relu", 1e-9, closed_values(), 2 * VALUES.len()));
    findings.figures.push(figure);
    Ok(context.judged(findings))
}

/// Largest difference between the recursion and the published values.
fn closed_values() -> f64 {
    let differences = VALUES.iter().map(|(cosine, depth, nngp, ntk)| {
        let sine = (1.0 - cosine * cosine).sqrt();
        let pair = DMatrix::from_row_slice(2, 2, &[2f64.sqrt(), 0.0, 2f64.sqrt() * cosine, 2f64.sqrt() * sine]);
        let limit = limit_kernels(&pair, *depth, Activation::Relu, 2f64.sqrt());
        // The first layer sees |ξ|²/d = 1 and, without biases, has no kernel share that the recursion of the values
        // leaves out.
        (limit.nngp[(0, 1)] - nngp).abs().max((limit.ntk[(0, 1)] - ntk).abs())
    });
    differences.fold(0.0, super::cases::larger)
}

/// The limits of a network and of one with a layer less, or a mutant's limits.
fn limits(context: &Context<'_>, setting: Setting) -> (LimitKernels, LimitKernels) {
    let inputs = matrix(&inputs(context));
    let gain = if context.is(SMALLER_GAIN) { setting.gain() * 0.9 } else { setting.gain() };
    let activation = match (context.is(OTHER_ACTIVATION), setting.activation) {
        (true, Activation::Relu) => Activation::Gelu,
        (true, _) => Activation::Tanh,
        (false, activation) => activation,
    };
    let mut limit = limit_kernels(&inputs, setting.depth, activation, gain);
    if context.is(MISSING_FIRST_LAYER) {
        limit.ntk -= &limit.per_layer[0].sgd;
    }
    let shallower = limit_kernels(&inputs, setting.depth - 1, activation, gain);
    (limit, shallower)
}

/// Relative errors of one network's kernels, in the order of [`STATISTICS`].
fn errors(shares: &[DMatrix<f64>], (limit, shallower): &(LimitKernels, LimitKernels)) -> Vec<f64> {
    let ntk = shares.iter().skip(1).fold(shares[0].clone(), |sum, share| sum + share);
    // Given the hidden layers, outputs are Gaussian with the covariance g² x·x'/n, which is the output layer's share.
    let nngp = shares.last().expect("an output layer");
    vec![
        distance(&ntk, &limit.ntk),
        distance(nngp, &limit.nngp),
        ratio(&ntk, &limit.ntk),
        distance(&ntk, &limit.nngp),
        distance(&ntk, &shallower.ntk),
    ]
}
