//! Every variant: its exit code, and that its text says its data.

use super::*;

/// One of every variant, with its exit code and its text.
fn every() -> Vec<(Error, i32, &'static str)> {
    let (what, why) = (|| "what".to_owned(), || "why".to_owned());
    let path = || PathBuf::from("file");
    let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
    vec![
        (Error::io("read", "file")(gone), 2, "cannot read file: entity not found"),
        (Error::format("file", "why"), 2, "file: why"),
        (Error::row("file", 3, "why"), 2, "file, row 3: why"),
        (
            Error::TensorMissing { path: path(), tensor: what(), expected: vec![2, 3], hint: why() },
            2,
            "file: tensor `what` (shape [2, 3]) is missing; why",
        ),
        (
            Error::TensorShape { path: path(), tensor: what(), expected: vec![2], found: vec![3], reason: why() },
            2,
            "file: tensor `what` has shape [3], expected [2] (why)",
        ),
        (Error::setting(Field::Steps, 0, "1 or more"), 2, "setting `steps` is 0, expected 1 or more"),
        (Error::value("rank", 0, "1 or more"), 2, "rank is 0; it must be 1 or more"),
        (
            Error::Environment { variable: "VARIABLE", value: what(), expected: "none" },
            2,
            "VARIABLE is `what`; it must be none",
        ),
        (Error::argument("an option", "why"), 2, "an option: why"),
        (
            Error::Syntax { what: "template", text: what(), problem: why(), expected: "write x".into() },
            2,
            "template `what`: why; write x",
        ),
        (
            Error::Unknown { what: "task".into(), name: what(), hint: "there are a, b".into() },
            2,
            "unknown task `what`; there are a, b",
        ),
        (Error::Duplicate { what: "seed".into(), name: "3".into() }, 2, "seed `3` is given twice"),
        (Error::Missing { what: what(), needed: why() }, 2, "no what: why"),
        (
            Error::Shape { what: what(), found: vec![2, 3], expected: "it must be square".into() },
            2,
            "what has shape [2, 3]; it must be square",
        ),
        (Error::Length { what: what(), found: 2, expected: 3 }, 2, "what: 2 given, 3 needed"),
        (
            Error::NotSymmetric { shape: [2, 2], gap: 0.5, scale: 1.0 },
            2,
            "the training kernel (shape [2, 2]) is not symmetric: max|K - Kᵀ| = 5.000e-1, max|K| = 1.000e0; use a solver for \
             asymmetric kernels",
        ),
        (
            Error::OneClass { examples: 4, class: "1".into() },
            2,
            "all 4 training examples belong to class 1: a classifier needs two classes",
        ),
        (
            Error::Label { set: "dev".into(), index: 1, label: 2.0, expected: "below 2".into() },
            2,
            "dev: label 1 is 2; it must be below 2",
        ),
        (Error::task("what", "why"), 2, "task `what`: why"),
        (Error::Example { index: 1, problem: why() }, 2, "example 1: why"),
        (
            Error::TooLong { example: "example 1".into(), tokens: 600, most: 512 },
            2,
            "example 1 has 600 tokens, but the model has only 512 positions: setting `max_length` must be at most 512",
        ),
        (
            Error::NotInVocabulary { what: what(), id: 9, entries: 8 },
            2,
            "what has token id 9, but the model's vocabulary has 8 entries (vocab_size in config.json): the tokenizer does not \
             belong to this model",
        ),
        (Error::Model { model: what(), problem: why() }, 2, "the model what: why"),
        (Error::Adapter { weight: what(), problem: why() }, 2, "adapter of `what`: why"),
        (Error::Program(why()), 2, "not a program: why"),
        (
            Error::Incomparable { aspect: "task".into(), first: "a".into(), second: "b".into(), advice: why() },
            2,
            "the two sides cannot be compared: the task was a and is b; why",
        ),
        (
            Error::Busy { path: path() },
            2,
            "file: another kernelview process is writing here; wait for it to finish, or choose another directory (setting `out_directory`)",
        ),
        (Error::Shard { text: "auto".into(), problem: why() }, 2, "setting `shard` auto: why"),
        (Error::Hub { model: what(), reason: why() }, 2, "what: why"),
        (
            Error::Memory { what: what(), needed: 2_500_000_000, free: 1_000_000_000, advice: why() },
            2,
            "what needs about 2.5 GB of memory, but 1.0 GB are free; why",
        ),
        (Error::NotFinite { what: what(), place: "row 3".into(), advice: why() }, 1, "what is not finite (row 3): why"),
        (
            Error::Diverged {
                optimizer: "SGD".into(),
                learning_rates: vec![0.1, 1.0],
                when: "each time".into(),
                field: Some(Field::LrSgd),
            },
            1,
            "SGD diverged each time at learning rates 1e-1, 1e0; try smaller ones: setting `lr_sgd`",
        ),
        (Error::no_solution("minimum", "why"), 1, "no minimum: why"),
        (Error::document("report.md", "why"), 1, "report.md cannot be made: why"),
        (Error::Torch(why()), 1, "libtorch: why"),
        (Error::Interrupted, 130, "interrupted"),
    ]
}

#[test]
fn every_variant_has_its_exit_code_and_says_its_data() {
    for (error, code, text) in every() {
        assert_eq!((error.exit_code(), error.to_string()), (code, text.to_owned()));
    }
}

#[test]
fn numeric_failures_are_no_bad_input() {
    assert!(every().iter().all(|(error, code, _)| !error.is_numeric() || *code == 1));
}
