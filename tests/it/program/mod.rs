//! Tensor programs: laws of both interpreters on random programs, limits against closed forms and quadrature, and finite
//! programs against their networks.
//!
//! Tolerances: standard errors for samples, 1e-10 for two sums that must be equal.

mod training;

use crate::common::one_thread;
use kernelview::jacobian::{Examples, Parameters, PlainTap, outputs};
use kernelview::kernel::Formula;
use kernelview::network::limits::{GaussianPair, Part, limit_kernels};
use kernelview::network::{Abc, Activation, Mlp};
use kernelview::program::networks::{
    Input, Network, Regime, Training, Update, attention, perceptron_kernels, recurrent,
};
use kernelview::program::{Builder, Expression, LimitOptions, LimitRun, Program, Scalar, Term, Vector};
use kernelview::strategies::program;
use nalgebra::DMatrix;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

fn pair(left: f64, right: f64, covariance: f64) -> DMatrix<f64> {
    DMatrix::from_row_slice(2, 2, &[left, covariance, covariance, right])
}

/// Distance of a limit from a value, in standard errors; rounding is ignored.
fn deviation(limit: &LimitRun<'_>, scalar: Scalar, exact: f64) -> f64 {
    ((limit.scalar(scalar) - exact).abs() - 1e-10).max(0.0) / limit.standard_error(scalar).max(1e-12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Means over networks of width 256 are the limit's values, within six standard errors of both and 5/n: finite networks
    /// have a bias of order 1/n.
    #[test]
    fn random_programs_converge_to_their_limits(case in program(), seed in any::<u64>()) {
        one_thread();
        let program = case.build();
        let limit = program.limit(&LimitOptions::new(32_000, seed)).unwrap();
        // A run that was kept belongs to every program with the same lines.
        let again = case.build();
        prop_assert_eq!(again.to_string(), program.to_string());
        let kept = again.limit_of(limit.values().to_vec());
        for (own, other) in program.averages().into_iter().zip(again.averages()) {
            prop_assert_eq!(limit.replicas(own), kept.replicas(other));
        }
        let (networks, width) = (40, 256);
        let runs: Vec<_> =
            (0..networks).map(|i| program.run(width, seed.wrapping_add(i), Device::Cpu).unwrap()).collect();
        for scalar in program.averages() {
            let values: Vec<f64> = runs.iter().map(|r| r.scalar(scalar)).collect();
            let finite = kernelview::stats::student_mean(&values, 0.95);
            let error = finite.standard_error.unwrap().hypot(limit.standard_error(scalar));
            let off = (finite.value - limit.scalar(scalar)).abs();
            prop_assert!(
                off <= 6.0 * error + 5.0 / width as f64,
                "{}\n{}: {} in the limit, {} ± {error} at width {width}",
                program, program.name(scalar), limit.scalar(scalar), finite.value
            );
        }
    }

    /// In both interpreters products are linear and W and Wᵀ are adjoint, to rounding; in the limit, outputs of the same matrix
    /// have the covariance of its inputs, also to rounding, and those of different matrices are uncorrelated.
    #[test]
    fn products_are_linear_and_adjoint(a in -2.0..2.0f64, b in -2.0..2.0f64, covariance in -0.8..0.8f64, seed in any::<u64>()) {
        one_thread();
        let mut p = Builder::new();
        let h = p.gaussians(&["h", "k"], &pair(1.0, 0.7, covariance));
        let (w, v) = (p.matrix("W", 1.3), p.matrix("V", 0.6));
        let x = p.map("x", h[0].activation(Activation::Relu));
        let back = p.multiply_transposed("Wᵀk", w, h[1]);
        let y = p.map("y", (back + x).activation(Activation::Tanh));
        let (wx, wy) = (p.multiply("Wx", w, x), p.multiply("Wy", w, y));
        let sum = p.map("ax + by", x * a + y * b);
        let wsum = p.multiply("W(ax + by)", w, sum);
        let vx = p.multiply("Vx", v, x);
        let again = p.multiply_transposed("Wᵀ Wx", w, wx);
        let off = wsum - wx * a - wy * b;
        let rest = p.average("not linear", off.clone() * off);
        let sides = [p.average("k·Wy", h[1] * wy), p.average("Wᵀk·y", back * y)];
        let other = [p.average("Wx·Wy", wx * wy), p.average("WᵀWx·y", again * y)];
        let independent = p.average("Wx·Vx", wx * vx);
        let square = [p.average("Vx·Vx", vx * vx), p.average("x·x", x * x)];
        let program = p.build().unwrap();
        let limit = program.limit(&LimitOptions::new(8_000, seed)).unwrap();
        let network = program.run(100, seed, Device::Cpu).unwrap();
        let replicas = |s: [Scalar; 2]| limit.replicas(s[0]).iter().zip(limit.replicas(s[1])).map(|(a, b)| (*a, *b));
        for (left, right) in replicas(sides).chain(replicas(other)) {
            prop_assert!((left - right).abs() < 1e-10, "{left} {right}");
        }
        for (outputs, inputs) in replicas(square) {
            prop_assert!((outputs - 0.36 * inputs).abs() < 1e-10, "{outputs} {inputs}");
        }
        prop_assert!(limit.replicas(rest).iter().all(|r| *r < 1e-20));
        prop_assert!((network.scalar(sides[0]) - network.scalar(sides[1])).abs() < 1e-10);
        prop_assert!((network.scalar(other[0]) - network.scalar(other[1])).abs() < 1e-10);
        prop_assert!(network.scalar(rest) < 1e-20);
        prop_assert!(deviation(&limit, independent, 0.0) < 6.0, "{}", limit.scalar(independent));
    }

    /// Covariances after a matrix are the arc-cosine and arcsine kernels.
    #[test]
    fn covariances_are_the_closed_kernels(
        left in 0.2..3.0f64,
        right in 0.2..3.0f64,
        cosine in -1.0..1.0f64,
        relu in any::<bool>(),
        seed in any::<u64>(),
    ) {
        one_thread();
        let phi = if relu { Activation::Relu } else { Activation::Erf };
        let covariance = cosine * (left * right).sqrt();
        let mut p = Builder::new();
        let h = p.gaussians(&["h", "k"], &pair(left, right, covariance));
        let w = p.matrix("W", 1.5);
        let mut outputs = Vec::new();
        for (name, h) in ["x", "y"].into_iter().zip(h) {
            let x = p.map(name, h.activation(phi));
            outputs.push(p.multiply(format!("W{name}"), w, x));
        }
        let kernel = p.average("kernel", outputs[0] * outputs[1]);
        let program = p.build().unwrap();
        let limit = program.limit(&LimitOptions { replicas: 32, ..LimitOptions::new(64_000, seed) }).unwrap();
        let exact = 2.25 * GaussianPair::new(left, right, covariance).expectation(phi, Part::Value, Formula::Sgd);
        prop_assert!(deviation(&limit, kernel, exact) < 5.5, "{} {exact}", limit.scalar(kernel));
    }
}

/// With a million samples the limits of a perceptron's kernels are the closed forms (relu, erf) and the quadrature (tanh) of
/// `network`. Some value of 48 is beyond three standard errors in every sixth such test, and beyond 4.5 in two of a thousand.
#[test]
fn a_million_samples_give_the_closed_limits() {
    one_thread();
    let mut beyond = 0;
    let inputs = DMatrix::from_row_slice(2, 3, &[1.0, 0.5, -0.3, -0.2, 1.4, 0.8]);
    for (activation, seed) in [(Activation::Relu, 1), (Activation::Erf, 2), (Activation::Tanh, 3)] {
        let kernels = perceptron_kernels(&inputs, 2, activation, 1.3).unwrap();
        let options = LimitOptions { replicas: 32, ..LimitOptions::new(1_000_000, seed) };
        let limit = kernels.program.limit(&options).unwrap();
        let exact = limit_kernels(&inputs, 2, activation, 1.3);
        let hidden = (&kernels.layers[1], &exact.per_layer[1]);
        let tables = [
            ("NNGP", &kernels.nngp, &exact.nngp),
            ("NTK", &kernels.ntk, &exact.ntk),
            ("A-SignGD, hidden layer", &hidden.0.asymmetric, &hidden.1.asymmetric),
            ("SignGD, hidden layer", &hidden.0.signgd, &hidden.1.signgd),
        ];
        for (name, scalars, values) in tables {
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (scalar, value) = (scalars[i][j], values[(i, j)]);
                let off = deviation(&limit, scalar, value);
                println!(
                    "{activation} {name} ({i}, {j}): {} against {value}, {off:.2} standard errors",
                    limit.scalar(scalar)
                );
                assert!(off < 4.5, "{activation} {name} ({i}, {j})");
                beyond += usize::from(off > 3.0);
                assert!(limit.standard_error(scalar) < 0.005 * values.amax(), "{activation} {name} ({i}, {j})");
            }
        }
    }
    assert!(beyond <= 2, "{beyond} values are beyond three standard errors");
}

