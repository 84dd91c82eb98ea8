//! Checkpoints that cannot be loaded: the exact message for each, and random damage.

mod architectures;
mod damage;
mod files;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::bin::{Storages, archive, one_tensor, state_dict};
use crate::common::fixture::tiny_checkpoint;
use crate::common::read_tensors;
use kernelview::lm::{Architecture, MaskedLm};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

type Tensors = BTreeMap<String, Tensor>;

const NO_MODEL_TYPE: &str = "the field `model_type` is missing (expected \"bert\" or \"roberta\" or \"xlm-roberta\" or \"camembert\" or \"distilbert\" or \
                             \"electra\" or \"albert\")";
const QUERY: &str = "bert.encoder.layer.1.attention.self.query.weight";

/// A tiny BERT with one change.
struct Bad {
    directory: TempDir,
}

impl Bad {
    fn new() -> Self {
        Self::of(Architecture::Bert)
    }

    /// The same for another architecture.
    fn of(architecture: Architecture) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        tiny_checkpoint(directory.path(), architecture, 3);
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path().join("model.safetensors")).expect("a file")
    }

    fn vocabulary(&self) -> i64 {
        self.tensors()["cls.predictions.bias"].size()[0]
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

    /// With one tensor added or replaced.
    fn with(self, name: &str, tensor: Tensor) -> Self {
        self.edit_tensors(|t| drop(t.insert(name.into(), tensor)))
    }

    /// The weights only as `pytorch_model.bin`, with these bytes.
    fn bin(self, bytes: impl AsRef<[u8]>) -> Self {
        self.remove("model.safetensors").write("pytorch_model.bin", bytes)
    }

    /// The weights only as `pytorch_model.bin`, with this pickle program and one storage of ten floats.
    fn pickle(self, program: &[u8]) -> Self {
        self.bin(archive(program, &BTreeMap::from([("0".to_owned(), vec![0; 40])])))
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

    /// Fails unless the checkpoint is refused with this message, after the directory's name.
    fn is_refused_with(&self, message: &str) {
        assert_eq!(self.refused(), format!("DIR{message}"));
    }
}

/// The message for a path that is not a model directory.
fn refused_path(path: &Path) -> String {
    MaskedLm::load(path, Kind::Float, Device::Cpu).err().expect("refused").to_string()
}

#[test]
fn directories_without_a_model_are_refused() {
    let expected = "expected a directory with config.json, weights and tokenizer.json";
    let missing = refused_path(Path::new("no/such/model"));
    assert_eq!(missing, format!("no/such/model: not a model directory (it does not exist); {expected}"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let message = format!("{}: not a model directory (it is a file); {expected}", file.display());
    assert_eq!(refused_path(&file), message);
    Bad::new()
        .remove("model.safetensors")
        .is_refused_with(": no weights: expected model.safetensors, model.safetensors.index.json or pytorch_model.bin");
    Bad::new().remove("config.json").is_refused_with(
        ": no config.json here: expected a Hugging Face checkpoint directory with config.json, weights and \
         tokenizer.json",
    );
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    for (content, message) in [
        (&b"{\"model_type\": "[..], "not a JSON document: EOF while parsing a value at line 1 column 15"),
        (b"[1, 2]", "expected a JSON object with the model's settings"),
        (b"{\"model_type\": \"b\xffrt\"}", "not UTF-8 at byte 17"),
        (b"{}", NO_MODEL_TYPE),
    ] {
        Bad::new().write("config.json", content).is_refused_with(&format!("/config.json: {message}"));
    }
}

/// Wrong types must not silently become defaults, and nonsensical sizes must not be accepted.
#[test]
fn fields_of_the_configuration_are_refused_by_name() {
    for (field, value, message) in [
        (
            "model_type",
            json!("gpt2"),
            "model_type `gpt2` is not supported; supported are: bert, roberta, xlm-roberta, camembert, distilbert, electra, albert",
        ),
        ("model_type", Value::Null, NO_MODEL_TYPE),
        ("model_type", json!(7), "the field `model_type` must be a string, found 7"),
        ("hidden_size", json!("16"), "the field `hidden_size` must be a positive integer, found \"16\""),
        ("hidden_size", json!(15), "hidden_size 15 is not a multiple of num_attention_heads 2"),
        ("intermediate_size", json!(0), "the field `intermediate_size` must be a positive integer, found 0"),
        ("vocab_size", json!(-5), "the field `vocab_size` must be a positive integer, found -5"),
        // Names of this many layers' tensors would fill the memory before any comparison.
        (
            "num_hidden_layers",
            json!(2_000_000_000),
            "the field `num_hidden_layers` must be at most 1000, found 2000000000",
        ),
        (
            "hidden_act",
            json!("mish"),
            "hidden_act `mish` is not supported; supported are: gelu, gelu_new, gelu_fast, quick_gelu, relu, relu2, silu, tanh",
        ),
        ("hidden_act", json!(1), "the field `hidden_act` must be a string, found 1"),
        ("layer_norm_eps", json!("1e-5"), "the field `layer_norm_eps` must be a non-negative number, found \"1e-5\""),
        ("layer_norm_eps", json!(-1.0), "the field `layer_norm_eps` must be a non-negative number, found -1.0"),
        ("is_decoder", json!(true), "is_decoder true is not supported: attention must be bidirectional"),
        ("tie_word_embeddings", json!("no"), "the field `tie_word_embeddings` must be true or false, found \"no\""),
        (
            "position_embedding_type",
            json!("relative_key"),
            "position_embedding_type `relative_key` is not supported; only `absolute` is",
        ),
        ("position_embedding_type", json!(2), "the field `position_embedding_type` must be a string, found 2"),
        ("pad_token_id", json!("0"), "the field `pad_token_id` must be a token id, found \"0\""),
    ] {
        Bad::new().set(field, value).is_refused_with(&format!("/config.json: {message}"));
    }
    Bad::new()
        .set("model_type", json!("roberta"))
        .set("pad_token_id", json!(150))
        .is_refused_with("/config.json: max_position_embeddings 136 leaves no position after pad_token_id 150");
    for (pad, found) in [(Value::Null, "is null"), (json!(-2), "is -2")] {
        Bad::new().set("model_type", json!("roberta")).set("pad_token_id", pad).is_refused_with(&format!(
            "/config.json: the field `pad_token_id` {found}, but RoBERTa's position numbers start after it"
        ));
    }
}

#[test]
fn missing_tensors_are_named_with_what_to_check() {
    let vocabulary = Bad::new().vocabulary();
    let count = Bad::new().tensors().len();
    let missing = |bad: Bad, tensor: &str, hint: &str| {
        bad.is_refused_with(&format!("/model.safetensors: tensor {tensor} is missing; {hint}"));
    };
    missing(
        Bad::new().edit_tensors(|t| drop(t.remove(QUERY))),
        &format!("`{QUERY}` (shape [16, 16])"),
        &format!(
            "looked for {QUERY}, encoder.layer.1.attention.self.query.weight among its {} tensors, such as \
             bert.embeddings.LayerNorm.bias",
            count - 1
        ),
    );
    missing(
        Bad::new().edit_tensors(|t| t.retain(|name, _| !name.starts_with("cls."))),
        &format!("`cls.predictions.bias` (shape [{vocabulary}])"),
        "the checkpoint has no masked-language-model head; save it from a ...ForMaskedLM class",
    );
    missing(
        Bad::new().set("num_hidden_layers", json!(3)),
        "`bert.encoder.layer.2.attention.self.query.weight` (shape [16, 16])",
        "the checkpoint has 2 encoder layer(s), num_hidden_layers in config.json is 3",
    );
    missing(
        Bad::new().set("tie_word_embeddings", json!(false)),
        &format!("`cls.predictions.decoder.weight` (shape [{vocabulary}, 16])"),
        "tie_word_embeddings in config.json is false, so the decoder must have weights of its own",
    );
    missing(
        Bad::new().set("model_type", json!("roberta")),
        &format!("`roberta.embeddings.word_embeddings.weight` (shape [{vocabulary}, 16])"),
        &format!(
            "looked for roberta.embeddings.word_embeddings.weight, embeddings.word_embeddings.weight among its {count} \
             tensors, such as bert.embeddings.LayerNorm.bias"
        ),
    );
}

#[test]
fn tensors_that_do_not_fit_are_named_with_both_shapes_and_the_field() {
    let zeros = |shape: &[i64], kind| Tensor::zeros(shape, (kind, Device::Cpu));
    let vocabulary = Bad::new().vocabulary();
    let refused = |bad: Bad, message: &str| bad.is_refused_with(&format!("/model.safetensors: tensor {message}"));
    refused(
        Bad::new().with(QUERY, zeros(&[16, 8], Kind::Float)),
        &format!("`{QUERY}` has shape [16, 8], expected [16, 16] (hidden_size x hidden_size in config.json)"),
    );
    refused(
        Bad::new().set("intermediate_size", json!(20)),
        "`bert.encoder.layer.0.intermediate.dense.weight` has shape [24, 16], expected [20, 16] (intermediate_size x \
         hidden_size in config.json)",
    );
    // An absent setting has transformers' default.
    refused(
        Bad::new().set("intermediate_size", Value::Null),
        "`bert.encoder.layer.0.intermediate.dense.weight` has shape [24, 16], expected [3072, 16] (intermediate_size x \
         hidden_size in config.json)",
    );
    refused(
        Bad::new().set("vocab_size", json!(99)),
        &format!(
            "`bert.embeddings.word_embeddings.weight` has shape [{vocabulary}, 16], expected [99, 16] (vocab_size x \
             hidden_size in config.json)"
        ),
    );
    refused(
        Bad::new().set("num_hidden_layers", json!(1)),
        "`bert.encoder.layer.1.attention.output.LayerNorm.bias` belongs to an encoder layer beyond num_hidden_layers = 1 \
         of config.json",
    );
    refused(
        Bad::new().with("bert.encoder.layer.0.adapter.weight", zeros(&[2], Kind::Float)),
        "`bert.encoder.layer.0.adapter.weight` is part of an encoder layer, but this architecture has no such parameter",
    );
    refused(
        Bad::new().with(QUERY, zeros(&[16, 16], Kind::Int64)),
        &format!("`{QUERY}` holds Int64, expected floating-point numbers; quantized checkpoints are not supported"),
    );
    for bad in [f64::NAN, f64::INFINITY] {
        let tensor = zeros(&[16, 16], Kind::Float);
        let _ = tensor.get(15).get(15).fill_(bad);
        let message = format!("`{QUERY}` holds NaN or infinity: its training diverged, or the file is damaged");
        refused(Bad::new().with(QUERY, tensor), &message);
    }
    refused(
        Bad::new().with(QUERY, zeros(&[16, 16], Kind::Double) + 1e300),
        &format!("`{QUERY}` holds numbers beyond the range of single precision; use setting `dtype` f64"),
    );
}
