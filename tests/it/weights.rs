//! Weights of checkpoints as transformers reads them: which of several copies of a tensor counts, names, shards and old files;
//! and messages for files with other content.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::checkpoint_settings::fixtures;
use crate::common::bin::{Storages, archive, state_dict, write_state_dict};
use crate::common::fixture::tiny_checkpoint;
use crate::common::{causal, read_tensors};
use kernelview::lm::{self, Architecture, CausalArchitecture, CausalLm, random};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

pub type Tensors = BTreeMap<String, Tensor>;

pub const FILE: &str = "model.safetensors";
pub const QUERY: &str = "bert.encoder.layer.1.attention.self.query.weight";

/// A tiny checkpoint, whose files are to be changed.
pub struct Model {
    directory: TempDir,
    tensors: Tensors,
}

impl Model {
    pub fn of(architecture: Architecture) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        tiny_checkpoint(directory.path(), architecture, 5);
        let tensors = read_tensors(&directory.path().join(FILE));
        Self { directory, tensors }
    }

    /// A tiny Llama or GPT-2.
    pub fn causal(architecture: CausalArchitecture, tied: bool) -> Self {
        let mut config = random::tiny_causal(architecture, 40);
        config.tied_decoder = tied;
        let model = CausalLm::new(config);
        let parameters = random::parameters(&model, 5, 1.5, Kind::Float, Device::Cpu);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let named = causal::tensors(&parameters);
        causal::write(directory.path(), &causal::config_json(model.config()), &named);
        Self { directory, tensors: named.into_iter().collect() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Removes the weights.
    pub fn bare(self) -> Self {
        fs::remove_file(self.at(FILE)).expect("a file");
        self
    }

    pub fn write(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.at(name), content).expect("a file");
        self
    }

    pub fn set(self, field: &str, value: Value) -> Self {
        let text = fs::read(self.at("config.json")).expect("a file");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        config[field] = value;
        self.write("config.json", config.to_string())
    }

    fn save(&self, name: &str, tensors: &Tensors) {
        Tensor::write_safetensors(&tensors.iter().collect::<Vec<_>>(), self.at(name)).expect("a file");
    }

    /// Writes the weights again after a change.
    pub fn changed(self, change: impl FnOnce(&mut Tensors)) -> Self {
        let mut tensors = self.tensors.iter().map(|(name, t)| (name.clone(), t.copy())).collect();
        change(&mut tensors);
        self.save(FILE, &tensors);
        self
    }

    /// The parameters by name, or the message without the directory.
    pub fn load(&self) -> Result<Tensors, String> {
        match lm::load(self.directory.path(), Kind::Double, Device::Cpu) {
            Ok((_, p)) => {
                let named = p.specs().iter().zip(p.values());
                Ok(named.map(|(spec, value)| (spec.name.clone(), value.shallow_clone())).collect())
            }
            Err(e) => {
                assert_eq!(e.exit_code(), 2, "{e}");
                Err(e.to_string().replace(&self.directory.path().display().to_string(), "DIR"))
            }
        }
    }

    /// Fails unless the message contains all of these texts.
    fn is_refused(&self, words: &[&str]) {
        let message = self.load().expect_err(words[0]);
        assert!(words.iter().all(|word| message.contains(word)), "{words:?} in: {message}");
    }
}

fn rename(tensors: &mut Tensors, name: &str, other: &str) {
    let tensor = tensors.remove(name).expect("a tensor");
    tensors.insert(other.to_owned(), tensor);
}

fn zeros(like: &Tensor) -> Tensor {
    like.zeros_like()
}

/// Tensors in two shards, with an outdated copy of one of the first in the second, and the index by names.
fn shards(tensors: &Tensors, stale: &str) -> ([Tensors; 2], BTreeMap<String, usize>) {
    let half = tensors.len() / 2;
    let mut parts = [Tensors::new(), Tensors::new()];
    let mut map = BTreeMap::new();
    for (i, (name, t)) in tensors.iter().enumerate() {
        let part = usize::from(i >= half && name != stale);
        parts[part].insert(name.clone(), t.shallow_clone());
        map.insert(name.clone(), part);
    }
    parts[1].insert(stale.to_owned(), zeros(&tensors[stale]));
    (parts, map)
}

/// Fails for: a tensor from another shard than the index names.
#[test]
fn the_index_decides_the_shard() {
    for binary in [false, true] {
        let model = Model::of(Architecture::Bert);
        let expected = model.load().expect("loads");
        let model = model.bare();
        let (parts, map) = shards(&model.tensors, QUERY);
        let (start, end) = if binary { ("pytorch_model", "bin") } else { ("model", "safetensors") };
        let names = [1, 2].map(|i| format!("{start}-0000{i}-of-00002.{end}"));
        for (name, tensors) in names.iter().zip(&parts) {
            if binary {
                write_state_dict(&model.at(name), tensors, Storages::Own);
            } else {
                model.save(name, tensors);
            }
        }
        let mut index: Map<String, Value> =
            map.iter().map(|(tensor, part)| (tensor.clone(), names[*part].clone().into())).collect();
        let file = format!("{start}.{end}.index.json");
        let model = model.write(&file, json!({ "weight_map": index }).to_string());
        assert_eq!(model.load().expect("loads"), expected);
        index.insert("bert.pooler.dense.weight".into(), names[1].clone().into());
        let model = model.write(&file, json!({ "weight_map": index }).to_string());
        model.is_refused(&[&file, "`bert.pooler.dense.weight`", &names[1], "lacks it"]);
    }
}

