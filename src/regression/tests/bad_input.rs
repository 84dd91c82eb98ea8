//! Every unusable input is refused with a message that shows what was found. A test fails where the check is removed.

use super::selection::problem;
use crate::error::Error;
use crate::progress::Silent;
use crate::regression::{
    AsymmetricGrid, AsymmetricLeastSquares, F0Scaling, Grid, KernelProblem, LeastSquares, Logistic, LogisticSettings,
    Svm, SvmKind, SvmSettings, operator_norm, predict, select_asymmetric, select_least_squares,
};
use nalgebra::{DMatrix, DVector};

fn settings_error<T>(result: Result<T, Error>, part: &str) {
    match result {
        Err(e) if e.exit_code() == 2 => assert!(e.to_string().contains(part), "`{e}` does not say `{part}`"),
        Err(other) => panic!("another error: {other:?}"),
        Ok(_) => panic!("accepted; expected `{part}`"),
    }
}

fn numeric_error<T>(result: Result<T, Error>, part: &str) {
    match result {
        Err(e) if e.is_numeric() => assert!(e.to_string().contains(part), "`{e}` does not say `{part}`"),
        Err(other) => panic!("another error: {other:?}"),
        Ok(_) => panic!("accepted; expected `{part}`"),
    }
}

fn changed(change: impl FnOnce(&mut KernelProblem)) -> Result<(), Error> {
    let mut p = problem(1, 1, false);
    change(&mut p);
    p.validate()
}

#[test]
fn problems_are_validated() {
    changed(|_| ()).expect("the unchanged problem is sound");
    settings_error(changed(|p| p.outputs = 0), "outputs of an example is 0");
    settings_error(changed(|p| p.train = DMatrix::zeros(8, 7)), "[8, 7]; it must be square");
    settings_error(
        changed(|p| p.train = DMatrix::zeros(0, 0)),
        "shape [0, 0]; it must be square, [n·C, n·C], and not empty",
    );
    numeric_error(changed(|p| p.train[(2, 5)] = f64::NAN), "train");
    numeric_error(changed(|p| p.train[(2, 5)] = f64::NAN), "NaN at row 2, column 5");
    settings_error(changed(|p| p.dev = DMatrix::zeros(7, 6)), "dev kernel has shape [7, 6]");
    settings_error(changed(|p| p.test = DMatrix::zeros(8, 0)), "test kernel has shape [8, 0]; it has no example");
    numeric_error(changed(|p| p.test[(0, 1)] = f64::INFINITY), "inf at row 0, column 1");
    settings_error(changed(|p| p.dev_flipped = Some(DMatrix::zeros(6, 8))), "flipped dev kernel has shape [6, 8]");
    numeric_error(changed(|p| p.test_flipped.as_mut().unwrap()[(1, 0)] = f64::NAN), "flipped test kernel");
    settings_error(
        changed(|p| p.train_labels.truncate(7)),
        "train: rows of 7 labels with 1 outputs each: 7 given, 8 needed",
    );
    settings_error(changed(|p| p.test_labels[1] = 2), "test: label 1 is 2; it must be below 2 with 1 outputs");
    settings_error(changed(|p| p.train_labels.fill(1)), "all 8 training examples belong to class 1");
    settings_error(changed(|p| p.dev_logits.truncate(5)), "dev logits: 5 given, 6 needed");
    numeric_error(changed(|p| p.test_logits[3] = f64::NAN), "test logits is not finite (entry 3 of 5 is NaN)");
    let mut three = problem(1, 3, true);
    three.dev_labels[0] = 3;
    settings_error(three.validate(), "dev: label 0 is 3; it must be below 3 with 3 outputs");
}

