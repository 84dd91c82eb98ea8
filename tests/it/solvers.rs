//! Kernel solvers against golden values of the paper's repository, and their properties on random kernels.
//!
//! The golden values are not part of this repository; if they are absent, their test says so and passes. Every test names the
//! mistakes that make it fail.

use approx::assert_relative_eq;
use kernelview::regression::{
    AsymmetricLeastSquares, F0Scaling, LeastSquares, Svm, SvmKind, SvmSettings, operator_norm, predict,
};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use serde_json::Value;

// ------------------------------------------------------------------------------------------------------- golden values

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn vector(value: &Value) -> DVector<f64> {
    DVector::from_vec(numbers(value))
}

fn matrix(value: &Value) -> DMatrix<f64> {
    let rows: Vec<Vec<f64>> = value.as_array().expect("rows").iter().map(numbers).collect();
    DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
}

/// Our predictions of a golden case, and the tolerance (relative to the largest prediction) at which they must agree.
fn solve(case: &Value) -> (DVector<f64>, f64) {
    let settings = &case["settings"];
    let number = |name: &str| settings[name].as_f64();
    let scaling = number("f0_scaling").map_or(F0Scaling::INFINITE, |s| F0Scaling::new(s).expect("a scaling"));
    let (kernel, eval) = (matrix(&case["train_kernel"]), matrix(&case["eval_kernel"]));
    let optional = |name: &str| case[name].as_array().map(|_| numbers(&case[name])).unwrap_or_default();
    let targets = scaling.fit_targets(&vector(&case["train_targets"]), &optional("train_logits")).expect("targets");
    let regularization = number("kernel_regularization").unwrap_or(0.0);
    let svm = |kind| {
        let settings = SvmSettings { regularization, ..SvmSettings::default() };
        Svm::fit(kind, &kernel, &targets, &settings).expect("a machine").predict(&eval).expect("predictions")
    };
    let (raw, tolerance) = match case["solver"].as_str().expect("a solver") {
        // Two backward stable solvers in float64 differ by a small multiple of ε·cond; cond is at most 1001 here.
        "lstsq" => {
            let alpha =
                LeastSquares::new(&kernel, true).and_then(|s| s.solve(&targets, regularization)).expect("a solution");
            (predict(&eval, &alpha).expect("predictions"), 1e-10)
        }
        // The golden H is float32 (entries off by 6e-8 relative), which the system's conditioning enlarges.
        "asym" => {
            let solution = AsymmetricLeastSquares::new(&kernel, &targets)
                .and_then(|s| s.solve(number("kernel_gamma").expect("gamma")))
                .expect("a solution");
            let flipped = matrix(&case["eval_kernel_flipped"]);
            (solution.predict(number("kernel_lambda").expect("lambda"), &eval, &flipped).expect("predictions"), 1e-5)
        }
        // Both stop at violations of 1e-3, so different steps could end 1e-3 apart; these take the same steps (difference
        // 4e-16).
        "svr" => (svm(SvmKind::Regression), 1e-6),
        // Predictions are exactly -1 or 1.
        "svc" => (svm(SvmKind::Classification), 0.0),
        other => panic!("unknown solver {other}"),
    };
    (scaling.predictions(&raw, &optional("eval_logits")).expect("predictions"), tolerance)
}

/// Fails for: an absolute regularization, f0 added to the targets, `Ke` for `Keᵀ`, α and β or λ and 1 - λ exchanged, H
/// without targets, 1/γ for γ, another SVM cost, tube or sign, a loss per output instead of per example.
#[test]
fn golden_values_of_the_papers_repository() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/oracle/solvers.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {path} is absent");
        return;
    };
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the golden file is JSON");
    assert_eq!(cases.len(), 27, "the golden file has 27 cases");
    for (index, case) in cases.iter().enumerate() {
        let (found, tolerance) = solve(case);
        let wanted = vector(&case["eval_predictions"]);
        let gap = (&found - &wanted).amax();
        println!("case {index} {} {}: off by {gap:.2e}", case["solver"], case["settings"]);
        assert!(
            gap <= tolerance * wanted.amax().max(1.0),
            "case {index}, {} {}: off by {gap:.3e}, allowed {tolerance:.0e}\nfound {found}wanted {wanted}",
            case["solver"],
            case["settings"]
        );
        let loss = (found - vector(&case["eval_targets"])).norm_squared() / wanted.len() as f64;
        let golden = case["eval_loss"].as_f64().expect("a loss");
        // The loss is quadratic: an error δ of the predictions moves it by at most 2δ·√loss + δ².
        assert_relative_eq!(loss, golden, epsilon = 1e-12 + 4.0 * tolerance * golden.max(1.0));
    }
}

