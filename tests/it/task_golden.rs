//! Prompts and splits against golden token ids of the paper's own tokenization code, from the data files themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::shared;
use kernelview::task::{
    BUILTIN_NAMES, Example, Overrides, PromptTokenizer, Splits, TaskDefinition, builtin, encode, label_word_tokens,
    read_examples,
};
use serde_json::Value;

/// Directory and file of a split, in the data's layout.
fn split_file(data: &Path, task: &TaskDefinition, directory: &str, split: &str) -> PathBuf {
    let extension = task.format.extensions()[0];
    data.join(&task.name).join(directory).join(format!("{split}.{extension}"))
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

#[test]
fn all_golden_prompts_are_reproduced_from_the_data_files() {
    let (Some(cases), Some(data)) = (shared("oracle/prompts.json"), shared("data/k-shot-1k-test")) else { return };
    let oracle = cases.parent().expect("a file in a folder");
    let bert = PromptTokenizer::from_tokenizer_file(oracle.join("bert-uncased-tokenizer.json")).unwrap();
    let roberta = PromptTokenizer::from_dir(oracle.join("roberta")).unwrap();
    let cases: Value = serde_json::from_slice(&fs::read(cases).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 84);
    let mut with_words = 0;
    for case in cases {
        let name = case["task"].as_str().unwrap();
        let about = format!("{} {name} row {}", case["tokenizer"], case["row"]);
        let tokenizer = if case["tokenizer"] == "bert-uncased" { &bert } else { &roberta };
        let task = builtin(name).unwrap();
        assert_eq!(task.template.to_string(), case["template"].as_str().unwrap(), "{about}");
        let limits = (task.first_sentence_limit, task.other_sentence_limit);
        let limit = |key: &str| case[key].as_u64().map(|tokens| tokens as usize);
        assert_eq!(limits, (limit("first_sent_limit"), limit("other_sent_limit")), "{about}");
        let max_length = limit("max_length").unwrap();
        if case["tokenizer"] == "bert-uncased" {
            assert_eq!(task.max_length, max_length, "{about}");
        }
        let task = task.with(&Overrides { max_length: Some(max_length), ..Overrides::default() }).unwrap();

        let directory = format!("{}-{}", case["k"], case["seed"]);
        let file = split_file(&data, &task, &directory, case["split"].as_str().unwrap());
        let row = usize::try_from(case["row"].as_u64().unwrap()).unwrap();
        let example = read_examples(&file, &task).unwrap().swap_remove(row);
        assert_eq!(example.texts, strings(&case["texts"]), "{about}");
        assert_eq!(task.label_words[example.label].label, case["label"].as_str().unwrap(), "{about}");

        let prompt = encode(&task, tokenizer, &[example], &file).unwrap().remove(0);
        assert_eq!(prompt.input_ids, numbers(&case["input_ids"]), "{about}");
        assert_eq!(prompt.mask_pos as u64, case["mask_pos"].as_u64().unwrap(), "{about}");
        assert!(prompt.segment_ids.iter().all(|segment| *segment == 0), "{about}");

        if let Some(words) = case.get("label_words") {
            let expected: Vec<_> =
                words.as_object().unwrap().iter().map(|(l, w)| (l.as_str(), w.as_str().unwrap())).collect();
            let ours: Vec<_> = task.label_words.iter().map(|pair| (pair.label.as_str(), pair.word.as_str())).collect();
            assert_eq!(ours, expected, "{about}");
            let expected: Vec<_> = case["label_word_ids"].as_object().unwrap().values().flat_map(numbers).collect();
            assert_eq!(label_word_tokens(&task, tokenizer).unwrap().concat(), expected, "{about}");
            with_words += 1;
        }
    }
    assert_eq!(with_words, 42);
}

#[test]
fn derived_splits_equal_those_that_exist_and_have_64_rows_of_each_label() {
    let Some(data) = shared("data/k-shot-1k-test") else { return };
    let copy = tempfile::tempdir().unwrap();
    for name in BUILTIN_NAMES.into_iter().filter(|name| *name != "ag_news") {
        let task = builtin(name).unwrap();
        // The rule itself: k = 16 taken from 512-SEED is the 16-SEED that exists.
        let stored = Splits::from_directory(&data, &task, 16, 42, Some(5)).unwrap();
        let large = data.join(name).join("512-42");
        fs::create_dir_all(copy.path().join(name).join("512-42")).unwrap();
        for entry in fs::read_dir(&large).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(name).join("512-42").join(path.file_name().unwrap())).unwrap();
        }
        let derived = Splits::from_directory(copy.path(), &task, 16, 42, Some(5)).unwrap();
        let contents = |examples: &[Example]| -> Vec<_> {
            examples.iter().map(|example| (example.label, example.texts.clone())).collect()
        };
        assert_eq!(contents(&derived.train.examples), contents(&stored.train.examples), "{name}: train");
        assert_eq!(contents(&derived.dev.examples), contents(&stored.dev.examples), "{name}: dev");

        let derived = Splits::from_directory(&data, &task, 64, 13, None).unwrap();
        let mut counts: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        derived.train.examples.iter().for_each(|example| counts.entry(example.label).or_default().0 += 1);
        derived.dev.examples.iter().for_each(|example| counts.entry(example.label).or_default().1 += 1);
        assert_eq!(counts.len(), task.label_words.len(), "{name}");
        assert!(counts.values().all(|(train, _)| *train == 64), "{name}: {counts:?}");
        if derived.notes.is_empty() {
            assert!(counts.values().all(|(_, dev)| *dev == 64), "{name}: {counts:?}");
        } else {
            assert_eq!(name, "trec");
            assert_eq!(derived.notes, ["label `2` has only 22 rows for dev instead of 64"]);
        }
    }
}

#[test]
fn every_shared_data_file_is_read() {
    let Some(data) = shared("data/k-shot-1k-test") else { return };
    let mut rows = 0;
    for name in BUILTIN_NAMES {
        let task = builtin(name).unwrap();
        for directory in fs::read_dir(data.join(name)).unwrap() {
            for file in fs::read_dir(directory.unwrap().path()).unwrap() {
                let file = file.unwrap().path();
                if file.extension().is_none_or(|extension| task.format.extensions()[0] != extension) {
                    continue;
                }
                rows += read_examples(file, &task).unwrap().len();
            }
        }
    }
    println!("{rows} rows");
    assert!(rows > 200_000);
}
