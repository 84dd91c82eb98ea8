//! The tangent kernel of a gated network concentrates like a mean of independent terms.
//!
//! **Statement.** For `f(x) = n^-1/2 Σ_i v_i tanh(w_i·x) σ(u_i·x)` with independent standard normal weights, the kernel
//! `K(x,x') = <∇f(x), ∇f(x')>` is a mean over the n units, so that two draws differ by order `n^-1/2`.
//!
//! **Hypotheses.** None beyond the network.
//!
//! **Derivation.** Unit i contributes `n^-1 (φ_iφ'_i + v_i²(…))` to the kernel, with φ its value: independent terms with finite
//! variance. The central limit theorem gives `n^-1/2`.
//!
//! **Experiment.** Kernels of pairs of independent draws at several widths; the exponent in n of their relative difference.
//!
//! **Control.** The kernel of a single unit's weights, which is not a mean: its relative difference does not depend on n.
//!
//! **Meaning.** The scatter of the kernel over draws shows how close a network of some width is to its limit.

use kernelview::error::Result;
use kernelview::evidence::{Collected, Findings, Open};
use kernelview::jacobian::{Examples, Frozen, Param, ParameterSpec, Parameters, Role, Tap};
use kernelview::kernel::{FormulaSet, GramOptions, structured_gram};
use kernelview::network::normal_tensor;
use kernelview::progress::Silent;
use kernelview::stats::{Expectation, Scaling, exponent};
use kernelview::tch::{Kind, Tensor};
use kernelview::theorems::{Claim, Context, Mutant, Topic};

/// The claim, with its experiment and a mutant.
pub static CLAIM: Claim = Claim {
    id: "gated-kernel-concentrates",
    topic: Topic::Width,
    title: "The tangent kernel of a gated network concentrates with width",
    source: "central limit theorem",
    prediction: "slope -1/2 in width",
    text: include_str!("lib.rs"),
    mutants: &[Mutant { name: "one-unit", change: "the kernel of the first unit's weights alone" }],
    graded: &[],
    experiment,
};

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let widths = [32.0, 64.0, 128.0, 256.0];
    let seeds = context.seeds(400, 800, 1600);
    let units = |all: bool, n: f64| if all { n as i64 } else { 1 };
    let measure = |all: bool| -> Result<Vec<Vec<f64>>> {
        let row = |seed| widths.iter().map(|n| difference(context, *n as i64, units(all, *n), seed)).collect();
        (0..seeds).map(row).collect()
    };
    let expected = Expectation::Within { target: -0.5, tolerance: 0.2 };
    let (whole, one) = (measure(!context.is("one-unit"))?, measure(false)?);
    let slope = |name: &str, values: &[Vec<f64>]| -> Result<Open> {
        let fit = exponent(&Scaling { widths: &widths, values }, None, 0.95)?;
        Ok(Open::new(name, expected, move |confidence| fit.slope.student_at(confidence)))
    };
    let collected = Collected {
        settings: vec![("pairs of draws at each width".into(), seeds.to_string())],
        checks: vec![slope("exponent of the kernel's relative difference in width", &whole)?],
        controls: vec![slope("the same of one unit's kernel", &one)?],
        ..Collected::default()
    };
    // One claim, whose two intervals share the suite's error rate.
    Ok(context.judged_among(1, collected))
}

/// Relative difference of two draws' kernels of one input, over the weights of the first `units` units.
fn difference(context: &Context<'_>, width: i64, units: i64, seed: usize) -> Result<f64> {
    let draw = |which: &str| -> Result<f64> {
        let seed = context.seed(&format!("width {width}, pair {seed}, {which}"));
        let shapes = [("W", [width, INPUT]), ("U", [width, INPUT]), ("V", [1, width])];
        let values = (0..)
            .zip(&shapes)
            .map(|(stream, (_, shape))| normal_tensor(shape, 1.0, seed, stream, Context::KIND, context.device));
        let specs = shapes.map(|(name, shape)| ParameterSpec::new(name, &shape, Role::Body, name));
        let parameters = Parameters::new(specs.to_vec().into(), values.collect());
        let input = Tensor::ones([1, INPUT], (Context::KIND, context.device)) / (INPUT as f64).sqrt();
        let gated = Gated { input: input.into(), units, width };
        let options = GramOptions::new(FormulaSet::SGD, parameters.len());
        let gram = structured_gram(&parameters, &gated, None, &options, &Silent)?;
        Ok(gram.sgd.expect("asked for").double_value(&[0, 0]))
    };
    let (one, other) = (draw("one")?, draw("other")?);
    Ok((one - other).abs() / (one + other))
}

/// Entries of an input.
const INPUT: i64 = 8;

/// The first `units` units of the network, applied to one input \[1, d\].
struct Gated {
    input: Frozen,
    units: i64,
    width: i64,
}

impl Examples for Gated {
    fn len(&self) -> usize {
        1
    }

    fn outputs(&self) -> usize {
        1
    }

    fn forward(&self, tap: &mut dyn Tap, _indices: &[usize]) -> Tensor {
        let gated = tap.linear(&self.input, Param(0), None).tanh() * tap.linear(&self.input, Param(1), None).sigmoid();
        let among = Tensor::arange(self.width, (Kind::Int64, gated.device())).lt(self.units).to_kind(gated.kind());
        tap.linear(&(gated * among), Param(2), None) / (self.width as f64).sqrt()
    }
}
