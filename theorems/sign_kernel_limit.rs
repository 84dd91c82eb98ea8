//! The sign kernels of wide perceptrons have closed limits too, layer by layer.
//!
//! **Statement.** In NTK parametrization, with `Σ^l` the limiting covariance of `h^l`, `Γ^l` that of the back-propagated `z^l`
//! and `b^l = φ'(h^l) z^l`, a hidden layer's share of the asymmetric kernel `<∇f, sign ∇f'>` grows as `n`, and of the SignGD
//! kernel `<sign ∇f, sign ∇f'>` as `n²`: `K_A/n → g E[b sign b'] E[x sign x']`, `K_SignGD/n² → E[sign b sign b'] E[sign x sign
//! x']`. In the first and the output layer the powers are `n^1/2` and `n`. The relative error falls as `n^-1/2`.
//!
//! **Hypotheses.** Gaussian weights at initialization, no biases, one output, a fixed number of layers.
//!
//! **Derivation.** `Σ¹ = g² ξ·ξ'/d`, `Σ^{l+1} = g² E[φ(h^l)φ(h'^l)]`, `Γ^L = g²`, `Γ^l = g² E[φ'(h^{l+1})φ'(h'^{l+1})] Γ^{l+1}`
//! (ntk-limit). The gradient of a hidden weight is `(g/n) b^l_i x^{l-1}_j`: the sign of a product is the product of the signs,
//! so both kernels factor into a sum over `i` and a sum over `j`, each an average of `n` nearly independent terms. `h` and `z`
//! are independent in the limit, so `E[b sign b'] = E[φ'(h) sign φ'(h')] E[z sign z']` with `E[z sign z'] = √(2/π)
//! Γ(ξ,ξ')/√Γ(ξ',ξ')` and `E[sign z sign z'] = (2/π) arcsin ρ`. The first layer's is `g/√(dn) b¹_i ξ_j`, the output layer's `g
//! x^L_i/√n`: the sums over inputs are `ξ·sign ξ'/√d` and `sign ξ·sign ξ'` there, and the output layer has no `b`. For relu
//! `sign φ' = φ' = 1(h>0)` and `E[φ'φ'] = (π - arccos ρ)/2π`, `E[x sign x'] = σ(1 + ρ)/(2√(2π))`. For the odd activations `φ' >
//! 0` and `sign x = sign h`; what has no closed form is integrated by quadrature after conditioning on one variable, which
//! removes the jump.
//!
//! **Experiment.** Random networks of growing width; per formula the exponent of the relative error over all layers, and the
//! mean ratio of kernel and limit at the largest width. Constants layer by layer, to 2%: the limit as a tensor program samples
//! it over its closed form.
//!
//! **Control.** The transposed limit of the asymmetric kernel (inputs have different lengths), and the SignGD limit without the
//! factor `E[sign φ' sign φ']`.
//!
//! **Meaning.** The kernel of early Adam, like that of SGD, is deterministic at large width and can be computed without drawing
//! weights, for relu in closed form. It weighs layers differently: hidden layers outgrow the first and the last, because a sign
//! does not depend on the size of the gradient.

use std::f64::consts::FRAC_PI_2;

use nalgebra::DMatrix;

use super::context::{Context, SHIFTED};
use super::limits::{
    BIAS, CONSTANT, Design, Setting, block, distance, error_exponent, error_figure, inputs, layer_kernels, layer_name,
    matrix, ratio, root_mean_squares, unbiased,
};
use super::scan::Scan;
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Findings, Open, Table};
use crate::kernel::{Formula, FormulaSet, Gram};
use crate::network::Activation;
use crate::network::limits::{LayerLimit, LimitKernels, limit_kernels};

const TRANSPOSED_KERNEL: Mutant =
    Mutant { name: "transposed-kernel", change: "the asymmetric limit with its sides exchanged" };
const MISSING_DERIVATIVE: Mutant =
    Mutant { name: "missing-derivative", change: "the SignGD limit without E[sign φ' sign φ'], relu's P" };