/// Standard errors are correct: the squared deviation from a closed value, in standard errors, has the mean of a squared
/// Student variable with 15 degrees of freedom, 15/13, within four standard errors over 200 limits.
#[test]
fn standard_errors_are_honest() {
    one_thread();
    let mut p = Builder::new();
    let h = p.gaussian("h", 1.0);
    let w = p.matrix("W", 1.0);
    let x = p.map("x", h.activation(Activation::Relu));
    let wx = p.multiply("Wx", w, x);
    let kernel = p.average("kernel", wx.activation(Activation::Relu) * wx);
    let program = p.build().unwrap();
    let squares: Vec<f64> = (0..200)
        .map(|seed| {
            let limit = program.limit(&LimitOptions::new(16_000, seed)).unwrap();
            // E[relu(z) z] is half the variance of z, which is 1/2.
            ((limit.scalar(kernel) - 0.25) / limit.standard_error(kernel)).powi(2)
        })
        .collect();
    let mean = kernelview::stats::student_mean(&squares, 0.95);
    let off = (mean.value - 15.0 / 13.0).abs() / mean.standard_error.unwrap();
    assert!(off < 4.0, "{mean:?}");
}

/// Attention whose scores are averages has closed limits: the softmax of the tokens' covariance, and the kernel mixed by it.
#[test]
fn attention_has_its_closed_limit() {
    one_thread();
    let tokens = DMatrix::from_row_slice(3, 3, &[1.0, 0.5, -0.2, 0.5, 1.5, 0.3, -0.2, 0.3, 0.8]);
    let layer = attention(&tokens, 2.0).unwrap();
    let limit = layer.program.limit(&LimitOptions::new(16_000, 1)).unwrap();
    let scores = tokens.map(|s| (2.0 * s).exp());
    let soft = DMatrix::from_fn(3, 3, |i, j| scores[(i, j)] / scores.row(i).sum());
    let kernel = &tokens + &soft * &tokens * soft.transpose();
    for i in 0..3 {
        for j in 0..3 {
            // Only covariances of Gaussians are involved, which the samples have exactly.
            assert!((limit.scalar(layer.weights[i][j]) - soft[(i, j)]).abs() < 1e-10);
            assert!((limit.scalar(layer.kernel[i][j]) - kernel[(i, j)]).abs() < 1e-10);
        }
    }
}

