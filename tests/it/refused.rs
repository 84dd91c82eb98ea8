//! Everything that is refused by name, with its message: `docs/refused.md` is made from the program's messages to each input
//! (`KERNELVIEW_BLESS=1` writes it), so that it cannot become outdated.

mod models;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::tokenizers::lay_out;
use kernelview::cli::spoken;
use kernelview::task::KNOWN_VARIABLES;
use kernelview::task::{
    ColumnNames, Example, Overrides, PromptTokenizer, PromptedTask, Reading, Split, Splits, TaskDefinition,
    label_word_tokens, parse_examples,
};
use serde_json::{Value, json};

use models::{adapters, gguf_files, settings, weights};

/// Stands in place of a message if nothing was refused.
const READ: &str = "(it was read)";

/// What is wrong, and the message.
type Refusal = (&'static str, String);

type Answer<T> = Result<T, kernelview::error::Error>;

/// The program's message for refused input, without the location of the files.
fn said<T>(answer: Answer<T>, place: &Path) -> String {
    let Err(error) = answer else { return READ.to_owned() };
    assert_eq!(error.exit_code(), 2, "{error}");
    let place = place.display().to_string();
    spoken(&error.to_string()).replace(&format!("{place}/"), "").replace(&place, "DIR")
}

fn tokenizers() -> Vec<Refusal> {
    let read = |base: &str, overlay: Value| {
        let directory = lay_out(&json!({"base": base, "overlay": overlay}));
        said(PromptTokenizer::from_dir(directory.path()), directory.path())
    };
    let config = |fields: Value| json!({"tokenizer_config.json": fields});
    let bert = |base: &str, fields: Value| {
        let mut all = json!({"tokenizer_class": "BertTokenizer"});
        all.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        read(base, config(all))
    };
    let with_file = |base: &str, overlay: Value, name: &str, content: &str| {
        let directory = lay_out(&json!({"base": base, "overlay": overlay}));
        fs::write(directory.path().join(name), content).expect("written");
        said(PromptTokenizer::from_dir(directory.path()), directory.path())
    };
    let moved = json!({"content": "Covid19", "lstrip": false, "normalized": true, "rstrip": false, "single_word": false, "special": false});
    let no_normalizer = || {
        let directory = lay_out(
            &json!({"base": "word-piece-fast", "overlay": config(json!({"tokenizer_class": "BertTokenizer"}))}),
        );
        let path = directory.path().join("tokenizer.json");
        let mut stored: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        stored["normalizer"] = Value::Null;
        fs::write(&path, stored.to_string()).expect("written");
        said(PromptTokenizer::from_dir(directory.path()), directory.path())
    };
    let dropping = || {
        let directory = lay_out(&json!({"base": "gpt2", "overlay": {}}));
        let path = directory.path().join("tokenizer.json");
        let mut stored: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        stored["model"]["dropout"] = 0.1.into();
        fs::write(&path, stored.to_string()).expect("written");
        said(PromptTokenizer::from_dir(directory.path()), directory.path())
    };
    let empty = tempfile::tempdir().expect("a temporary directory");
    fs::write(empty.path().join("config.json"), json!({"model_type": "gpt2"}).to_string()).expect("written");
    vec![
        ("an unknown class", read("word-piece", config(json!({"tokenizer_class": "KoBertTokenizer"})))),
        ("no tokenizer at all", said(PromptTokenizer::from_dir(empty.path()), empty.path())),
        (
            "a tiktoken vocabulary",
            with_file(
                "llama",
                config(json!({"tokenizer_class": "LlamaTokenizer"})),
                "tokenizer.model",
                "IQ== 0\nIg== 1\n",
            ),
        ),
        (
            "a Git LFS pointer",
            with_file("gpt2", json!({}), "tokenizer.json", "version https://git-lfs.github.com/spec/v1\n"),
        ),
        ("tokens that are random", dropping()),
        ("a field that reads slow files", bert("word-piece-fast", json!({"from_slow": true}))),
        ("a field that changes Mistral's pattern", bert("word-piece-fast", json!({"fix_mistral_regex": true}))),
        (
            "a field that names another file",
            bert("word-piece-fast", json!({"tokenizer_file": "/other/tokenizer.json"})),
        ),
        ("arguments of a constructor", bert("word-piece-fast", json!({"init_inputs": ["vocab.txt"]}))),
        ("BERT's class on a file without a normalizer", no_normalizer()),
        (
            "BERT's settings contradicting tokenizer.json, with an added token",
            bert("word-piece-fast", json!({"do_lower_case": false, "added_tokens_decoder": {"900": moved}})),
        ),
        ("BERT's settings as null", bert("word-piece-fast", json!({"do_lower_case": null}))),
        (
            "Llama's add_prefix_space contradicting tokenizer.json, without tokenizer.model",
            read(
                "llama-fast",
                config(json!({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false, "legacy": false})),
            ),
        ),
        (
            "add_bos_token for a class without it",
            read("gpt2", config(json!({"tokenizer_class": "CodeGenTokenizer", "add_bos_token": true}))),
        ),
        (
            "add_bos_token without a bos_token",
            read(
                "gpt2",
                config(json!({"tokenizer_class": "GPTNeoXTokenizer", "add_bos_token": true, "bos_token": null})),
            ),
        ),
        (
            "add_prefix_space as null with slow files",
            read(
                "gpt2",
                json!({"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": null}, "tokenizer.json": null}),
            ),
        ),
        (
            "add_prefix_space for Qwen2 with slow files",
            read(
                "qwen2",
                json!({"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": true}, "tokenizer.json": null}),
            ),
        ),
    ]
}

