//! DistilBERT, ELECTRA's generator and ALBERT against values made with Hugging Face transformers in double precision. The
//! tiny checkpoints and their values, with the script that made them, are in `fixtures/architectures`.
//!
//! Tolerances are those of tests/it/golden.rs: 1e-12 relative for logits, 1e-10 for kernels, sign kernels as equal integers; in
//! single precision 1e-5, plus the effect of doubtful signs.

use std::path::{Path, PathBuf};

use super::kernel_cases::bounds::agrees_in_single_precision;
use crate::common::{Golden, relative_error};
use kernelview::jacobian::{ParameterSpec, outputs};
use kernelview::kernel::{
    FormulaSet, GramOptions, Method, dense_jacobian, estimate_gram, reference_gram, structured_gram,
};
use kernelview::lm::{LanguageModel, MaskedLm, Modules, StoredType, default_targets, save};
use kernelview::progress::Silent;
use kernelview::subspace::{Init, Lora, Target, Trained};
use tch::{Device, Kind, Tensor};

/// Folders of fixtures/architectures. `albert` has one layer used three times; `albert-groups`, two groups of two.
const ALL: [&str; 4] = ["distilbert", "electra", "albert", "albert-groups"];

/// Number of layers with their own parameters, and how many of them are used more than once.
fn layers(name: &str) -> (usize, usize) {
    match name {
        "albert" => (1, 1),
        "albert-groups" => (4, 2),
        _ => (2, 0),
    }
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/architectures").join(name)
}

#[test]
fn logits_equal_transformers_in_double_and_single_precision_and_in_any_batch() {
    for name in ALL {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
            let golden = Golden::read(&directory(name), kind);
            for batch in [1, 2, 4] {
                let f = outputs(&golden.parameters, &golden.examples(), batch);
                let error = relative_error(&f, &golden.values["logits"]);
                assert!(error <= tolerance, "{name} {kind:?} batch {batch}: {error:.2e}");
            }
        }
    }
}

#[test]
fn both_engines_equal_the_golden_kernels_and_shares() {
    for name in ALL {
        let golden = Golden::read(&directory(name), Kind::Double);
        let (p, examples) = (&golden.parameters, golden.examples());
        let include = vec![true; p.len()];
        let reference = reference_gram(p, &examples, None, FormulaSet::ALL, &include).expect("reference");
        golden.check_kernels(&reference, (1e-10, 0.0), &format!("{name} reference"));
        for (batch, block_entries, keep_bytes) in [(4, 1 << 22, 1 << 30), (3, 500, 1 << 30), (1, 100_000, 0)] {
            let mut options = GramOptions::new(FormulaSet::ALL, p.len());
            (options.batch, options.block_entries, options.keep_bytes) = (batch, block_entries, keep_bytes);
            options.share_matrices = true;
            let gram = structured_gram(p, &examples, None, &options, &Silent).expect("structured");
            golden.check_kernels(&gram, (1e-10, 0.0), &format!("{name} structured, batch {batch}"));
        }
    }
}

#[test]
fn single_precision_kernels_agree_with_double() {
    for name in ALL {
        let golden = Golden::read(&directory(name), Kind::Float);
        let options = GramOptions::new(FormulaSet::ALL, golden.parameters.len());
        let gram = structured_gram(&golden.parameters, &golden.examples(), None, &options, &Silent).expect("f32");
        let double = Golden::read(&directory(name), Kind::Double);
        let expected = |formula| golden.kernel(&format!("kernel.{formula}"));
        agrees_in_single_precision(name, &gram, expected, (&double.parameters, &double.examples()), 1e-5);
    }
}

