//! Tokenizers of many classes, with various settings, give transformers' ids or are refused.
//!
//! The cases and their ids are in `fixtures/tokenizers`, made there by `make.py` with transformers 4.57.6.

use std::fs;
use std::path::{Path, PathBuf};

use kernelview::error::Error;
use kernelview::task::{
    Example, Overrides, PromptTokenizer, PromptedTask, Reading, Split, Splits, TaskDefinition, label_word_tokens,
};
use serde_json::{Value, json};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers")
}

/// The case's directory: its base, overlaid with the files of the case.
pub fn lay_out(case: &Value) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let base = fixtures().join("bases").join(case["base"].as_str().expect("a base"));
    for entry in fs::read_dir(base).expect("the base") {
        let path = entry.expect("a file").path();
        fs::copy(&path, directory.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    for (name, value) in case["overlay"].as_object().expect("an overlay") {
        let path = directory.path().join(name);
        if value.is_null() {
            fs::remove_file(path).expect("a file of the base");
        } else {
            fs::write(path, value.to_string()).expect("written");
        }
    }
    directory
}

pub fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().expect("ids").iter().map(|id| id.as_i64().expect("an id")).collect()
}

/// The message of a refusal, `None` if the ids are right; as an error, what is wrong with the case.
fn judge(case: &Value, texts: &[Value]) -> Result<Option<String>, String> {
    let directory = lay_out(case);
    let tokenizer = match PromptTokenizer::from_dir(directory.path()) {
        Ok(tokenizer) => tokenizer,
        Err(error @ Error::Format { .. }) => return Ok(Some(error.to_string())),
        Err(error) => return Err(format!("not a refusal that names a file: {error}")),
    };
    let Some(right) = case["ids"].as_array() else {
        // transformers requires Llama's slow file even if tokenizer.json does what the field says.
        if case["refused"].as_str().is_some_and(|said| said.contains("model_file or model_proto")) {
            return Ok(None);
        }
        return Err(format!("transformers refuses it: {}", case["refused"]));
    };
    for (text, right) in texts.iter().map(|text| text.as_str().expect("a text")).zip(right) {
        let found = tokenizer.encode(text).map_err(|error| error.to_string())?;
        if found != numbers(right) {
            let shown = |ids: Vec<i64>| -> Vec<String> {
                ids.into_iter().map(|id| tokenizer.id_to_token(id).unwrap_or_else(|| id.to_string())).collect()
            };
            return Err(format!("{text:?}: {:?}, expected {:?}", shown(found), shown(numbers(right))));
        }
    }
    let beginning = tokenizer.beginning().map_err(|error| error.to_string())?;
    if beginning != numbers(&case["beginning"]) {
        return Err(format!("texts begin with {beginning:?}, expected {}", case["beginning"]));
    }
    Ok(None)
}

#[test]
fn ids_are_those_of_transformers_or_the_tokenizer_is_refused() {
    let corpus: Value =
        serde_json::from_slice(&fs::read(fixtures().join("cases.json")).expect("the corpus")).expect("JSON");
    let texts = corpus["texts"].as_array().expect("texts");
    let cases = corpus["cases"].as_array().expect("cases");
    assert!(cases.len() >= 300);
    // The only input that is refused here although transformers reads it, because its answer depends on the library's version.
    let disagreement = "versions of the tokenizers library disagree";
    let (mut wrong, mut refused_alone, mut disagreed, mut both) = (Vec::new(), Vec::new(), 0, 0);
    for case in cases {
        let name = format!("{} {}", case["base"], case["overlay"]);
        match judge(case, texts) {
            Ok(Some(refusal)) if case["ids"].is_array() => {
                disagreed += usize::from(refusal.contains(disagreement));
                if !refusal.contains(disagreement) {
                    refused_alone.push(format!("{name}: {refusal}"));
                }
            }
            Ok(Some(_)) => both += 1,
            Ok(None) => {}
            Err(problem) => wrong.push(format!("{name}: {problem}")),
        }
    }
    let listed = |list: &[String]| list.join("\n");
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), listed(&wrong));
    assert!(
        refused_alone.is_empty(),
        "{} cases refused that transformers reads:\n{}",
        refused_alone.len(),
        listed(&refused_alone)
    );
    // The documentation's statement about them.
    let said = fs::read_to_string(fixtures().join("../../docs/tokenizers.md")).expect("the documentation");
    let of_both = cases.iter().filter(|case| !case["ids"].is_array()).count();
    for words in [
        format!("{} cases made by transformers", cases.len()),
        format!("{texts} texts each", texts = texts.len()),
        format!("Transformers itself refuses {of_both} of the cases, of which {both} are refused here too"),
        format!("{disagreed} that it reads are refused here"),
    ] {
        assert!(said.replace('\n', " ").contains(&words), "docs/tokenizers.md does not say: {words}");
    }
}

