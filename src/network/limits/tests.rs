//! Limits against published values, against samples of their Gaussians, and against wide networks.

use std::f64::consts::FRAC_2_PI;

use nalgebra::DMatrix;
use tch::{Device, Kind, Tensor};

use super::{GaussianPair, LayerLimit, Part, limit_kernels};
use crate::kernel::{Formula, dense_jacobian};
use crate::network::{Abc, Activation, Mlp, normal_tensor, pair_with_cosine};

fn matrix(t: &Tensor) -> DMatrix<f64> {
    let numbers = Vec::<f64>::try_from(t.reshape([-1])).expect("a flat tensor");
    DMatrix::from_row_slice(t.size()[0] as usize, t.size()[1] as usize, &numbers)
}

/// Two inputs in the plane with this cosine and |ξ|² = 2.
fn plane(cosine: f64) -> DMatrix<f64> {
    let sine = f64::sqrt(1.0 - cosine * cosine);
    DMatrix::from_row_slice(2, 2, &[1.0, 0.0, cosine, sine]) * std::f64::consts::SQRT_2
}

/// Published values of (K, Θ) for relu, W² = 2, no biases.
#[test]
fn relu_values() {
    let gain = 2f64.sqrt();
    let table = [
        (0.5, 1, 1.217_995_562, 1.884_662_229),
        (0.5, 2, 1.367_811_302, 2.702_959_122),
        (0.5, 3, 1.476_256_385, 3.475_689_358),
        (0.0, 1, FRAC_2_PI, FRAC_2_PI),
    ];
    for (cosine, depth, nngp, ntk) in table {
        let limits = limit_kernels(&plane(cosine), depth, Activation::Relu, gain);
        assert!((limits.nngp[(0, 1)] - nngp).abs() < 1e-9, "{cosine} {depth}: {}", limits.nngp[(0, 1)]);
        assert!((limits.ntk[(0, 1)] - ntk).abs() < 1e-9, "{cosine} {depth}: {}", limits.ntk[(0, 1)]);
        // With this gain variances stay 2, and every layer adds the same amount to the diagonal of Θ.
        assert!((limits.nngp[(0, 0)] - 2.0).abs() < 1e-12);
        assert!((limits.ntk[(0, 0)] - 2.0 * (depth + 1) as f64).abs() < 1e-12);
    }
}

/// Limits of the sign kernels of hidden layers, worked out by hand from the same formula to four digits: asymmetric and
/// SignGD kernel of layer `l` among `depth`.
#[test]
fn relu_sign_values() {
    for (depth, l, asymmetric, signgd) in [(2, 2, 0.2392, 0.1181), (3, 2, 0.1769, 0.0626), (3, 3, 0.2679, 0.1310)] {
        let limits = limit_kernels(&plane(0.5), depth, Activation::Relu, 2f64.sqrt());
        let layer = &limits.per_layer[l - 1];
        assert!((layer.asymmetric[(0, 1)] - asymmetric).abs() < 6e-5);
        assert!((layer.signgd[(0, 1)] - signgd).abs() < 6e-5);
    }
}

/// Every expectation against the mean over 10⁶ samples, within five of its standard errors.
#[test]
fn expectations_against_samples() {
    tch::set_num_threads(1);
    let samples = normal_tensor(&[2, 1_000_000], 1.0, 17, 0, Kind::Double, Device::Cpu);
    let cases = [(1.0f64, 1.0f64, 0.5f64), (0.4, 2.5, -0.6), (3.0, 0.7, 0.97)];
    for (left, right, rho) in cases {
        let pair = GaussianPair::new(left, right, rho * (left * right).sqrt());
        let h = samples.get(0) * left.sqrt();
        let other = (samples.get(0) * rho + samples.get(1) * (1.0 - rho * rho).sqrt()) * right.sqrt();
        for phi in Activation::ALL {
            for part in [Part::Value, Part::Derivative] {
                let at = |x: &Tensor| match part {
                    Part::Value => phi.apply(x),
                    Part::Derivative => {
                        let x = x.detach().set_requires_grad(true);
                        Tensor::run_backward(&[phi.apply(&x).sum(Kind::Double)], &[&x], false, false).remove(0)
                    }
                };
                let (a, b) = (at(&h), at(&other));
                for formula in Formula::ALL {
                    let products = match formula {
                        Formula::Sgd => &a * &b,
                        Formula::Asymmetric => &a * b.sign(),
                        Formula::Signgd => a.sign() * b.sign(),
                    };
                    let mean = products.mean(Kind::Double).double_value(&[]);
                    let error = products.std(true).double_value(&[]) / 1e3;
                    let exact = pair.expectation(phi, part, formula);
                    assert!(
                        (mean - exact).abs() <= 5.0 * error + 1e-12,
                        "{phi} {part:?} {formula} at {pair:?}: {mean} ± {error}, exactly {exact}"
                    );
                }
            }
        }
    }
}

