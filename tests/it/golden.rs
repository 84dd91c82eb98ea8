//! Logits, Jacobians and kernels against values made with Hugging Face transformers and torch.func in double precision.
//!
//! Tolerances: double precision 1e-12 relative for logits (about 30 layers of rounding at 1e-16), 1e-10 for kernels
//! (sums over 3e4 products of them); single precision 1e-5 for logits. Sign kernels are integers and must be equal.
//!
//! Llama is the exception: its values were made from padded texts, with softmax in single precision, whose sums include the
//! padding in another order, so that they are off by about 1e-7. They are compared at 1e-6, sign kernels at 1e-3 of the number
//! of parameters. tests/it/parity.rs compares unpadded texts at 1e-12, tests/it/decoders.rs compares Llama without roundings
//! with a plain computation in double precision.

use super::kernel_cases::bounds::agrees_in_single_precision;
use crate::common::{Golden, relative_error};
use kernelview::jacobian::{Examples, Param, outputs};
use kernelview::kernel::{
    Formula, FormulaSet, GramOptions, dense_jacobian, reference_gram, sign_rows, structured_gram,
};
use kernelview::progress::Silent;
use kernelview::subspace::{Lora, Target, Trained};
use tch::{Kind, Tensor};

/// The architecture whose golden values were partly computed in single precision.
const ROUNDED: &str = "llama";

/// A tolerance in double precision, widened if the golden values are rounded.
fn tolerance(architecture: &str, exact: f64, rounded: f64) -> f64 {
    if architecture == ROUNDED { rounded } else { exact }
}

const ARCHITECTURES: [&str; 4] = ["roberta", "bert", "gpt2", "llama"];

#[test]
fn logits_equal_transformers_in_double_and_single_precision_and_in_any_batch() {
    for architecture in ARCHITECTURES {
        for (kind, tolerance) in [(Kind::Double, tolerance(architecture, 1e-12, 1e-6)), (Kind::Float, 1e-5)] {
            let Some(golden) = Golden::load(architecture, kind) else { return };
            for batch in [1, 3, 8] {
                let f = outputs(&golden.parameters, &golden.examples(), batch);
                let error = relative_error(&f, &golden.values["logits"]);
                assert!(error <= tolerance, "{architecture} {kind:?} batch {batch}: {error:.2e}");
            }
        }
    }
}

/// Tolerances of the three kernels.
fn kernel_tolerances(architecture: &str) -> [(Formula, f64); 3] {
    let (sums, signs) = (tolerance(architecture, 1e-10, 1e-6), tolerance(architecture, 0.0, 1e-3));
    [(Formula::Sgd, sums), (Formula::Asymmetric, sums), (Formula::Signgd, signs)]
}

#[test]
fn both_engines_equal_the_golden_kernels_and_shares() {
    for architecture in ARCHITECTURES {
        let Some(golden) = Golden::load(architecture, Kind::Double) else { return };
        let (p, examples) = (&golden.parameters, golden.examples());
        let [(_, sums), _, (_, signs)] = kernel_tolerances(architecture);
        let include = vec![true; p.len()];
        let reference = reference_gram(p, &examples, None, FormulaSet::ALL, &include).expect("reference");
        golden.check_kernels(&reference, (sums, signs), &format!("{architecture} reference"));
        for (batch, block_entries, keep_bytes) in [(8, 1 << 22, 1 << 30), (3, 4096, 1 << 30), (1, 100_000, 0)] {
            let mut options = GramOptions::new(FormulaSet::ALL, p.len());
            (options.batch, options.block_entries, options.keep_bytes) = (batch, block_entries, keep_bytes);
            options.share_matrices = true;
            let gram = structured_gram(p, &examples, None, &options, &Silent).expect("structured");
            golden.check_kernels(&gram, (sums, signs), &format!("{architecture} structured, batch {batch}"));
        }
    }
}

#[test]
fn a_rectangular_kernel_is_a_part_of_the_square_one() {
    for architecture in ARCHITECTURES {
        let Some(golden) = Golden::load(architecture, Kind::Double) else { return };
        let (p, all) = (&golden.parameters, golden.examples());
        let (left, right) = (all.select(&[0, 1, 2]), all.select(&[5, 3, 7, 4, 6]));
        let mut options = GramOptions::new(FormulaSet::ALL, p.len());
        (options.batch, options.keep_bytes) = (2, 1);
        let gram = structured_gram(p, &left, Some(&right), &options, &Silent).expect("structured");
        let part = |name: &str| {
            let rows = Tensor::from_slice(&[0i64, 1, 2]);
            let columns = Tensor::from_slice(&[5i64, 3, 7, 4, 6]);
            golden.values[name].index_select(0, &rows).index_select(2, &columns)
        };
        let exact = tolerance(architecture, 1e-12, 1e-6);
        let [(_, sums), ..] = kernel_tolerances(architecture);
        for (formula, tolerance) in kernel_tolerances(architecture) {
            let error = relative_error(&gram.tensor(formula).expect("computed"), &part(&format!("kernel.{formula}")));
            assert!(error <= tolerance, "{architecture} {formula}: {error:.2e}");
        }
        let reversed = gram.asymmetric_reversed.as_ref().expect("computed").view([3, 2, 5, 2]);
        let columns = Tensor::from_slice(&[5i64, 3, 7, 4, 6]);
        let rows = Tensor::from_slice(&[0i64, 1, 2]);
        let flipped = golden.values["kernel.asymmetric"].permute([2, 3, 0, 1]);
        let expected = flipped.index_select(0, &rows).index_select(2, &columns);
        assert!(relative_error(&reversed, &expected) <= sums, "{architecture} reversed");
        assert!(relative_error(&gram.right_outputs, &golden.values["logits"].index_select(0, &columns)) <= exact);
    }
}

