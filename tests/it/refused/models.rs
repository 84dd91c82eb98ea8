//! What is wrong with weights, settings, adapters and GGUF files.

use std::fs;
use std::path::Path;

use super::{READ, Refusal, said};
use crate::adapters::{Named, changed};
use crate::common::causal::{Field, GgufFile, gguf};
use crate::gguf::{network, written};
use crate::weights::{FILE, Model, QUERY};
use kernelview::lm::{self, Architecture, CausalArchitecture};
use kernelview::task::PromptTokenizer;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub fn weights() -> Vec<Refusal> {
    let bert = || Model::of(Architecture::Bert);
    let llama = || Model::causal(CausalArchitecture::Llama, false);
    let bare = |name: &str| bert().bare().write(name, "");
    let vector = || Tensor::zeros([2, 16], (Kind::Float, Device::Cpu));
    let whole = fs::read(bert_file()).expect("a file");
    let words =
        |model: Model| model.load().err().map_or_else(|| READ.to_owned(), |message| message.replace("DIR/", ""));
    vec![
        ("a Git LFS pointer", words(bert().write(FILE, "version https://git-lfs.github.com/spec/v1\n"))),
        ("a web page", words(bert().write(FILE, "<!DOCTYPE html><html>"))),
        ("a truncated file", words(bert().write(FILE, &whole[..whole.len() - 9]))),
        ("an interrupted download", words(bare("x.incomplete"))),
        ("an adapter instead of a model", words(bare("adapter_model.safetensors"))),
        ("weights of TensorFlow", words(bare("tf_model.h5"))),
        ("weights of Flax", words(bare("flax_model.msgpack"))),
        ("a publisher's own format", words(bare("consolidated.00.pth"))),
        ("shards without their index", words(bare("model-00001-of-00002.safetensors"))),
        (
            "several variants",
            words(bert().bare().write("model.fp16.safetensors", "").write("model.bf16.safetensors", "")),
        ),
        ("quantized weights", words(bert().set("quantization_config", json!({"quant_method": "bitsandbytes"})))),
        (
            "quantized tensors",
            words(llama().changed(|t| {
                let weight = t.remove("model.layers.0.self_attn.q_proj.weight").expect("a weight");
                t.insert("model.layers.0.self_attn.q_proj.qweight".into(), weight.to_kind(Kind::Int));
            })),
        ),
        (
            "a classifier",
            words(bert().changed(|t| {
                t.retain(|name, _| !name.starts_with("cls."));
                t.insert("classifier.weight".into(), vector());
            })),
        ),
        ("an encoder without a head", words(bert().changed(|t| t.retain(|name, _| !name.starts_with("cls."))))),
        (
            "two copies that differ",
            words(bert().changed(|t| {
                let bias = &t["cls.predictions.bias"] + 1;
                t.insert("cls.predictions.decoder.bias".into(), bias);
            })),
        ),
        (
            "a decoder that differs from tied embeddings",
            words(bert().changed(|t| {
                let tokens = &t["bert.embeddings.word_embeddings.weight"] * 2;
                t.insert("cls.predictions.decoder.weight".into(), tokens);
            })),
        ),
        ("a missing tensor", words(bert().changed(|t| drop(t.remove(QUERY))))),
        ("a tensor of the wrong shape", words(bert().changed(|t| drop(t.insert(QUERY.into(), vector()))))),
        ("numbers that are not finite", words(bert().changed(|t| drop(t.insert(QUERY.into(), &t[QUERY] / 0.0))))),
        (
            "the state of a PEFT model",
            words(bert().changed(|t| {
                *t = std::mem::take(t)
                    .into_iter()
                    .map(|(name, tensor)| (format!("base_model.model.{name}"), tensor))
                    .collect();
            })),
        ),
        ("an adapter beside the model", words(bert().write("adapter_config.json", "{}"))),
        ("layers beyond the configured number", words(bert().set("num_hidden_layers", json!(1)))),
    ]
}

/// The weights of a tiny BERT.
fn bert_file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/answers/bert/model.safetensors")
}

