//! Adapters as saved by PEFT, against PEFT's values in double precision: logits, and kernels of the factors.
//!
//! The adapters and their values, with the script that made them, are in fixtures/adapters. 1e-12 relative for logits, 1e-10
//! for kernels, as in tests/it/golden.rs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Golden, relative_error};
use kernelview::jacobian::outputs;
use kernelview::kernel::{FormulaSet, GramOptions, reference_gram, structured_gram};
use kernelview::lm::{self, LanguageModel, PeftAdapter, Roundings, save_adapter};
use kernelview::progress::Silent;
use kernelview::subspace::Trained;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub type Named = Vec<(String, Tensor)>;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The adapters' folders, with those of their models.
fn all() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(fixtures().join("adapters")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let base = |name: &str| if name.starts_with("bert-") { "checkpoints/head-bert" } else { "adapters/llama" };
    let mut all: Vec<_> =
        names.filter(|name| name.contains('-')).map(|name| (name.clone(), fixtures().join(base(&name)))).collect();
    all.sort();
    assert_eq!(all.len(), 11);
    all
}

/// The model, with the prompts and values of an adapter.
fn golden(name: &str, base: &Path) -> Golden {
    let (model, parameters) = lm::load(base, Kind::Double, Device::Cpu).expect("a model");
    let values = crate::common::read_tensors(&fixtures().join("adapters").join(name).join("golden.safetensors"));
    Golden { model, parameters, values, roundings: Roundings::None }
}

fn adapter(directory: &Path, model: &dyn LanguageModel) -> PeftAdapter {
    PeftAdapter::load(directory, model.specs()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn logits_and_kernels_are_those_of_peft() {
    for (name, base) in all() {
        let golden = golden(&name, &base);
        let read = adapter(&fixtures().join("adapters").join(&name), &*golden.model);
        assert_eq!(read.notes, [""; 0], "{name}");
        let extended = read.parameters(&golden.parameters);
        let (plain, include) = (golden.examples(), read.lora.include(Trained::Adapters));
        let examples = read.lora.examples(&plain);
        for batch in [1, 3] {
            let error = relative_error(&outputs(&extended, &examples, batch), &golden.values["logits"]);
            assert!(error <= 1e-12, "{name}: {error:.2e}");
        }
        let expected = golden.kernel("kernel.sgd");
        let reference = reference_gram(&extended, &examples, None, FormulaSet::SGD, &include).expect("reference");
        let options = GramOptions { include, ..GramOptions::new(FormulaSet::SGD, extended.len()) };
        let structured = structured_gram(&extended, &examples, None, &options, &Silent).expect("structured");
        for (engine, gram) in [("reference", reference), ("structured", structured)] {
            let error = relative_error(&gram.sgd.expect("asked for"), &expected);
            assert!(error <= 1e-10, "{name}, {engine}: {error:.2e}");
        }
    }
}

/// Factors, magnitudes and replaced parameters come back bit for bit.
#[test]
fn every_kind_of_adapter_survives_saving() {
    for (name, base) in all() {
        let golden = golden(&name, &base);
        let read = adapter(&fixtures().join("adapters").join(&name), &*golden.model);
        let extended = read.parameters(&golden.parameters);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let architecture = golden.model.facts().architecture;
        save_adapter(directory.path(), architecture, "base", &read.lora, &extended).expect("written");
        let again = adapter(directory.path(), &*golden.model);
        assert_eq!(again.lora.adapters(), read.lora.adapters(), "{name}");
        let again = again.parameters(&golden.parameters);
        for (spec, (a, b)) in again.specs().iter().zip(again.values().iter().zip(extended.values())) {
            assert!(a.equal(b), "{name}: {}", spec.name);
        }
    }
}

/// An adapter whose settings or tensors are changed.
pub fn changed(
    name: &str,
    settings: &[(&str, Value)],
    tensors: impl FnOnce(&mut Named),
) -> Result<PeftAdapter, String> {
    let (name, base) = all().into_iter().find(|(n, _)| n == name).expect("a folder");
    let from = fixtures().join("adapters").join(name);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = fs::read(from.join("adapter_config.json")).expect("a file");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    for (field, value) in settings {
        config[*field] = value.clone();
    }
    fs::write(directory.path().join("adapter_config.json"), config.to_string()).expect("a file");
    let weights = "adapter_model.safetensors";
    let mut named: Vec<_> = crate::common::read_tensors(&from.join(weights)).into_iter().collect();
    tensors(&mut named);
    Tensor::write_safetensors(&named, directory.path().join(weights)).expect("a file");
    let (model, _) = lm::load(&base, Kind::Double, Device::Cpu).expect("a model");
    PeftAdapter::load(directory.path(), model.specs()).map_err(|e| {
        assert_eq!(e.exit_code(), 2);
        e.to_string()
    })
}

#[test]
fn what_has_no_effect_is_told() {
    let settings = [
        ("target_modules", json!(["query", "value", "nothing"])),
        ("alpha_pattern", json!({ "layer.7.query": 3, "query": 8 })),
        ("rank_pattern", json!({ "dense": 3 })),
    ];
    let read = changed("bert-bias", &settings, |_| {}).expect("read");
    assert_eq!(read.notes, ["target_modules `nothing`", "rank_pattern `dense`", "alpha_pattern `layer.7.query`"]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |name: &str, settings: &[(&str, Value)], tensors: &dyn Fn(&mut Named), words: &str| {
        let message = changed(name, settings, tensors).expect_err(words);
        assert!(message.contains(words), "{message}");
    };
    let same = |_: &mut Named| {};
    refused(
        "llama-layers",
        &[("layers_to_transform", json!([0, 1]))],
        &same,
        "layers.1.self_attn.q_proj.lora_A.weight",
    );
    refused(
        "llama-layers",
        &[("layers_to_transform", json!(0))],
        &same,
        "target_modules in adapter_config.json does not match",
    );
    refused(
        "llama-layers",
        &[("layers_to_transform", json!("all"))],
        &same,
        "must be a layer's number or a list of them",
    );
    refused(
        "llama-layers",
        &[("layers_pattern", json!("h"))],
        &same,
        "target_modules in adapter_config.json does not match",
    );
    refused("bert-dora", &[("use_dora", json!(false))], &same, "holds magnitudes, but use_dora");
    refused("llama-tables", &[("use_dora", json!(true))], &same, "lora_magnitude_vector");
    let zeros = |name: &str, shape: &[i64]| (name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
    let with = |name: &'static str, shape: &'static [i64]| move |t: &mut Named| t.push(zeros(name, shape));
    let classifier = with("base_model.model.classifier.weight", &[2, 8]);
    refused("bert-bias", &[], &classifier, "an adapter of another class, such as a classifier");
    let wide = with("base_model.model.cls.predictions.transform.dense.weight", &[8, 9]);
    refused("bert-bias", &[], &wide, "which it replaces");
    let decoder = with("base_model.model.cls.predictions.decoder.weight", &[40, 8]);
    refused("bert-bias", &[], &decoder, "tie_word_embeddings");
    let second = with("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.other.weight", &[2, 8]);
    refused("bert-bias", &[], &second, "are one tensor, but differ");
}
