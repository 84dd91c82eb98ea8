//! The tasks' fixtures, every bad input with its message, and laws on random texts.

mod random;
mod refused;

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::shared;
use kernelview::error::Error;
use kernelview::task::{
    BUILTIN_NAMES, DEMO_NAME, DataFormat, Example, Overrides, OwnSplit, Prompt, PromptTokenizer, PromptedTask,
    SpecialToken, Splits, TaskDefinition, Template, builtin, demo, demo_definition, encode, label_word_tokens,
    parse_examples, read_examples,
};
use proptest::prelude::*;
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks");

/// A built-in task with its fixture.
fn fixture(name: &str) -> (TaskDefinition, Splits) {
    let task = builtin(name).unwrap();
    let k = if name == "SST-2" { 16 } else { 2 };
    let splits = Splits::from_directory(FIXTURES, &task, k, 13, None).unwrap();
    (task, splits)
}

fn examples(splits: &Splits) -> impl Iterator<Item = &Example> {
    [&splits.train, &splits.dev, &splits.test].into_iter().flat_map(|split| &split.examples)
}

/// A BERT checkpoint directory with the given words, all ASCII characters and the special tokens in its `vocab.txt`.
fn word_piece_directory(words: &[&str], config: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut vocab: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_string).to_vec();
    for character in (33..127_u8).map(char::from) {
        vocab.push(character.to_string());
        vocab.push(format!("##{character}"));
    }
    for word in words {
        let word = (*word).to_string();
        if !vocab.contains(&word) {
            vocab.push(word);
        }
    }
    fs::write(directory.path().join("vocab.txt"), vocab.join("\n")).unwrap();
    if !config.is_empty() {
        fs::write(directory.path().join("tokenizer_config.json"), config).unwrap();
    }
    directory
}

/// A tokenizer with these words; other lower-case words are split into characters.
fn word_piece(words: &[&str]) -> PromptTokenizer {
    PromptTokenizer::from_dir(word_piece_directory(words, "").path()).unwrap()
}

const LABEL_WORDS: [&str; 27] = [
    "terrible",
    "bad",
    "okay",
    "good",
    "great",
    "subjective",
    "objective",
    "description",
    "entity",
    "expression",
    "human",
    "location",
    "number",
    "world",
    "sports",
    "business",
    "tech",
    "no",
    "yes",
    "maybe",
    "it",
    "was",
    "this",
    "is",
    "article",
    "about",
    "news",
];

#[test]
fn fixtures_of_all_14_formats_load_and_encode() {
    let mut tokenizers = vec![word_piece(&LABEL_WORDS)];
    if let Some(file) = shared("oracle/bert-uncased-tokenizer.json") {
        tokenizers.push(PromptTokenizer::from_tokenizer_file(file).unwrap());
    }
    for name in BUILTIN_NAMES {
        let (task, splits) = fixture(name);
        let (k, rest) = if name == "SST-2" { (16, 48..=48) } else { (2, 2..=3) };
        for label in 0..task.label_words.len() {
            let count = |rows: &[Example]| rows.iter().filter(|example| example.label == label).count();
            assert_eq!(count(&splits.train.examples), k, "{name}, label {label}");
            assert_eq!(count(&splits.dev.examples), k, "{name}, label {label}");
            assert!(rest.contains(&count(&splits.test.examples)), "{name}, label {label}");
        }
        assert!(examples(&splits).all(|example| example.texts.len() == task.format.text_count()), "{name}");
        for tokenizer in &tokenizers {
            let prompted = PromptedTask::new(&task, tokenizer, &splits).unwrap();
            let mask = tokenizer.require(SpecialToken::Mask).unwrap();
            let all: Vec<&Prompt> = prompted.train.iter().chain(&prompted.dev).chain(&prompted.test).collect();
            assert_eq!(all.len(), examples(&splits).count());
            for prompt in all {
                assert_eq!(prompt.input_ids[prompt.mask_pos], mask, "{name}, row {}", prompt.row);
                assert!(prompt.input_ids.len() <= task.max_length);
            }
        }
    }
}

#[test]
fn the_remarks_are_balanced_distinct_and_built_in() {
    let splits = demo().unwrap();
    assert_eq!((demo_definition().unwrap().name.as_str(), DEMO_NAME), ("remarks", "remarks"));
    let sizes = [&splits.train, &splits.dev, &splits.test].map(|split| split.examples.len());
    assert_eq!(sizes, [32, 32, 96]);
    let mut texts: Vec<_> = examples(&splits).map(|example| example.texts[0].clone()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 160);
    let (_, stored) = fixture("SST-2");
    assert!(examples(&splits).eq(examples(&stored)));
}