#[test]
fn gradient_facts_per_row_equal_the_golden_ones() {
    for architecture in ARCHITECTURES {
        let Some(golden) = Golden::load(architecture, Kind::Double) else { return };
        let examples = golden.examples();
        let j = dense_jacobian(&golden.parameters, &examples).expect("not interrupted");
        let shape = [examples.len() as i64, examples.outputs() as i64];
        let norm1 = j.abs().sum_dim_intlist(1, false, Kind::Double).view(shape);
        let norm2 = (&j * &j).sum_dim_intlist(1, false, Kind::Double).sqrt().view(shape);
        let nonzero = sign_rows(&golden.parameters, &j).abs().sum_dim_intlist(1, false, Kind::Double).view(shape);
        let exact = tolerance(architecture, 1e-12, 1e-6);
        assert!(relative_error(&norm1, &golden.values["grad_norm1"]) <= exact, "{architecture}");
        assert!(relative_error(&norm2, &golden.values["grad_norm2"]) <= exact, "{architecture}");
        assert_eq!(relative_error(&nonzero, &golden.values["grad_nonzero"]), 0.0);
    }
}

/// Single precision: products in f32, sums across blocks in f64. 1e-5 relative to the largest entry, plus the effect of
/// doubtful signs.
#[test]
fn single_precision_kernels_agree_with_double_to_1e_5() {
    for architecture in ARCHITECTURES {
        let Some(golden) = Golden::load(architecture, Kind::Float) else { return };
        let options = GramOptions::new(FormulaSet::ALL, golden.parameters.len());
        let gram = structured_gram(&golden.parameters, &golden.examples(), None, &options, &Silent).expect("f32");
        let Some(double) = Golden::load(architecture, Kind::Double) else { return };
        let expected = |formula| golden.kernel(&format!("kernel.{formula}"));
        agrees_in_single_precision(architecture, &gram, expected, (&double.parameters, &double.examples()), 1e-5);
    }
}

/// LoRA on queries and values with B = 0 and a given A, against `dB = (∂f/∂W) Aᵀ` of torch.func. Both engines, with A trained
/// and frozen: A's gradient vanishes at B = 0. GPT-2 has no such values, because its queries and values are one map. Tolerances
/// are those of the kernels: the same gradients, multiplied once more.
#[test]
fn kernels_of_lora_factors_equal_the_golden_ones() {
    for architecture in ["roberta", "bert", "llama"] {
        let Some(golden) = Golden::load(architecture, Kind::Double) else { return };
        let specs = golden.parameters.specs();
        let factor = |i: usize| golden.values.get(&format!("lora.A.{}", specs[i].name.strip_suffix(".weight")?));
        let adapted: Vec<usize> = (0..specs.len()).filter(|i| factor(*i).is_some()).collect();
        assert_eq!(adapted.len(), 4, "queries and values of two layers");
        let targets: Vec<Target> = adapted
            .iter()
            .map(|i| Target { weight: Param(*i), rank: factor(*i).expect("found").size()[0], scaling: 1.0 })
            .collect();
        let lora = Lora::new(specs, &targets).expect("matrices of the network");
        let factors = adapted.iter().map(|i| {
            let a = factor(*i).expect("found");
            (a.shallow_clone(), Tensor::zeros([specs[*i].shape[0], a.size()[0]], (Kind::Double, a.device())))
        });
        let extended = lora.assemble(&golden.parameters, factors);
        let examples = golden.examples();
        let adapted = lora.examples(&examples);
        let [(_, tolerance), ..] = kernel_tolerances(architecture);
        let expected = golden.kernel("lora.kernel");
        for trained in [Trained::Adapters, Trained::OnlyB] {
            let include = lora.include(trained);
            let reference = reference_gram(&extended, &adapted, None, FormulaSet::SGD, &include).expect("reference");
            let mut options = GramOptions::new(FormulaSet::SGD, extended.len());
            (options.batch, options.include) = (3, include);
            let structured = structured_gram(&extended, &adapted, None, &options, &Silent).expect("structured");
            for (engine, gram) in [("reference", reference), ("structured", structured)] {
                let error = relative_error(gram.sgd.as_ref().expect("computed"), &expected);
                assert!(error <= tolerance, "{architecture} {engine} {trained:?}: {error:.2e}");
            }
        }
    }
}