const MISSING_NORMALIZATION: Mutant =
    Mutant { name: "missing-normalization", change: "arcsin ρ in place of (2/π) arcsin ρ in the SignGD limit" };
const HIDDEN_ORDER_EVERYWHERE: Mutant = Mutant {
    name: "hidden-order-everywhere",
    change: "the first and the output layer divided by n and n² like hidden ones",
};

pub(super) const CLAIM: Claim = Claim {
    id: "sign-kernel-limit",
    topic: Topic::Width,
    title: "Sign kernels of wide perceptrons converge to closed limits, layer by layer",
    source: "derived here from the Gaussian limits of Jacot et al. 2018",
    prediction: "relative error falls as n^-1/2",
    text: include_str!("sign_kernel_limit.rs"),
    mutants: &[TRANSPOSED_KERNEL, MISSING_DERIVATIVE, MISSING_NORMALIZATION, HIDDEN_ORDER_EVERYWHERE],
    graded: &[SHIFTED],
    experiment,
};

/// Accepted distance from 1 of the mean ratio of K(SignGD), in which all entries have equal weight, to its limit.
const SIGN_BIAS: f64 = 0.02;

/// Formulas of a layer's kernels, in the order of storage.
const FORMULAS: [Formula; 2] = [Formula::Asymmetric, Formula::Signgd];

const ASYMMETRIC: &str = "K(A-SignGD)";
const SIGNGD: &str = "K(SignGD)";
const TRANSPOSED: &str = "K(A-SignGD) against the transposed limit";
const BACKWARD: &str = "K(SignGD) against its limit without the signs of φ'";
const STATISTICS: [&str; 4] = [ASYMMETRIC, SIGNGD, TRANSPOSED, BACKWARD];

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let design = Design::new(context, block(context), Activation::Tanh, [Activation::Erf, Activation::Gelu]);
    let measured = design.measure(context, |setting, width, seed| {
        let formulas = FormulaSet { sgd: false, asymmetric: true, signgd: true };
        let layers = layer_kernels(context, setting, width, seed, formulas)?;
        let of_layer = |gram: &Gram| FORMULAS.map(|f| matrix(gram.matrix(f).expect("asked for")));
        Ok(layers.iter().flat_map(of_layer).collect())
    })?;
    let Design { widths, seeds, block, .. } = &design;
    let mut findings = design.findings();
    let mut figure = error_figure("sign kernels");
    let mut rows = Vec::new();
    for (number, measured) in measured.iter().enumerate() {
        let setting = measured.setting;
        let limit = limit(context, setting);
        let mut ratios: Vec<[Vec<f64>; 2]> = vec![[Vec::new(), Vec::new()]; setting.depth + 1];
        let scan = Scan::watched(context, &setting.name(), widths, *seeds, &STATISTICS, |width, seed| {
            let mut rows = Vec::new();
            for network in measured.networks(width, seed) {
                let (errors, layers) = errors(network, &limit, width);
                rows.push(errors);
                if width == design.widest() {
                    for (all, one) in ratios.iter_mut().zip(layers) {
                        all[0].push(one[0]);
                        all[1].push(one[1]);
                    }
                }
            }
            Ok(root_mean_squares(&rows))
        })?;
        for (k, (name, bias)) in [(ASYMMETRIC, BIAS), (SIGNGD, SIGN_BIAS)].into_iter().enumerate() {
            let title = format!("{}: exponent of the relative error of {name}", setting.name());
            findings.checks.push(scan.scaling(title, name, error_exponent(context))?);
            // For each seed, the mean over layers; the table shows each layer.
            let means: Vec<f64> = (0..seeds * block)
                .map(|s| ratios.iter().map(|layer| layer[k][s]).sum::<f64>() / ratios.len() as f64)
                .collect();
            let title = format!("{}: mean ratio of {name} and its limit at the largest width", setting.name());
            findings.checks.push(Open::mean(title, unbiased(context, bias), means));
            let legend = format!("{name}, {}", setting.activation.name());
            if number < 2 {
                figure.series.push(scan.series(&legend, name, Some(-0.5), false));
            }
        }
        for layer in 0..=setting.depth {
            let name = layer_name(layer, setting.depth);
            for (kernel, formula) in [ASYMMETRIC, SIGNGD].into_iter().zip(FORMULAS) {
                let ratios = measured.constants(layer, formula, &limit.per_layer);
                let title = format!("{}: sampled limit of {kernel} of {name} over its closed form", setting.name());
                findings.checks.push(Open::mean(title, unbiased(context, CONSTANT), ratios));
            }
        }
        for (layer, ratio) in ratios.iter().enumerate() {
            let name = layer_name(layer, setting.depth);
            let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
            rows.push(vec![Cell::from(setting.name()), name.into(), mean(&ratio[0]).into(), mean(&ratio[1]).into()]);
        }
        let mut table = scan.local_slopes(&[(ASYMMETRIC, -0.5), (SIGNGD, -0.5)])?;
        table.title = format!("Slopes between neighbouring widths: {}", setting.name());
        findings.tables.push(table);
        if number == 0 {
            for wrong in [TRANSPOSED, BACKWARD] {
                let title = format!("{}: exponent of the error of {wrong}", setting.name());
                findings.controls.push(scan.scaling(title, wrong, error_exponent(context))?);
                figure.series.push(scan.series(wrong, wrong, None, true));
            }
        }
    }
    findings.tables.push(Table {
        title: format!("Mean ratio of kernel and limit at width {}", design.widest()),
        columns: ["network", "layer", ASYMMETRIC, SIGNGD].into_iter().map(Into::into).collect(),
        rows,
    });
    findings.figures.push(figure);
    Ok(context.judged(findings))
}

