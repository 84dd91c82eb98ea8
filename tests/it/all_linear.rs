//! Adapters of PEFT on every linear map but the output layer, including embedding projections and fused maps, for every
//! architecture: logits, and kernels of the factors.
//!
//! `fixtures/architectures/all_linear.json` holds them, made there by `make_all_linear.py` in double precision; the factors are
//! numbers computed from their names, in the same way here and there. 1e-12 of the largest logit, 1e-10 of a kernel's largest
//! entry.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Golden, relative_error};
use crate::corpus::values;
use kernelview::jacobian::outputs;
use kernelview::kernel::{FormulaSet, GramOptions, structured_gram};
use kernelview::lm::{Modules, PeftAdapter};
use kernelview::progress::Silent;
use kernelview::subspace::Trained;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/architectures")
}

/// PEFT's adapter of a network.
#[derive(Deserialize)]
pub struct Made {
    rank: i64,
    alpha: i64,
    /// The targets that it writes for `all-linear`.
    targets: Vec<String>,
    /// Names and shapes of its file.
    tensors: BTreeMap<String, Vec<i64>>,
    logits: Vec<Vec<f64>>,
    kernel: Vec<Vec<f64>>,
}

pub fn all() -> BTreeMap<String, Made> {
    let text = fs::read(folder().join("all_linear.json")).expect("a fixture");
    serde_json::from_slice(&text).expect("adapters by network")
}

fn matrix(rows: &[Vec<f64>]) -> Tensor {
    let rows: Vec<Tensor> = rows.iter().map(|row| Tensor::from_slice(row)).collect();
    Tensor::stack(&rows, 0)
}

/// The adapter as PEFT saves it, with these targets.
fn adapter(made: &Made, targets: &Value, golden: &Golden) -> PeftAdapter {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = json!({
        "peft_type": "LORA", "r": made.rank, "lora_alpha": made.alpha, "target_modules": targets, "bias": "none",
    });
    fs::write(directory.path().join("adapter_config.json"), settings.to_string()).expect("a file");
    let tensors: Vec<_> = made.tensors.iter().map(|(name, shape)| (name.clone(), values(name, shape))).collect();
    Tensor::write_safetensors(&tensors, directory.path().join("adapter_model.safetensors")).expect("a file");
    PeftAdapter::load(directory.path(), golden.parameters.specs()).unwrap_or_else(|e| panic!("{e}"))
}

impl Made {
    /// Errors of logits, in passes of `batch` texts, and of the factors' kernel, against PEFT's.
    pub fn errors(&self, golden: &Golden, batch: usize) -> (f64, f64) {
        let read = adapter(self, &json!(self.targets), golden);
        assert_eq!(read.lora.adapters().len(), self.tensors.len() / 2);
        let extended = read.parameters(&golden.parameters);
        let (plain, include) = (golden.examples(), read.lora.include(Trained::Adapters));
        let examples = read.lora.examples(&plain);
        let logits = relative_error(&outputs(&extended, &examples, batch), &matrix(&self.logits));
        let options = GramOptions { include, batch, ..GramOptions::new(FormulaSet::SGD, extended.len()) };
        let gram = structured_gram(&extended, &examples, None, &options, &Silent).expect("structured");
        (logits, relative_error(&gram.sgd.expect("asked for"), &matrix(&self.kernel)))
    }
}

#[test]
fn logits_and_kernels_of_adapters_on_all_linear_maps_are_those_of_peft() {
    for (name, made) in all() {
        let (logits, kernel) = made.errors(&Golden::read(&folder().join(&name), Kind::Double), 4);
        assert!(logits <= 1e-12 && kernel <= 1e-10, "{name}: {logits:.2e}, {kernel:.2e}");
    }
}

/// PEFT leaves out the output layer that transformers names; for DeBERTa's newer head that is the map before it.
#[test]
fn all_linear_means_the_maps_that_peft_takes() {
    for (name, made) in all() {
        let golden = Golden::read(&folder().join(&name), Kind::Double);
        let modules = Modules::of(golden.parameters.specs());
        let chosen = modules.choose(&["all-linear".to_owned()]).expect("all of them");
        let mut chosen: Vec<&str> = modules.iter().filter(|(_, p)| chosen.contains(p)).map(|(name, _)| name).collect();
        let taken: Vec<&str> = made.tensors.keys().filter_map(|tensor| tensor.strip_suffix(".lora_A.weight")).collect();
        let mut taken: Vec<&str> = taken.iter().filter_map(|tensor| tensor.strip_prefix("base_model.model.")).collect();
        if name == "parts/deberta-keys" {
            taken.push("lm_predictions.lm_head.dense");
        }
        chosen.sort_unstable();
        taken.sort_unstable();
        assert_eq!(chosen, taken, "{name}");
        if name != "parts/deberta-keys" {
            let read = adapter(&made, &json!("all-linear"), &golden);
            assert_eq!(read.lora.adapters().len(), taken.len(), "{name}");
        }
    }
}
