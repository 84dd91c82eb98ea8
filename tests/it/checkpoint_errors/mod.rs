//! Checkpoints that cannot be loaded: the exact words in which each is refused, and damage at random.

mod architectures;

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

/// A tiny BERT of which one thing is changed.
struct Bad {
    directory: TempDir,
}

impl Bad {
    fn new() -> Self {
        Self::of(Architecture::Bert)
    }

    /// The same of another architecture.
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

    /// The weights as `pytorch_model.bin` alone, of these bytes.
    fn bin(self, bytes: impl AsRef<[u8]>) -> Self {
        self.remove("model.safetensors").write("pytorch_model.bin", bytes)
    }

    /// The weights as `pytorch_model.bin` alone, of this pickle program and one storage of ten floats.
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

    /// Fails unless the checkpoint is refused in these words, after the directory's name.
    fn is_refused_with(&self, message: &str) {
        assert_eq!(self.refused(), format!("DIR{message}"));
    }
}

/// The words for a path that is no model directory.
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

/// Wrong types must not silently become defaults, and nonsensical sizes must not be believed.
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
        // Names of that many layers' tensors would fill the memory before anything is compared.
        (
            "num_hidden_layers",
            json!(2_000_000_000),
            "the field `num_hidden_layers` must be at most 1000, found 2000000000",
        ),
        (
            "hidden_act",
            json!("mish"),
            "hidden_act `mish` is not supported; supported are: gelu, gelu_new, quick_gelu, relu, relu2, silu, tanh",
        ),
        ("hidden_act", json!(1), "the field `hidden_act` must be a string, found 1"),
        (
            "layer_norm_eps",
            json!("1e-5"),
            "the field `layer_norm_eps` must be a number that is not negative, found \"1e-5\"",
        ),
        ("layer_norm_eps", json!(-1.0), "the field `layer_norm_eps` must be a number that is not negative, found -1.0"),
        ("is_decoder", json!(true), "is_decoder true is not supported: tokens would not see those behind them"),
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
    // What a file does not give is transformers' default.
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