// ----------------------------------------------------------------------------------------------------- random problems

/// A random problem: every kernel as well conditioned as its test needs, built from entries in [-1, 1].
#[derive(Debug, Clone)]
struct Random {
    /// `[n, n]`
    square: DMatrix<f64>,
    /// `[n, m]`
    eval: DMatrix<f64>,
    /// `[n, m]`
    flipped: DMatrix<f64>,
    targets: DVector<f64>,
    logits: DVector<f64>,
    order: Vec<usize>,
}

impl Random {
    /// `BBᵀ + I`: eigenvalues from 1 to 1 + n².
    fn positive(&self) -> DMatrix<f64> {
        let n = self.square.nrows();
        &self.square * self.square.transpose() + DMatrix::identity(n, n)
    }

    /// `B + (n + 1)·I`: asymmetric, singular values from 1 to 2n + 1.
    fn asymmetric(&self) -> DMatrix<f64> {
        let n = self.square.nrows();
        &self.square + DMatrix::identity(n, n) * (n as f64 + 1.0)
    }

    fn signs(&self) -> DVector<f64> {
        self.targets.map(|y| if y > 0.0 { 1.0 } else { -1.0 })
    }

    fn permuted(&self, values: &DVector<f64>) -> DVector<f64> {
        DVector::from_fn(values.len(), |i, _| values[self.order[i]])
    }

    fn permuted_square(&self, kernel: &DMatrix<f64>) -> DMatrix<f64> {
        DMatrix::from_fn(kernel.nrows(), kernel.ncols(), |i, j| kernel[(self.order[i], self.order[j])])
    }

    fn permuted_rows(&self, kernel: &DMatrix<f64>) -> DMatrix<f64> {
        DMatrix::from_fn(kernel.nrows(), kernel.ncols(), |i, j| kernel[(self.order[i], j)])
    }
}

fn random() -> impl Strategy<Value = Random> {
    (2_usize..12, 1_usize..6).prop_flat_map(|(n, m)| {
        let entries = prop::collection::vec(-1.0..1.0_f64, n * n + 2 * n * m + 2 * n);
        (entries, Just((0..n).collect::<Vec<_>>()).prop_shuffle()).prop_map(move |(entries, order)| {
            let (square, rest) = entries.split_at(n * n);
            let (eval, rest) = rest.split_at(n * m);
            let (flipped, rest) = rest.split_at(n * m);
            Random {
                square: DMatrix::from_column_slice(n, n, square),
                eval: DMatrix::from_column_slice(n, m, eval),
                flipped: DMatrix::from_column_slice(n, m, flipped),
                targets: DVector::from_column_slice(&rest[..n]),
                logits: DVector::from_column_slice(&rest[n..]),
                order,
            }
        })
    })
}

fn regress(kernel: &DMatrix<f64>, symmetric: bool, y: &DVector<f64>, r: f64) -> DVector<f64> {
    LeastSquares::new(kernel, symmetric).and_then(|s| s.solve(y, r)).expect("a solution")
}

