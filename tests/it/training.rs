//! Fine-tuning against golden trajectories, and laws that relate training to gradients and kernels.

use crate::common::{Golden, relative_error};
use kernelview::jacobian::{Parameters, outputs, record};
use kernelview::kernel::{FormulaSet, GramOptions, structured_gram};
use kernelview::lm::{OutputMode, Roundings};
use kernelview::measure::{gradient_drift, kernel_drift, taylor};
use kernelview::progress::Silent;
use kernelview::train::{FineTuning, LabelledExamples, OptimizerKind, Watch, fine_tune, output_derivative};
use tch::{Kind, Tensor};

fn settings(optimizer: OptimizerKind, learning_rate: f64, steps: usize) -> FineTuning {
    FineTuning { optimizer, learning_rate, batch_size: 8, steps, eval_every: steps, seed: 1, parts: None }
}

/// Parameters after each full-batch step, the initial ones first.
fn trajectory(golden: &Golden, settings: &FineTuning) -> Vec<Parameters> {
    let labels: Vec<usize> = crate::common::integers(&golden.values["labels"]).iter().map(|l| *l as usize).collect();
    let examples = golden.examples();
    let data = || LabelledExamples { examples: &examples, labels: &labels };
    let include = vec![true; golden.parameters.len()];
    let mut path = vec![golden.parameters.detached_copy()];
    fine_tune(
        &golden.parameters,
        &data(),
        &data(),
        &include,
        settings,
        &Silent,
        Some(Watch::every(&mut |step| {
            path.push(step.after.detached_copy());
            Ok(())
        })),
    )
    .expect("a golden run");
    path
}

/// 1e-10: five steps of double precision on logits of order one. Llama's golden values are partly computed in single
/// precision (see tests/it/golden.rs): 1e-6 for SGD, 1e-4 for Adam, whose steps amplify small gradients' errors.
#[test]
fn sgd_and_adam_equal_the_golden_trajectories() {
    for architecture in ["roberta", "bert", "gpt2", "llama"] {
        let Some(golden) = Golden::load(architecture, Kind::Double) else { return };
        let (sgd, adam) = if architecture == "llama" { (1e-6, 1e-4) } else { (1e-10, 1e-10) };
        for (kind, rate, name, tolerance) in
            [(OptimizerKind::Sgd, 0.05, "sgd.logits", sgd), (OptimizerKind::ADAM, 1e-3, "adam.logits", adam)]
        {
            let path = trajectory(&golden, &settings(kind, rate, 5));
            for (t, parameters) in path.iter().enumerate() {
                let f = outputs(parameters, &golden.examples(), 8);
                let error = relative_error(&f, &golden.values[name].get(t as i64));
                assert!(error <= tolerance, "{architecture} {name} step {t}: {error:.2e}");
            }
        }
    }
}

/// Adam's first step with ε = 0 is SignGD's, entry by entry, except for structurally zero gradients.
#[test]
fn adams_first_step_is_signgd() {
    let Some(golden) = Golden::load("bert", Kind::Double) else { return };
    let adam = OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0 };
    let (a, s) =
        (trajectory(&golden, &settings(adam, 1e-3, 1)), trajectory(&golden, &settings(OptimizerKind::Signgd, 1e-3, 1)));
    let (a, s) = (a[1].minus(&a[0]), s[1].minus(&s[0]));
    for (i, spec) in golden.parameters.specs().iter().enumerate().filter(|(_, s)| !s.is_structural_zero()) {
        let error = (&a.values()[i] - &s.values()[i]).abs().max().double_value(&[]);
        assert!(error <= 1e-15, "{}: {error:.2e}", spec.name);
    }
}

/// The slope of the Taylor expansion against a central difference of f: error O(h²) with h = 1e-5, so about 1e-9.
#[test]
fn directional_derivatives_equal_central_differences() {
    for architecture in ["roberta", "bert", "gpt2", "llama"] {
        let Some(golden) = Golden::load(architecture, Kind::Double) else { return };
        // A difference of nearly equal outputs.
        let golden = Golden { roundings: Roundings::None, ..golden };
        let examples = golden.examples();
        let path = trajectory(&golden, &settings(OptimizerKind::Sgd, 0.05, 3));
        let direction = path[3].minus(&path[0]);
        let include = vec![true; direction.len()];
        let expansion = taylor(&path[0], &direction, &examples, &include, 3).expect("a Taylor expansion");
        let at = |h: f64| {
            let mut deltas = direction.values().iter();
            outputs(&path[0].map(|v| v + deltas.next().expect("one per parameter") * h), &examples, 8)
        };
        let h = 1e-5;
        let difference = (at(h) - at(-h)) / (2.0 * h);
        let error = relative_error(&expansion.slope, &difference);
        assert!(error <= 1e-7, "{architecture}: {error:.2e}");
        let dense = record(&path[0], &examples, &[0, 1, 2, 3, 4, 5, 6, 7]).dense();
        let flat = Tensor::cat(&direction.values().iter().map(|d| d.reshape([-1])).collect::<Vec<_>>(), 0);
        assert!(relative_error(&expansion.slope.view(-1), &dense.mv(&flat)) <= 1e-11, "{architecture} against J·δ");
    }
}

