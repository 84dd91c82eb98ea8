//! Settings of checkpoints as transformers reads them: defaults of absent settings, the head's activation, the location of
//! settings.
//!
//! fixtures/checkpoints has values by transformers and the script that made them. 1e-12: a few hundred roundings in double
//! precision.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Golden, relative_error};
use kernelview::jacobian::outputs;
use kernelview::lm;
use serde_json::{Map, Value, json};
use tch::Kind;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints")
}

/// The settings in a `config.json`, or why it is refused.
fn settings(config: &Value) -> Result<Value, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("config.json"), config.to_string()).expect("config.json");
    let plain = |e: kernelview::error::Error| {
        assert_eq!(e.exit_code(), 2);
        e.to_string().rsplit_once("config.json: ").expect("the file's name").1.to_owned()
    };
    let text = lm::settings(directory.path()).map_err(plain)?;
    Ok(serde_json::from_str(&text).expect("JSON"))
}

/// Fails for: a size missing in `config.json` that is not transformers' default.
#[test]
fn absent_settings_are_those_of_transformers() {
    let text = fs::read_to_string(fixtures().join("defaults.json")).expect("a file");
    let defaults: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
    assert!(defaults.len() >= 8);
    for (name, values) in defaults {
        let mut explicit = values.clone();
        explicit["model_type"] = name.clone().into();
        let expected = settings(&explicit).expect("read");
        assert_eq!(settings(&json!({ "model_type": name })).expect("read"), expected, "{name}");
    }
}

/// Two names of one size mean the same setting.
#[test]
fn sizes_have_two_names() {
    for (name, field, alias) in [
        ("gpt2", "n_embd", "hidden_size"),
        ("gpt2", "n_positions", "max_position_embeddings"),
        ("distilbert", "dim", "hidden_size"),
    ] {
        let of = |pairs: &[(&str, i64)]| {
            let mut config = json!({ "model_type": name });
            for (field, value) in pairs {
                config[*field] = (*value).into();
            }
            settings(&config)
        };
        assert_eq!(of(&[(alias, 96)]), of(&[(field, 96)]));
        assert_eq!(of(&[(alias, 96), (field, 96)]), of(&[(field, 96)]));
        let refused = of(&[(alias, 96), (field, 48)]).expect_err("a contradiction");
        assert_eq!(refused, format!("{field} 48 and {alias} 96 contradict each other"));
    }
}

/// The heads of RoBERTa and ELECTRA use exact GELU whatever the layers' activation, the others use the layers'.
#[test]
fn the_head_has_the_activation_of_its_class() {
    for name in ["bert", "roberta", "distilbert", "electra", "albert"] {
        let golden = Golden::read(&fixtures().join(format!("head-{name}")), Kind::Double);
        let f = outputs(&golden.parameters, &golden.examples(), 3);
        let error = relative_error(&f, &golden.values["logits"]);
        assert!(error <= 1e-12, "{name}: {error:.2e}");
    }
}

/// The base of the rotary angles is read from any of its places, which must not contradict one another.
#[test]
fn the_rotary_base_is_found_wherever_it_stands() {
    for name in ["llama", "qwen2"] {
        let of = |extra: &[(&str, Value)]| {
            let mut config = json!({ "model_type": name });
            for (field, value) in extra {
                config[*field] = value.clone();
            }
            settings(&config)
        };
        let expected = of(&[("rope_theta", json!(500_000))]).expect("read");
        let nested = json!({ "rope_type": "default", "rope_theta": 500_000.0 });
        for places in [&["rope_scaling"][..], &["rope_parameters"], &["rope_scaling", "rope_parameters"]] {
            let extra: Vec<_> = places.iter().map(|place| (*place, nested.clone())).collect();
            assert_eq!(of(&extra).as_ref(), Ok(&expected), "{places:?}");
            let both = [&extra[..], &[("rope_theta", json!(500_000.0))]].concat();
            assert_eq!(of(&both).as_ref(), Ok(&expected));
            let other = [&extra[..], &[("rope_theta", json!(10_000.0))]].concat();
            let refused = of(&other).expect_err("a contradiction");
            assert!(refused.contains("rope_theta") && refused.contains("contradict"), "{refused}");
        }
    }
}

/// A padding id that never occurs is irrelevant; RoBERTa's determines where positions begin.
#[test]
fn padding_need_not_be_in_the_vocabulary() {
    for name in ["bert", "albert", "gpt2", "llama", "qwen2"] {
        for pad in [json!(-1), json!(999_999), Value::Null] {
            let read = settings(&json!({ "model_type": name, "pad_token_id": pad }));
            assert!(read.is_ok(), "{name} {pad}: {read:?}");
        }
    }
    assert!(settings(&json!({ "model_type": "roberta", "pad_token_id": -1 })).is_ok());
}