/// Rounding of these problems (n < 12, condition below 150) stays below 150·12·ε = 4e-13; 1e-10 leaves room, and any wrong
/// formula is off by much more.
const ROUNDING: f64 = 1e-10;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Fails for: a solver that transposes an asymmetric kernel, a shift without regularization, a cutoff that is too
    /// large.
    #[test]
    fn without_regularization_the_residual_is_zero(p in random()) {
        for (kernel, symmetric) in [(p.positive(), true), (p.positive(), false), (p.asymmetric(), false)] {
            let alpha = regress(&kernel, symmetric, &p.targets, 0.0);
            prop_assert!((&kernel * alpha - &p.targets).amax() <= ROUNDING);
        }
    }

    /// Fails for: a shift that is not `r·‖K‖₂` (trace, Frobenius norm, spectral radius, absolute), in either form.
    #[test]
    fn regularization_shifts_by_the_operator_norm(p in random(), r in 1e-3..2.0_f64) {
        for (kernel, symmetric) in [(p.positive(), true), (p.asymmetric(), false), (p.square.clone(), false)] {
            let solver = LeastSquares::new(&kernel, symmetric).expect("a kernel");
            // ‖K‖₂² is the largest eigenvalue of KᵀK: an independent way to the norm.
            let norm = (kernel.transpose() * &kernel).symmetric_eigenvalues().max().sqrt();
            prop_assert!((solver.operator_norm() - norm).abs() <= ROUNDING * norm);
            prop_assert!((operator_norm(&kernel).expect("a norm") - norm).abs() <= ROUNDING * norm);
            let alpha = solver.solve(&p.targets, r).expect("a solution");
            let residual = &kernel * &alpha + &alpha * (r * norm) - &p.targets;
            // Backward stable: the residual is small relative to |K||α| even if the unshifted square is ill-conditioned.
            prop_assert!(residual.amax() <= ROUNDING * (1.0 + norm * alpha.norm()));
        }
    }

    /// Fails for: any step that depends on the order of the examples, such as transposing or sorting a kernel or targets.
    #[test]
    fn the_order_of_training_examples_does_not_matter(p in random(), r in 0.0..1.0_f64, gamma in 0.05..2.0_f64) {
        for (kernel, symmetric) in [(p.positive(), true), (p.asymmetric(), false)] {
            let here = predict(&p.eval, &regress(&kernel, symmetric, &p.targets, r)).expect("predictions");
            let alpha = regress(&p.permuted_square(&kernel), symmetric, &p.permuted(&p.targets), r);
            let there = predict(&p.permuted_rows(&p.eval), &alpha).expect("predictions");
            prop_assert!((here - there).amax() <= ROUNDING);
        }
        // Scaled so that σ(H) < 1/(2γ): the blocks 1/γ ± σ stay away from zero.
        let kernel = &p.square * (0.5 / (gamma * p.square.norm()));
        let here = AsymmetricLeastSquares::new(&kernel, &p.signs()).and_then(|s| s.solve(gamma)).expect("a solution");
        let there = AsymmetricLeastSquares::new(&p.permuted_square(&kernel), &p.permuted(&p.signs()))
            .and_then(|s| s.solve(gamma))
            .expect("a solution");
        let here = here.predict(0.3, &p.eval, &p.flipped).expect("predictions");
        let there = there.predict(0.3, &p.permuted_rows(&p.eval), &p.permuted_rows(&p.flipped)).expect("predictions");
        prop_assert!((here - there).amax() <= ROUNDING);
    }

    /// Fails for: an absolute regularization, an absolute cutoff of singular values.
    #[test]
    fn a_multiple_of_the_kernel_predicts_alike(p in random(), r in 0.0..1.0_f64, exponent in -6.0..6.0_f64) {
        let c = 10_f64.powf(exponent);
        for (kernel, symmetric) in [(p.positive(), true), (p.asymmetric(), false)] {
            let plain = predict(&p.eval, &regress(&kernel, symmetric, &p.targets, r)).expect("predictions");
            let scaled = predict(&(&p.eval * c), &regress(&(&kernel * c), symmetric, &p.targets, r)).expect("predictions");
            prop_assert!((plain - scaled).amax() <= ROUNDING);
        }
    }

    /// Fails for: logits that have an effect at infinite scaling, a sign swapped between targets and predictions. Exact: the
    /// arithmetic is the same.
    #[test]
    fn infinite_scaling_is_zero_logits(p in random(), s in 0.5..1e4_f64) {
        let (scaling, zero) = (F0Scaling::new(s).expect("a scaling"), vec![0.0; p.targets.len()]);
        let logits = p.logits.as_slice();
        prop_assert_eq!(&F0Scaling::INFINITE.fit_targets(&p.targets, logits).unwrap(), &p.targets);
        prop_assert_eq!(&F0Scaling::INFINITE.predictions(&p.targets, logits).unwrap(), &p.targets);
        prop_assert_eq!(&scaling.fit_targets(&p.targets, &zero).unwrap(), &p.targets);
        prop_assert_eq!(&F0Scaling::INFINITE.fit_targets(&p.targets, &[]).unwrap(), &p.targets);
        // Targets y - f0/s and predictions + f0/s: an interpolating solver returns y.
        let there_and_back = scaling.predictions(&scaling.fit_targets(&p.targets, logits).unwrap(), logits).unwrap();
        prop_assert!((there_and_back - &p.targets).amax() <= 4.0 * f64::EPSILON * (1.0 + 1.0 / s));
        let fitted = scaling.fit_targets(&p.targets, logits).unwrap();
        prop_assert!((fitted[0] - (p.targets[0] - logits[0] / s)).abs() <= 4.0 * f64::EPSILON * (1.0 + 1.0 / s));
    }

    /// Fails for: a system solved without a cutoff (huge coefficients), a cutoff that drops real directions, a solution
    /// that is not of least norm. With `K = ABᵀ`, A and B of full rank, the pseudo-inverse is `B(BᵀB)⁻¹(AᵀA)⁻¹Aᵀ`.
    #[test]
    fn a_singular_kernel_gets_the_solution_of_least_norm(p in random(), share in 0.0..1.0_f64) {
        let n = p.square.nrows();
        let rank = 1 + (share * (n - 1) as f64) as usize;
        // Orthonormal plus identity rows keep AᵀA ≥ 1.
        let tall = |source: &DMatrix<f64>| DMatrix::from_fn(n, rank, |i, j| if i < rank { f64::from(i == j) } else { source[(i, j)] });
        let (a, b) = (tall(&p.square), tall(&p.square.transpose()));
        let inverse = |m: &DMatrix<f64>| m.tr_mul(m).try_inverse().expect("full rank");
        for (left, right, symmetric) in [(&a, &a, true), (&a, &a, false), (&a, &b, false)] {
            let kernel = left * right.transpose();
            let wanted = right * (inverse(right) * (inverse(left) * left.tr_mul(&p.targets)));
            let found = regress(&kernel, symmetric, &p.targets, 0.0);
            prop_assert!((found - wanted).amax() <= 1e-9, "rank {} of {}", rank, n);
        }
    }

    /// Fails for: 1/γ for γ, H for Hᵀ, targets missing on one side of H, α and β or λ and 1 - λ
    /// exchanged: the assembled system is checked.
    #[test]
    fn the_asymmetric_solution_solves_its_system(p in random(), gamma in 0.01..10.0_f64) {
        let (n, y) = (p.square.nrows(), p.signs());
        let solution = AsymmetricLeastSquares::new(&p.square, &y).and_then(|s| s.solve(gamma)).expect("a solution");
        let h = DMatrix::from_diagonal(&y) * &p.square * DMatrix::from_diagonal(&y);
        let ones = DVector::from_element(n, 1.0);
        let first = &solution.alpha / gamma + &h * &solution.beta - &ones;
        let second = h.transpose() * &solution.alpha + &solution.beta / gamma - &ones;
        // 1/γ - σ may come close to zero: residuals are relative to the coefficients' size.
        let scale = 1.0 + (1.0 / gamma + h.norm()) * (solution.alpha.norm() + solution.beta.norm());
        prop_assert!(first.amax() <= ROUNDING * scale && second.amax() <= ROUNDING * scale);
        // λ = 1 is only α on k(train, eval), λ = 0 only β on k(eval, train).
        let straight = p.eval.tr_mul(&solution.alpha.component_mul(&y));
        let back = p.flipped.tr_mul(&solution.beta.component_mul(&y));
        prop_assert_eq!(solution.predict(1.0, &p.eval, &p.flipped).unwrap(), straight);
        prop_assert_eq!(solution.predict(0.0, &p.eval, &p.flipped).unwrap(), back);
    }

    /// Fails for: a decomposition with swapped sides, unequal weights of λ if both sides agree.
    #[test]
    fn a_symmetric_kernel_has_equal_sides(p in random(), gamma in 0.05..2.0_f64, lambda in 0.0..1.0_f64) {
        // σ(H) < 1/(2γ) as above: α - β = 0 is then the only solution of (1/γ - H)(α - β) = 0.
        let kernel = p.positive();
        let kernel = &kernel * (0.5 / (gamma * kernel.norm()));
        let solution = AsymmetricLeastSquares::new(&kernel, &p.signs()).and_then(|s| s.solve(gamma)).expect("a solution");
        let size = solution.alpha.amax();
        prop_assert!((&solution.alpha - &solution.beta).amax() <= ROUNDING * size);
        let one = solution.predict(lambda, &p.eval, &p.eval).expect("predictions");
        let other = solution.predict(1.0, &p.eval, &p.eval).expect("predictions");
        prop_assert!((one - other).amax() <= ROUNDING * size * p.eval.nrows() as f64);
    }
}

