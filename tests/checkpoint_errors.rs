//! Checkpoints that cannot be loaded: the exact words in which each is refused, and damage at random.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::bin::{Storages, archive, one_tensor, state_dict, write_state_dict};
use common::fixture::{tiny_checkpoint, tokenizer_json};
use common::read_tensors;
use kernelview::lm::{Architecture, MaskedLm};
use kernelview::task::PromptTokenizer;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

type Tensors = BTreeMap<String, Tensor>;

const QUERY: &str = "bert.encoder.layer.1.attention.self.query.weight";

/// A tiny BERT of which one thing is changed.
struct Bad {
    directory: TempDir,
}

impl Bad {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        tiny_checkpoint(directory.path(), Architecture::Bert, 3);
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn tensors(&self) -> Tensors {
        read_tensors(&self.path().join("model.safetensors"))
    }

    fn edit_tensors(self, edit: impl FnOnce(&mut Tensors)) -> Self {
        let mut tensors = self.tensors();
        edit(&mut tensors);
        let named: Vec<(&String, &Tensor)> = tensors.iter().collect();
        Tensor::write_safetensors(&named, self.path().join("model.safetensors")).expect("a safetensors file");
        self
    }

    fn edit_config(self, edit: impl FnOnce(&mut Value)) -> Self {
        let path = self.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
        edit(&mut config);
        fs::write(path, config.to_string()).expect("config.json");
        self
    }

    fn set(self, field: &str, value: Value) -> Self {
        self.edit_config(|c| c[field] = value)
    }

    fn write(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.path().join(name), content).expect("a file");
        self
    }

    fn remove(self, name: &str) -> Self {
        fs::remove_file(self.path().join(name)).expect("a file");
        self
    }

    /// The weights as `pytorch_model.bin` alone, of these bytes.
    fn bin(self, bytes: impl AsRef<[u8]>) -> Self {
        self.remove("model.safetensors").write("pytorch_model.bin", bytes)
    }

    /// The message with the directory replaced.
    fn refused(&self) -> String {
        match MaskedLm::load(self.path(), Kind::Float, Device::Cpu) {
            Ok(_) => "it was loaded".into(),
            Err(e) => {
                assert_eq!(e.exit_code(), 2, "bad input is the user's to mend: {e}");
                e.to_string().replace(&self.path().display().to_string(), "DIR")
            }
        }
    }

    fn is_refused_with(&self, message: &str) {
        assert_eq!(self.refused(), message);
    }
}

#[test]
fn directories_without_a_model_are_refused() {
    let missing = Path::new("no/such/model");
    let error = MaskedLm::load(missing, Kind::Float, Device::Cpu).err().expect("refused").to_string();
    assert_eq!(
        error,
        "no/such/model: not a model directory (it does not exist); expected a directory with config.json, weights and \
         tokenizer.json"
    );
    let file = Bad::new().path().join("config.json");
    let bad = Bad::new();
    let inside = bad.path().join("config.json");
    let error = MaskedLm::load(&inside, Kind::Float, Device::Cpu).err().expect("refused").to_string();
    assert_eq!(
        error.replace(&bad.path().display().to_string(), "DIR"),
        "DIR/config.json: not a model directory (it is a file); expected a directory with config.json, weights and \
         tokenizer.json"
    );
    drop(file);
    Bad::new().remove("model.safetensors").is_refused_with(
        "DIR: no weights: expected model.safetensors, model.safetensors.index.json or pytorch_model.bin",
    );
    Bad::new().remove("config.json").is_refused_with("X");
}

