//! Random evidence, finite but otherwise arbitrary: the report always contains all of it.

use super::evidence::{bare, derivative, method, summary};
use crate::common::svg::texts_of;
use kernelview::evidence::{
    Accuracy, Analysis, Answers, Arithmetic, Candidate, Computed, Evaluation, Failure, FineTuningResult, Floor,
    GradientDrift, KernelDrift, KernelFacts, LabelWordFacts, LayerShare, Linearization, MatrixPicture, Movement,
    Question, StepResidual, judge,
};
use kernelview::report::{read_json, terminal_summary, write};
use proptest::prelude::*;

/// Finite numbers of all sizes, common ones often.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1.0f64, -5.0..5.0f64, Just(0.0), prop::num::f64::NORMAL]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just("sgd".to_owned()), Just("adam".to_owned()), Just("asymmetric".to_owned()), ".{0,12}"]
}

/// No answers, or those of seven examples.
fn any_answers() -> impl Strategy<Value = Answers> {
    prop_oneof![Just(Answers::default()), prop::collection::vec(any::<bool>(), 7).prop_map(Answers)]
}

prop_compose! {
    fn any_kernel()(
        formula in any_text(), title in any_text(), contrast in prop::option::of(any_number()), size in 0usize..6,
        cells in prop::collection::vec(any_number(), 0..30), starts in prop::collection::vec(0usize..8, 0..4),
        square in any::<bool>(), names in prop::collection::vec(any_text(), 0..4),
        methods in prop::collection::vec((any_text(), any_number(), any_number()), 0..3),
        failures in prop::collection::vec((any_text(), any_text()), 0..2),
    ) -> KernelFacts {
        let mut cells = cells;
        if square {
            cells.resize(size * size, 1.0);
        }
        let methods = methods.into_iter().map(|(s, a, b)| method(&s, &s, a, b, a)).collect();
        let failures = failures.into_iter().map(|(solver, reason)| Failure { solver, reason }).collect();
        KernelFacts {
            formula, title, rows: 3, mean_diagonal: 1.0, class_contrast: contrast, effective_rank: 1.5, methods,
            precision_error: contrast,
            failures,
            picture: MatrixPicture { size, cells, class_starts: starts, class_names: names, rows: Vec::new() },
        }
    }
}

prop_compose! {
    fn any_run()(
        optimizer in any_text(), analog in any_text(), figures in prop::collection::vec(any_number(), 12),
        options in prop::collection::vec(prop::option::of(any_number()), 4),
        movements in prop::collection::vec((any_number(), any_number(), 0usize..12), 0..8),
        history in prop::collection::vec((0usize..100, any_number(), any_number(), any_number()), 0..6),
        answers in (any_answers(), any_answers()),
        steps in prop::collection::vec(
            (0usize..100, prop::option::of(any_number()), prop::option::of(any_number())), 0..8),
    ) -> FineTuningResult {
        let movement = |(trained, linearized, class)| Movement { trained, linearized, class, row: None };
        let step = |(step, residual, cumulative)| StepResidual { step, residual, cumulative, error: cumulative };
        let computed = options[1].map(|error| Computed { arithmetic: Arithmetic::Single, error: Some(error) });
        let evaluation = |(step, train_loss, dev_accuracy, dev_loss): (usize, f64, f64, f64)| {
            Evaluation { step, train_loss, dev_accuracy, dev_loss }
        };
        let history: Vec<Evaluation> = history.into_iter().map(evaluation).collect();
        let selected = evaluation((3, figures[0], figures[1], figures[2]));
        let drift = KernelDrift {
            frobenius: figures[3], mean_relative: figures[4], mean_relative_error: options[1].map(f64::abs), examples: history.len(), median_relative: figures[5], alignment: figures[6],
        };
        FineTuningResult {
            optimizer,
            analog: analog.clone(),
            batch_size: 1,
            steps: 3,
            candidates: vec![Candidate {
                learning_rate: figures[7], selected: history.first().copied(), diverged: true,
            }],
            learning_rate: figures[7],
            selected,
            history,
            test_accuracy: figures[8],
            test_answers: answers.0,
            test_f1: None,
            parameter_change: figures[9],
            linearization: Linearization {
                test_accuracy: figures[10],
                test_answers: answers.1,
                recovered_share: options[0],
                cumulative_residual: options[1],
                computed,
                probes: 3,
                steps: steps.into_iter().map(step).collect(),
                movements: movements.into_iter().map(movement).collect(),
            },
            gradient_drift: options[2].map(|total| GradientDrift { relative: summary(0.5), total, computed }),
            kernel_drift: if options[3].is_some() { vec![(analog, drift)] } else { Vec::new() },
            output_derivative: derivative(0.1, 0.2),
            own_precision: None,
        }
    }
}

