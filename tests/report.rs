//! Reports of made-up evidence: a realistic one as snapshots, degenerate and random ones for what must not break.

#[path = "common/svg.rs"]
mod svg;

use std::fmt::Write;

use kernelview::evidence::{
    Accuracy, Analysis, Candidate, Evaluation, FineTuningResult, GradientDrift, KernelDrift, KernelFacts,
    LabelWordFacts, LayerShare, Linearization, MatrixPicture, MethodResult, ModelFacts, Movement, Outcome,
    OutputDerivative, Question, RunFacts, SCHEMA_VERSION, StepResidual, Summary, TaskFacts, judge,
};
use kernelview::report::{read_json, render_markdown, terminal_summary, write};
use proptest::prelude::*;
use svg::texts_of;

/// Numbers between 0 and 1 that are the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }

    /// Roughly normal, mean 0, standard deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

fn summary(median: f64) -> Summary {
    let values: Vec<f64> = (0..32).map(|i| median * (0.25 + f64::from(i) * 1.5 / 31.0)).collect();
    Summary::of(&values).expect("finite values")
}

fn derivative(train: f64, test: f64) -> OutputDerivative {
    OutputDerivative { train: summary(train), test: summary(test) }
}

fn picture(numbers: &mut Numbers, size: usize, class_names: &[&str], contrast: f64) -> MatrixPicture {
    let per_class = size / class_names.len();
    let cells = (0..size * size).map(|i| {
        let (row, column) = (i / size, i % size);
        let base = if row == column { 3.0 } else { 0.8 };
        let same = if row / per_class == column / per_class { contrast } else { 1.0 };
        1e4 * (base * same + 0.12 * numbers.normal())
    });
    MatrixPicture {
        size,
        cells: cells.collect(),
        class_starts: (0..class_names.len()).map(|c| c * per_class).collect(),
        class_names: class_names.iter().map(ToString::to_string).collect(),
    }
}

fn method(solver: &str, setting: &str, dev: f64, test: f64, loss: f64) -> MethodResult {
    MethodResult {
        solver: solver.into(),
        setting: setting.into(),
        dev_accuracy: dev,
        dev_loss: loss,
        test_accuracy: test,
        test_f1: None,
        test_loss: 1.1 * loss,
        grid_size: 25,
    }
}

fn kernel(formula: &str, title: &str, numbers: &mut Numbers, contrast: f64, methods: Vec<MethodResult>) -> KernelFacts {
    KernelFacts {
        formula: formula.into(),
        title: title.into(),
        rows: 64,
        mean_diagonal: 23_456.7,
        class_contrast: (formula != "signgd").then_some(contrast),
        effective_rank: 17.3,
        precision_error: None,
        methods,
        picture: picture(numbers, 32, &["terrible", "great"], contrast),
    }
}