/// Prefixes of names by data-parallel training, compilation and training programs are removed.
#[test]
fn names_and_dictionaries_lose_what_training_put_around_them() {
    let model = Model::of(Architecture::Bert);
    let expected = model.load().expect("loads");
    for around in ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "model.{}", "model._orig_mod.module.{}"] {
        let renamed: Tensors =
            model.tensors.iter().map(|(name, t)| (around.replace("{}", name), t.shallow_clone())).collect();
        model.save(FILE, &renamed);
        assert_eq!(model.load().expect(around), expected, "{around}");
    }
    let within: Tensors = model
        .tensors
        .iter()
        .map(|(name, t)| (name.replace(".layer.", ".layer._fsdp_wrapped_module."), t.shallow_clone()))
        .collect();
    model.save(FILE, &within);
    assert_eq!(model.load().expect("loads"), expected);

    let (program, data) = state_dict(&model.tensors, Storages::Own);
    let inner = &program[2..program.len() - 1];
    let model = model.bare();
    for name in ["state_dict", "model_state_dict", "model"] {
        let key = [&b"X"[..], &(name.len() as u32).to_le_bytes(), name.as_bytes()].concat();
        let nested = [&b"\x80\x02}X\x05\0\0\0epochK\x03s"[..], &key, inner, b"s."].concat();
        fs::write(model.at("pytorch_model.bin"), archive(&nested, &data)).expect("a file");
        assert_eq!(model.load().expect(name), expected, "{name}");
    }
    let other = b"\x80\x02}X\x05\0\0\0epochK\x03s.";
    fs::write(model.at("pytorch_model.bin"), archive(other, &data)).expect("a file");
    model.is_refused(&["not a dictionary of tensors but of epoch"]);

    for architecture in [CausalArchitecture::Gpt2, CausalArchitecture::Llama] {
        for tied in [true, false] {
            let model = Model::causal(architecture, tied);
            let expected = model.load().expect("loads");
            let wrapped: Tensors =
                model.tensors.iter().map(|(name, t)| (format!("model.{name}"), t.shallow_clone())).collect();
            model.save(FILE, &wrapped);
            assert_eq!(model.load().expect("loads"), expected, "{architecture:?} {tied}");
        }
    }
}

/// Files from PyTorch before 1.6, still used for many checkpoints.
#[test]
fn old_pytorch_files_are_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let base = fixtures().join("head-bert");
    fs::copy(base.join("config.json"), directory.path().join("config.json")).expect("a copy");
    let weights = directory.path().join("pytorch_model.bin");
    fs::copy(fixtures().join("old_pytorch_model.bin"), &weights).expect("a copy");
    let load = |place: &Path| lm::load(place, Kind::Float, Device::Cpu);
    let (expected, found) = (load(&base).expect("loads").1, load(directory.path()).expect("loads").1);
    for (spec, (a, b)) in expected.specs().iter().zip(expected.values().iter().zip(found.values())) {
        assert_eq!(a, b, "{}", spec.name);
    }
    let whole = fs::read(&weights).expect("a file");
    fs::write(&weights, &whole[..whole.len() - 1]).expect("a file");
    let refused = load(directory.path()).err().expect("cut").to_string();
    assert!(refused.contains("it ends in storage") && refused.contains("download it again"), "{refused}");
}

#[test]
fn copies_must_be_equal() {
    // The decoder's bias has two names.
    for (architecture, bias, other) in [
        (Architecture::Bert, "cls.predictions.bias", "cls.predictions.decoder.bias"),
        (Architecture::Roberta, "lm_head.bias", "lm_head.decoder.bias"),
        (Architecture::Albert, "predictions.bias", "predictions.decoder.bias"),
    ] {
        let model = Model::of(architecture);
        let expected = model.load().expect("loads");
        let model = model.changed(|t| drop(t.insert(other.into(), t[bias].copy())));
        assert_eq!(model.load().expect("equal copies"), expected);
        let model = model.changed(|t| rename(t, bias, other));
        assert_eq!(model.load().expect("the other name"), expected);
        let model = model.changed(|t| drop(t.insert(other.into(), &t[bias] + 1)));
        model.is_refused(&[&format!("`{bias}`"), &format!("`{other}`"), "differ by up to 1.0e0"]);
    }
    // Under the wrapper's name and without it.
    let model = Model::of(Architecture::Bert);
    let model = model.changed(|t| drop(t.insert(format!("{QUERY}._orig_mod"), zeros(&t[QUERY]))));
    model.is_refused(&["are the same tensor", "_orig_mod`", "differ"]);
}