#[test]
fn selections_refuse_what_they_cannot_solve() {
    let mut p = problem(1, 1, false);
    p.symmetric = true;
    settings_error(select_least_squares(&p, &Grid::default(), &Silent), "is not symmetric: max|K - Kᵀ|");
    p.symmetric = false;
    p.test_flipped = None;
    settings_error(select_least_squares(&p, &Grid::default(), &Silent), "flipped test kernel");
    settings_error(select_asymmetric(&p, &AsymmetricGrid::default(), &Silent), "flipped test kernel");
    settings_error(
        select_asymmetric(&problem(1, 2, false), &AsymmetricGrid::default(), &Silent),
        "outputs of an example is 2; it must be 1",
    );
    settings_error(
        select_least_squares(&p, &Grid { f0_scaling: vec![], ..Default::default() }, &Silent),
        "sizes [5, 0]; it must be without an empty side",
    );
    let empty = AsymmetricGrid { lambda: vec![], ..Default::default() };
    settings_error(select_asymmetric(&problem(1, 1, false), &empty, &Silent), "sizes [4, 0, 5]");
}

#[test]
fn solvers_refuse_settings_out_of_range() {
    let (k, y) = (DMatrix::<f64>::identity(3, 3), DVector::from_vec(vec![1.0, -1.0, 1.0]));
    let solver = LeastSquares::new(&k, true).unwrap();
    settings_error(solver.solve(&y, -0.1), "kernel regularization is -0.1");
    settings_error(solver.solve(&y, f64::INFINITY), "kernel regularization is inf");
    settings_error(solver.solve(&DVector::zeros(2), 0.0), "targets has shape [2, 1]; it must be [3, t]");
    numeric_error(solver.solve(&DVector::from_element(3, f64::NAN), 0.0), "targets");
    settings_error(predict(&DMatrix::zeros(2, 4), &y), "evaluation kernel has shape [2, 4]");
    settings_error(operator_norm(&DMatrix::zeros(0, 2)), "[0, 2]");
    settings_error(F0Scaling::new(0.0), "f0 scaling is 0");
    settings_error(F0Scaling::new(f64::NAN), "f0 scaling is NaN");
    settings_error("ten".parse::<F0Scaling>(), "f0 scaling is `ten`; it must be a number or `inf`");
    settings_error(AsymmetricLeastSquares::new(&k, &DVector::zeros(2)), "training targets: 2 given, 3 needed");
    let asymmetric = AsymmetricLeastSquares::new(&k, &y).unwrap();
    settings_error(asymmetric.solve(0.0), "kernel gamma is 0");
    let solution = asymmetric.solve(0.5).unwrap();
    settings_error(solution.predict(1.5, &k, &k), "kernel lambda is 1.5");
    settings_error(
        solution.predict(0.5, &k, &DMatrix::zeros(3, 2)),
        "flipped evaluation kernel has shape [3, 2]; it must have the shape [3, 3]",
    );
}

#[test]
fn classifiers_refuse_unusable_targets_and_kernels() {
    let (k, y) = (DMatrix::<f64>::identity(3, 3), DVector::from_vec(vec![1.0, -1.0, 1.0]));
    let svm =
        |kernel: &DMatrix<f64>, y: &DVector<f64>| Svm::fit(SvmKind::Classification, kernel, y, &SvmSettings::default());
    settings_error(svm(&k, &DVector::from_element(3, 1.0)), "all 3 training examples belong to class 1");
    settings_error(svm(&k, &DVector::from_vec(vec![1.0, -1.0, 0.5])), "training targets: label 2 is 0.5");
    let mut skewed = k.clone();
    skewed[(0, 1)] = 1.0;
    settings_error(svm(&skewed, &y), "is not symmetric");
    let free = SvmSettings { cost: 0.0, ..Default::default() };
    settings_error(Svm::fit(SvmKind::Regression, &k, &y, &free), "SVM cost is 0");
    settings_error(Logistic::new(&skewed, 1, &[0, 1, 0], None), "is not symmetric");
    settings_error(Logistic::new(&k, 1, &[1, 1, 1], None), "all 3 training examples belong to class 1");
    settings_error(Logistic::new(&k, 2, &[1, 0], None), "2 labels with 2 outputs");
    settings_error(Logistic::new(&k, 1, &[0, 1, 0], Some(&[0.0])), "training logits: 1 given, 3 needed");
    let model = Logistic::new(&k, 1, &[0, 1, 0], None).unwrap();
    settings_error(model.fit(&LogisticSettings { lambda: 0.0, ..Default::default() }, None), "logistic lambda is 0");
    let impatient = LogisticSettings { max_steps: 0, ..Default::default() };
    numeric_error(model.fit(&impatient, None), "stopped after 0 Newton steps");
}