fn run(optimizer: &str, test_accuracy: f64, zero_shot: f64, numbers: &mut Numbers) -> FineTuningResult {
    let sgd = optimizer == "sgd";
    let history: Vec<Evaluation> = (1..=12)
        .map(|i| {
            let part = f64::from(i) / 12.0;
            Evaluation {
                step: 16 * i as usize,
                train_loss: 0.7 * (-2.5 * part).exp() + 0.02 * numbers.next(),
                dev_accuracy: ((18.0 + 9.0 * part + numbers.next()) as usize) as f64 / 32.0,
                dev_loss: 0.69 - 0.4 * part + 0.25 * part * part + 0.02 * numbers.next(),
            }
        })
        .collect();
    let selected = history[8];
    let candidate = |learning_rate, selected, diverged| Candidate { learning_rate, selected, diverged };
    let movements = (0..400).map(|i| {
        let trained = 1.2 + 2.0 * numbers.normal();
        let slope = if sgd { 0.9 } else { 2.2 };
        Movement { trained, linearized: slope * trained + 0.5 * numbers.normal(), class: i % 2 }
    });
    let movements = movements.collect();
    let steps = (1..=192).map(|step| StepResidual {
        step,
        residual: (step != 7).then(|| 0.004 * (1.0 + numbers.next()) * if sgd { 1.0 } else { 6.0 }),
        cumulative: Some(0.02 * (step as f64).powf(if sgd { 0.5 } else { 0.9 })),
    });
    let steps = steps.collect();
    let drift = |scale: f64| KernelDrift {
        frobenius: 0.21 * scale,
        mean_relative: 0.83 * scale,
        median_relative: 0.19 * scale,
        alignment: 1.0 - 0.02 * scale,
    };
    FineTuningResult {
        optimizer: optimizer.into(),
        analog: if sgd { "sgd" } else { "asymmetric" }.into(),
        batch_size: 8,
        steps: 192,
        candidates: vec![
            candidate(1e-4, Some(history[2]), false),
            candidate(1e-3, Some(selected), false),
            candidate(1e-2, if sgd { Some(history[0]) } else { None }, true),
        ],
        learning_rate: 1e-3,
        selected,
        history,
        test_accuracy,
        test_f1: None,
        parameter_change: if sgd { 4.3e-4 } else { 0.0123 },
        linearization: Linearization {
            test_accuracy: if sgd { 0.752 } else { 0.511 },
            recovered_share: (test_accuracy > zero_shot).then(|| (0.752 - zero_shot) / (test_accuracy - zero_shot)),
            cumulative_residual: Some(if sgd { 0.274 } else { 1.93 }),
            steps,
            movements,
        },
        gradient_drift: sgd.then(|| GradientDrift { relative: summary(0.31), total: 0.34 }),
        kernel_drift: vec![
            ("sgd".into(), drift(if sgd { 1.0 } else { 6.0 })),
            ("asymmetric".into(), drift(if sgd { 0.8 } else { 5.0 })),
        ],
        output_derivative: derivative(0.12, 0.31),
    }
}

/// An analysis as one of sentiment with a tiny BERT could be: SGD behaves like its kernel, Adam gains nothing.
fn realistic() -> Analysis {
    let mut numbers = Numbers(7);
    let zero_shot = Accuracy { dev: 0.59375, test: 0.614, test_f1: Some(0.6) };
    let kernels = vec![
        kernel(
            "sgd",
            "K(SGD)",
            &mut numbers,
            1.6,
            vec![
                method("least squares", "regularization 0.01, f0 scaling 100", 0.8125, 0.781, 0.412),
                method("logistic", "regularization 0.1, f0 scaling ∞", 0.78125, 0.774, 0.533),
                method("svm", "C 10", 0.75, 0.769, 0.61),
            ],
        ),
        kernel("signgd", "K(SignGD)", &mut numbers, 1.15, vec![method("svm", "C 1", 0.71875, 0.699, 0.7)]),
        kernel(
            "asymmetric",
            "K(A-SignGD)",
            &mut numbers,
            1.3,
            vec![method("asymmetric least squares", "regularization 0.001, f0 scaling 10", 0.6875, 0.702, 0.48)],
        ),
    ];
    let fine_tuning =
        vec![run("sgd", 0.7982, zero_shot.test, &mut numbers), run("adam", 0.502, zero_shot.test, &mut numbers)];
    let verdicts = judge(&kernels, &fine_tuning, 0.5);
    let class = |label: &str, word: &str, token_id, test| LabelWordFacts {
        label: label.into(),
        word: word.into(),
        token_id: Some(token_id),
        train: 16,
        test,
    };
    let layer = |layer: &str, parameters, sgd, signgd| LayerShare { layer: layer.into(), parameters, sgd, signgd };
    Analysis {
        schema_version: SCHEMA_VERSION,
        run: RunFacts {
            program_version: "0.1.0".into(),
            torch_version: "2.11.0".into(),
            device: "cpu".into(),
            dtype: "f32".into(),
            subset: "all".into(),
            seed: 13,
            plan: serde_json::json!({"steps": 500}),
            command: "kernelview analyze --task SST-2 --k 16 --seed 13".into(),
            digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        },
        model: ModelFacts {
            name: "bert-tiny-splade".into(),
            architecture: "bert".into(),
            parameters: 4_416_698,
            parameters_in_subset: 4_416_698,
            layers: 2,
            width: 128,
            digest: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".into(),
            note: Some(
                "It was fine-tuned for sparse retrieval (SPLADE), so it is not a pristine pre-trained model.".into(),
            ),
        },
        task: TaskFacts {
            name: "SST-2".into(),
            source: "k-shot/SST-2/16-13".into(),
            template: "*cls**sent_0*_It_was*mask*.*sep+*".into(),
            head: "prompt".into(),
            label_words: vec![class("0", "terrible", 6659, 428), class("1", "great", 2307, 444)],
            k: Some(16),
            split_seed: Some(13),
            train: 32,
            dev: 32,
            test: 872,
            longest_prompt: 58,
            output_mode: "logits".into(),
            majority_accuracy: 444.0 / 872.0,
            notes: vec!["label `1` has only 15 rows | for dev".into()],
            tokenizer_digest: String::new(),
            prompts_digest: String::new(),
        },
        zero_shot,
        output_derivative: derivative(0.58, 0.6),
        kernels,
        layers: vec![
            layer("embeddings", 3_972_864, 0.31, Some(0.08)),
            layer("layer 0", 198_272, 0.24, Some(0.41)),
            layer("layer 1", 198_272, 0.36, Some(0.42)),
            layer("head", 47_290, 0.09, Some(0.09)),
        ],
        fine_tuning,
        verdicts,
    }
}

