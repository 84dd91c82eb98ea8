//! Tokenizers and tiny networks together: logits of texts, from the files of a tokenizer and of a network, are those of
//! transformers.
//!
//! `fixtures/tokenizers/logits.json` holds them for every case of `cases.json`, made there by `make_logits.py` in double
//! precision; the networks' weights are numbers computed from their names, in the same way here and there. Tolerance: 1e-10 of
//! the largest logit if this processor rounds like the one that made them, otherwise [`ROUNDED_ELSEWHERE`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::{relative_error, rounds_as_golden};
use crate::tokenizers::{fixtures, lay_out, numbers};
use kernelview::jacobian::{Parameters, outputs};
use kernelview::lm::{self, LanguageModel, OutputMode, PromptExample, PromptExamples, write_tensors};
use kernelview::task::PromptTokenizer;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Tolerance for another order of sums in single precision.
const ROUNDED_ELSEWHERE: f64 = 5e-6;

/// Numbers between -1/2 and 1/2 computed from a name; for a vector divided by four, and for a norm's weight added to one.
pub fn values(name: &str, shape: &[i64]) -> Tensor {
    let seed = name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let count: i64 = shape.iter().product();
    let number = |i: i64| {
        let mut x = seed.wrapping_add((i as u32).wrapping_mul(0x9e37_79b9));
        for (shift, factor) in [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        x ^= x >> 16;
        let u = f64::from(x >> 8) / f64::from(1 << 24) - 0.5;
        let one = f64::from(u8::from(name.ends_with("weight")));
        (if shape.len() == 1 { u / 4.0 + one } else { u }) as f32
    };
    Tensor::from_slice(&(0..count).map(number).collect::<Vec<f32>>()).view(shape)
}

/// Writes the files of a network of the corpus.
pub fn write(described: &Value, directory: &Path) {
    fs::write(directory.join("config.json"), described["config"].to_string()).expect("config.json");
    let tensors = described["tensors"].as_object().expect("names and shapes").iter();
    let tensors: Vec<(String, Tensor)> =
        tensors.map(|(name, shape)| (name.clone(), values(name, &numbers(shape)))).collect();
    write_tensors(&directory.join("model.safetensors"), &tensors, &[("format", "pt")]).expect("weights");
}

/// A network of the corpus, loaded from its files.
fn network(described: &Value) -> (Box<dyn LanguageModel>, Parameters) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(described, directory.path());
    lm::load(directory.path(), Kind::Double, Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", described["config"]))
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a fixture")).expect("JSON")
}

#[test]
fn logits_of_texts_are_those_of_transformers() {
    crate::common::one_thread();
    let (corpus, right) = (json(&fixtures().join("cases.json")), json(&fixtures().join("logits.json")));
    let texts = corpus["texts"].as_array().expect("texts");
    let labels = numbers(&right["labels"]);
    let networks: BTreeMap<&String, _> =
        right["networks"].as_object().expect("networks").iter().map(|(name, n)| (name, network(n))).collect();
    let (mut worst, mut compared) = (BTreeMap::<&str, f64>::new(), 0);
    for (case, right) in
        corpus["cases"].as_array().expect("cases").iter().zip(right["cases"].as_array().expect("cases"))
    {
        let Some(name) = right["network"].as_str() else { continue };
        let directory = lay_out(case);
        // Some are refused; tests/it/tokenizers.rs says which.
        let Ok(tokenizer) = PromptTokenizer::from_dir(directory.path()) else { continue };
        let (model, parameters) = &networks[&name.to_owned()];
        let prompt = |text: i64| {
            let mut ids = tokenizer.beginning().expect("ids");
            ids.extend(tokenizer.encode(texts[text as usize].as_str().expect("a text")).expect("ids"));
            PromptExample { segment_ids: vec![0; ids.len()], mask_position: ids.len() - 1, input_ids: ids }
        };
        let prompts = numbers(&right["texts"]).into_iter().map(prompt).collect();
        let examples = PromptExamples::new(&**model, prompts, &labels, OutputMode::Logits, Device::Cpu)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let rows = right["logits"].as_array().expect("rows").iter();
        let rows: Vec<f64> =
            rows.flat_map(|row| row.as_array().expect("a row")).map(|x| x.as_f64().expect("a number")).collect();
        let expected = Tensor::from_slice(&rows).view([-1, labels.len() as i64]);
        let error = relative_error(&outputs(parameters, &examples, 1), &expected);
        compared += expected.size()[0];
        let most = worst.entry(name).or_default();
        *most = most.max(error);
    }
    println!("{compared} texts: {worst:?}");
    assert!(compared > 2500 && worst.len() == networks.len(), "{compared} texts, {} networks", worst.len());
    let tolerance = if rounds_as_golden() { 1e-10 } else { ROUNDED_ELSEWHERE };
    for (name, error) in worst {
        assert!(error <= tolerance, "{name}: {error:.2e}");
    }
}
