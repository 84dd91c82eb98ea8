//! Support vector machines: the optimality conditions of the dual, from their definition.

use super::Numbers;
use crate::progress::Silent;
use crate::regression::{OneVsRest, Svm, SvmKind, SvmSettings, operator_norm, score};
use nalgebra::{DMatrix, DVector};

/// The solver stops at violations of 1e-3; twice that allows for the choice of the bias.
const VIOLATION: f64 = 2e-3;

fn regularized(kernel: &DMatrix<f64>, r: f64) -> DMatrix<f64> {
    kernel + DMatrix::identity(kernel.nrows(), kernel.nrows()) * (r * operator_norm(kernel).expect("a norm"))
}

/// `y·f ≥ 1` where the coefficient is 0, `= 1` between, `≤ 1` at the bound C; coefficients carry the target's sign and
/// sum to zero. Fails for: coefficients in another order or sign than the kernel's rows, a bias of the wrong sign, C or
/// r not passed on.
#[test]
fn classification_meets_its_optimality_conditions() {
    for seed in 1..6 {
        let mut numbers = Numbers::new(seed);
        let kernel = numbers.gram(14, 5);
        let y = DVector::from_fn(14, |i, _| if (i + seed as usize).is_multiple_of(3) { 1.0 } else { -1.0 });
        let settings = SvmSettings { regularization: 0.05, cost: 0.7, ..Default::default() };
        let machine = Svm::fit(SvmKind::Classification, &kernel, &y, &settings).expect("a machine");
        let decision = machine.decision(&regularized(&kernel, 0.05)).expect("decisions");
        assert!(machine.coefficients.sum().abs() <= 1e-9);
        for i in 0..14 {
            let (coefficient, margin) = (machine.coefficients[i] * y[i], decision[i] * y[i]);
            assert!((0.0..=0.7).contains(&coefficient), "coefficient {coefficient}");
            assert!(coefficient >= 0.7 || margin >= 1.0 - VIOLATION, "margin {margin} at coefficient {coefficient}");
            assert!(coefficient <= 0.0 || margin <= 1.0 + VIOLATION, "margin {margin} at coefficient {coefficient}");
        }
    }
}

/// Errors below the tube's half-width where the coefficient is 0, at it between, beyond it at ±C. Fails as above, and
/// for a tube that is not passed on.
#[test]
fn regression_meets_its_optimality_conditions() {
    for seed in 1..6 {
        let mut numbers = Numbers::new(seed);
        let kernel = numbers.gram(14, 5);
        let y = DVector::from_fn(14, |_, _| 2.0 * numbers.next());
        let settings = SvmSettings { regularization: 0.05, cost: 0.7, tube: 0.25, ..Default::default() };
        let machine = Svm::fit(SvmKind::Regression, &kernel, &y, &settings).expect("a machine");
        let fitted = machine.predict(&regularized(&kernel, 0.05)).expect("predictions");
        assert!(machine.coefficients.sum().abs() <= 1e-9);
        for i in 0..14 {
            let (coefficient, error) = (machine.coefficients[i], y[i] - fitted[i]);
            assert!(coefficient.abs() <= 0.7);
            assert!(coefficient >= 0.7 || error <= 0.25 + VIOLATION, "error {error} at coefficient {coefficient}");
            assert!(coefficient <= -0.7 || error >= -0.25 - VIOLATION, "error {error} at coefficient {coefficient}");
            assert!(coefficient <= 0.0 || error >= 0.25 - VIOLATION, "error {error} at coefficient {coefficient}");
            assert!(coefficient >= 0.0 || error <= -0.25 + VIOLATION, "error {error} at coefficient {coefficient}");
        }
    }
}

/// Targets exchanged in sign give the exchanged classes, whichever class comes first. Fails for: a sign taken from the
/// order of first appearance.
#[test]
fn the_order_of_classes_does_not_matter() {
    let mut numbers = Numbers::new(3);
    let kernel = numbers.gram(12, 12) + DMatrix::identity(12, 12);
    let y = DVector::from_fn(12, |i, _| if i % 3 == 0 { 1.0 } else { -1.0 });
    let fit = |y: &DVector<f64>| {
        Svm::fit(SvmKind::Classification, &kernel, y, &SvmSettings { cost: 1e3, ..Default::default() })
    };
    assert_eq!(fit(&y).expect("a machine").predict(&kernel).expect("classes"), y);
    assert_eq!(fit(&-&y).expect("a machine").predict(&kernel).expect("classes"), -y);
}

/// Each of several machines is that of its output's own kernel and of its class against all others; a class without examples is
/// never predicted. Fails for: rows of another output, machines in another order, a decision on another scale than targets.
#[test]
fn machines_of_several_outputs_are_those_of_single_ones() {
    let (n, outputs) = (21, 3);
    let mut numbers = Numbers::new(9);
    let kernel = numbers.gram(n * outputs, 8) + DMatrix::identity(n * outputs, n * outputs);
    let eval = numbers.matrix(n * outputs, 5 * outputs);
    let settings = SvmSettings { regularization: 0.02, cost: 5.0, ..Default::default() };
    for absent in [None, Some(1)] {
        let labels: Vec<usize> =
            (0..n).map(|i| [0, 1, 2, 2][i % 4]).map(|c| if Some(c) == absent { 2 } else { c }).collect();
        let given = (&[0.5, 0.02][..], &settings);
        let machines = OneVsRest::fit_all(&kernel, &labels, outputs, given, &Silent).expect("machines").remove(1);
        let predictions = machines.predict(&eval).expect("predictions");
        for c in 0..outputs {
            let own = |m: &DMatrix<f64>| {
                let every = |count: usize| (0..count).map(|k| k * outputs + c).collect::<Vec<_>>();
                m.select_rows(&every(n)).select_columns(&every(m.ncols() / outputs))
            };
            let decisions = if absent == Some(c) {
                DVector::from_element(5, -1.0)
            } else {
                let y = DVector::from_fn(n, |i, _| if labels[i] == c { 1.0 } else { -1.0 });
                let machine = Svm::fit(SvmKind::Classification, &own(&kernel), &y, &settings).expect("a machine");
                machine.decision(&own(&eval)).expect("decisions")
            };
            for (i, decision) in decisions.iter().enumerate() {
                assert!((2.0 * predictions[i * outputs + c] - 1.0 - decision).abs() < 1e-12, "output {c}, example {i}");
            }
        }
        let fitted = score(&machines.predict(&kernel).expect("predictions"), &labels, outputs).expect("a score");
        assert!((fitted.accuracy - 1.0).abs() < 1e-12, "a regular kernel separates its own examples");
    }
    let labels: Vec<usize> = (0..63).map(|i| usize::from(i >= 21)).collect();
    let one = OneVsRest::fit_all(&kernel, &labels, 1, (&[0.02], &settings), &Silent).expect("one machine");
    let y = DVector::from_fn(63, |i, _| if i < 21 { -1.0 } else { 1.0 });
    assert_eq!(one[0].machines, [Svm::fit(SvmKind::Classification, &kernel, &y, &settings).expect("one")]);
    let refused =
        OneVsRest::fit_all(&kernel, &[0, 1], outputs, (&[0.02], &settings), &Silent).expect_err("rows").to_string();
    assert!(refused.contains("2 labels with 3 outputs each"), "{refused}");
}