/// As little as an analysis can be.
fn bare() -> Analysis {
    let mut analysis = realistic();
    analysis.kernels.clear();
    analysis.layers.clear();
    analysis.fine_tuning.clear();
    analysis.verdicts.clear();
    analysis.task.label_words.clear();
    analysis.task.notes.clear();
    analysis.model.note = None;
    (analysis.task.train, analysis.task.dev, analysis.task.test) = (0, 0, 0);
    analysis
}

#[test]
fn realistic_report() {
    insta::assert_snapshot!("markdown", render_markdown(&realistic()).unwrap());
    insta::assert_snapshot!("terminal", terminal_summary(&realistic()));
}

#[test]
fn figures_show_their_labels() {
    let directory = tempfile::tempdir().unwrap();
    let written = write(&realistic(), directory.path()).unwrap();
    let mut all = String::new();
    for path in &written.plots {
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", path.display());
        writeln!(all, "{}", path.file_name().unwrap().to_str().unwrap()).unwrap();
        for text in texts_of(&svg) {
            writeln!(all, "  {text}").unwrap();
        }
    }
    insta::assert_snapshot!("figures", all);
}

#[test]
fn two_reports_of_one_analysis_are_the_same_bytes() {
    let read = |directory: &std::path::Path| -> Vec<Vec<u8>> {
        let written = write(&realistic(), directory).unwrap();
        let paths = written.plots.iter().chain([&written.json, &written.markdown]);
        paths.map(|p| std::fs::read(p).unwrap()).collect()
    };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(read(one.path()), read(&two.path().join("made/on/the/way")));
}

#[test]
fn every_figure_that_the_markdown_names_exists() {
    let directory = tempfile::tempdir().unwrap();
    let written = write(&realistic(), directory.path()).unwrap();
    let text = std::fs::read_to_string(&written.markdown).unwrap();
    let named: Vec<_> = text.split("](plots/").skip(1).map(|t| t.split(')').next().unwrap().to_owned()).collect();
    assert_eq!(named.len(), written.plots.len());
    for name in named {
        assert!(directory.path().join("plots").join(&name).is_file(), "{name}");
    }
}

#[test]
fn json_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    for analysis in [realistic(), bare()] {
        let written = write(&analysis, directory.path()).unwrap();
        assert_eq!(read_json(&written.json).unwrap(), analysis);
    }
}