#[test]
fn gradient_drift_equals_the_distance_of_dense_jacobians() {
    let Some(golden) = Golden::load("roberta", Kind::Double) else { return };
    let examples = golden.examples();
    let path = trajectory(&golden, &settings(OptimizerKind::Sgd, 0.01, 2));
    let include = vec![true; golden.parameters.len()];
    let drift = gradient_drift(&path[0], &path[2], &examples, &include, 3).expect("finite").expect("gradients");
    let (a, b) = (
        record(&path[0], &examples, &[0, 1, 2, 3, 4, 5, 6, 7]).dense(),
        record(&path[2], &examples, &[0, 1, 2, 3, 4, 5, 6, 7]).dense(),
    );
    let expected = ((&b - &a).norm() / a.norm()).double_value(&[]);
    assert!((drift.total - expected).abs() <= 1e-10 * expected, "{} against {expected}", drift.total);
    assert!(drift.total > 0.0);
    let kernels = kernel_drift(&a.matmul(&a.tr()), &b.matmul(&b.tr()), 1).expect("finite kernels");
    // |K_t - K_0| ≤ |ΔJ|(|J_t| + |J_0|): a bound that relates the two drifts.
    let bound = (&b - &a).norm().double_value(&[]) * (a.norm() + b.norm()).double_value(&[])
        / a.matmul(&a.tr()).norm().double_value(&[]);
    assert!(kernels.frobenius <= bound && kernels.frobenius > 0.0);
}

#[test]
fn no_movement_is_no_drift() {
    let Some(golden) = Golden::load("bert", Kind::Double) else { return };
    let examples = golden.examples();
    let include = vec![true; golden.parameters.len()];
    let p = &golden.parameters;
    let drift = gradient_drift(p, &p.detached_copy(), &examples, &include, 8).expect("finite").expect("gradients");
    assert_eq!(drift.total, 0.0);
    let k = golden.kernel("kernel.sgd");
    let same = kernel_drift(&k, &k, 1).expect("finite");
    assert_eq!((same.frobenius, same.mean_relative), (0.0, 0.0));
    let scaled = kernel_drift(&k, &(&k * 3.0), 1).expect("finite");
    assert!((scaled.frobenius - 2.0).abs() < 1e-12 && (scaled.alignment - 1.0).abs() < 1e-12);
}

/// One small SGD step on one example moves f by `-η χ K(ξ, ξ')` up to O(η): the kernel analog of SGD.
#[test]
fn a_small_sgd_step_moves_outputs_by_the_kernel() {
    let Some(golden) = Golden::load("roberta", Kind::Double) else { return };
    let examples = golden.examples();
    let one = examples.select(&[4]);
    let include = vec![true; golden.parameters.len()];
    let eta = 1e-7;
    let data = LabelledExamples { examples: &one, labels: &[0] };
    let run = fine_tune(
        &golden.parameters,
        &data,
        &data,
        &include,
        &FineTuning { batch_size: 1, ..settings(OptimizerKind::Sgd, eta, 1) },
        &Silent,
        None,
    )
    .expect("one step");
    let moved = outputs(&run.parameters, &examples, 8) - &golden.values["logits"];
    let chi = output_derivative(&golden.values["logits"].narrow(0, 4, 1), &Tensor::from_slice(&[0i64]));
    let k = golden.values["kernel.sgd"].narrow(2, 4, 1).squeeze_dim(2); // [N, C, C]
    let predicted = k.matmul(&chi.view([2, 1])).squeeze_dim(2) * -eta;
    let error = relative_error(&moved, &predicted);
    assert!(error <= 1e-3, "{error:.2e}");
    // Control: the SignGD kernel gives another prediction.
    let wrong =
        golden.values["kernel.signgd"].narrow(2, 4, 1).squeeze_dim(2).matmul(&chi.view([2, 1])).squeeze_dim(2) * -eta;
    assert!(relative_error(&moved, &wrong) > 0.1);
}

/// One small SignGD step on one example moves the difference of the label words' logits by `-η sign(χ) K_A(ξ, ξ_t)`, with plain
/// gradients at ξ and signs at ξ_t (the paper's Theorem 4.3), up to O(η). Controls: the transposed kernel and the SGD kernel
/// give other predictions.
#[test]
fn a_small_signgd_step_moves_outputs_by_the_asymmetric_kernel() {
    let Some(golden) = Golden::load("bert", Kind::Double) else { return };
    let logits = golden.examples();
    let difference = logits.with_mode(OutputMode::Difference).expect("two label words");
    let (one, at) = (logits.select(&[4]), 4);
    let include = vec![true; golden.parameters.len()];
    let eta = 1e-9;
    let data = LabelledExamples { examples: &one, labels: &[0] };
    let step = FineTuning { batch_size: 1, ..settings(OptimizerKind::Signgd, eta, 1) };
    let run = fine_tune(&golden.parameters, &data, &data, &include, &step, &Silent, None).expect("one step");
    let start = outputs(&golden.parameters, &difference, 8);
    let moved = outputs(&run.parameters, &difference, 8) - &start;
    let options = GramOptions::new(FormulaSet::ALL, golden.parameters.len());
    let gram = structured_gram(&golden.parameters, &difference, None, &options, &Silent).expect("kernels");
    let chi = output_derivative(&start.narrow(0, at, 1), &Tensor::from_slice(&[0i64])).double_value(&[0, 0]);
    let predicted = |k: &Tensor| k.select(1, at).view([-1, 1]) * (-eta * chi.signum());
    let asymmetric = gram.asymmetric.as_ref().expect("computed");
    let error = relative_error(&moved, &predicted(asymmetric));
    assert!(error <= 1e-3, "{error:.2e}");
    for wrong in [&asymmetric.tr(), gram.sgd.as_ref().expect("computed")] {
        assert!(relative_error(&moved, &predicted(wrong)) > 0.02, "a control predicts as well");
    }
}