/// Examples that are built in have their labels by name, as those of files have: words in another order are another order of
/// outputs, and no other labels.
#[test]
fn labels_of_built_in_examples_follow_the_words() {
    let own = demo_definition().unwrap();
    let with = |words: &str| {
        let words = Some(words.to_owned());
        own.clone().with(&Overrides { label_words: words, ..Overrides::default() }).unwrap()
    };
    let name = |task: &TaskDefinition, example: &Example| task.label_words[example.label].label.clone();
    let [first, second] = [0, 1].map(|i| own.label_words[i].label.clone());
    let turned = with(&format!("{second}=great,{first}=terrible"));
    let splits = demo().unwrap().relabelled(&own, &turned).unwrap();
    for (was, is) in examples(&demo().unwrap()).zip(examples(&splits)) {
        assert_eq!((name(&own, was), was.label), (name(&turned, is), 1 - is.label));
    }
    let refused = |words: &str| demo().unwrap().relabelled(&own, &with(words)).unwrap_err().to_string();
    assert_eq!(
        refused(&format!("{first}=bad,{second}=good,both=mixed")),
        format!("task `remarks`: label `both` has no examples; those that there are have the labels {first}, {second}")
    );
    let three = with(&format!("{first}=bad,{second}=good,both=mixed"));
    let wider = demo().unwrap().relabelled(&three, &own).unwrap_err().to_string();
    assert_eq!(wider, "task `remarks`: label `both` has examples, but no word: give it one");
    assert_eq!(
        refused(&format!("{first}=bad,{first}x=good")),
        format!(
            "task `remarks`: label `{first}x` has no examples; those that there are have the labels {first}, {second}"
        )
    );
}

#[test]
fn byte_order_marks_titles_and_line_ends_are_understood() {
    let (_, mrpc) = fixture("MRPC");
    assert_eq!(mrpc.train.examples[0].row, 2);
    assert!(fs::read(&mrpc.train.source).unwrap().starts_with(b"\xef\xbb\xbf"));
    let (_, news) = fixture("ag_news");
    let titled = examples(&news).filter(|example| example.texts[0].starts_with("Island votes. Residents")).count();
    assert_eq!(titled, 1);
    let task = builtin("SST-2").unwrap();
    let rows =
        parse_examples(Path::new("x.tsv"), b"sentence\tlabel\r\nit \"is\" so \t1\r\n\r\nno\t0\r\n", &task).unwrap();
    let expected = [("it \"is\" so ", 1, 2), ("no", 0, 4)].map(|(text, label, row)| Example {
        texts: vec![text.to_string()],
        choices: Vec::new(),
        label,
        row,
    });
    assert_eq!(rows, expected);
}