#[test]
fn another_version_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let message = read_json(&path).unwrap_err().to_string();
        assert!(message.starts_with(path.to_str().unwrap()), "{message}");
        message[path.to_str().unwrap().len()..].to_owned()
    };
    let here = env!("CARGO_PKG_VERSION");
    assert_eq!(
        error(r#"{"schema_version": 7, "run": {"program_version": "9.1.0"}}"#),
        format!(
            ": field `schema_version` is 7 (written by kernelview 9.1.0), but kernelview {here} reads version \
             {SCHEMA_VERSION}: read it with the kernelview that wrote it, or analyze again"
        )
    );
    assert!(error("{}").contains("`schema_version` is missing"));
    assert!(error("[1").contains("not a kernelview report"));
    let message = error(&format!(r#"{{"schema_version": {SCHEMA_VERSION}}}"#));
    assert!(message.contains("missing field `run`"), "{message}");
}

#[test]
fn numbers_that_are_not_finite_are_refused_before_anything_is_written() {
    type Spoil = fn(&mut Analysis);
    let spoil: [(&str, Spoil); 3] = [
        ("`fine_tuning[1].history[3].dev_loss`", |a| a.fine_tuning[1].history[3].dev_loss = f64::NAN),
        ("`verdicts[0].value`", |a| a.verdicts[0].value = Some(f64::INFINITY)),
        ("`kernels[0].picture.cells[5]`", |a| a.kernels[0].picture.cells[5] = f64::NEG_INFINITY),
    ];
    for (field, spoil) in spoil {
        let mut analysis = realistic();
        spoil(&mut analysis);
        let directory = tempfile::tempdir().unwrap();
        let message = write(&analysis, directory.path()).unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
        assert!(render_markdown(&analysis).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn degenerate_evidence_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let text = render_markdown(&bare()).unwrap();
    assert!(text.contains("nothing was fine-tuned"), "{text}");
    write(&bare(), directory.path()).unwrap();

    let mut analysis = realistic();
    for run in &mut analysis.fine_tuning {
        run.history.clear();
        run.candidates.clear();
        run.kernel_drift.clear();
        run.gradient_drift = None;
        run.linearization.recovered_share = None;
        run.linearization.cumulative_residual = None;
        run.linearization.movements.clear();
        for step in &mut run.linearization.steps {
            (step.residual, step.cumulative) = (None, None);
        }
    }
    for kernel in &mut analysis.kernels {
        kernel.methods.clear();
        kernel.picture.cells.truncate(5);
    }
    analysis.verdicts = judge(&analysis.kernels, &analysis.fine_tuning, 0.5);
    assert!(analysis.verdicts.iter().all(|v| v.outcome == Outcome::NotApplicable));
    let text = render_markdown(&analysis).unwrap();
    assert!(text.contains("K(SGD) is not among this analysis' kernels (see --formula)"), "{text}");
    assert_eq!(write(&analysis, directory.path()).unwrap().plots.len(), 2);

    let mut one_class = realistic();
    one_class.task.label_words.truncate(1);
    one_class.kernels[0].picture =
        MatrixPicture { size: 1, cells: vec![0.0], class_starts: vec![0], class_names: vec!["a & <b>".into()] };
    one_class.fine_tuning[0].history.truncate(1);
    one_class.fine_tuning[0].linearization.movements.truncate(1);
    one_class.fine_tuning[0].linearization.steps.truncate(1);
    let written = write(&one_class, directory.path()).unwrap();
    for path in &written.plots {
        texts_of(&std::fs::read_to_string(path).unwrap());
    }
}

#[test]
fn texts_of_others_do_not_break_tables() {
    let mut analysis = realistic();
    analysis.task.template = "*cls*a|b`c*mask*".into();
    analysis.task.label_words[0].word = "<br>|`\n# x".into();
    analysis.model.note = Some("a | b\n\n# not a heading <script>".into());
    let text = render_markdown(&analysis).unwrap();
    let mut columns = 0;
    for line in text.lines() {
        let bars = line.replace("\\|", "").matches('|').count();
        assert!(!line.starts_with('|') || columns == 0 || bars == columns, "{line}");
        columns = if line.starts_with('|') { bars } else { 0 };
    }
    assert!(!text.contains("<script>") && !text.contains("\n# not"));
    assert!(terminal_summary(&analysis).lines().all(|l| l.chars().count() <= 100));
}

/// Finite numbers of every size, common ones often.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1.0f64, -5.0..5.0f64, Just(0.0), prop::num::f64::NORMAL]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just("sgd".to_owned()), Just("adam".to_owned()), Just("asymmetric".to_owned()), ".{0,12}"]
}

prop_compose! {
    fn any_kernel()(
        formula in any_text(), title in any_text(), contrast in prop::option::of(any_number()), size in 0usize..6,
        cells in prop::collection::vec(any_number(), 0..30), starts in prop::collection::vec(0usize..8, 0..4),
        square in any::<bool>(), names in prop::collection::vec(any_text(), 0..4),
        methods in prop::collection::vec((any_text(), any_number(), any_number()), 0..3),
    ) -> KernelFacts {
        let mut cells = cells;
        if square {
            cells.resize(size * size, 1.0);
        }
        let methods = methods.into_iter().map(|(s, a, b)| method(&s, &s, a, b, a)).collect();
        KernelFacts {
            formula, title, rows: 3, mean_diagonal: 1.0, class_contrast: contrast, effective_rank: 1.5, methods,
            precision_error: contrast,
            picture: MatrixPicture { size, cells, class_starts: starts, class_names: names },
        }
    }
}

prop_compose! {
    fn any_run()(
        optimizer in any_text(), analog in any_text(), figures in prop::collection::vec(any_number(), 12),
        options in prop::collection::vec(prop::option::of(any_number()), 4),
        movements in prop::collection::vec((any_number(), any_number(), 0usize..12), 0..8),
        history in prop::collection::vec((0usize..100, any_number(), any_number(), any_number()), 0..6),
        steps in prop::collection::vec(
            (0usize..100, prop::option::of(any_number()), prop::option::of(any_number())), 0..8),
    ) -> FineTuningResult {
        let movement = |(trained, linearized, class)| Movement { trained, linearized, class };
        let step = |(step, residual, cumulative)| StepResidual { step, residual, cumulative };
        let evaluation = |(step, train_loss, dev_accuracy, dev_loss): (usize, f64, f64, f64)| {
            Evaluation { step, train_loss, dev_accuracy, dev_loss }
        };
        let history: Vec<Evaluation> = history.into_iter().map(evaluation).collect();
        let selected = evaluation((3, figures[0], figures[1], figures[2]));
        let drift = KernelDrift {
            frobenius: figures[3], mean_relative: figures[4], median_relative: figures[5], alignment: figures[6],
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
            test_f1: None,
            parameter_change: figures[9],
            linearization: Linearization {
                test_accuracy: figures[10],
                recovered_share: options[0],
                cumulative_residual: options[1],
                steps: steps.into_iter().map(step).collect(),
                movements: movements.into_iter().map(movement).collect(),
            },
            gradient_drift: options[2].map(|total| GradientDrift { relative: summary(0.5), total }),
            kernel_drift: if options[3].is_some() { vec![(analog, drift)] } else { Vec::new() },
            output_derivative: derivative(0.1, 0.2),
        }
    }
}

prop_compose! {
    fn any_analysis()(
        kernels in prop::collection::vec(any_kernel(), 0..4), fine_tuning in prop::collection::vec(any_run(), 0..4),
        figures in prop::collection::vec(any_number(), 3), counts in prop::collection::vec(0usize..1000, 3),
        texts in prop::collection::vec(any_text(), 8), note in prop::option::of(any_text()),
        layers in prop::collection::vec((any_text(), any::<i32>(), any_number(), any_number()), 0..4),
        classes in 0usize..9,
    ) -> Analysis {
        let mut analysis = bare();
        analysis.verdicts = judge(&kernels, &fine_tuning, 0.5);
        // A quotient of extreme numbers need not be finite (in percent); such an analysis is refused, another test.
        for verdict in &mut analysis.verdicts {
            verdict.value = verdict.value.filter(|v| (100.0 * v).is_finite());
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
            label: texts[5].clone(), word: texts[6].clone(), token_id: Some(i as i64), train: i, test: i,
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

/// A verdict's figure as the report writes it; the precision is that of the report's conventions.
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
