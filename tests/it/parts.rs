//! Architectures by their parts against values made with Hugging Face transformers: the tiny networks of
//! `fixtures/architectures/parts`, computed in double precision throughout (see `make_parts.py`). `tests/it/parity.rs` compares
//! with unmodified transformers.
//!
//! Tolerances: 1e-12 of the largest logit (a few layers of rounding at 1e-16), 1e-10 of a kernel's largest entry; sign kernels
//! are integers and must be equal. In single precision 1e-5, plus the effect of doubtful signs.

use std::fs;
use std::path::{Path, PathBuf};

use super::kernel_cases::bounds::agrees_in_single_precision;
use crate::common::{Golden, relative_error};
use kernelview::jacobian::{Examples, ParameterSpec, Parameters, outputs};
use kernelview::kernel::{
    Formula, FormulaSet, Gram, GramOptions, dense_jacobian, reference_gram, sign_rows, structured_gram,
};
use kernelview::lm::{Modules, PeftAdapter, PromptExamples, default_targets};
use kernelview::progress::Silent;
use kernelview::subspace::{Init, Lora, Target, Trained};
use kernelview::train::{FineTuning, LabelledExamples, OptimizerKind, Watch, fine_tune, output_derivative};
use tch::{Device, Kind, Tensor};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/architectures/parts")
}

pub fn networks() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the fixtures");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("a plain name")).collect();
    names.sort_unstable();
    assert!(names.len() >= 20, "{names:?}");
    names
}

pub fn golden(name: &str, kind: Kind) -> Golden {
    Golden::read(&folder().join(name), kind)
}

pub fn structured(p: &Parameters, examples: &PromptExamples<'_>, (batch, block, keep): (usize, i64, usize)) -> Gram {
    let mut options = GramOptions::new(FormulaSet::ALL, p.len());
    (options.batch, options.block_entries, options.keep_bytes) = (batch, block, keep);
    options.share_matrices = true;
    structured_gram(p, examples, None, &options, &Silent).expect("structured")
}

/// Including texts beyond windows and trained lengths, with and without padding; weights are bfloat16 on disk.
#[test]
fn logits_equal_transformers_in_double_and_single_precision_and_in_any_batch() {
    for name in networks() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
            let golden = golden(&name, kind);
            for batch in [1, 2, 4] {
                let f = outputs(&golden.parameters, &golden.examples(), batch);
                let error = relative_error(&f, &golden.values["logits"]);
                assert!(error <= tolerance, "{name} {kind:?} batch {batch}: {error:.2e}");
            }
        }
    }
}

/// Loss gradients of a padded batch, whose tokens are packed, are `Σ χ ∇f / N`, with gradients by autograd for one text at a
/// time. 1e-9: sums over a batch in another order. Fails for: attention between texts, a lost token.
#[test]
fn steps_on_padded_batches_are_those_of_single_texts() {
    for name in networks() {
        let golden = golden(&name, Kind::Double);
        let (p, examples) = (&golden.parameters, golden.examples());
        let (count, outputs_each) = (examples.len(), examples.outputs());
        assert!((0..count).any(|i| examples.cost(i) != examples.cost(0)), "{name}: nothing is padded");
        let labels: Vec<usize> = (0..count).map(|i| i % outputs_each).collect();
        let data = LabelledExamples { examples: &examples, labels: &labels };
        let settings = FineTuning {
            optimizer: OptimizerKind::Sgd,
            learning_rate: 1.0,
            batch_size: count,
            steps: 1,
            eval_every: 1,
            seed: 1,
            parts: None,
        };
        let mut moved = None;
        fine_tune(
            p,
            &data,
            &data,
            &vec![true; p.len()],
            &settings,
            &Silent,
            Some(Watch::every(&mut |step| {
                let all = step.before.minus(step.after);
                moved = Some(Tensor::cat(&all.values().iter().map(|v| v.reshape([-1])).collect::<Vec<_>>(), 0));
                Ok(())
            })),
        )
        .expect("a step");
        let chi = output_derivative(&outputs(p, &examples, 1), &data.label_tensor()).reshape([1, -1]);
        let expected = chi.matmul(&dense_jacobian(p, &examples).expect("gradients")).squeeze_dim(0) / count as f64;
        let error = relative_error(&moved.expect("a step"), &expected);
        assert!(error <= 1e-9, "{name}: {error:.2e}");
    }
}

#[test]
fn both_engines_equal_the_golden_kernels() {
    for name in networks() {
        let golden = golden(&name, Kind::Double);
        let (p, examples) = (&golden.parameters, golden.examples());
        let reference = reference_gram(p, &examples, None, FormulaSet::ALL, &vec![true; p.len()]).expect("reference");
        let mut grams = vec![("reference".to_owned(), reference)];
        for settings in [(4, 1 << 22, 1 << 30), (3, 500, 1 << 30), (1, 100_000, 0)] {
            grams.push((format!("structured, batch {}", settings.0), structured(p, &examples, settings)));
        }
        for (engine, gram) in &grams {
            for (formula, tolerance) in [(Formula::Sgd, 1e-10), (Formula::Asymmetric, 1e-10), (Formula::Signgd, 0.0)] {
                let expected = golden.kernel(&format!("kernel.{formula}"));
                let error = relative_error(gram.matrix(formula).expect("computed"), &expected);
                assert!(error <= tolerance, "{name} {engine} {formula}: {error:.2e}");
            }
            let counted: f64 = gram.shares.iter().filter_map(|s| s.trace_signgd).sum();
            let expected = golden.values["grad_nonzero"].sum(Kind::Double).double_value(&[]);
            assert_eq!(counted, expected, "{name} {engine}: entries that are not zero");
            for share in &gram.shares {
                let parameter = &p.specs()[share.parameter].name;
                let squares = golden.values[&format!("norm.{parameter}")].square().sum(Kind::Double).double_value(&[]);
                let all = golden.kernel("kernel.sgd").trace().double_value(&[]);
                let error = (share.trace_sgd - squares).abs() / all;
                assert!(error <= 1e-10, "{name} {engine} {parameter}: {error:.2e}");
            }
        }
    }
}