#[test]
fn tied_tensors_are_one_under_either_name() {
    for (architecture, tokens, decoder) in [
        (Architecture::Bert, "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        (Architecture::Roberta, "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        (Architecture::DistilBert, "distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
        (Architecture::Electra, "electra.embeddings.word_embeddings.weight", "generator_lm_head.weight"),
        (Architecture::Albert, "albert.embeddings.word_embeddings.weight", "predictions.decoder.weight"),
    ] {
        check_tied(Model::of(architecture), tokens, decoder);
    }
    check_tied(Model::causal(CausalArchitecture::Gpt2, true), "transformer.wte.weight", "lm_head.weight");
    check_tied(Model::causal(CausalArchitecture::Llama, true), "model.embed_tokens.weight", "lm_head.weight");
}

fn check_tied(model: Model, tokens: &str, decoder: &str) {
    let expected = model.load().expect("loads");
    let model = model.changed(|t| drop(t.insert(decoder.into(), t[tokens].copy())));
    assert_eq!(model.load().expect("equal copies"), expected, "{tokens}");
    let model = model.changed(|t| rename(t, tokens, decoder));
    assert_eq!(model.load().expect("the decoder's name"), expected, "{decoder}");
    let model = model.changed(|t| drop(t.insert(decoder.into(), &t[tokens] * 2)));
    model.is_refused(&[&format!("`{tokens}`"), &format!("`{decoder}`"), "tie_word_embeddings", "differ"]);
    let untied = model.set("tie_word_embeddings", json!(false)).load().expect("weights of its own");
    assert_eq!(untied[decoder], &expected[tokens] * 2);
}

#[test]
fn a_single_variant_of_the_weights_is_read() {
    let model = Model::of(Architecture::Bert);
    let expected = model.load().expect("loads");
    fs::rename(model.at(FILE), model.at("model.fp16.safetensors")).expect("a file");
    assert_eq!(model.load().expect("a variant"), expected);
    fs::copy(model.at("model.fp16.safetensors"), model.at("model.bf16.safetensors")).expect("a file");
    model.is_refused(&["several variants", "model.bf16.safetensors", "model.fp16.safetensors"]);
}

#[test]
fn what_lies_in_place_of_weights_is_named() {
    let bert = || Model::of(Architecture::Bert);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 440473133\n";
    for name in [FILE, "config.json"] {
        bert().write(name, pointer).is_refused(&[name, "Git LFS", "git lfs pull"]);
    }
    bert().bare().write("pytorch_model.bin", pointer).is_refused(&["pytorch_model.bin", "Git LFS"]);
    bert().bare().write("pytorch_model.bin.index.json", pointer).is_refused(&["Git LFS"]);
    bert().write(FILE, "<!DOCTYPE html><html>").is_refused(&["a web page"]);
    let whole = fs::read(bert().at(FILE)).expect("a file");
    let words = [format!("has {} of {} bytes", whole.len() - 9, whole.len()), "interrupted download".into()];
    bert().write(FILE, &whole[..whole.len() - 9]).is_refused(&[&words[0], &words[1]]);

    for (name, words) in [
        ("adapter_model.safetensors", "an adapter"),
        ("tf_model.h5", "from_tf=True"),
        ("flax_model.msgpack", "from_flax=True"),
        ("consolidated.00.pth", "in the publisher's own format"),
        ("model-00001-of-00002.safetensors", "model.safetensors.index.json is missing; download it too"),
        ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json is missing; download it too"),
        ("x.incomplete", "an interrupted download"),
    ] {
        bert().bare().write(name, "").is_refused(&[words, name]);
    }
    // Hugging Face's cache as left by an interrupted download.
    let model = bert().bare();
    symlink("../../blobs/0123", model.at(FILE)).expect("a link");
    model.is_refused(&[FILE, "../../blobs/0123", "an interrupted download"]);
}

#[test]
fn quantized_checkpoints_and_classifiers_are_named() {
    for method in ["bitsandbytes", "gptq", "awq", "fp8"] {
        let model = Model::of(Architecture::Bert).set("quantization_config", json!({ "quant_method": method }));
        model.is_refused(&["quantization_config", method, "dequantize"]);
    }
    let model = Model::causal(CausalArchitecture::Llama, false).changed(|t| {
        let weight = t.remove("model.layers.0.self_attn.q_proj.weight").expect("a weight");
        t.insert("model.layers.0.self_attn.q_proj.qweight".into(), weight.to_kind(Kind::Int));
    });
    model.is_refused(&["quantized", "q_proj.qweight", "dequantize"]);

    let vector = || Tensor::zeros([2, 16], (Kind::Float, Device::Cpu));
    let model = Model::of(Architecture::Bert).changed(|t| {
        t.retain(|name, _| !name.starts_with("cls."));
        t.insert("classifier.weight".into(), vector());
    });
    model.is_refused(&["a classifier", "`classifier.weight`", "fine-tuned from"]);
    let model = Model::causal(CausalArchitecture::Llama, false).changed(|t| {
        t.remove("lm_head.weight");
        t.insert("score.weight".into(), vector());
    });
    model.is_refused(&["a classifier", "`score.weight`", "fine-tuned from"]);
}