/// In a recurrent network the correction term matters: means over networks of width 1024 are the limit's values within four
/// standard errors and 1%, and are not those of a limit without it.
#[test]
fn a_recurrent_network_needs_the_correction() {
    one_thread();
    let network = recurrent(3, Activation::Tanh, 1.2, 0.25, true).unwrap();
    let options = LimitOptions::new(200_000, 1);
    let limit = network.program.limit(&options).unwrap();
    let without = network.program.limit(&LimitOptions { correction: false, ..options }).unwrap();
    let runs: Vec<_> = (0..60).map(|seed| network.program.run(1024, seed, Device::Cpu).unwrap()).collect();
    for (t, scalar) in network.gradients.iter().enumerate() {
        let values: Vec<f64> = runs.iter().map(|r| r.scalar(*scalar)).collect();
        let finite = kernelview::stats::student_mean(&values, 0.95);
        let error = finite.standard_error.unwrap().hypot(limit.standard_error(*scalar));
        let off = |l: &LimitRun<'_>| (finite.value - l.scalar(*scalar)).abs() - 0.01 * finite.value;
        println!(
            "b{}²: {} ± {error}, limit {}, without {}",
            t + 1,
            finite.value,
            limit.scalar(*scalar),
            without.scalar(*scalar)
        );
        assert!(off(&limit) < 4.0 * error);
        // The last gradient has not been through Wᵀ.
        assert_eq!(off(&without) > 10.0 * error, t < 2, "b{}² without the correction", t + 1);
    }
}

