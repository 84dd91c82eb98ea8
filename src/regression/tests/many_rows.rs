//! The ways that serve kernels of many rows, on kernels of few: against the ways that serve those.

use super::Numbers;
use crate::progress::Silent;
use crate::regression::curvature::Curvature;
use crate::regression::linear::{eigenvalues, singular_values, symmetric_norm};
use crate::regression::{
    AsymmetricLeastSquares, LeastSquares, Logistic, LogisticSettings, LogisticTask, effective_rank, operator_norm,
};
use approx::assert_relative_eq;
use nalgebra::{DMatrix, DVector};

fn targets(numbers: &mut Numbers, n: usize) -> DMatrix<f64> {
    DMatrix::from_fn(n, 3, |_, _| numbers.next())
}

/// Symmetric with the given eigenvalues.
fn with_eigenvalues(numbers: &mut Numbers, values: &[f64]) -> DMatrix<f64> {
    let n = values.len();
    let basis = DMatrix::from_fn(n, n, |_, _| numbers.next()).qr().q();
    let kernel = &basis * DMatrix::from_diagonal(&DVector::from_column_slice(values)) * basis.transpose();
    (&kernel + kernel.transpose()) * 0.5
}

/// Two backward stable ways differ by a small multiple of ε·cond, cond at most 1e4 here. Fails for: a shift that is lost
/// or not divided by the unit, a triangle that is not filled, a solution that is not multiplied back.
#[test]
fn factors_and_spectra_give_the_same_solutions() {
    let mut numbers = Numbers::new(31);
    let spread: Vec<f64> = (0..70).map(|i| 10f64.powf(-4.0 * f64::from(i) / 69.0)).collect();
    let indefinite: Vec<f64> = spread.iter().enumerate().map(|(i, v)| if i % 3 == 0 { -0.3 * v } else { *v }).collect();
    for values in [&spread, &indefinite] {
        let kernel = with_eigenvalues(&mut numbers, values) * 1e5;
        let y = targets(&mut numbers, 70);
        let (few, many) = (LeastSquares::new(&kernel, true), LeastSquares::with_few(&kernel, true, 0));
        let (few, many) = (few.expect("a spectrum"), many.expect("a norm"));
        assert_relative_eq!(few.operator_norm(), many.operator_norm(), max_relative = 1e-13);
        for r in [0.0, 1e-3, 1.0] {
            let (a, b) = (few.solve_many(&y, r).expect("a solution"), many.solve_many(&y, r).expect("a solution"));
            assert!((&a - &b).amax() <= 1e-10 * a.amax(), "r = {r}: {:.3e}", (&a - &b).amax() / a.amax());
        }
    }
}

/// A singular system is left to its spectrum, whose solution has the least norm. Fails for: a factorization that is
/// trusted, or a spectrum that is taken where the factor serves.
#[test]
fn a_singular_kernel_of_many_rows_gets_the_solution_of_least_norm() {
    let mut numbers = Numbers::new(37);
    let kernel = numbers.gram(40, 12);
    let y = targets(&mut numbers, 40);
    let (few, many) = (LeastSquares::new(&kernel, true), LeastSquares::with_few(&kernel, true, 0));
    let (few, many) = (few.expect("a spectrum"), many.expect("a norm"));
    for r in [1e-2, 0.0] {
        let (a, b) = (few.solve_many(&y, r).expect("a solution"), many.solve_many(&y, r).expect("a solution"));
        assert!((&a - &b).amax() <= 1e-10 * a.amax(), "r = {r}: {:.3e}", (&a - &b).amax() / a.amax());
    }
}

/// Kernels without symmetry: the normal equations of the shifted system as a second path. Fails for: a transposed factor,
/// a shift on the wrong matrix.
#[test]
fn asymmetric_systems_are_solved_by_elimination() {
    let mut numbers = Numbers::new(41);
    let kernel = DMatrix::from_fn(30, 30, |_, _| numbers.next()) + DMatrix::identity(30, 30) * 8.0;
    let y = targets(&mut numbers, 30);
    let solver = LeastSquares::new(&kernel, false).expect("a norm");
    assert_relative_eq!(solver.operator_norm(), singular_values(&kernel).unwrap().amax(), max_relative = 1e-13);
    for r in [0.0, 0.1] {
        let found = solver.solve_many(&y, r).expect("a solution");
        let shifted = &kernel + DMatrix::identity(30, 30) * (r * solver.operator_norm());
        assert!((&shifted * &found - &y).amax() <= 1e-12 * y.amax());
    }
}