/// The message for a task of one text with a tokenizer of the fixtures, for a causal or a masked model.
fn prompt(base: &str, overlay: &Value, reading: Reading, task: Answer<TaskDefinition>) -> String {
    let directory = lay_out(&json!({"base": base, "overlay": overlay}));
    let tokenizer = PromptTokenizer::from_dir(directory.path()).expect("a tokenizer");
    let task = match task {
        Ok(task) => task,
        refused => return said(refused, directory.path()),
    };
    let choices = vec!["the same".to_owned(), "The same".to_owned()];
    let choices = if task.template.choice().is_some() { choices } else { Vec::new() };
    let split = |row| Split {
        examples: vec![Example {
            texts: vec!["the weather of the north".into()],
            choices: choices.clone(),
            label: 0,
            row,
        }],
        source: "rows.tsv".into(),
        digest: String::new(),
    };
    let splits = Splits { train: split(2), dev: split(3), test: split(4), notes: Vec::new() };
    said(PromptedTask::read_at(reading, &task, &tokenizer, &splits), directory.path())
}

fn prompts() -> Vec<Refusal> {
    let nowhere = Path::new("nowhere");
    let plain = json!({"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}});
    let new = |template: &str, words: &str| TaskDefinition::new("own", template, words);
    let with = |template: &str, overrides: Overrides| new(template, "the,north").and_then(|task| task.with(&overrides));
    let masked = |task| prompt("word-piece", &plain, Reading::Mask, task);
    let mut talking = plain.clone();
    talking["tokenizer_config.json"]["chat_template"] = "{{ messages[0]['content'] }}".into();
    let causal = |task| prompt("llama3", &json!({}), Reading::LastToken, task);
    let chat = |template: &str| with(template, Overrides { chat: Some(true), ..Overrides::default() });
    let several = |template: &Value| {
        let config =
            json!({"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}});
        prompt("llama3", &config, Reading::LastToken, chat("*sent_0**mask*"))
    };
    let words = |words: &str| {
        let directory = lay_out(&json!({"base": "word-piece", "overlay": plain}));
        let tokenizer = PromptTokenizer::from_dir(directory.path()).expect("a tokenizer");
        said(new("*mask**sent_0*", words).and_then(|task| label_word_tokens(&task, &tokenizer)), directory.path())
    };
    vec![
        ("a template without a mask", said(new("*sent_0*", "a,b"), nowhere)),
        ("an unknown variable", said(new("*sent_x**mask*", "a,b"), nowhere)),
        ("a misspelt variable", said(new("*snet_0**sent_0**mask*", "a,b"), nowhere)),
        ("an unknown escape", said(new(r"\x*sent_0**mask*", "a,b"), nowhere)),
        ("a mask by its name", masked(new("[MASK]*sent_0**mask*", "the,north"))),
        ("a text after a causal model's mask", causal(new("*mask**sent_0*", "the,north"))),
        (
            "a mask beyond the longest prompt",
            masked(with("*sent_0**mask*", Overrides { max_length: Some(3), ..Overrides::default() })),
        ),
        ("a chat without a chat template", causal(chat("*sent_0**mask*"))),
        (
            "several chat templates, none of them the main one",
            several(&json!([{"name": "tools", "template": "{{ messages }}"}])),
        ),
        ("a chat template that changes the message", several(&json!("{{ messages[0].content | upper }}"))),
        ("a chat template that writes the message twice", several(&json!("{{ messages[0].content * 2 }}"))),
        ("a chat for a masked model", prompt("word-piece", &talking, Reading::Mask, chat("*sent_0**mask*"))),
        ("`reply` without a chat", causal(new("*sent_0**reply**mask*", "the,north"))),
        ("a label word outside the vocabulary", words("the,猫")),
        ("the name of a token that there is not", words("the,[X]")),
        ("two labels with the same word", words("the,The")),
        ("labels and words that do not match", said(new("*sent_0**mask*", "0=a,b"), nowhere)),
        ("a single label", said(new("*sent_0**mask*", "a"), nowhere)),
        ("a choice and a mask", said(new("*sent_0**mask**choice*", "a,b"), nowhere)),
        ("choices with the same tokens", masked(new("*sent_0**choice*", "a,b"))),
        (
            "a new head for a multiple choice",
            prompt("word-piece", &plain, Reading::FirstTokenAlone, new("*sent_0**choice*", "a,b")),
        ),
    ]
}

fn data() -> Vec<Refusal> {
    let read = |file: &str, bytes: &[u8], task: &TaskDefinition| {
        said(parse_examples(Path::new(file), bytes, task), Path::new("nowhere"))
    };
    let own = TaskDefinition::new("own", "*sent_0**mask*", "0=bad,1=good").expect("a task");
    let two = TaskDefinition::new("own", "*sent_0**mask**sent_1*", "0=bad,1=good").expect("a task");
    let choice = TaskDefinition::new("own", "*sent_0**choice*", "e.0,e.1").expect("a task");
    vec![
        ("UTF-16", read("t.csv", b"\xff\xfel\0a\0", &own)),
        ("UTF-16 without a mark", read("t.csv", b"l\0a\0", &own)),
        ("UTF-32", read("t.csv", b"\xff\xfe\0\0l\0\0\0", &own)),
        ("a compressed file", read("t.csv", b"\x1f\x8b\x08\0", &own)),
        ("a Parquet file", read("t.csv", b"PAR1\x15\0", &own)),
        ("a spreadsheet", read("t.csv", b"PK\x03\x04", &own)),
        ("text that is not UTF-8", read("t.csv", b"label,text\n1,caf\xe9\n", &own)),
        ("a NUL character", read("t.csv", b"label,text\n1,fi\0ne\n", &own)),
        ("more fields than columns", read("t.csv", b"label,text\n0,great, and funny\n", &own)),
        ("fewer fields than columns", read("t.csv", b"label,text\n0\n", &own)),
        ("a field that comes twice", read("t.jsonl", br#"{"text": "fine", "label": 1, "text": "good"}"#, &own)),
        ("an unclosed quotation mark", read("t.tsv", b"label\ttext\n0\t\"open\n", &own)),
        ("a quotation mark closed before the field ends", read("t.csv", b"label,text\n1,\"fine\" he said\n", &own)),
        ("a space before a quotation mark", read("t.csv", b"label,text\n1, \"fine\"\n", &own)),
        ("a missing column", read("t.csv", b"label,sentence\n1,fine\n", &own)),
        ("unknown columns", said(ColumnNames::parse("words=a"), Path::new("nowhere"))),
        ("some columns by number", said(ColumnNames::parse("text=3,label=label"), Path::new("nowhere"))),
        ("an empty text", read("t.csv", b"label,text\n1,\n", &own)),
        ("a blank second text that is used", read("t.tsv", b"text\ttext2\tlabel\nfine\t \t1\n", &two)),
        ("a label without a word", read("t.csv", b"label,text\n2,fine\n", &own)),
        ("a list instead of JSON lines", read("t.jsonl", b"[\n", &own)),
        ("a missing JSON field", read("t.jsonl", b"{\"text\": \"a\"}\n", &own)),
        ("a JSON field that is not a text", read("t.jsonl", b"{\"text\": [\"a\"], \"label\": 1}\n", &own)),
        ("no rows", read("t.csv", b"label,text\n", &own)),
        (
            "more choices than label words",
            read("t.jsonl", b"{\"text\": \"a\", \"e\": [\"b\", \"c\", \"d\"], \"label\": 1}\n", &choice),
        ),
        ("an empty choice", read("t.jsonl", b"{\"text\": \"a\", \"e\": [\"b\", \"\"], \"label\": 1}\n", &choice)),
        ("two equal choices", read("t.jsonl", b"{\"text\": \"a\", \"e\": [\"b\", \"b\"], \"label\": 1}\n", &choice)),
    ]
}

const INTRODUCTION: &str = "# Refused input and its messages

Input that is ambiguous, or that asks for a different function than this program computes, is refused with exit code 2 before anything
is written. This page lists the program's message for each kind (generated and checked by `tests/it/refused.rs`); paths of files and
the list of a template's variables are omitted. The reasons are in [tokenizers, prompts and data files](tokenizers.md), [checkpoints and
adapters](checkpoints.md) and [architectures](architectures.md).
";

/// A message in a table: backslashes are plain outside of code.
fn cell(message: &str) -> String {
    let message = message.replace(KNOWN_VARIABLES, "…").replace('\n', " ");
    let parts = message.split('`').enumerate();
    let parts: Vec<String> =
        parts.map(|(i, part)| if i % 2 == 0 { part.replace('\\', "\\\\") } else { part.to_owned() }).collect();
    parts.join("`").replace('|', "\\|")
}

#[test]
fn the_table_of_refusals_is_what_is_said() {
    crate::common::one_thread();
    let sections = [
        ("Tokenizers", tokenizers()),
        ("Templates, chats and label words", prompts()),
        ("Data files", data()),
        ("Weights", weights()),
        ("Settings", settings()),
        ("Adapters", adapters()),
        ("GGUF", gguf_files()),
    ];
    let mut page = INTRODUCTION.to_owned();
    for (title, rows) in sections {
        let _ = write!(page, "\n## {title}\n\n| what | message |\n|---|---|\n");
        for (what, message) in rows {
            assert_ne!(message, READ, "{what}");
            let message = cell(&message);
            let _ = writeln!(page, "| {what} | {message} |");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/refused.md");
    if std::env::var_os("KERNELVIEW_BLESS").is_some() {
        fs::write(&path, &page).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    for (found, expected) in page.lines().zip(committed.lines()) {
        assert_eq!(found, expected, "docs/refused.md; KERNELVIEW_BLESS=1 writes it anew");
    }
    assert_eq!(page.lines().count(), committed.lines().count(), "docs/refused.md; KERNELVIEW_BLESS=1 writes it anew");
}
