//! Made-up evidence: a realistic analysis, and an empty one.

use kernelview::evidence::{
    Accuracy, Analysis, Answers, Arithmetic, Candidate, Computed, Evaluation, FineTuningResult, Floor, GradientDrift,
    KernelDrift, KernelFacts, LabelWordFacts, LayerShare, Linearization, MatrixPicture, MethodResult, ModelFacts,
    Movement, OutputDerivative, RunFacts, SCHEMA_VERSION, StepResidual, Summary, TaskFacts, judge,
};

/// Numbers between 0 and 1 that are the same on every machine.
pub struct Numbers(pub u64);

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

pub fn summary(median: f64) -> Summary {
    let values: Vec<f64> = (0..32).map(|i| median * (0.25 + f64::from(i) * 1.5 / 31.0)).collect();
    Summary::of(&values).expect("finite values")
}

pub fn derivative(train: f64, test: f64) -> OutputDerivative {
    OutputDerivative { train: summary(train), test: summary(test) }
}

pub fn picture(numbers: &mut Numbers, size: usize, class_names: &[&str], contrast: f64) -> MatrixPicture {
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
        rows: (0..size).map(|example| vec![example + 2]).collect(),
    }
}

/// Answers to 872 examples, of which this share is right; which examples are easy or hard is similar, but not equal, for
/// different salts.
fn answers(accuracy: f64, salt: usize) -> Answers {
    let (mut common, mut own) = (Numbers(5), Numbers(salt as u64));
    let mut hardness: Vec<(f64, usize)> = (0..872).map(|i| (common.next() + 0.15 * own.next(), i)).collect();
    hardness.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut right = vec![false; 872];
    for (_, i) in hardness.into_iter().take((accuracy * 872.0).round() as usize) {
        right[i] = true;
    }
    Answers(right)
}

pub fn method(solver: &str, setting: &str, dev: f64, test: f64, loss: f64) -> MethodResult {
    MethodResult {
        solver: solver.into(),
        setting: setting.into(),
        dev_accuracy: dev,
        dev_loss: loss,
        test_accuracy: test,
        test_answers: answers(test, solver.len()),
        test_f1: None,
        test_loss: 1.1 * loss,
        grid_size: 25,
    }
}

pub fn kernel(
    formula: &str,
    title: &str,
    numbers: &mut Numbers,
    contrast: f64,
    methods: Vec<MethodResult>,
) -> KernelFacts {
    KernelFacts {
        formula: formula.into(),
        title: title.into(),
        rows: 64,
        mean_diagonal: 23_456.7,
        class_contrast: (formula != "signgd").then_some(contrast),
        effective_rank: 17.3,
        precision_error: None,
        methods,
        failures: Vec::new(),
        picture: picture(numbers, 32, &["terrible", "great"], contrast),
    }
}

fn computed(arithmetic: Arithmetic) -> Computed {
    Computed { arithmetic, error: Some(if arithmetic == Arithmetic::Single { 4e-5 } else { 3e-9 }) }
}

pub fn run(optimizer: &str, test_accuracy: f64, zero_shot: f64, numbers: &mut Numbers) -> FineTuningResult {
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
        Movement { trained, linearized: slope * trained + 0.5 * numbers.normal(), class: i % 2, row: Some(i + 2) }
    });
    let movements = movements.collect();
    let steps = (1..=192).map(|step| StepResidual {
        step,
        residual: (step != 7).then(|| 0.004 * (1.0 + numbers.next()) * if sgd { 1.0 } else { 6.0 }),
        cumulative: Some(0.02 * (step as f64).powf(if sgd { 0.5 } else { 0.9 })),
        error: (step != 7).then_some(2.3e-7),
    });
    let steps = steps.filter(|s| [1, 2, 4, 7, 16, 32, 64, 128, 192].contains(&s.step)).collect();
    let drift = |scale: f64| KernelDrift {
        frobenius: 0.21 * scale,
        mean_relative: 0.83 * scale,
        mean_relative_error: Some(0.07 * scale),
        examples: 32,
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
        test_answers: answers(test_accuracy, 101),
        test_f1: None,
        parameter_change: if sgd { 4.3e-4 } else { 0.0123 },
        linearization: Linearization {
            test_accuracy: if sgd { 0.752 } else { 0.511 },
            test_answers: answers(if sgd { 0.752 } else { 0.511 }, 102),
            recovered_share: (test_accuracy > zero_shot).then(|| (0.752 - zero_shot) / (test_accuracy - zero_shot)),
            cumulative_residual: Some(if sgd { 0.274 } else { 1.93 }),
            computed: Some(computed(if sgd { Arithmetic::Single } else { Arithmetic::Double })),
            probes: 8,
            steps,
            movements,
        },
        gradient_drift: sgd.then(|| GradientDrift {
            relative: summary(0.31),
            total: 0.34,
            computed: Some(computed(Arithmetic::Single)),
        }),
        kernel_drift: vec![
            ("sgd".into(), drift(if sgd { 1.0 } else { 6.0 })),
            ("asymmetric".into(), drift(if sgd { 0.8 } else { 5.0 })),
        ],
        output_derivative: derivative(0.12, 0.31),
        own_precision: None,
    }
}

/// A possible analysis of sentiment with a tiny BERT: SGD behaves like its kernel, Adam gains nothing.
pub fn realistic() -> Analysis {
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
    let zero_shot_answers = answers(zero_shot.test, 103);
    let floor = Floor { majority: 444.0 / 872.0, zero_shot: zero_shot.test, examples: 872 };
    let verdicts = judge(&kernels, &fine_tuning, &floor, &zero_shot_answers);
    let class = |label: &str, word: &str, token_id, test| LabelWordFacts {
        label: label.into(),
        word: word.into(),
        token_id: Some(token_id),
        token_ids: Vec::new(),
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
            source: "SST-2/16-13".into(),
            source_digest: "0123456789abcdef".repeat(4),
            sets: Vec::new(),
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
            tokenizer: "RobertaTokenizer, from tokenizer.json, tokenizer_config.json".into(),
            first_prompt: ["<s>", "a", "Ġ|", "Ġ`", "<mask>", ".", "</s>"].map(String::from).to_vec(),
            prompts_digest: String::new(),
        },
        zero_shot,
        zero_shot_answers,
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

/// The smallest possible analysis.
pub fn bare() -> Analysis {
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