/// The limits, or a mutant's limits.
fn limit(context: &Context<'_>, setting: Setting) -> LimitKernels {
    let mut limit = limit_kernels(&matrix(&inputs(context)), setting.depth, setting.activation, setting.gain());
    for layer in &mut limit.per_layer {
        if context.is(TRANSPOSED_KERNEL) {
            layer.asymmetric = layer.asymmetric.transpose();
        }
        if context.is(MISSING_NORMALIZATION) {
            // In the output layer, which has no z, the factor is 1.
            layer.signgd *= if layer.sign_factors[2].iter().all(|v| *v == 1.0) { 1.0 } else { FRAC_PI_2 };
        }
        if context.is(MISSING_DERIVATIVE) {
            layer.signgd = without_derivative(layer);
        }
        if context.is(HIDDEN_ORDER_EVERYWHERE) {
            (layer.asymmetric_order, layer.signgd_order) = (1.0, 2.0);
        }
    }
    limit
}

/// A layer's SignGD limit without the signs of φ'.
fn without_derivative(layer: &LayerLimit) -> DMatrix<f64> {
    let [features, _, errors] = &layer.sign_factors;
    features.component_mul(errors)
}

/// Relative errors in the order of [`STATISTICS`] (root mean square over layers), and for each layer the ratios of both kernels
/// to their limits.
fn errors(kernels: &[DMatrix<f64>], limit: &LimitKernels, width: f64) -> (Vec<f64>, Vec<[f64; 2]>) {
    let mut squares = [0.0; 4];
    let mut ratios = Vec::new();
    let layers = limit.per_layer.len() as f64;
    for (kernels, limit) in kernels.chunks(FORMULAS.len()).zip(&limit.per_layer) {
        let asymmetric = &kernels[0] / width.powf(limit.asymmetric_order);
        let signgd = &kernels[1] / width.powf(limit.signgd_order);
        let errors = [
            distance(&asymmetric, &limit.asymmetric),
            distance(&signgd, &limit.signgd),
            distance(&asymmetric, &limit.asymmetric.transpose()),
            distance(&signgd, &without_derivative(limit)),
        ];
        for (sum, error) in squares.iter_mut().zip(errors) {
            *sum += error * error / layers;
        }
        ratios.push([ratio(&asymmetric, &limit.asymmetric), ratio(&signgd, &limit.signgd)]);
    }
    (squares.iter().map(|s| s.sqrt()).collect(), ratios)
}
