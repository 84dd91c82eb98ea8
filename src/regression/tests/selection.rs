//! Model selection: the choice, its ties, its predictions, and its written form.

use super::Numbers;
use crate::progress::Silent;
use crate::regression::{
    AsymmetricGrid, AsymmetricLeastSquares, F0Scaling, Grid, KernelProblem, LeastSquares, Selection, Setting, predict,
    score, select_asymmetric, select_least_squares, targets,
};
use approx::assert_relative_eq;
use nalgebra::{DMatrix, DVector};

/// A random problem: gradients of 8 training, 6 development and 5 test examples, `features` long.
pub(super) fn problem(seed: u64, outputs: usize, symmetric: bool) -> KernelProblem {
    let mut numbers = Numbers::new(seed);
    let mut gradients = |examples: usize| numbers.matrix(examples * outputs, 9);
    let (train, dev, test) = (gradients(8), gradients(6), gradients(5));
    let kernel = |a: &DMatrix<f64>, b: &DMatrix<f64>| {
        if symmetric { a * b.transpose() } else { a * b.map(f64::signum).transpose() }
    };
    let mut some = |n: usize| (0..n * outputs).map(|_| numbers.next()).collect::<Vec<_>>();
    let classes = |n: usize| (0..n).map(|i| (i * i + i / 3) % outputs.max(2)).collect::<Vec<_>>();
    KernelProblem {
        outputs,
        train: kernel(&train, &train),
        dev: kernel(&train, &dev),
        test: kernel(&train, &test),
        dev_flipped: (!symmetric).then(|| kernel(&dev, &train).transpose()),
        test_flipped: (!symmetric).then(|| kernel(&test, &train).transpose()),
        train_labels: classes(8),
        dev_labels: classes(6),
        test_labels: classes(5),
        train_logits: some(8),
        dev_logits: some(6),
        test_logits: some(5),
        symmetric,
    }
}

/// No row may be preferred to the chosen one by the documented rule.
fn assert_best(selection: &Selection) {
    let chosen = selection.chosen.dev;
    for row in &selection.rows {
        assert!(row.dev.accuracy <= chosen.accuracy, "{row:?}");
        assert!(row.dev.accuracy < chosen.accuracy || row.dev.loss >= chosen.loss, "{row:?}");
    }
}

/// The chosen setting, solved directly, gives the test predictions. Fails for: another setting's coefficients, dev for
/// test, unflipped kernels for an asymmetric problem, logits of another set, rows in another order than their
/// solutions.
#[test]
fn least_squares_predicts_with_the_chosen_setting() {
    for (outputs, symmetric) in [(1, true), (3, true), (1, false), (2, false)] {
        for seed in 1..5 {
            let p = problem(seed, outputs, symmetric);
            let found = select_least_squares(&p, &Grid::default(), &Silent).expect("a selection");
            assert_eq!(found.rows.len(), 25);
            assert_best(&found);
            let Setting::LeastSquares { regularization, f0_scaling } = found.chosen.setting else {
                panic!("another solver")
            };
            let y = f0_scaling.fit_targets(&targets(&p.train_labels, outputs).unwrap(), &p.train_logits).unwrap();
            let alpha = LeastSquares::new(&p.train, symmetric).and_then(|s| s.solve(&y, regularization)).unwrap();
            let (dev, test) = if symmetric {
                (p.dev.clone(), p.test.clone())
            } else {
                (p.dev_flipped.clone().unwrap(), p.test_flipped.clone().unwrap())
            };
            let on_dev = f0_scaling.predictions(&predict(&dev, &alpha).unwrap(), &p.dev_logits).unwrap();
            let on_test = f0_scaling.predictions(&predict(&test, &alpha).unwrap(), &p.test_logits).unwrap();
            // The same arithmetic, one column at a time or five: equal up to the rounding of sums.
            let size = on_test.amax().max(1.0);
            assert_relative_eq!(DVector::from_vec(found.test_predictions.clone()), on_test, epsilon = 1e-9 * size);
            assert_relative_eq!(
                score(&on_dev, &p.dev_labels, outputs).unwrap().loss,
                found.chosen.dev.loss,
                max_relative = 1e-9
            );
            assert_eq!(
                score(&on_test, &p.test_labels, outputs).unwrap().accuracy.to_bits(),
                found.test.accuracy.to_bits()
            );
        }
    }
}

/// As above, for both sides of an asymmetric kernel. Fails for: γ and λ exchanged, straight and flipped kernels
/// exchanged.
#[test]
fn asymmetric_least_squares_predicts_with_the_chosen_setting() {
    for seed in 1..5 {
        let p = problem(seed, 1, false);
        let found = select_asymmetric(&p, &AsymmetricGrid::default(), &Silent).expect("a selection");
        assert_eq!(found.rows.len(), 60);
        assert_best(&found);
        let Setting::Asymmetric { gamma, lambda, f0_scaling } = found.chosen.setting else { panic!("another solver") };
        let y = f0_scaling.fit_targets(&targets(&p.train_labels, 1).unwrap(), &p.train_logits).unwrap();
        let solution = AsymmetricLeastSquares::new(&p.train, &y).and_then(|s| s.solve(gamma)).unwrap();
        let raw = solution.predict(lambda, &p.test, p.test_flipped.as_ref().unwrap()).unwrap();
        let wanted = f0_scaling.predictions(&raw, &p.test_logits).unwrap();
        assert_eq!(found.test_predictions, wanted.as_slice());
    }
}

