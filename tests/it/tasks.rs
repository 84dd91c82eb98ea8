//! The tasks' fixtures, every bad input with its message, and laws on random texts.

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

/// A tokenizer with these words; other lower-case words fall apart into characters.
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
    // The tokens' names in a text are these tokens, as transformers reads them.
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

/// The message of an error that must be one of bad input (exit status 2).
fn message<T>(result: Result<T, Error>) -> String {
    let Err(error) = result else { panic!("must be refused") };
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

#[test]
fn bad_data_files_are_refused_with_row_and_way_out() {
    let sst = builtin("SST-2").unwrap();
    let mrpc = builtin("MRPC").unwrap();
    let mr = builtin("mr").unwrap();
    let own = TaskDefinition::new("own", "*sent_0**mask*", "negative=bad,positive=good").unwrap();
    let pair = TaskDefinition::new("own", "*sent_0**mask**sent_1*", "bad,good").unwrap();
    let refused =
        |task: &TaskDefinition, file: &str, bytes: &[u8]| message(parse_examples(Path::new(file), bytes, task));

    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\nfine\t1\nodd\t7\n"), @"t.tsv, row 3: label `7` has no label word; the labels of task `SST-2` are 0=terrible, 1=great; correct the row, or give every label a word (`7=WORD`) in the label words");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\nfine 1\n"), @"t.tsv, row 2: has 1 column(s), but task `SST-2` reads text from column 1 and the label from column 2");
    insta::assert_snapshot!(refused(&mrpc, "t.tsv", b"Quality\t#1\n1\t2\t3\tone\n"), @"t.tsv, row 2: has 4 fields, but the file has 2 columns: a text with the separator in it must stand in quotation marks (or, where nothing is quoted, must not hold it)");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b""), @"t.tsv: has no rows of data for task `SST-2`");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\n"), @"t.tsv: has no rows of data for task `SST-2`");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\nfine\t1\nna\xefve\t1\n"), @"t.tsv, row 3: is not UTF-8 text; convert the file, for instance with `iconv -t UTF-8`");
    insta::assert_snapshot!(refused(&mr, "t.csv", b"1,fine\n\n\n0,\"two\nlines\"\n2,odd\n"), @"t.csv, row 6: label `2` has no label word; the labels of task `mr` are 0=terrible, 1=great; correct the row, or give every label a word (`2=WORD`) in the label words");
    insta::assert_snapshot!(refused(&mr, "t.csv", b"1,fine\n0,\"open\n1,other\n"), @"t.csv, row 2: a quotation mark opens here and is not closed in the row; write a quotation mark inside a quoted text twice, and a text that begins with one in quotation marks");
    insta::assert_snapshot!(refused(&own, "t.csv", b"sentence,label\nfine,positive\n"), @"t.csv, row 1: the header has the columns `sentence`, `label`, but `text` is missing; name the columns text, text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a header)");
    insta::assert_snapshot!(refused(&own, "t.csv", b"text\nfine\n"), @"t.csv, row 1: the header has the columns `text`, but `label` is missing; name the columns text, text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a header)");
    insta::assert_snapshot!(refused(&pair, "t.tsv", b"text\tlabel\nfine\t1\n"), @"t.tsv, row 1: the header has the columns `text`, `label`, but `text2` is missing; name the columns text, text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a header)");
    insta::assert_snapshot!(refused(&own, "t.csv", b"label,text\npositive, \n"), @"t.csv, row 2: the column `text` is empty; write a text or remove the row");
    insta::assert_snapshot!(refused(&own, "t.csv", b"\n"), @"t.csv: is empty; the first line must name the columns text, label");
    assert!(message(read_examples("absent/file.csv", &own)).starts_with("cannot read absent/file.csv: "));
}

