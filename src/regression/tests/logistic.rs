//! Kernel logistic regression: optimality, derivative, uniqueness, two independent paths to the same minimum.

use super::Numbers;
use crate::regression::{Logistic, LogisticSettings, operator_norm};
use approx::assert_relative_eq;
use nalgebra::{DMatrix, DVector};

fn labels(n: usize, outputs: usize) -> Vec<usize> {
    (0..n).map(|i| (i * i + i / 3) % outputs.max(2)).collect()
}

fn vector(numbers: &mut Numbers, n: usize) -> DVector<f64> {
    DVector::from_fn(n, |_, _| numbers.next())
}

/// A singular kernel of `n` examples with `outputs` outputs, and an offset.
fn problem(numbers: &mut Numbers, n: usize, outputs: usize) -> (DMatrix<f64>, Vec<f64>) {
    let size = n * outputs;
    let kernel = numbers.gram(size, size.div_ceil(2));
    (kernel, vector(numbers, size).as_slice().to_vec())
}

fn model<'a>(kernel: &'a DMatrix<f64>, n: usize, outputs: usize, logits: &[f64]) -> Logistic<'a> {
    Logistic::new(kernel, outputs, &labels(n, outputs), Some(logits)).expect("a problem")
}

/// An independent `λα - (y - p)`, written from the definition.
fn optimality(
    kernel: &DMatrix<f64>,
    logits: &[f64],
    labels: &[usize],
    outputs: usize,
    alpha: &DVector<f64>,
    lambda: f64,
) -> f64 {
    let f = kernel * alpha + DVector::from_column_slice(logits);
    let mut worst: f64 = 0.0;
    for (i, &label) in labels.iter().enumerate() {
        // One output f is the softmax of (0, f).
        let values: Vec<f64> = match outputs {
            1 => vec![0.0, f[i]],
            _ => (0..outputs).map(|c| f[i * outputs + c]).collect(),
        };
        for c in 0..outputs {
            let class = if outputs == 1 { 1 } else { c };
            let p = 1.0 / values.iter().map(|v| (v - values[class]).exp()).sum::<f64>();
            let gap = lambda * alpha[i * outputs + c] - f64::from(u8::from(label == class)) + p;
            assert!(gap.is_finite());
            worst = worst.max(gap.abs());
        }
    }
    worst
}

/// Tolerance 1e-9: the solver's own 1e-10 and rounding of f. Fails for: a wrong softmax, a lost offset, outputs and
/// examples exchanged in the flattening, a stopping rule on something else.
#[test]
fn the_minimum_satisfies_its_optimality_condition() {
    for outputs in [1, 2, 3, 5] {
        for (seed, lambda) in [(1, 1e-3), (2, 0.1), (3, 10.0)] {
            let (kernel, logits) = problem(&mut Numbers::new(seed), 7, outputs);
            let model = model(&kernel, 7, outputs, &logits);
            let fit = model.fit(&LogisticSettings { lambda, ..Default::default() }, None).expect("a minimum");
            let gap = optimality(&kernel, &logits, &labels(7, outputs), outputs, &fit.alpha, lambda);
            assert!(gap <= 1e-9, "{outputs} outputs, lambda {lambda}: {gap:.3e}");
            assert!(fit.residual <= 1e-10 && fit.steps < 30, "residual {:.3e} in {} steps", fit.residual, fit.steps);
            assert_relative_eq!(
                fit.objective,
                model.objective(&fit.alpha, lambda).expect("a value"),
                max_relative = 1e-14
            );
        }
    }
}

