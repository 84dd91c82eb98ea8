//! Support vector machines: the optimality conditions of the dual, from their definition.

use super::Numbers;
use crate::regression::{Svm, SvmKind, SvmSettings, operator_norm};
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