/// Draws are named: the same seed gives the same values, and programs with the same first lines share the draws of these.
#[test]
fn draws_are_named() {
    one_thread();
    let build = |more: bool| {
        let mut p = Builder::new();
        let h = p.gaussian("h", 1.0);
        let w = p.matrix("W", 1.0);
        let x = p.map("x", h.activation(Activation::Relu));
        let wx = p.multiply("Wx", w, x);
        let a = p.average("a", wx.activation(Activation::Relu));
        if more {
            let y = p.multiply("Wh", w, h);
            p.average("b", y * y);
        }
        (p.build().unwrap(), a)
    };
    let ((short, a), (long, b)) = (build(false), build(true));
    let options = LimitOptions::new(4_000, 5);
    let value =
        |program: &Program, scalar: Scalar, options: &LimitOptions| program.limit(options).unwrap().scalar(scalar);
    assert_eq!(value(&short, a, &options), value(&short, a, &options));
    assert_ne!(value(&short, a, &options), value(&short, a, &LimitOptions { seed: 6, ..options }));
    assert_eq!(value(&short, a, &options), value(&long, b, &options));
    let finite =
        |program: &Program, scalar: Scalar, seed: u64| program.run(30, seed, Device::Cpu).unwrap().scalar(scalar);
    assert_eq!(finite(&short, a, 5), finite(&long, b, 5));
    assert_ne!(finite(&short, a, 5), finite(&short, a, 6));
}

/// Everything that is not a program is refused with a message.
#[test]
fn what_is_not_well_formed_is_refused() {
    let refused = |words: &str, write: &dyn Fn(&mut Builder, Vector, Scalar)| {
        let mut p = Builder::new();
        let h = p.gaussian("h", 1.0);
        let s = p.average("s", h * h);
        write(&mut p, h, s);
        let message = p.build().expect_err(words).to_string();
        assert_eq!(message, format!("not a program: {words}"));
    };
    let mut other = Builder::new();
    let foreign = other.gaussian("elsewhere", 1.0);
    let matrix = other.matrix("M", 1.0);
    let scalar = other.average("mean", foreign + 1.0);
    refused("the name `h` is used twice", &|p, h, _| _ = p.map("h", h * 2.0));
    refused("line 3 has an empty name", &|p, h, _| _ = p.map(" ", h * 2.0));
    refused("x: uses a vector of another program", &|p, _, _| _ = p.map("x", foreign * 2.0));
    refused("x: uses a scalar of another program", &|p, h, _| _ = p.map("x", h * scalar));
    refused("x: uses a matrix of another program", &|p, h, _| _ = p.multiply("x", matrix, h));
    refused("x: contains no vector; use `scalar` for functions of scalars", &|p, _, s| _ = p.map("x", s * 2.0));
    refused("m: contains no vector; use `scalar` for functions of scalars", &|p, _, s| _ = p.average("m", s * 2.0));
    refused("t: a scalar cannot be made from the vector `h`; use an `average` of it", &|p, h, s| {
        _ = p.scalar("t", s + h);
    });
    refused("x: the θ of a change must consist of scalars, but this one contains a vector", &|p, h, _| {
        p.map("x", h.change(Activation::Tanh, h, h));
    });
    refused("W: σ is 0; it must be positive", &|p, _, _| _ = p.matrix("W", 0.0));
    refused("θ: n^0.5 does not vanish in the limit; the exponent must be negative", &|p, _, _| {
        p.width_power("θ", 0.5);
    });
    refused("a, b: the covariance has the negative eigenvalue -1", &|p, _, _| {
        p.gaussians(&["a", "b"], &pair(1.0, 1.0, 2.0));
    });
    refused("a, b: the covariance is not symmetric", &|p, _, _| {
        p.gaussians(&["a", "b"], &DMatrix::from_row_slice(2, 2, &[1.0, 0.5, 0.4, 1.0]));
    });
    refused("a, b: 2 vectors need a covariance of 2 x 2, not 1 x 1", &|p, _, _| {
        p.gaussians(&["a", "b"], &DMatrix::from_element(1, 1, 1.0));
    });
    refused("a: the covariance has an entry NaN", &|p, _, _| _ = p.gaussian("a", f64::NAN));
    refused(": no names, hence no vectors", &|p, _, _| _ = p.gaussians(&[], &DMatrix::zeros(0, 0)));

    let mut p = Builder::new();
    let h = p.gaussian("h", 1.0);
    let square = p.average("s", h * h);
    p.scalar("1/0", Expression::from(square) / 0.0);
    let program = p.build().unwrap();
    let words = |error: kernelview::error::Error| error.to_string();
    assert_eq!(words(program.run(10, 1, Device::Cpu).err().unwrap()), "a program's scalar `1/0` is not finite (inf)");
    assert_eq!(
        words(program.run(0, 1, Device::Cpu).err().unwrap()),
        "the width of a program is 0; it must be 1 or more"
    );
    assert_eq!(
        words(program.limit(&LimitOptions { replicas: 1, ..LimitOptions::new(10, 1) }).err().unwrap()),
        "the number of samples of a limit is 10 in 1 replicas; it must be in two replicas or more, of 3 samples or more each for this program"
    );
}