#[test]
fn damaged_safetensors_and_indices_are_refused() {
    let whole = Bad::new().bytes();
    let cut = whole.len() - 1;
    Bad::new().write("model.safetensors", &whole[..cut]).is_refused_with(&format!(
        "/model.safetensors: has {cut} of {} bytes (incomplete metadata, file not fully covered): an interrupted download; \
         download it again",
        whole.len()
    ));
    for (length, reason) in [(0, "header too small"), (100, "invalid header length")] {
        Bad::new().write("model.safetensors", &whole[..length]).is_refused_with(&format!(
            "/model.safetensors: not a complete safetensors file of {length} bytes ({reason}); download it again"
        ));
    }
    let elsewhere = |name: &str| format!("shard `{name}` does not lie in the model directory itself");
    for (index, message) in [
        ("{", "not a JSON document: EOF while parsing an object at line 1 column 1"),
        ("{}", "the object `weight_map` (tensor name → shard file) is missing"),
        (r#"{"weight_map": {}}"#, "`weight_map` names no shard"),
        (r#"{"weight_map": {"a": 3}}"#, "`weight_map` gives 3 for tensor `a`, expected the name of a file"),
        (
            r#"{"weight_map": {"a": "s-1.safetensors"}}"#,
            "shard `s-1.safetensors` does not exist beside it; download it too",
        ),
        (r#"{"weight_map": {"a": "../model.safetensors"}}"#, &elsewhere("../model.safetensors")),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, &elsewhere("/etc/passwd")),
        (r#"{"weight_map": {"a": ".."}}"#, &elsewhere("..")),
    ] {
        let name = "model.safetensors.index.json";
        let bad = Bad::new().remove("model.safetensors").write(name, index);
        bad.is_refused_with(&format!("/{name}: {message}"));
    }
}

#[test]
fn damaged_or_old_pytorch_files_are_refused() {
    let refused = |bad: Bad, message: &str| bad.is_refused_with(&format!("/pytorch_model.bin: {message}"));
    let (program, storages) = state_dict(&Bad::new().tensors(), Storages::Own);
    let whole = archive(&program, &storages);
    let cut =
        "not a complete PyTorch archive of 1000 bytes (invalid Zip archive: Could not find EOCD); download it again";
    refused(Bad::new().bin(&whole[..1000]), cut);
    // How files of PyTorch before 1.6 begin: a pickled magic number and version.
    let old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".as_slice();
    refused(
        Bad::new().bin([old, &[0; 100]].concat()),
        "a file from before PyTorch 1.6 that cannot be read: pickle instruction 0x00 has no place among saved tensors; save \
         them with torch.save's own settings, or as model.safetensors",
    );
    refused(
        Bad::new().bin([b'x'; 100]),
        "not a PyTorch archive: damaged, or of another program; save the model again, or convert it to model.safetensors",
    );
    let mut lost = storages.clone();
    lost.remove("7");
    refused(Bad::new().bin(archive(&program, &lost)), "entry archive/data/7: specified file not found in archive");
    let mut short = storages;
    short.get_mut("7").expect("a storage").pop();
    refused(
        Bad::new().bin(archive(&program, &short)),
        "tensor `bert.encoder.layer.0.attention.output.dense.bias`: shape [16] needs element 15, but its storage holds \
         15: the file is truncated",
    );
    let other = "the pickled value is not a dictionary of tensors; save the model's state dictionary alone";
    for program in [&b"\x80\x02]."[..], b"\x80\x02}.", b"\x80\x02K\x01."] {
        refused(Bad::new().pickle(program), other);
    }
    refused(Bad::new().pickle(b"\x80\x02}"), "archive/data.pkl: the program ends too early");
    refused(
        Bad::new().pickle(b"\x80\x04\x95."),
        "archive/data.pkl: pickle instruction 0x95 has no place among saved tensors; save them with torch.save's own \
         settings, or as model.safetensors",
    );
}

/// Breaks when the pickle reader calls what a program names. The command would leave a file behind.
#[test]
fn a_pickle_that_runs_a_command_is_refused_and_does_not_run_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let marker = directory.path().join("was-here");
    let command = format!("touch {}", marker.display());
    for module in ["os", "posix"] {
        let length = (command.len() as u32).to_le_bytes();
        let call = format!("c{module}\nsystem\n(X").into_bytes();
        let program = [b"\x80\x02".as_slice(), &call, &length, command.as_bytes(), b"tR."].concat();
        Bad::new().pickle(&program).is_refused_with(&format!(
            "/pytorch_model.bin: archive/data.pkl: it calls `{module}.system`, which saved tensors have no use for: \
             refused"
        ));
        assert!(!marker.exists(), "the command ran");
    }
}

/// Programs of a few bytes that would fill the memory or exhaust the call stack of a reader that believes them.
#[test]
fn pickles_that_grow_without_bound_are_refused() {
    let refused = |program: &[u8], message: &str| {
        Bad::new().pickle(program).is_refused_with(&format!("/pytorch_model.bin: archive/data.pkl: {message}"));
    };
    let deep = "values are nested more deeply than saved tensors are";
    refused(&[b"\x80\x02)".as_slice(), &b"\x85".repeat(1_000_000), b"."].concat(), deep);
    // Lists in lists: 1000 empty ones, each appended to the one before.
    refused(&[[b']'; 1000].as_slice(), &[b'a'; 999], b"."].concat(), deep);
    // A tuple of 100 copies of a tuple of 100 copies of …
    let level = [b"(".as_slice(), &b"h\x00".repeat(100), b"tq\x00"].concat().repeat(8);
    refused(&[b"\x80\x02)q\x00", level.as_slice(), b"."].concat(), "it copies more values than any saved tensors need");
}

#[test]
fn strides_that_describe_no_tensor_are_refused() {
    let most = i64::MAX;
    for (offset, shape, stride) in [
        (-1, vec![2], vec![1]),
        (0, vec![-2], vec![1]),
        (0, vec![2], vec![-1]),
        (0, vec![2], vec![]),
        (0, vec![], vec![1]),
        (0, vec![most, 2], vec![most, 1]),
        // Ten numbers that stand for ten thousand: with more zeros they would fill the memory.
        (0, vec![100, 100], vec![0, 0]),
    ] {
        Bad::new().pickle(&one_tensor("x", offset, &shape, &stride)).is_refused_with(&format!(
            "/pytorch_model.bin: tensor `x`: shape {shape:?} with strides {stride:?} from element {offset} describes no \
             tensor"
        ));
    }
    for (offset, shape, stride, last) in [(0, [5, 3], [3, 1], 14), (8, [1, 3], [3, 1], 10), (0, [2, 2], [10, 1], 11)] {
        Bad::new().pickle(&one_tensor("x", offset, &shape, &stride)).is_refused_with(&format!(
            "/pytorch_model.bin: tensor `x`: shape {shape:?} needs element {last}, but its storage holds 10: the file is \
             truncated"
        ));
    }
    // The whole storage and an empty tensor are fine: what is missing is the rest of the model.
    for (shape, stride) in [([5, 2], [2, 1]), ([0, 7], [7, 1])] {
        let message = Bad::new().pickle(&one_tensor("x", 0, &shape, &stride)).refused();
        assert!(message.ends_with("among its 1 tensors, such as x"), "{message}");
    }
}

/// The same cases at every run; a failure prints its own.
fn damage_config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..Config::default() }
}

fn with_bytes(whole: &[u8], bytes: &[(usize, u8)]) -> Vec<u8> {
    let mut damaged = whole.to_vec();
    for (at, byte) in bytes {
        damaged[*at] = *byte;
    }
    damaged
}

/// Loads the checkpoint after a file of it was damaged at random, again and again: whatever the bytes are, there is an
/// answer. A panic, a crash or a hang breaks it; so does a file cut short that is loaded all the same.
fn survives(bad: &Bad, file: &str, focus: usize) {
    let path = bad.path().join(file);
    let whole = fs::read(&path).expect("a file");
    let length = whole.len();
    let focus = focus.min(length);
    let place = prop_oneof![3 => 0..focus, 1 => 0..length];
    let damage = (prop::collection::vec((place, any::<u8>()), 0..4), prop::option::weighted(0.3, 0..length));
    TestRunner::new(damage_config(600))
        .run(&damage, |(bytes, cut)| {
            let mut damaged = with_bytes(&whole, &bytes);
            damaged.truncate(cut.unwrap_or(length));
            fs::write(&path, &damaged).expect("a file");
            let loaded = MaskedLm::load(bad.path(), Kind::Float, Device::Cpu).is_ok();
            prop_assert!(!loaded || cut.is_none() || file == "config.json", "a file cut at {cut:?} was loaded");
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{file}: {e}"));
}

#[test]
fn random_damage_to_any_file_is_an_answer_and_never_a_panic() {
    // The header of a safetensors file and the configuration are where a byte changes the meaning.
    survives(&Bad::new(), "model.safetensors", 5000);
    survives(&Bad::new(), "config.json", usize::MAX);
    let (program, storages) = state_dict(&Bad::new().tensors(), Storages::Shared);
    // The program lies at the beginning of the archive, its directory at the end.
    survives(&Bad::new().bin(archive(&program, &storages)), "pytorch_model.bin", program.len() + 100);
    // The archive's checksums find most damage to a program: here it gets there with right ones.
    let bad = Bad::new().pickle(b"");
    TestRunner::new(damage_config(1200))
        .run(&prop::collection::vec((0..program.len(), any::<u8>()), 1..6), |bytes| {
            let damaged = with_bytes(&program, &bytes);
            fs::write(bad.path().join("pytorch_model.bin"), archive(&damaged, &storages)).expect("a file");
            let _ = MaskedLm::load(bad.path(), Kind::Float, Device::Cpu);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("pickle: {e}"));
}
