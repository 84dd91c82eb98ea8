//! A checkpoint directory small enough to write for every test: random weights, and a tokenizer that accepts any text and has
//! one token for every label word of the built-in tasks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kernelview::lm::{Architecture, MaskedLm, ModelConfig, StoredType, random, save};
use kernelview::task::{BUILTIN_NAMES, builtin, demo};
use serde_json::{Map, Value, json};
use tch::{Device, Kind};

/// Writes `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json` of a random two-layer model into
/// `directory`, which is created if needed. The same arguments give the same bytes. The built-in demonstration task fits it.
pub fn tiny_checkpoint(directory: &Path, architecture: Architecture, seed: u64) {
    let vocabulary = vocabulary(architecture);
    // Long enough for the longest remark of the demonstration, even if all its words are spelt letter by letter.
    let config = ModelConfig { max_positions: 136, ..random::tiny(architecture, vocabulary.len() as i64) };
    let model = MaskedLm::new(config);
    // With scale 1.5 attention and outputs vary among examples, so that kernels are not nearly of rank one.
    let parameters = random::parameters(&model, seed, 1.5, Kind::Float, Device::Cpu);
    save(&model, &parameters, directory, StoredType::F32).expect("a checkpoint in a temporary directory");
    let tokenizer = tokenizer_json(architecture, &vocabulary);
    let text = serde_json::to_string_pretty(&tokenizer).expect("a JSON value prints");
    fs::write(directory.join("tokenizer.json"), text).expect("a file in a temporary directory");
    // The file determines everything, whatever the architecture's own class would change.
    let settings = r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#;
    fs::write(directory.join("tokenizer_config.json"), settings).expect("a file in a temporary directory");
}

/// The five special tokens in the order of their ids; padding has the id of `random::tiny`.
fn special_tokens(architecture: Architecture) -> [&'static str; 5] {
    match architecture {
        Architecture::Roberta | Architecture::XlmRoberta | Architecture::Camembert => {
            ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        }
        _ => ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    }
}

/// Tokens in the order of their ids: special ones, characters, characters inside a word, words of the templates, of the labels
/// and of the demonstration's training texts. Words that occur only in its other texts are spelt.
fn vocabulary(architecture: Architecture) -> Vec<String> {
    let mut tokens: Vec<String> = special_tokens(architecture).map(str::to_owned).to_vec();
    let printable = (b'!'..=b'~').map(char::from).filter(|c| !c.is_ascii_uppercase());
    tokens.extend(printable.map(String::from));
    tokens.extend(('a'..='z').chain('0'..='9').map(|c| format!("##{c}")));
    let mut words: BTreeSet<String> = BTreeSet::new();
    let mut add = |text: &str| words.extend(text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_lowercase));
    add("it was this is article about news");
    for name in BUILTIN_NAMES {
        for pair in builtin(name).expect("a built-in task").label_words {
            add(&pair.word);
        }
    }
    for example in demo().expect("the built-in demonstration").train.examples {
        example.texts.iter().for_each(|text| add(text));
    }
    tokens.extend(words.into_iter().filter(|word| word.len() > 1));
    tokens
}

/// A lower-casing WordPiece tokenizer in Hugging Face's format, without a post-processor.
pub fn tokenizer_json(architecture: Architecture, vocabulary: &[String]) -> Value {
    let special = special_tokens(architecture);
    let unknown = special.iter().find(|t| t.to_lowercase().contains("unk")).expect("one of the five");
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let ids: Map<String, Value> = vocabulary.iter().cloned().zip((0..).map(|id: u32| json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" }, "post_processor": null, "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids,
        },
    })
}

/// Sets a field of a JSON file.
pub fn set(file: &Path, field: &str, value: Value) {
    let text = fs::read_to_string(file).expect("a file");
    let mut settings: Value = serde_json::from_str(&text).expect("JSON");
    settings[field] = value;
    fs::write(file, settings.to_string()).expect("written");
}