/// Central differences with h = 1e-5: truncation h², rounding ε/h, both near 1e-10; 1e-7 of the gradient's size leaves
/// room. Fails for: any term of objective or gradient that the other lacks.
#[test]
fn the_gradient_is_the_objectives_derivative() {
    for outputs in [1, 3] {
        let mut numbers = Numbers::new(5);
        let (kernel, logits) = problem(&mut numbers, 6, outputs);
        let model = model(&kernel, 6, outputs, &logits);
        let alpha = vector(&mut numbers, 6 * outputs);
        let gradient = model.gradient(&alpha, 0.3).expect("a gradient");
        for i in 0..alpha.len() {
            let moved = |h: f64| {
                let mut alpha = alpha.clone();
                alpha[i] += h;
                model.objective(&alpha, 0.3).expect("a value")
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert_relative_eq!(difference, gradient[i], epsilon = 1e-7 * gradient.amax());
        }
    }
}

/// Midpoints never lie above chords, and two distant starts meet: α itself, since `λα = y - p` fixes it even on a
/// singular kernel. Two points of residual 1e-10 differ by at most about 2e-10/λ. Fails for: a sign error that makes
/// the objective non-convex, a step that stays in the start's subspace.
#[test]
fn two_starts_meet_in_one_minimum() {
    for outputs in [1, 4] {
        let mut numbers = Numbers::new(9);
        let (kernel, logits) = problem(&mut numbers, 6, outputs);
        let model = model(&kernel, 6, outputs, &logits);
        let (a, b) = (vector(&mut numbers, 6 * outputs) * 5.0, vector(&mut numbers, 6 * outputs) * -5.0);
        let value = |alpha: &DVector<f64>| model.objective(alpha, 0.1).expect("a value");
        assert!(value(&((&a + &b) * 0.5)) <= 0.5 * (value(&a) + value(&b)));
        let settings = LogisticSettings { lambda: 0.1, ..Default::default() };
        let fit = |start| model.fit(&settings, Some(start)).expect("a minimum").alpha;
        assert!((fit(&a) - fit(&b)).amax() <= 1e-8);
    }
}

/// Plain gradient descent in α, many small steps, as a second path. Its linear rate leaves about 1e-9. Fails for: a
/// Newton system that converges to another point.
#[test]
fn gradient_descent_finds_the_same_minimum() {
    for outputs in [1, 2] {
        let mut numbers = Numbers::new(11);
        let size = 4 * outputs;
        let kernel = numbers.gram(size, size) + DMatrix::identity(size, size);
        let model = Logistic::new(&kernel, outputs, &labels(4, outputs), None).expect("a problem");
        let lambda = 0.5;
        // The Hessian K(λI + WK) is at most ‖K‖(λ + ‖K‖/2).
        let norm = operator_norm(&kernel).expect("a norm");
        let step = 1.0 / (norm * (lambda + 0.5 * norm));
        let mut alpha = DVector::zeros(size);
        for _ in 0..20_000 {
            alpha -= model.gradient(&alpha, lambda).expect("a gradient") * step;
        }
        let newton = model.fit(&LogisticSettings { lambda, ..Default::default() }, None).expect("a minimum").alpha;
        assert!((alpha - newton).amax() <= 1e-8);
    }
}

/// Two outputs with the kernel `K⊗I` are one output (the difference) with the kernel `2K` and the same α. Fails for: an
/// interleaving of examples and outputs that differs from row-major, a factor in either cross-entropy.
#[test]
fn two_outputs_equal_one_difference() {
    let mut numbers = Numbers::new(13);
    let kernel = numbers.gram(6, 4);
    let doubled = DMatrix::from_fn(12, 12, |i, j| if i % 2 == j % 2 { kernel[(i / 2, j / 2)] } else { 0.0 });
    let settings = LogisticSettings { lambda: 0.2, ..Default::default() };
    let fit = |kernel: &DMatrix<f64>, outputs| {
        let model = Logistic::new(kernel, outputs, &labels(6, 2), None).expect("a problem");
        model.fit(&settings, None).expect("a minimum").alpha
    };
    let (two, one) = (fit(&doubled, 2), fit(&(&kernel * 2.0), 1));
    for i in 0..6 {
        // Both solve their conditions to 1e-10, over λ = 0.2.
        assert_relative_eq!(two[2 * i + 1], one[i], epsilon = 1e-8);
        assert_relative_eq!(two[2 * i], -one[i], epsilon = 1e-8);
    }
}

/// Separable data has no minimum at λ = 0; as λ → 0 the solution stays finite (α ≤ 1/λ always, and grows only like log
/// 1/λ) and classifies the training set. Fails for: an overflowing softmax, a step without halving, a system that loses
/// λ.
#[test]
fn separable_data_stays_finite_as_lambda_vanishes() {
    for outputs in [1, 3] {
        let kernel = Numbers::new(17).gram(5 * outputs, 5 * outputs) + DMatrix::identity(5 * outputs, 5 * outputs);
        let model = Logistic::new(&kernel, outputs, &labels(5, outputs), None).expect("a problem");
        for lambda in [1e-2, 1e-4, 1e-6, 1e-8] {
            // |λα - (y - p)| shrinks with λ: the tolerance must too for α to be resolved.
            let settings = LogisticSettings { lambda, tolerance: 1e-5 * lambda, max_steps: 200 };
            let fit = model.fit(&settings, None).expect("a minimum");
            let largest = fit.alpha.amax();
            assert!(
                largest.is_finite() && largest <= 1.0 / lambda && largest <= 30.0 * (1.0 - lambda.ln()),
                "{largest}"
            );
            let predictions = &kernel * &fit.alpha;
            let score = crate::regression::score(&predictions, &labels(5, outputs), outputs).expect("a score");
            assert_relative_eq!(score.accuracy, 1.0);
        }
    }
}

/// Large offsets and kernels: exp must not overflow. Fails for: a softmax without the shift by its largest entry.
#[test]
fn large_logits_do_not_overflow() {
    for outputs in [1, 2] {
        let kernel = Numbers::new(19).gram(4 * outputs, 4 * outputs) * 1e3;
        let logits: Vec<f64> = (0..4 * outputs).map(|i| if i % 2 == 0 { 900.0 } else { -900.0 }).collect();
        let model = Logistic::new(&kernel, outputs, &labels(4, outputs), Some(&logits)).expect("a problem");
        let fit = model.fit(&LogisticSettings { tolerance: 1e-8, ..Default::default() }, None).expect("a minimum");
        assert!(fit.objective.is_finite() && fit.alpha.iter().all(|x| x.is_finite()));
        assert!(optimality(&kernel, &logits, &labels(4, outputs), outputs, &fit.alpha, 1.0) <= 1e-7);
    }
}