#[test]
fn bad_definitions_are_refused() {
    let over = |overrides: Overrides| message(builtin("SST-2").unwrap().with(&overrides));
    let words = |words: &str| over(Overrides { label_words: Some(words.to_string()), ..Overrides::default() });
    let template = |template: &str| over(Overrides { template: Some(template.to_string()), ..Overrides::default() });
    insta::assert_snapshot!(message(builtin("sst2")), @"there is no built-in task `sst2`; the tasks are SST-2, sst-5, mr, cr, mpqa, subj, trec, ag_news, MRPC, QQP, QNLI, RTE, MNLI, SNLI; for other data give a file of your own with a template and label words, or a task TOML");
    insta::assert_snapshot!(words("bad,okay,good"), @"label words `bad,okay,good`: 3 word(s) for the 2 labels 0, 1; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("0=bad,good"), @"label words `0=bad,good`: some words have a label and some have none; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("0=bad,1="), @"label words `0=bad,1=`: item 2 is empty; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("very\tbad,good"), @r"label words `very	bad,good`: `very\tbad` has a line end or a tab in it; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("0=bad,0=good"), @"task `SST-2`: the label `0` has two words");
    insta::assert_snapshot!(words("0=bad"), @"task `SST-2`: 1 label word(s), but a classification needs two at least");
    insta::assert_snapshot!(template("*sent_1**mask*"), @"task `SST-2`: the template reads sent_1, but its rows have 1 text(s), from sent_0");
    insta::assert_snapshot!(template("It_was*mask*"), @"task `SST-2`: the template `It_was*mask*` reads no text (sent_0 is the first)");
    insta::assert_snapshot!(template("*sent_0**mask**label_2*"), @"task `SST-2`: the template reads label_2, but there are 2 labels, from label_0");
    insta::assert_snapshot!(over(Overrides { max_length: Some(0), ..Overrides::default() }), @"task `SST-2`: max_length must be 1 at least");
    let relabelled = Overrides { label_words: Some("1=good,0=bad".to_string()), ..Overrides::default() };
    assert_eq!(builtin("mrpc").unwrap().with(&relabelled).unwrap().label_summary(), "1=good, 0=bad");
}

#[test]
fn task_files_are_read_and_their_mistakes_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("task.toml");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        TaskDefinition::from_toml(&path)
    };
    let refused = |text: &str| message(read(text)).replace(&path.display().to_string(), "task.toml");
    let start = "name = \"reviews\"\ntemplate = \"*cls**sent_0*_It_was*mask*.*sep+*\"\n";
    let task = read(&format!(
        "{start}label_words = [\"negative=bad\", \"positive=good\"]\nfirst_sentence_limit = 50\n\
         [format]\nkind = \"tsv\"\ntexts = [0]\nlabel = -1\n"
    ))
    .unwrap();
    assert_eq!(task.label_summary(), "negative=bad, positive=good");
    assert_eq!((task.max_length, task.first_sentence_limit, task.other_sentence_limit), (128, Some(50), None));
    assert_eq!(task.format, DataFormat::Tsv { texts: vec![0], label: -1, header: true });
    let plain = read(&format!("{start}label_words = [\"bad\", \"good\"]\n")).unwrap();
    assert_eq!(
        (plain.format, plain.template),
        (DataFormat::Named, Template::parse("*cls**sent_0*_It_was*mask*.*sep+*").unwrap())
    );

    insta::assert_snapshot!(refused(&format!("{start}label_word = []\n")), @"task.toml: line 3: unknown field `label_word`, expected one of `name`, `template`, `causal_template`, `label_words`, `max_length`, `first_sentence_limit`, `other_sentence_limit`, `format`, `segments`, `columns`, `chat`");
    insta::assert_snapshot!(refused(start), @"task.toml: line 1: missing field `label_words`");
    insta::assert_snapshot!(refused(&format!("{start}label_words = [\"bad\", \"good\"]\n[format]\nkind = \"tsv\"\ntexts = [0]\n")), @"task.toml: line 4: missing field `label`");
    insta::assert_snapshot!(refused(&format!("{start}label_words = [\"bad\", \"good\"]\n[format]\nkind = \"json\"\n")), @"task.toml: line 5: unknown variant `json`, expected one of `tsv`, `csv`, `named`");
    insta::assert_snapshot!(refused(&format!("{start}label_words = [\"bad\"]\n")), @"task.toml: task `reviews`: 1 label word(s), but a classification needs two at least");
    let format = |fields: &str| refused(&format!("{start}label_words = [\"bad\", \"good\"]\n[format]\n{fields}\n"));
    insta::assert_snapshot!(format("kind = \"tsv\"\ntexts = [0]\nlabel = 1\ntitle = 2"), @"task.toml: line 4: unknown field `title`, expected one of `texts`, `label`, `header`");
    insta::assert_snapshot!(format("kind = \"named\"\ntexts = [0]"), @"task.toml: line 4: unknown field `texts`, there are no fields");
    insta::assert_snapshot!(refused("name = "), @"task.toml: line 1: string values must be quoted, expected literal string");
}