pub fn settings() -> Vec<Refusal> {
    let of = |config: Value| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("config.json"), config.to_string()).expect("written");
        said(lm::settings(directory.path()), directory.path())
    };
    let scaled = |scaling: Value| of(json!({"model_type": "llama", "rope_scaling": scaling}));
    vec![
        ("an unknown architecture", of(json!({"model_type": "mamba"}))),
        ("a BERT decoder", of(json!({"model_type": "bert", "is_decoder": true}))),
        ("BERT with relative positions", of(json!({"model_type": "bert", "position_embedding_type": "relative_key"}))),
        ("an unknown activation", of(json!({"model_type": "bert", "hidden_act": "mish"}))),
        ("contradictory sizes", of(json!({"model_type": "gpt2", "n_embd": 48, "hidden_size": 96}))),
        (
            "two rotary bases",
            of(
                json!({"model_type": "llama", "rope_theta": 10_000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}),
            ),
        ),
        (
            "an unknown rotary scaling",
            of(json!({"model_type": "llama", "rope_scaling": {"rope_type": "other", "factor": 2.0}})),
        ),
        ("two names of a rotary scaling", scaled(json!({"rope_type": "linear", "type": "dynamic", "factor": 2.0}))),
        ("a rotary scaling without a name", scaled(json!({"factor": 2.0}))),
        (
            "a length beside the rotary scaling",
            of(
                json!({"model_type": "llama", "original_max_position_embeddings": 16, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
            ),
        ),
        ("pruned heads", of(json!({"model_type": "bert", "pruned_heads": {"0": [1]}}))),
        ("no kind of positions", of(json!({"model_type": "bert", "position_embedding_type": null}))),
        (
            "layers with windows by two fields",
            of(
                json!({"model_type": "modernbert", "num_hidden_layers": 2, "global_attn_every_n_layers": 3, "layer_types": ["sliding_attention", "full_attention"]}),
            ),
        ),
        (
            "layers without a window in a class with one kind",
            of(
                json!({"model_type": "phi3", "num_hidden_layers": 2, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
            ),
        ),
        ("Gemma 3's pattern by its other name", of(json!({"model_type": "gemma3_text", "_sliding_window_pattern": 2}))),
        (
            "GPT-NeoX's rotated share by its other name",
            of(json!({"model_type": "gpt_neox", "partial_rotary_factor": 0.5})),
        ),
        ("Granite without a multiplier", of(json!({"model_type": "granite", "attention_multiplier": null}))),
        ("a window in Llama", of(json!({"model_type": "llama", "sliding_window": 512}))),
        ("RoBERTa without a padding id", of(json!({"model_type": "roberta", "pad_token_id": null}))),
        ("GPT-2's unscaled scores", of(json!({"model_type": "gpt2", "scale_attn_weights": false}))),
        ("a convolution in DeBERTa", of(json!({"model_type": "deberta-v2", "conv_kernel_size": 3}))),
        ("Gemma 3 with images", of(json!({"model_type": "gemma3"}))),
    ]
}

pub fn adapters() -> Vec<Refusal> {
    let same = |_: &mut Named| {};
    let zeros = |name: &str, shape: &[i64]| (name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
    let with = |name: &'static str, shape: &'static [i64]| move |t: &mut Named| t.push(zeros(name, shape));
    let refused = |name: &str, settings: &[(&str, Value)], tensors: &dyn Fn(&mut Named)| {
        let Err(message) = changed(name, settings, tensors) else { return READ.to_owned() };
        let from = message.find("adapter_").unwrap_or(0);
        message[from..].to_owned()
    };
    vec![
        ("an adapter of a classifier", refused("bert-bias", &[], &with("base_model.model.classifier.weight", &[2, 8]))),
        (
            "a module of the wrong shape",
            refused("bert-bias", &[], &with("base_model.model.cls.predictions.transform.dense.weight", &[8, 9])),
        ),
        (
            "a separate decoder for a tied one",
            refused("bert-bias", &[], &with("base_model.model.cls.predictions.decoder.weight", &[40, 8])),
        ),
        (
            "a copy of tied embeddings",
            refused("bert-bias", &[], &with("base_model.model.bert.embeddings.word_embeddings.weight", &[40, 8])),
        ),
        (
            "several adapters in one file",
            refused(
                "bert-bias",
                &[],
                &with("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.other.weight", &[2, 8]),
            ),
        ),
        (
            "factors of modules that the settings do not match",
            refused("llama-layers", &[("layers_to_transform", json!(0))], &same),
        ),
        ("magnitudes without use_dora", refused("bert-dora", &[("use_dora", json!(false))], &same)),
        ("magnitudes of tables", refused("llama-tables", &[("use_dora", json!(true))], &same)),
        (
            "an initialization that changes the weights",
            refused("bert-bias", &[("init_lora_weights", json!("pissa"))], &same),
        ),
    ]
}

pub fn gguf_files() -> Vec<Refusal> {
    let (model, parameters) = network(CausalArchitecture::Llama, true);
    let whole = gguf(model.config(), &parameters);
    let read = |file: &GgufFile| {
        let (directory, path) = written(file);
        said(lm::load(&path, Kind::Float, Device::Cpu), directory.path())
    };
    let with = |field: &str, value: Field| read(whole.clone().set(field, Some(value)));
    let mut stored = whole.clone();
    stored.tensors[1].2 = 16;
    let tokenizer = |model: &str, pre: &str| {
        let mut file = GgufFile::default();
        file.set("tokenizer.ggml.model", Some(Field::Text(model.into())));
        file.set("tokenizer.ggml.pre", Some(Field::Text(pre.into())));
        file.set("tokenizer.ggml.tokens", Some(Field::Texts(vec!["a".into()])));
        file.set("tokenizer.ggml.token_type", Some(Field::I32s(vec![1])));
        file.set("tokenizer.ggml.merges", Some(Field::Texts(Vec::new())));
        let (directory, path) = written(&file);
        said(PromptTokenizer::from_dir(&path), directory.path())
    };
    vec![
        ("an unknown architecture", with("general.architecture", Field::Text("mamba".into()))),
        ("an unknown storage type", read(&stored)),
        ("scaled angles", with("llama.rope.scaling.type", Field::Text("yarn".into()))),
        ("experts", with("llama.expert_count", Field::U32(8))),
        ("one part of a split model", with("split.count", Field::U32(3))),
        ("an unknown kind of tokenizer", tokenizer("rwkv", "default")),
        ("an unknown pre-tokenizer", tokenizer("gpt2", "falcon")),
    ]
}