#[test]
fn segments_grow_after_sep_plus_only_when_asked_for() {
    let tokenizer = word_piece(&LABEL_WORDS);
    let template = "*cls**sent_0**sep+**mask*_is_news*sep*";
    let task = TaskDefinition::new("own", template, "bad,good").unwrap();
    let example = Example { texts: vec!["world".to_string()], choices: Vec::new(), label: 1, row: 2 };
    let prompt = |segments: bool| {
        let task = task.clone().with(&Overrides { segments: Some(segments), ..Overrides::default() }).unwrap();
        encode(&task, &tokenizer, std::slice::from_ref(&example), Path::new("x.csv")).unwrap().remove(0)
    };
    assert_eq!(prompt(false).segment_ids, [0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(prompt(true).segment_ids, [0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(prompt(true).mask_pos, 3);
}

#[test]
fn one_character_literals_and_label_parts_are_single_tokens() {
    let tokenizer = word_piece(&["é", "good", "bad"]);
    let ids = |template: &str| {
        let task = TaskDefinition::new("own", template, "bad,good").unwrap();
        let example = Example { texts: vec!["a".to_string()], choices: Vec::new(), label: 0, row: 2 };
        encode(&task, &tokenizer, &[example], Path::new("x.csv")).unwrap().remove(0).input_ids
    };
    let token = |name: &str| tokenizer.token_to_id(name).unwrap();
    assert_eq!(ids("*mask*é*sent_0*"), [token("[MASK]"), token("é"), token("a")]);
    assert_eq!(ids("*mask*ß*sent_0*"), [token("[MASK]"), token("[UNK]"), token("a")]);
    assert_eq!(ids("*mask**label_1**sent_0*"), [token("[MASK]"), token("good"), token("a")]);
}

#[test]
fn a_vocabulary_file_follows_its_tokenizer_config() {
    let plain = word_piece(&["great"]);
    assert_eq!(plain.encode(" GREAT").unwrap(), plain.encode("great").unwrap());
    let config = r#"{"do_lower_case": false, "mask_token": {"content": "@", "lstrip": false}, "cls_token": "[CLS]"}"#;
    let directory = word_piece_directory(&["great"], config);
    let cased = PromptTokenizer::from_dir(directory.path()).unwrap();
    assert_ne!(cased.encode("GREAT").unwrap(), cased.encode("great").unwrap());
    assert_eq!(cased.special(SpecialToken::Mask), cased.token_to_id("@"));
    assert_eq!(cased.vocab_size(), 5 + 2 * 94 + 1);
    assert_eq!(cased.max_token_id(), 5 + 2 * 94);
    // The names of special tokens in a text are these tokens, as in transformers.
    assert!(plain.encode("a [MASK] and [SEP]").unwrap().contains(&plain.require(SpecialToken::Mask).unwrap()));
}

#[test]
fn the_bert_vocabulary_as_a_plain_list_gives_the_same_tokens() {
    let (Some(file), Some(data)) = (shared("oracle/bert-uncased-tokenizer.json"), shared("data/k-shot-1k-test")) else {
        return;
    };
    let json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut vocab: Vec<_> = json["model"]["vocab"].as_object().unwrap().iter().collect();
    vocab.sort_by_key(|(_, id)| id.as_u64());
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = vocab.iter().map(|(token, _)| token.as_str()).collect();
    fs::write(directory.path().join("vocab.txt"), lines.join("\n")).unwrap();
    let listed = PromptTokenizer::from_dir(directory.path()).unwrap();
    let stored = PromptTokenizer::from_tokenizer_file(&file).unwrap();
    assert_eq!(listed.vocab_size(), stored.vocab_size());
    for name in ["QNLI", "QQP", "cr"] {
        let task = builtin(name).unwrap();
        let splits = Splits::from_directory(&data, &task, 16, 21, None).unwrap();
        let prompted = |tokenizer| PromptedTask::new(&task, tokenizer, &splits).unwrap();
        assert_eq!(prompted(&listed), prompted(&stored), "{name}");
    }
}

#[test]
fn an_own_file_is_divided_by_label_and_seed() {
    let task = builtin("SST-2").unwrap();
    let file = format!("{FIXTURES}/SST-2/16-13/test.tsv");
    let rows = |split: &kernelview::task::Split| split.examples.iter().map(|example| example.row).collect::<Vec<_>>();
    let own = OwnSplit { k: 4, seed: 7, test_limit: None, dev: None, test: None };
    let splits = Splits::from_file(&file, &task, &own).unwrap();
    assert_eq!([&splits.train, &splits.dev, &splits.test].map(|split| split.examples.len()), [8, 8, 80]);
    let labels: Vec<_> = splits.train.examples.iter().map(|example| example.label).collect();
    assert_eq!(labels, [0, 0, 0, 0, 1, 1, 1, 1]);
    let mut all = [rows(&splits.train), rows(&splits.dev), rows(&splits.test)].concat();
    all.sort_unstable();
    assert_eq!(all, (2..98).collect::<Vec<_>>());
    assert!(rows(&splits.test).is_sorted());
    // The choice of rows is part of the contract: the same everywhere, and another with another seed.
    insta::assert_snapshot!(format!("{:?}", rows(&splits.train)), @"[18, 88, 35, 39, 53, 86, 68, 11]");
    assert_eq!(Splits::from_file(&file, &task, &own).unwrap(), splits);
    let other = Splits::from_file(&file, &task, &OwnSplit { seed: 8, ..own.clone() }).unwrap();
    assert_ne!(rows(&other.train), rows(&splits.train));

    let limited = Splits::from_file(&file, &task, &OwnSplit { test_limit: Some(10), ..own.clone() }).unwrap();
    assert_eq!((&limited.train, limited.test.examples.len()), (&splits.train, 10));
    assert!(rows(&limited.test).is_sorted() && rows(&limited.test).iter().all(|row| rows(&splits.test).contains(row)));

    let dev = PathBuf::from(format!("{FIXTURES}/SST-2/16-13/dev.tsv"));
    let separate = OwnSplit { k: 48, dev: Some(dev.clone()), test: Some(dev.clone()), ..own };
    let separate = Splits::from_file(&file, &task, &separate).unwrap();
    assert_eq!([&separate.train, &separate.dev, &separate.test].map(|split| split.examples.len()), [96, 32, 32]);
    assert_eq!(separate.dev.source, dev);
}