/// Prompts of a causal model for one text, with their notes.
fn prompts(
    tokenizer: &PromptTokenizer,
    template: &str,
    chat: bool,
    text: &str,
) -> Result<(Vec<i64>, Vec<String>), Error> {
    shortened(tokenizer, template, (chat, None), text)
}

/// The same of at most so many tokens.
fn shortened(
    tokenizer: &PromptTokenizer,
    template: &str,
    (chat, max_length): (bool, Option<usize>),
    text: &str,
) -> Result<(Vec<i64>, Vec<String>), Error> {
    let task = TaskDefinition::new("own", template, "0=was,1=were")?;
    let task = task.with(&Overrides { chat: Some(chat), max_length, ..Overrides::default() })?;
    let split = || Split {
        examples: vec![Example { texts: vec![text.to_string()], choices: Vec::new(), label: 0, row: 2 }],
        source: PathBuf::from("own.tsv"),
        digest: String::new(),
    };
    let splits = Splits { train: split(), dev: split(), test: split(), notes: Vec::new() };
    let prompted = PromptedTask::read_at(Reading::LastToken, &task, tokenizer, &splits)?;
    Ok((prompted.train[0].input_ids.clone(), prompted.notes))
}

fn load(base: &str, overlay: &Value) -> PromptTokenizer {
    let directory = lay_out(&json!({"base": base, "overlay": overlay}));
    PromptTokenizer::from_dir(directory.path()).expect("a tokenizer")
}

#[test]
fn a_chat_is_tokenized_as_apply_chat_template_does() {
    let corpus: Value =
        serde_json::from_slice(&fs::read(fixtures().join("cases.json")).expect("the corpus")).expect("JSON");
    for chat in corpus["chats"].as_array().expect("chats") {
        let directory = lay_out(chat);
        let tokenizer = PromptTokenizer::from_dir(directory.path()).expect("a tokenizer");
        let text = chat["text"].as_str().expect("a text");
        let about = format!("{} {text:?}", chat["base"]);
        let (ids, notes) = prompts(&tokenizer, "*sent_0*_Is_it_good?*mask*", true, text).expect(&about);
        assert_eq!(ids, numbers(&chat["ids"]), "{about}");
        assert!(notes.is_empty(), "{about}: {notes:?}");
        let (ids, _) = prompts(&tokenizer, "*sent_0*_Is_it_good?*reply*It_was*mask*", true, text).expect(&about);
        assert_eq!(ids, numbers(&chat["answered"]), "{about}");
    }
}

/// Chat templates that strip the message or look at it, write special tokens by other names, or use Python's functions.
#[test]
fn a_message_is_written_as_its_chat_template_writes_it() {
    let corpus: Value =
        serde_json::from_slice(&fs::read(fixtures().join("cases.json")).expect("the corpus")).expect("JSON");
    let messages = corpus["messages"].as_array().expect("messages");
    assert!(messages.len() >= 40);
    for message in messages {
        let directory = lay_out(message);
        let tokenizer = PromptTokenizer::from_dir(directory.path()).expect("a tokenizer");
        let text = message["text"].as_str().expect("a text");
        let about = format!("{} {text:?}", message["overlay"]["tokenizer_config.json"]["chat_template"]);
        let (ids, _) = prompts(&tokenizer, "*sent_0**mask*", true, text).expect(&about);
        assert_eq!(ids, numbers(&message["ids"]), "{about}");
    }
}