prop_compose! {
    fn any_analysis()(
        kernels in prop::collection::vec(any_kernel(), 0..4), fine_tuning in prop::collection::vec(any_run(), 0..4),
        figures in prop::collection::vec(any_number(), 3), counts in prop::collection::vec(0usize..1000, 3),
        texts in prop::collection::vec(any_text(), 8), note in prop::option::of(any_text()),
        layers in prop::collection::vec((any_text(), any::<i32>(), any_number(), any_number()), 0..4),
        classes in 0usize..9, before in any_answers(),
    ) -> Analysis {
        let mut analysis = bare();
        analysis.zero_shot_answers = before;
        let floor = Floor { majority: 0.5, zero_shot: 0.5, examples: 90 };
        analysis.verdicts = judge(&kernels, &fine_tuning, &floor, &analysis.zero_shot_answers);
        // A quotient of extreme numbers need not be finite (in percent); such an analysis is refused, another test.
        for verdict in &mut analysis.verdicts {
            for end in [&mut verdict.value, &mut verdict.low, &mut verdict.high] {
                *end = end.filter(|v| (100.0 * v).is_finite());
            }
        }
        analysis.kernels = kernels;
        analysis.fine_tuning = fine_tuning;
        analysis.zero_shot = Accuracy { dev: figures[0], test: figures[1], test_f1: None };
        analysis.task.majority_accuracy = figures[2];
        (analysis.task.train, analysis.task.dev, analysis.task.test) = (counts[0], counts[1], counts[2]);
        analysis.model.note = note;
        analysis.model.name.clone_from(&texts[0]);
        analysis.task.name.clone_from(&texts[1]);
        analysis.task.template.clone_from(&texts[2]);
        analysis.run.subset.clone_from(&texts[3]);
        analysis.task.notes = vec![texts[4].clone()];
        let class = |i: usize| LabelWordFacts {
            label: texts[5].clone(), word: texts[6].clone(), token_id: Some(i as i64), token_ids: Vec::new(), train: i, test: i,
        };
        analysis.task.label_words = (0..classes).map(class).collect();
        analysis.layers = layers
            .into_iter()
            .map(|(layer, parameters, sgd, signgd)| LayerShare {
                layer,
                parameters: parameters.into(),
                sgd,
                signgd: Some(signgd),
            })
            .collect();
        analysis
    }
}

/// A verdict's figure as in the report, with the precision of the report's conventions.
fn figure_text(question: Question, value: f64) -> String {
    let (value, sign) = if question == Question::FixedFeatures { (value, "") } else { (100.0 * value, "%") };
    if value == 0.0 {
        return if sign.is_empty() { "0".into() } else { "0.0%".into() };
    }
    if sign == "%" && value.abs() < 1e5 {
        let text = format!("{value:.1}%");
        return if text == "-0.0%" { "0.0%".into() } else { text };
    }
    let scientific = format!("{value:.2e}");
    let exponent: i32 = scientific.split('e').nth(1).unwrap().parse().unwrap();
    let decimals = (2 - exponent).clamp(0, 9) as usize;
    let text = if !(-3..5).contains(&exponent) {
        scientific
    } else if value.fract() == 0.0 {
        value.to_string()
    } else {
        format!("{value:.decimals$}")
    };
    text + sign
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_evidence_is_reported_whole(analysis in any_analysis()) {
        let directory = tempfile::tempdir().unwrap();
        let written = write(&analysis, directory.path()).unwrap();
        let text = std::fs::read_to_string(&written.markdown).unwrap();
        for verdict in &analysis.verdicts {
            if let Some(value) = verdict.value {
                let figure = figure_text(verdict.question, value);
                prop_assert!(text.contains(&format!("| {figure} |")), "{figure} of {:?}", verdict.question);
            }
        }
        for path in &written.plots {
            texts_of(&std::fs::read_to_string(path).unwrap());
        }
        prop_assert!(terminal_summary(&analysis).lines().all(|l| l.chars().count() <= 100));
        prop_assert_eq!(read_json(&written.json).unwrap(), analysis);
    }
}