/// With zero logits every f0 scaling ties and the largest is taken; with a kernel that says nothing about dev every
/// setting ties and the strongest regularization is taken. Fails for: the first or last row taken, a weak tie-break,
/// `Ke` read at all.
#[test]
fn ties_go_to_the_stronger_regularization() {
    for symmetric in [true, false] {
        let mut p = problem(2, 1, symmetric);
        for kernel in [Some(&mut p.dev), p.dev_flipped.as_mut()].into_iter().flatten() {
            kernel.fill(0.0);
        }
        for logits in [&mut p.train_logits, &mut p.dev_logits, &mut p.test_logits] {
            logits.fill(0.0);
        }
        // The strongest stands neither first nor last.
        let f0_scaling = vec![F0Scaling::new(10.0).unwrap(), F0Scaling::INFINITE, F0Scaling::new(100.0).unwrap()];
        let grid = Grid { regularization: vec![0.1, 1.0, 0.0], f0_scaling: f0_scaling.clone() };
        let strongest = Setting::LeastSquares { regularization: 1.0, f0_scaling: F0Scaling::INFINITE };
        assert_eq!(select_least_squares(&p, &grid, &Silent).unwrap().chosen.setting, strongest);
        let grid = AsymmetricGrid { gamma: vec![1.0, 0.01, 10.0], lambda: vec![0.5, 0.0], f0_scaling };
        let strongest = Setting::Asymmetric { gamma: 0.01, lambda: 0.5, f0_scaling: F0Scaling::INFINITE };
        assert_eq!(select_asymmetric(&p, &grid, &Silent).unwrap().chosen.setting, strongest);
    }
}

/// Accuracy counts before loss, loss before regularization. Fails for: an order of criteria that differs.
#[test]
fn accuracy_counts_before_loss() {
    let mut p = problem(3, 1, true);
    let (mut accuracy_first, mut loss_decides) = (false, false);
    for seed in 1..40 {
        p = KernelProblem { symmetric: true, ..problem(seed, 1, true) };
        let found = select_least_squares(&p, &Grid::default(), &Silent).unwrap();
        assert_best(&found);
        let lowest = found.rows.iter().map(|row| row.dev.loss).fold(f64::INFINITY, f64::min);
        accuracy_first |= lowest < found.chosen.dev.loss;
        let Setting::LeastSquares { regularization, .. } = found.chosen.setting else { panic!("another solver") };
        loss_decides |= regularization < 1.0
            && found.rows.last().is_some_and(|row| row.dev.accuracy.total_cmp(&found.chosen.dev.accuracy).is_eq());
    }
    assert!(accuracy_first && loss_decides, "the random problems must contain both situations; the last was {p:?}");
}

/// Zero counts as class 0 for one output; ties go to the lower index for several; loss is per example. Fails for: `≥`
/// for `>`, the last maximum, a loss per entry.
#[test]
fn scores_follow_their_conventions() {
    let one = score(&DVector::from_vec(vec![0.0, 0.5, -0.5, 0.0]), &[0, 1, 1, 0], 1).unwrap();
    assert_relative_eq!(one.accuracy, 0.75);
    assert_relative_eq!(one.loss, (1.0 + 0.25 + 2.25 + 1.0) / 4.0);
    let three = score(&DVector::from_vec(vec![1.0, 1.0, 0.0, 0.0, 2.0, 2.0]), &[0, 1], 3).unwrap();
    assert_relative_eq!(three.accuracy, 1.0);
    assert_relative_eq!(three.loss, 3.0);
}

/// Infinity is written as "inf" and read back; nothing else is lost. Fails for: a null, which reads back as an error.
#[test]
fn a_selection_survives_json() {
    let grid =
        AsymmetricGrid { f0_scaling: vec![F0Scaling::INFINITE, F0Scaling::new(10.0).unwrap()], ..Default::default() };
    for found in [
        select_least_squares(&problem(1, 1, false), &Grid::default(), &Silent).unwrap(),
        select_asymmetric(&problem(1, 1, false), &grid, &Silent).unwrap(),
    ] {
        let text = serde_json::to_string(&found).unwrap();
        assert!(text.contains(r#""f0_scaling":"inf""#) && text.contains(r#""f0_scaling":10.0"#), "{text}");
        assert_eq!(serde_json::from_str::<Selection>(&text).unwrap(), found);
    }
    assert!(serde_json::from_str::<F0Scaling>("-1.0").is_err());
    assert_eq!("∞".parse::<F0Scaling>().unwrap(), F0Scaling::INFINITE);
    assert_eq!("100".parse::<F0Scaling>().unwrap().to_string(), "100");
}