/// Tokens that reach from a text into the template are the template's: truncation shortens the text before them.
#[test]
fn truncation_leaves_a_chat_template_whole() {
    let template = "{{ messages[0].content }}e old king";
    let config = json!({"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "chat_template": template}});
    let tokenizer = load("gpt2", &config);
    let of = |most| shortened(&tokenizer, "*sent_0**mask*", (true, most), "She was here, and th").expect("a prompt").0;
    let whole = of(None);
    let rest = tokenizer.encode(" the old king").expect("tokens");
    assert!(whole.ends_with(&rest), "{whole:?} ends with {rest:?}");
    for fewer in 1..=3 {
        let cut = of(Some(whole.len() - fewer));
        let text = whole.len() - rest.len() - fewer;
        assert_eq!(cut, [&whole[..text], &rest[..]].concat());
    }
}

#[test]
fn chats_that_cannot_be_are_refused() {
    let said = |overlay: &Value, template: &str, chat: bool| {
        prompts(&load("llama3", overlay), template, chat, "a").expect_err("refused").to_string()
    };
    let config = |template: &str| json!({"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}});
    let none = said(&config(""), "*sent_0**mask*", true);
    assert!(none.contains("does not write the user's message exactly once"), "{none}");
    let absent = said(&json!({}), "*sent_0**mask*", true);
    assert!(absent.contains("has no chat template"), "{absent}");
    let failing = said(&config("{{ raise_exception('no users here') }}"), "*sent_0**mask*", true);
    assert!(failing.contains("fails: ") && failing.contains("no users here"), "{failing}");
    let escaped = said(&config(r"{{ '\x41' + messages[0].content }}"), "*sent_0**mask*", true);
    assert!(escaped.contains(r"the escape `\\x` is not supported"), "{escaped}");
    let no_chat = said(&json!({}), "*sent_0**reply*It_was*mask*", false);
    assert!(no_chat.contains("`reply` belongs to a chat"), "{no_chat}");
    let empty = said(&config("{{ messages[0].content }}"), "*reply**sent_0**mask*", true);
    assert!(empty.contains("nothing precedes `reply`"), "{empty}");
}

/// A prompt with the markers of a chat is tokenized as one whole text; a space in front of a word is kept if the vocabulary
/// marks spaces.
#[test]
fn templates_name_special_tokens_and_continue_texts() {
    let added = json!({"900": {"content": "<|im_start|>", "special": true, "normalized": false}, "901": {"content": "<|im_end|>", "special": true, "normalized": false}});
    let tokenizer = load(
        "gpt2",
        &json!({"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": added}}),
    );
    let template = "<|im_start|>user\n*sent_0*<|im_end|>\n<|im_start|>assistant\nIt_was*mask*";
    let (ids, _) = prompts(&tokenizer, template, false, "She was great.").expect("a prompt");
    let whole = "<|im_start|>user\nShe was great.<|im_end|>\n<|im_start|>assistant\nIt was";
    assert_eq!(ids, tokenizer.encode(whole).expect("ids"));
    let (escaped, _) = prompts(&tokenizer, &template.replace('\n', r"\n"), false, "She was great.").expect("a prompt");
    assert_eq!(escaped, ids);
    for base in ["llama-fast", "llama-fast-new", "gemma-fast"] {
        let tokenizer = load(
            base,
            &json!({"tokenizer_config.json": {"tokenizer_class": if base == "gemma-fast" { "GemmaTokenizerFast" } else { "LlamaTokenizerFast" }}}),
        );
        let (ids, _) = prompts(&tokenizer, "Text:_*sent_0*_It_was*mask*", false, "She was great.").expect("a prompt");
        let mut right = tokenizer.beginning().expect("ids");
        right.extend(tokenizer.encode("Text: She was great. It was").expect("ids"));
        assert_eq!(ids, right, "{base}");
    }
}

#[test]
fn one_character_is_its_bytes_in_a_vocabulary_of_bytes() {
    let tokenizer = load("gpt2", &json!({}));
    let bytes =
        |tokens: &[&str]| tokens.iter().map(|token| tokenizer.token_to_id(token).expect("a byte")).collect::<Vec<_>>();
    for (literal, right) in [("\n", vec!["Ċ"]), ("_", vec!["Ġ"]), (".", vec!["."]), ("é", vec!["Ã", "©"])] {
        let (ids, _) = prompts(&tokenizer, &format!("*sent_0*{literal}*mask*"), false, "a").expect("a prompt");
        assert_eq!(ids[1..], bytes(&right), "{literal:?}");
    }
}

#[test]
fn special_tokens_in_texts_and_beginnings_that_come_twice_are_told() {
    let tokenizer = load("llama-fast", &json!({"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizerFast"}}));
    let (_, plain) = prompts(&tokenizer, "*sent_0*_It_was*mask*", false, "great").expect("a prompt");
    assert!(plain.is_empty(), "{plain:?}");
    let (_, special) = prompts(&tokenizer, "*sent_0*_It_was*mask*", false, "a </s> b").expect("a prompt");
    assert!(special[0].contains("contain a special token") && special[0].contains("`</s>` in row 2"), "{special:?}");
    let (ids, twice) = prompts(&tokenizer, "<s>*sent_0*_It_was*mask*", false, "great").expect("a prompt");
    assert_eq!(ids[0], ids[1]);
    assert!(twice[0].contains("begin with the tokenizer's first token twice"), "{twice:?}");
}

#[test]
fn label_words_are_found_as_people_write_them() {
    let ids = |tokenizer: &PromptTokenizer, words: &str| {
        let found = label_word_tokens(&TaskDefinition::new("own", "*sent_0**mask*", words).expect("a task"), tokenizer);
        found.map(|words| words.concat())
    };
    for base in ["llama-fast", "llama-fast-new"] {
        let llama = load(base, &json!({"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizerFast"}}));
        let right: Vec<i64> = ["▁was", "▁has"].iter().map(|token| llama.token_to_id(token).expect("a token")).collect();
        for words in ["was,has", "_was,_has", "▁was,▁has"] {
            assert_eq!(ids(&llama, words).expect("ids"), right, "{base} {words}");
        }
    }
    let gpt2 = load("gpt2", &json!({}));
    let right: Vec<i64> = ["Ġthe", "Ġhas"].iter().map(|token| gpt2.token_to_id(token).expect("a token")).collect();
    for words in ["the,has", "_the,_has", "Ġthe,Ġhas"] {
        assert_eq!(ids(&gpt2, words).expect("ids"), right, "{words}");
    }
    // Chinese has no spaces: the token is the word without one.
    let directory = lay_out(&json!({"base": "gpt2", "overlay": {}}));
    let path = directory.path().join("tokenizer.json");
    let mut stored: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    let model = &mut stored["model"];
    for (token, id) in [("å¥", 900), ("å¥½", 901), ("åĿ", 902), ("åĿı", 903)] {
        model["vocab"][token] = id.into();
    }
    let merges = model["merges"].as_array_mut().expect("merges");
    merges.extend([json!(["å", "¥"]), json!(["å¥", "½"]), json!(["å", "Ŀ"]), json!(["åĿ", "ı"])]);
    fs::write(&path, stored.to_string()).expect("written");
    let chinese = PromptTokenizer::from_dir(directory.path()).expect("a tokenizer");
    assert_eq!(ids(&chinese, "好,坏").expect("ids"), [901, 903]);
    // The same for a word of several tokens; other words follow a space.
    let names = |words: &str| -> Vec<String> {
        let ids = ids(&chinese, words).expect("ids");
        ids.iter().map(|id| chinese.id_to_token(*id).expect("a token")).collect()
    };
    assert_eq!(names("好,不好"), ["å¥½", "ä", "¸", "į", "å¥½"]);
    assert_eq!(names("_好,the_the"), ["Ġ", "å¥½", "Ġthe", "_", "t", "he"]);
    assert_eq!(names("好,the the")[1..], ["Ġthe", "Ġthe"]);
}