#[test]
fn bad_label_words_are_refused_with_their_tokens() {
    let tokenizer = word_piece(&["good", "bad", "un"]);
    let source = tokenizer.source().display().to_string();
    let refused = |words: &str| {
        let task = TaskDefinition::new("own", "*sent_0**mask*", words).unwrap();
        message(label_word_tokens(&task, &tokenizer)).replace(&source, "vocab.txt")
    };
    insta::assert_snapshot!(refused("nice,Nice"), @"vocab.txt: label `1` of task `own`: the word `Nice` is the same tokens (`n` `##i` `##c` `##e`) as `nice` of label `0`; choose another word in the label words");
    insta::assert_snapshot!(refused("good,nice 猫"), @"vocab.txt: label `1` of task `own`: the word `nice 猫` has parts that are not in the tokenizer's vocabulary; choose another word in the label words");
    insta::assert_snapshot!(refused("good,猫"), @"vocab.txt: label `1` of task `own`: the word `猫` is not in the tokenizer's vocabulary; choose another word in the label words");
    insta::assert_snapshot!(refused("good,[X]"), @"vocab.txt: label `1` of task `own`: the word `[X]` is not in the tokenizer's vocabulary; choose another word in the label words");
    insta::assert_snapshot!(refused("good,GOOD"), @"vocab.txt: label `1` of task `own`: the word `GOOD` is the same token (`good`) as `good` of label `0`; choose another word in the label words");
    let task = TaskDefinition::new("own", "*sent_0**mask*", "[CLS],.").unwrap();
    let ids = |tokens: &[&str]| tokens.iter().map(|token| tokenizer.token_to_id(token).unwrap()).collect::<Vec<_>>();
    assert_eq!(label_word_tokens(&task, &tokenizer).unwrap(), [ids(&["[CLS]"]), ids(&["."])]);
    let task = TaskDefinition::new("own", "*sent_0**mask*", "0=good,1=nice bad").unwrap();
    let expected = [ids(&["good"]), ids(&["n", "##i", "##c", "##e", "bad"])];
    assert_eq!(label_word_tokens(&task, &tokenizer).unwrap(), expected);
}