/// `σ = 1/γ` makes a block singular; its solution of least norm is known. Fails for: a division by zero there.
#[test]
fn a_singular_asymmetric_system_gets_the_solution_of_least_norm() {
    let y = DVector::from_vec(vec![1.0, -1.0, 1.0]);
    let solution =
        AsymmetricLeastSquares::new(&DMatrix::identity(3, 3), &y).and_then(|s| s.solve(1.0)).expect("a solution");
    for coefficient in solution.alpha.iter().chain(solution.beta.iter()) {
        assert_relative_eq!(*coefficient, 0.5, epsilon = 1e-14);
    }
}

/// `K + r·‖K‖₂·I` is singular at r = 1 for a kernel with the eigenvalue -‖K‖₂: elimination must give way to the pseudo-inverse,
/// even if rounding leaves a tiny pivot. Fails for: elimination without a check of its pivots (solutions near 1e16), the
/// unshifted kernel's pseudo-inverse. Rounding: a few ε times a condition near 4.
#[test]
fn a_shift_onto_an_eigenvalue_stays_finite() {
    let kernel = DMatrix::from_row_slice(3, 3, &[-2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0]);
    let y = DVector::from_vec(vec![1.0, 1.0, 0.0]);
    // Rows 2 and 3: [[2, 1], [-1, 2]] α = [1, 0]; row 1 is 0 = 1, least norm 0.
    let wanted = DVector::from_vec(vec![0.0, 0.4, 0.2]);
    for angle in [0.0_f64, 0.1, 0.7, 1.3, 2.9] {
        let (s, c) = angle.sin_cos();
        let tilt = DMatrix::from_row_slice(3, 3, &[c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0]);
        let turn = &tilt * DMatrix::from_row_slice(3, 3, &[1.0, 0.0, 0.0, 0.0, c, -s, 0.0, s, c]);
        let alpha = regress(&(&turn * &kernel * turn.transpose()), false, &(&turn * &y), 1.0);
        assert_relative_eq!(alpha, &turn * &wanted, epsilon = 1e-13);
    }
}

/// Fails for: `Ke` in place of the flipped kernel. With the training set as evaluation set, `k(e, i) = K[e, i]`: the flipped
/// kernel `Kᵀ` returns the targets, the straight one does not.
#[test]
fn an_asymmetric_kernel_predicts_with_its_flipped_form() {
    let kernel = DMatrix::from_row_slice(2, 2, &[2.0, 1.0, 0.0, 1.0]);
    let y = DVector::from_vec(vec![1.0, -1.0]);
    let alpha = regress(&kernel, false, &y, 0.0);
    assert_relative_eq!(predict(&kernel.transpose(), &alpha).unwrap(), y, epsilon = 1e-14);
    assert!((predict(&kernel, &alpha).unwrap() - y).amax() > 0.5);
}