#[test]
fn single_precision_kernels_agree_with_double() {
    for name in networks() {
        let (single, double) = (golden(&name, Kind::Float), golden(&name, Kind::Double));
        let gram = structured(&single.parameters, &single.examples(), (4, 1 << 22, 1 << 30));
        let expected = |formula| double.kernel(&format!("kernel.{formula}"));
        agrees_in_single_precision(&name, &gram, expected, (&double.parameters, &double.examples()), 1e-5);
    }
}

/// Gradients marked as zero in exact arithmetic are round-off when computed, and no others are that small.
#[test]
fn structural_zeros_are_exactly_what_is_zero_by_rounding() {
    for name in networks() {
        let golden = golden(&name, Kind::Double);
        let (p, examples) = (&golden.parameters, golden.examples());
        let jacobian = dense_jacobian(p, &examples).expect("not interrupted");
        let signs = sign_rows(p, &jacobian);
        let largest = jacobian.abs().amax([1], true);
        let small = jacobian.abs().le_tensor(&(largest * 1e-12));
        let zero = signs.eq(0);
        let differ = small.not_equal_tensor(&zero).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(differ, 0, "{name}");
        let marked: i64 = p.specs().iter().flat_map(ParameterSpec::zero_entries).map(|r| r.end - r.start).sum();
        let expected = match name.as_str() {
            // Both layers' key biases: all of them; or those of the maps of distances, if tokens' keys are read by position; or
            // those after the rotated entries of heads twice as wide.
            "bert" | "camembert" | "gpt2" | "mpnet" | "opt" | "opt-outer" | "deberta-none" | "deberta-both"
            | "gpt_neox" => 32,
            // Those of tokens' keys, and those of the maps of distances.
            "deberta-queries" => 64,
            // All key biases, and the bias of the norm of distances.
            "deberta-normed" => 48,
            // Those of the layer without rotary angles.
            "smollm3" => 8,
            _ => 0,
        };
        assert_eq!(marked, expected, "{name}");
    }
}

/// Kernels of adapters on default targets: both engines against `dB = (∂f/∂W) Aᵀ` from the dense Jacobian, fused
/// projections too.
#[test]
fn kernels_of_adapters_on_default_targets_are_those_of_the_weights_gradients() {
    for name in networks() {
        let golden = golden(&name, Kind::Double);
        let (p, examples) = (&golden.parameters, golden.examples());
        let targets: Vec<String> =
            default_targets(golden.model.facts().architecture).iter().map(|t| (*t).to_owned()).collect();
        let weights = Modules::of(p.specs()).choose(&targets).expect("names of modules");
        assert!(!weights.is_empty());
        let target = |w: &_| Target { weight: *w, rank: 3, scaling: 2.0 };
        let lora = Lora::new(p.specs(), &weights.iter().map(target).collect::<Vec<_>>()).expect("linear maps");
        let extended = lora.parameters(p, Init::Gaussian, 5);
        let jacobian = dense_jacobian(p, &examples).expect("not interrupted");
        let rows = jacobian.size()[0];
        let mut expected = Tensor::zeros([rows, rows], (Kind::Double, Device::Cpu));
        for adapter in lora.adapters() {
            let before: i64 = p.specs()[..adapter.weight.0].iter().map(ParameterSpec::numel).sum();
            let spec = &p.specs()[adapter.weight.0];
            let gradient = jacobian.narrow(1, before, spec.numel()).view([rows, spec.shape[0], spec.shape[1]]);
            let b = (gradient.matmul(&extended.get(adapter.a).tr()) * adapter.scaling).view([rows, -1]);
            expected += b.matmul(&b.tr());
        }
        let adapted = lora.examples(&examples);
        let include = lora.include(Trained::Adapters);
        let reference = reference_gram(&extended, &adapted, None, FormulaSet::SGD, &include).expect("reference");
        let mut options = GramOptions::new(FormulaSet::SGD, extended.len());
        options.include = include;
        let structured = structured_gram(&extended, &adapted, None, &options, &Silent).expect("structured");
        for gram in [reference, structured] {
            let error = relative_error(gram.sgd.as_ref().expect("computed"), &expected);
            assert!(error <= 1e-10, "{name}: {error:.2e}");
        }
    }
}

/// Adapters that PEFT wrote, on fused projections too: the logits are PEFT's.
#[test]
fn adapters_by_peft_have_its_logits() {
    let mut compared = 0;
    for name in networks() {
        let golden = golden(&name, Kind::Double);
        let Some(expected) = golden.values.get("adapter.logits") else { continue };
        let adapter = PeftAdapter::load(&folder().join(&name).join("adapter"), golden.parameters.specs())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let extended = adapter.parameters(&golden.parameters);
        let examples = golden.examples();
        let f = outputs(&extended, &adapter.lora.examples(&examples), 2);
        let error = relative_error(&f, expected);
        assert!(error <= 1e-12, "{name}: {error:.2e}");
        assert!(relative_error(&golden.values["logits"], expected) > 1e-3, "{name}: the adapter does nothing");
        compared += 1;
    }
    assert_eq!(compared, 8);
}