#[test]
fn bad_prompts_are_refused() {
    let tokenizer = word_piece(&[]);
    let refused = |template: &str, max_length: usize, texts: &[&str]| {
        let task = TaskDefinition::new("own", template, "a,b").unwrap();
        let task = task.with(&Overrides { max_length: Some(max_length), ..Overrides::default() }).unwrap();
        let texts = texts.iter().map(|text| (*text).to_string()).collect();
        message(encode(
            &task,
            &tokenizer,
            &[Example { texts, choices: Vec::new(), label: 0, row: 9 }],
            Path::new("own.csv"),
        ))
    };
    insta::assert_snapshot!(refused("*cls**sent_0**mask*", 6, &["abcdefg"]), @"own.csv, row 9: the mask would be token 9 of a prompt cut at 6 tokens; set setting `max_length` to 9 or more, or setting `first_sentence_limit` to 4 or less");
    insta::assert_snapshot!(refused("*cls**sent_0**sent_1**mask*", 6, &["ab", "abcdefg"]), @"own.csv, row 9: the mask would be token 11 of a prompt cut at 6 tokens; set setting `max_length` to 11 or more, or setting `other_sentence_limit` to 2 or less");
    insta::assert_snapshot!(refused("It_was*sent_0**mask*", 3, &["a"]), @"own.csv, row 9: the mask would be token 7 of a prompt cut at 3 tokens; set setting `max_length` to 7 or more");
    insta::assert_snapshot!(refused("*sent_0**sent_1**mask*", 6, &["ab"]), @"own.csv, row 9: has 1 text(s), but the template `*sent_0**sent_1**mask*` needs 2");
    insta::assert_snapshot!(refused("*sent_0**mask*the_[MASK]*", 6, &["ab"]), @"template `*sent_0**mask*the_[MASK]`: `[MASK]` is the mask of this tokenizer; write `*mask*` in its place");
}