/// The gradient of a shared weight is a sum over its uses, which no method may treat as one product of factors.
#[test]
fn ghost_products_are_for_weights_of_one_use() {
    for name in ALL {
        let golden = Golden::read(&directory(name), Kind::Double);
        let (p, examples) = (&golden.parameters, golden.examples());
        let mut options = GramOptions::new(FormulaSet::SGD, p.len());
        options.method = Some(Method::Ghost);
        let gram = structured_gram(p, &examples, None, &options, &Silent).expect("structured");
        let error = relative_error(gram.sgd.as_ref().expect("computed"), &golden.kernel("kernel.sgd"));
        assert!(error <= 1e-10, "{name}: {error:.2e}");
        let plan = estimate_gram(p, &examples, None, &options);
        let ghosts = |start: &str| -> usize {
            let layers = plan.layers.iter().filter(|l| l.layer.starts_with(start));
            layers.filter_map(|l| l.methods.get("ghost")).sum()
        };
        assert_eq!(ghosts("head"), 1, "{name}");
        let (own, shared) = layers(name);
        assert_eq!(ghosts("layer") + ghosts("shared layer"), 6 * (own - shared), "{name}");
    }
}

/// Default targets by both engines, A trained and frozen, against `dB = (∂f/∂W) Aᵀ` from the dense Jacobian.
#[test]
fn kernels_of_adapters_on_default_targets_are_those_of_the_weights_gradients() {
    for name in ALL {
        let golden = Golden::read(&directory(name), Kind::Double);
        let (p, examples) = (&golden.parameters, golden.examples());
        let targets: Vec<String> =
            default_targets(golden.model.facts().architecture).iter().map(|t| (*t).to_owned()).collect();
        let weights = Modules::of(p.specs()).choose(&targets).expect("names of modules");
        assert_eq!(weights.len(), 2 * layers(name).0, "{name}: queries and values");
        let target = |w: &_| Target { weight: *w, rank: 3, scaling: 2.0 };
        let lora = Lora::new(p.specs(), &weights.iter().map(target).collect::<Vec<_>>()).expect("linear maps");
        let extended = lora.parameters(p, Init::Gaussian, 5);
        let jacobian = dense_jacobian(p, &examples).expect("not interrupted");
        let mut expected = Tensor::zeros([8, 8], (Kind::Double, Device::Cpu));
        for adapter in lora.adapters() {
            let before: i64 = p.specs()[..adapter.weight.0].iter().map(ParameterSpec::numel).sum();
            let spec = &p.specs()[adapter.weight.0];
            let gradient = jacobian.narrow(1, before, spec.numel()).view([8, spec.shape[0], spec.shape[1]]);
            let b = (gradient.matmul(&extended.get(adapter.a).tr()) * adapter.scaling).view([8, -1]);
            expected += b.matmul(&b.tr());
        }
        let adapted = lora.examples(&examples);
        for trained in [Trained::Adapters, Trained::OnlyB] {
            let include = lora.include(trained);
            let reference = reference_gram(&extended, &adapted, None, FormulaSet::SGD, &include).expect("reference");
            let mut options = GramOptions::new(FormulaSet::SGD, extended.len());
            options.include = include;
            let structured = structured_gram(&extended, &adapted, None, &options, &Silent).expect("structured");
            for gram in [reference, structured] {
                let error = relative_error(gram.sgd.as_ref().expect("computed"), &expected);
                assert!(error <= 1e-10, "{name} {trained:?}: {error:.2e}");
            }
        }
    }
}

/// `save` writes what transformers wrote, for the network's own tensors.
#[test]
fn saved_checkpoints_are_read_again() {
    for name in ALL {
        let (model, parameters) = MaskedLm::load(&directory(name), Kind::Float, Device::Cpu).expect("a checkpoint");
        let saved = tempfile::tempdir().expect("a temporary directory");
        save(&model, &parameters, saved.path(), StoredType::F32).expect("written");
        let (again, read) = MaskedLm::load(saved.path(), Kind::Float, Device::Cpu).expect("what was written");
        assert_eq!(again.settings(), model.settings(), "{name}");
        assert!(parameters.values().iter().zip(read.values()).all(|(a, b)| a == b), "{name}");
        let json = |directory: &Path| -> serde_json::Value {
            let text = std::fs::read_to_string(directory.join("config.json")).expect("config.json");
            serde_json::from_str(&text).expect("JSON")
        };
        let (own, theirs) = (json(saved.path()), json(&directory(name)));
        for (field, value) in own.as_object().expect("an object").iter().filter(|(f, _)| *f != "torch_dtype") {
            assert_eq!(Some(value), theirs.get(field), "{name}: {field}");
        }
    }
}