/// Shares of every layer in the three kernels of a network, in the order of [`Formula::ALL`], divided by their power of
/// the width.
fn empirical(mlp: &Mlp, inputs: &Tensor, seed: u64, limits: &[LayerLimit]) -> Vec<[DMatrix<f64>; 3]> {
    let parameters = mlp.parameters(seed, Kind::Double, Device::Cpu);
    let jacobian = dense_jacobian(&parameters, &mlp.examples(inputs.shallow_clone())).expect("not interrupted");
    let mut start = 0;
    let mut shares = Vec::new();
    for (spec, limit) in parameters.specs().iter().zip(limits) {
        let gradients = jacobian.narrow(1, start, spec.numel());
        let signs = gradients.sign();
        shares.push(Formula::ALL.map(|formula| {
            let product = match formula {
                Formula::Sgd => gradients.matmul(&gradients.tr()),
                Formula::Asymmetric => gradients.matmul(&signs.tr()),
                Formula::Signgd => signs.matmul(&signs.tr()),
            };
            matrix(&product) / (mlp.width as f64).powf(limit.order(formula))
        }));
        start += spec.numel();
    }
    shares
}

/// Every layer's share of every kernel of wide networks is its limit, within five standard errors of the mean over
/// networks (at most 4%, mostly 1%) and 0.5% for the finite width. The transposed asymmetric kernel, a wrong
/// orientation, is further off.
#[test]
fn wide_networks_have_the_limits() {
    tch::set_num_threads(1);
    let (seeds, depth) = (48, 2);
    // Lengths differ, so that orientation matters.
    let inputs = pair_with_cosine(5, 0.6, 3, Kind::Double, Device::Cpu) * Tensor::from_slice(&[1.0, 1.7]).view([2, 1]);
    for activation in Activation::ALL {
        let mlp = Mlp { input: 5, width: 1024, depth, outputs: 1, activation, gain: 1.3, abc: Abc::ntk(depth) };
        let limits = limit_kernels(&matrix(&inputs), depth, activation, mlp.gain);
        let runs: Vec<_> = (0..seeds).map(|seed| empirical(&mlp, &inputs, seed, &limits.per_layer)).collect();
        for (l, limit) in limits.per_layer.iter().enumerate() {
            for (f, formula) in Formula::ALL.into_iter().enumerate() {
                let name = format!("{activation} layer {} {formula}", l + 1);
                let count = f64::from(seeds as u32);
                let mean = runs.iter().fold(DMatrix::zeros(2, 2), |sum, run| sum + &run[l][f]) / count;
                let squares =
                    runs.iter().fold(DMatrix::zeros(2, 2), |sum, run| sum + (&run[l][f] - &mean).map(|x| x * x));
                let errors = squares.map(|s: f64| (s / (count * (count - 1.0))).sqrt());
                let expected = limit.matrix(formula);
                let largest = expected.abs().max();
                let within = |limit: &DMatrix<f64>| {
                    (0..4).all(|i| (mean[i] - limit[i]).abs() <= 5.0 * errors[i] + 0.005 * largest)
                };
                let off = (&mean - expected).abs().max() / largest;
                println!("{name}: off by {:.2}%, standard error {:.2}%", 100.0 * off, 100.0 * errors.max() / largest);
                assert!(within(expected), "{name}: {mean} ± {errors} against {expected}");
                assert!(errors.max() < 0.04 * largest, "{name}: {errors}");
                // Only relu grows with its argument enough to tell the orientations apart in every layer.
                if formula == Formula::Asymmetric && activation == Activation::Relu {
                    assert!(!within(&expected.transpose()), "control: the transposed limit of {name} fits too");
                }
            }
        }
    }
}