/// Lanczos' iteration against all eigenvalues, where the largest stand apart, where they crowd, and where the two largest
/// are opposite. Fails for: signs lost, a stop before convergence, a unit that is not multiplied back.
#[test]
fn norms_of_many_rows_are_those_of_all_eigenvalues() {
    let mut numbers = Numbers::new(43);
    let crowded: Vec<f64> = (0..120).map(|i| 1.0 - 1e-4 * f64::from(i)).collect();
    let opposite: Vec<f64> = (0..120).map(|i| f64::from(i % 7) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let apart: Vec<f64> = (0..120).map(|i| 0.7_f64.powi(i)).collect();
    for values in [crowded, opposite, apart] {
        let kernel = with_eigenvalues(&mut numbers, &values) * 1e-7;
        let all = eigenvalues(&kernel).expect("eigenvalues").amax();
        assert_relative_eq!(symmetric_norm(&kernel).expect("a norm"), all, max_relative = 1e-12);
        assert_relative_eq!(operator_norm(&kernel).expect("a norm"), all, max_relative = 1e-12);
    }
    let wide = DMatrix::from_fn(90, 130, |_, _| numbers.next());
    let all = singular_values(&wide).expect("singular values").amax();
    assert_relative_eq!(operator_norm(&wide).expect("a norm"), all, max_relative = 1e-12);
}

/// The rank of an identity is its size, of a product of two vectors one, of zeros zero. Fails for: eigenvalues in place of
/// their shares, signs that cancel.
#[test]
fn effective_ranks_of_known_spectra() {
    let rank = |values: &[f64]| {
        let kernel = with_eigenvalues(&mut Numbers::new(47), values);
        let (symmetric, general) = (effective_rank(&kernel, true).unwrap(), effective_rank(&kernel, false).unwrap());
        assert_relative_eq!(symmetric, general, max_relative = 1e-9);
        symmetric
    };
    assert_relative_eq!(rank(&[2.0; 9]), 9.0, max_relative = 1e-12);
    assert_relative_eq!(rank(&[1.0, -1.0, 1.0]), 3.0, max_relative = 1e-12);
    assert_relative_eq!(rank(&[5.0, 0.0, 0.0, 0.0]), 1.0, max_relative = 1e-9);
    assert_relative_eq!(effective_rank(&DMatrix::zeros(4, 4), true).unwrap(), 0.0);
}

/// `V·Vᵀ` is the Hessian of the cross-entropy, from its definition. Fails for: a reflection onto another axis, a sign.
#[test]
fn the_curvature_is_the_cross_entropys() {
    for outputs in [1, 2, 3, 6] {
        let mut numbers = Numbers::new(53);
        let raw = DVector::from_fn(4 * outputs, |_, _| (3.0 * numbers.next()).exp());
        let mut p = raw.clone();
        for example in p.as_mut_slice().chunks_mut(outputs) {
            let sum: f64 = if outputs == 1 { 1.0 + example[0] } else { example.iter().sum() };
            for x in example {
                *x /= sum;
            }
        }
        let x = DVector::from_fn(4 * outputs, |_, _| numbers.next());
        let found = Curvature::new(&p, outputs).times(&x);
        for i in 0..4 * outputs {
            let own = i - i % outputs..i - i % outputs + outputs;
            let mean: f64 = if outputs == 1 { p[i] * x[i] } else { own.map(|j| p[j] * x[j]).sum() };
            assert_relative_eq!(found[i], p[i] * (x[i] - mean), epsilon = 1e-14);
        }
    }
}

/// Conjugate gradients and factored steps end in the same minimum, each within its residual of 1e-10 over λ. Fails for: a
/// system that the two do not share, a tolerance that Newton's last steps do not reach.
#[test]
fn conjugate_gradients_find_the_same_minimum() {
    for outputs in [1, 4] {
        let mut numbers = Numbers::new(59);
        let kernel = numbers.gram(12 * outputs, 8 * outputs);
        let labels: Vec<usize> = (0..12).map(|i| (i * i + i / 3) % outputs.max(2)).collect();
        let logits: Vec<f64> = (0..12 * outputs).map(|_| numbers.next()).collect();
        let fit = |few, lambda| {
            let mut model = Logistic::new(&kernel, outputs, &labels, Some(&logits)).expect("a problem");
            model.few = few;
            model.fit(&LogisticSettings { lambda, ..Default::default() }, None).expect("a minimum").alpha
        };
        for lambda in [0.05, 1.0] {
            assert!((fit(0, lambda) - fit(100, lambda)).amax() <= 1e-8);
        }
    }
}

/// A kernel that every output has alike is `K ⊗ 1`. Fails for: examples and outputs exchanged in the product.
#[test]
fn a_kernel_of_each_output_is_a_kronecker_product() {
    let mut numbers = Numbers::new(61);
    let (n, outputs) = (9, 3);
    let kernel = numbers.gram(n, 6);
    let labels: Vec<usize> = (0..n).map(|i| i % outputs).collect();
    let whole = kernel.kronecker(&DMatrix::identity(outputs, outputs));
    let settings = LogisticSettings { lambda: 0.3, ..Default::default() };
    for few in [0, 100] {
        let mut model = Logistic::each_output(&kernel, outputs, &labels).expect("a problem");
        model.few = few;
        let short = model.fit(&settings, None).expect("a minimum").alpha;
        let long = Logistic::new(&whole, outputs, &labels, None).expect("a problem");
        let long = long.fit(&settings, None).expect("a minimum").alpha;
        assert!((short - long).amax() <= 1e-8);
    }
}

/// Regularizations by conjugate gradients side by side, against factorizations: both solve to a few ε of norm times solution,
/// and conditions here reach 1e3. A kernel without a tail, one with a slow tail, and a singular one. Fails for: a shift that
/// is lost, a preconditioner of another system, solutions in another order, a stop before the true residual is small.
#[test]
fn conjugate_gradients_solve_grids() {
    let mut numbers = Numbers::new(67);
    let slow: Vec<f64> = (0..90).map(|i| 1.0 / (1.0 + f64::from(i) / 8.0)).collect();
    let fast: Vec<f64> = (0..90).map(|i| 0.8f64.powi(i)).collect();
    let kernels = [with_eigenvalues(&mut numbers, &slow), with_eigenvalues(&mut numbers, &fast), numbers.gram(90, 30)];
    for kernel in kernels {
        let kernel = kernel * 1e4;
        let y = targets(&mut numbers, 90);
        let grid = [0.001, 0.01, 0.1, 1.0];
        let mut solver = LeastSquares::with_few(&kernel, true, 0).expect("a norm");
        let factored = solver.solve_grid(&y, &grid, &Silent).expect("solutions");
        solver.many = 0;
        let found = solver.solve_grid(&y, &grid, &Silent).expect("solutions");
        for (r, (a, b)) in grid.iter().zip(factored.iter().zip(&found)) {
            assert!((a - b).amax() <= 1e-11 * a.amax(), "r = {r}: {:.3e}", (a - b).amax() / a.amax());
        }
    }
}

/// Minima found side by side are those found one by one. Fails for: λ, offset or curvature of another task, an order that is
/// lost when some have ended.
#[test]
fn minima_side_by_side_are_those_found_alone() {
    for (outputs, few) in [(1, 0), (4, 0), (4, 100)] {
        let mut numbers = Numbers::new(71);
        let kernel = numbers.gram(12 * outputs, 8 * outputs);
        let labels: Vec<usize> = (0..12).map(|i| (i * i + i / 3) % outputs.max(2)).collect();
        let logits: Vec<f64> = (0..12 * outputs).map(|_| numbers.next()).collect();
        let model = |logits: Option<&[f64]>| {
            let mut model = Logistic::new(&kernel, outputs, &labels, logits).expect("a problem");
            model.few = few;
            model
        };
        let both = [(0.05, false), (2.0, true), (0.3, true), (1.0, false)];
        let settings = |lambda| LogisticSettings { lambda, ..Default::default() };
        let task = |&(lambda, offset): &(f64, bool)| LogisticTask { settings: settings(lambda), offset, start: None };
        let found = model(Some(&logits)).fit_all(&both.iter().map(task).collect::<Vec<_>>(), &Silent).expect("fits");
        for ((lambda, offset), fit) in both.into_iter().zip(found) {
            let alone = model(offset.then_some(&logits[..])).fit(&settings(lambda), None).expect("a minimum");
            assert!((fit.expect("a minimum").alpha - alone.alpha).amax() <= 1e-9 / lambda);
        }
    }
}

/// The band's way against singular values, whose solutions differ by rounding times the system's condition; where 1/γ is a
/// singular value both give the solution of least norm. Fails for: a band that is trusted where it must not be, targets or
/// sides that are exchanged.
#[test]
fn bands_and_singular_values_give_the_same_solutions() {
    let mut numbers = Numbers::new(73);
    let kernel = DMatrix::from_fn(70, 70, |_, _| numbers.next());
    let y = DVector::from_fn(70, |i, _| if i % 3 == 0 { 0.8 } else { -1.1 });
    let few = AsymmetricLeastSquares::new(&kernel, &y).expect("singular values");
    let many = AsymmetricLeastSquares::with_few(&kernel, &y, 0).expect("a band");
    for gamma in [0.01, 0.1, 1.0, 10.0] {
        let (a, b) = (few.solve(gamma).expect("a solution"), many.solve(gamma).expect("a solution"));
        assert!((&a.alpha - &b.alpha).amax() <= 1e-9 * a.alpha.amax());
        assert!((&a.beta - &b.beta).amax() <= 1e-9 * a.beta.amax());
    }
    let exact = DMatrix::<f64>::identity(60, 60);
    let ones = DVector::from_element(60, 1.0);
    let found = AsymmetricLeastSquares::with_few(&exact, &ones, 0).and_then(|s| s.solve(1.0)).expect("a solution");
    assert!(found.alpha.iter().chain(&found.beta).all(|x| (x - 0.5).abs() <= 1e-13));
}