#[test]
fn configurations_that_do_not_describe_a_network_are_refused() {
    Bad::new().write("config.json", "{\"model_type\": ").is_refused_with("X");
    Bad::new().write("config.json", "[1, 2]").is_refused_with("X");
    Bad::new().write("config.json", b"{\"model_type\": \"b\xffrt\"}").is_refused_with("X");
    for (field, value, message) in [
        ("model_type", json!("gpt2"), "X"),
        ("model_type", Value::Null, "X"),
        ("model_type", json!(7), "X"),
        ("hidden_size", Value::Null, "X"),
        ("hidden_size", json!("16"), "X"),
        ("hidden_size", json!(15), "X"),
        ("intermediate_size", json!(0), "X"),
        ("num_hidden_layers", json!(2_000_000_000), "X"),
        ("vocab_size", json!(-5), "X"),
        ("hidden_act", json!("mish"), "X"),
        ("hidden_act", json!(1), "X"),
        ("layer_norm_eps", json!("tiny"), "X"),
        ("layer_norm_eps", json!(-1e-12), "X"),
        ("tie_word_embeddings", json!("yes"), "X"),
        ("position_embedding_type", json!("relative_key"), "X"),
        ("position_embedding_type", json!(2), "X"),
        ("pad_token_id", json!(-1), "X"),
        ("pad_token_id", json!(100_000), "X"),
    ] {
        let what = format!("{field}: {value}");
        let bad = Bad::new().set(field, value);
        println!("{what} => {}", bad.refused());
    }
    for (field, message) in [("num_attention_heads", "X"), ("model_type", "X")] {
        let bad = Bad::new().edit_config(|c| drop(c.as_object_mut().expect("an object").remove(field)));
        println!("no {field} => {}", bad.refused());
    }
    let roberta = Bad::new().set("model_type", json!("roberta")).set("pad_token_id", json!(150));
    println!("{}", roberta.refused());
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_refused() {
    let show = |b: Bad| println!("{}", b.refused());
    show(Bad::new().edit_tensors(|t| drop(t.remove(QUERY))));
    show(Bad::new().edit_tensors(|t| t.retain(|n, _| !n.starts_with("cls."))));
    show(Bad::new().edit_tensors(|t| t.retain(|n, _| n.starts_with("cls."))));
    show(Bad::new().edit_tensors(|t| drop(t.insert(QUERY.into(), Tensor::zeros([16, 8], (Kind::Float, Device::Cpu))))));
    show(Bad::new().set("intermediate_size", json!(20)));
    show(Bad::new().set("vocab_size", json!(99)));
    show(Bad::new().set("max_position_embeddings", json!(512)));
    show(Bad::new().set("num_hidden_layers", json!(1)));
    show(Bad::new().set("num_hidden_layers", json!(3)));
    show(Bad::new().set("tie_word_embeddings", json!(false)));
    show(Bad::new().set("model_type", json!("roberta")));
    show(Bad::new().edit_tensors(|t| drop(t.insert("bert.encoder.layer.0.adapter.weight".into(), Tensor::zeros([2], (Kind::Float, Device::Cpu))))));
    show(Bad::new().edit_tensors(|t| drop(t.insert(QUERY.into(), Tensor::zeros([16, 16], (Kind::Int64, Device::Cpu))))));
    for x in [f64::NAN, f64::INFINITY] {
        show(Bad::new().edit_tensors(|t| { let _ = t.get_mut(QUERY).unwrap().get(3).fill_(x); }));
    }
    show(Bad::new().edit_tensors(|t| { let w = t.get_mut(QUERY).unwrap(); *w = w.to_kind(Kind::Double) * 1e300; }));
}

#[test]
fn damaged_weights_are_refused() {
    let show = |b: Bad| println!("{}", b.refused());
    let whole = fs::read(Bad::new().path().join("model.safetensors")).unwrap();
    for n in [0, 5, 100, whole.len() - 1] {
        show(Bad::new().write("model.safetensors", &whole[..n]));
    }
    let (p, d) = state_dict(&Bad::new().tensors(), Storages::Own);
    let bin = archive(&p, &d);
    for n in [0, 3, 1000, bin.len() - 1] {
        show(Bad::new().bin(&bin[..n]));
    }
    let mut legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    legacy.extend([0; 100]);
    show(Bad::new().bin(legacy));
    show(Bad::new().bin(archive(b"\x80\x02cposix\nsystem\nX\x05\x00\x00\x00touch\x85R.", &BTreeMap::new())));
    show(Bad::new().bin(archive(b"\x80\x02cos\nsystem\n.", &BTreeMap::new())));
    show(Bad::new().bin(archive(b"\x80\x02]", &BTreeMap::new())));
    show(Bad::new().bin(archive(b"\x80\x02].", &BTreeMap::new())));
    show(Bad::new().bin(archive(b"\x80\x02}.", &BTreeMap::new())));
    show(Bad::new().bin(archive(b"\x80\x04\x95", &BTreeMap::new())));
    let mut lost = d.clone();
    lost.remove("7");
    show(Bad::new().bin(archive(&p, &lost)));
    let mut short = d.clone();
    short.get_mut("7").unwrap().pop();
    show(Bad::new().bin(archive(&p, &short)));
    let store = || BTreeMap::from([("0".to_string(), vec![0u8; 40])]);
    for (o, sh, st) in [(0, vec![5, 2], vec![2, 1]), (0, vec![5, 3], vec![3, 1]), (-1, vec![2], vec![1]), (8, vec![3], vec![1]),
       (0, vec![-2], vec![1]), (0, vec![i64::MAX, 2], vec![i64::MAX, 1]), (0, vec![2], vec![]), (0, vec![], vec![1]),
       (0, vec![100, 100], vec![0, 0]), (0, vec![0], vec![1]), (11, vec![0], vec![1]), (0, vec![2], vec![-1])] {
        println!("{o} {sh:?} {st:?}");
        let r = catch_unwind(AssertUnwindSafe(|| show(Bad::new().bin(archive(&one_tensor("x", o, &sh, &st), &store())))));
        if r.is_err() { println!("PANIC"); }
    }
    for index in ["{", "{}", "{\"weight_map\": {}}", "{\"weight_map\": {\"a\": 3}}", "{\"weight_map\": {\"a\": \"m.safetensors\"}}",
        "{\"weight_map\": {\"a\": \"../model.safetensors\"}}", "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "{\"weight_map\": {\"a\": \"config.json\"}}", "{\"weight_map\": {\"a\": \"..\"}}"] {
        show(Bad::new().remove("model.safetensors").write("model.safetensors.index.json", index));
    }
}