#[test]
fn bad_tokenizers_are_refused() {
    let none = tempfile::tempdir().unwrap();
    let refused = |directory: &tempfile::TempDir| {
        message(PromptTokenizer::from_dir(directory.path())).replace(&directory.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(refused(&none), @"DIR: no tokenizer here: no `tokenizer.json` (for a PreTrainedTokenizer); save the checkpoint with its fast tokenizer, or copy the file of the model it was trained from");
    let elsewhere = word_piece_directory(&[], r#"{"mask_token": "<mask>"}"#);
    let read = PromptTokenizer::from_dir(elsewhere.path()).unwrap();
    let unknown = message(read.require(SpecialToken::Mask)).replace(&elsewhere.path().display().to_string(), "DIR");
    insta::assert_snapshot!(unknown, @r#"DIR/vocab.txt: the vocabulary has no mask_token: its class calls it `<mask>`, which is not there; if it has another name, give it as "mask_token" in `tokenizer_config.json` beside this file"#);
    insta::assert_snapshot!(refused(&word_piece_directory(&[], r#"{"unk_token": "<unk>"}"#)), @r#"DIR/vocab.txt: the vocabulary has no line `<unk>`, the token for unknown words; if it has another name, give it as "unk_token" in `tokenizer_config.json` beside this file"#);
    insta::assert_snapshot!(refused(&word_piece_directory(&[], r#"{"mask_token": 7}"#)), @"DIR/tokenizer_config.json: `mask_token` must be a string or an object with `content`");
    insta::assert_snapshot!(refused(&word_piece_directory(&[], r#"{"do_lower_case": "no"}"#)), @r#"DIR/tokenizer_config.json: `do_lower_case` must be true or false, found "no""#);
    insta::assert_snapshot!(refused(&word_piece_directory(&[], "[]")), @"DIR/tokenizer_config.json: must hold a JSON object");
    fs::write(none.path().join("tokenizer.json"), "{}").unwrap();
    assert!(refused(&none).starts_with("DIR/tokenizer.json: not a Hugging Face tokenizer file: "));
    fs::remove_file(none.path().join("tokenizer.json")).unwrap();
    fs::write(none.path().join("vocab.txt"), "[UNK]\n[CLS]\na\nb\n").unwrap();
    let tokenizer = PromptTokenizer::from_dir(none.path()).unwrap();
    let missing = message(tokenizer.require(SpecialToken::Mask)).replace(&none.path().display().to_string(), "DIR");
    insta::assert_snapshot!(missing, @r#"DIR/vocab.txt: the vocabulary has no mask_token: its class calls it `[MASK]`, which is not there; if it has another name, give it as "mask_token" in `tokenizer_config.json` beside this file"#);
}

#[test]
fn bad_splits_are_refused() {
    let task = builtin("SST-2").unwrap();
    let relative = |message: String| message.replace(FIXTURES, "DATA");
    let split = |data: &str, name: &str, k: usize| {
        relative(message(Splits::from_directory(data, &builtin(name).unwrap(), k, 13, None)))
    };
    insta::assert_snapshot!(split(FIXTURES, "SST-2", 64), @"DATA/SST-2: no split `64-13` (k = 64, seed = 13) here; there are 16-13; k up to 256 can be derived where `512-13` exists");
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().display().to_string();
    insta::assert_snapshot!(split(&path, "SST-2", 16).replace(&path, "EMPTY"), @"EMPTY: no directory for task `SST-2` here; it has no directories; check the data directory");
    fs::create_dir_all(empty.path().join("sst-2/16-13")).unwrap();
    insta::assert_snapshot!(split(&path, "SST-2", 32).replace(&path, "EMPTY"), @"EMPTY/sst-2: no split `32-13` (k = 32, seed = 13) here; there are 16-13; k up to 256 can be derived where `512-13` exists");
    fs::create_dir_all(empty.path().join("mnli/2-13")).unwrap();
    fs::copy(format!("{FIXTURES}/MNLI/2-13/train.tsv"), empty.path().join("mnli/2-13/train.tsv")).unwrap();
    insta::assert_snapshot!(split(&path, "MNLI", 2).replace(&path, "EMPTY"), @"EMPTY/mnli/2-13: no dev file here; looked for `dev.tsv`, `dev_matched.tsv`");
    assert!(split("absent", "SST-2", 16).starts_with("cannot read absent: "));

    let file = format!("{FIXTURES}/SST-2/16-13/train.tsv");
    let own = |k: usize| OwnSplit { k, seed: 1, test_limit: None, dev: None, test: None };
    insta::assert_snapshot!(relative(message(Splits::from_file(&file, &task, &own(9)))), @"DATA/SST-2/16-13/train.tsv: label `0` has 16 row(s), but k = 9 needs 9 for train and as many for dev; lower k, add rows, or give separate files for dev and test");
    insta::assert_snapshot!(relative(message(Splits::from_file(&file, &task, &own(8)))), @"DATA/SST-2/16-13/train.tsv: k = 8 takes all 32 rows and leaves none for test; lower k, add rows, or give a separate test file");
    insta::assert_snapshot!(message(Splits::from_file(&file, &task, &own(0))), @"k must be 1 at least: it is the number of rows of each label");
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
    // The choice of rows is part of the contract: the same everywhere, another one with another seed.
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

proptest! {
    /// Whatever the texts are, a prompt keeps to its limit, has one mask, and has it where it says; or it is refused.
    #[test]
    fn random_texts_give_prompts_within_their_limits(
        texts in prop::collection::vec(r"([a-zA-Z ,.?]|\[MASK\]|\[SEP\]|ß|猫|.){0,60}", 2),
        max_length in 1..80_usize,
        first in 0..40_usize,
        other in 0..20_usize,
        name in prop::sample::select(BUILTIN_NAMES.to_vec()),
    ) {
        thread_local!(static TOKENIZER: PromptTokenizer = word_piece(&LABEL_WORDS));
        let overrides = Overrides {
            max_length: Some(max_length),
            first_sentence_limit: Some(first),
            other_sentence_limit: Some(other),
            segments: Some(true),
            ..Overrides::default()
        };
        let task = builtin(name).unwrap().with(&overrides).unwrap();
        TOKENIZER.with(|tokenizer| {
            let mask = tokenizer.require(SpecialToken::Mask).unwrap();
            let sep = tokenizer.require(SpecialToken::Sep).unwrap();
            let example = Example { texts, choices: Vec::new(), label: 1, row: 3 };
            match encode(&task, tokenizer, std::slice::from_ref(&example), Path::new("x.tsv")) {
                Ok(prompts) => {
                    let prompt = &prompts[0];
                    prop_assert!(prompt.input_ids.len() <= max_length);
                    prop_assert_eq!(prompt.segment_ids.len(), prompt.input_ids.len());
                    prop_assert_eq!(prompt.input_ids[prompt.mask_pos], mask);
                    // A text may hold the mask's name, which is the mask then.
                    let named = example.texts.iter().any(|text| text.contains("[MASK]"));
                    prop_assert!(named || prompt.input_ids.iter().filter(|id| **id == mask).count() == 1);
                    prop_assert_eq!((prompt.label, prompt.row), (1, 3));
                    // Cut from the tail: the longer prompt starts with the shorter one.
                    let whole = Overrides { max_length: Some(10_000), ..Overrides::default() };
                    let whole = encode(&task.clone().with(&whole).unwrap(), tokenizer, &[example], Path::new("x.tsv"));
                    prop_assert!(whole.unwrap()[0].input_ids.starts_with(&prompt.input_ids));
                    prop_assert!(prompt.input_ids.len() == max_length || prompt.input_ids.ends_with(&[sep]));
                }
                Err(error) => prop_assert!(error.to_string().starts_with("x.tsv, row 3: the mask would be token ")),
            }
            Ok(())
        })?;
    }

    /// The limit that the message names is the right one: with it the mask stays.
    #[test]
    fn the_way_out_of_a_lost_mask_works(length in 4..60_usize, max_length in 3..20_usize) {
        let tokenizer = word_piece(&[]);
        let task = TaskDefinition::new("own", "*cls**sent_0**mask*", "a,b").unwrap();
        let run = |overrides: Overrides| {
            let task = task.clone().with(&Overrides { max_length: Some(max_length), ..overrides }).unwrap();
            let example = Example { texts: vec!["x".repeat(length)], choices: Vec::new(), label: 0, row: 2 };
            encode(&task, &tokenizer, &[example], Path::new("x.tsv"))
        };
        if let Err(error) = run(Overrides::default()) {
            let error = error.to_string();
            let limit = error.split("setting `first_sentence_limit` to ").nth(1).and_then(|rest| rest.split(' ').next());
            let limit = limit.unwrap().parse().unwrap();
            let fixed = run(Overrides { first_sentence_limit: Some(limit), ..Overrides::default() }).unwrap();
            prop_assert_eq!(fixed[0].input_ids.len(), max_length);
        }
    }

    /// A row written as quoted CSV is read back as it was, with its line, whatever the texts hold.
    #[test]
    fn rows_round_trip_through_csv(
        rows in prop::collection::vec((r#"([a-z",;'\t\n]|é|[^\x00]){0,20}[a-z]"#, r#"([a-z",\n]|[^\x00]){0,20}[a-z]"#, 0..2_usize), 1..8),
    ) {
        let task = TaskDefinition::new("own", "*sent_0**mask**sent_1*", "no=bad,yes=good").unwrap();
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["label", "text2", "text"]).unwrap();
        let mut line = 2;
        let mut expected = Vec::new();
        for (first, second, label) in rows {
            writer.write_record([&task.label_words[label].label, &second, &first]).unwrap();
            let row = line;
            line += 1 + first.matches('\n').count() + second.matches('\n').count();
            expected.push(Example { texts: vec![first, second], choices: Vec::new(), label, row });
        }
        let bytes = writer.into_inner().unwrap();
        prop_assert_eq!(parse_examples(Path::new("x.csv"), &bytes, &task).unwrap(), expected);
    }

    /// No bytes make a reader panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\t'), Just(b','), Just(b'"'), Just(b'1'), any::<u8>()], 0..60),
        name in prop::sample::select(BUILTIN_NAMES.to_vec()),
        named in any::<bool>(),
    ) {
        let mut task = builtin(name).unwrap();
        let mut content = Vec::new();
        if named {
            task.format = DataFormat::Named;
            content.extend_from_slice(b"text,text2,label\n");
        }
        content.extend_from_slice(&bytes);
        if let Ok(examples) = parse_examples(Path::new("x.csv"), &content, &task) {
            prop_assert!(examples.iter().all(|example| example.label < task.label_words.len()));
        }
    }
}
