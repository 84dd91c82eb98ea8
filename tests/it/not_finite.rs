//! NaN and infinity never become a kernel: a file with one is refused with the tensor's name; weights with one give an error,
//! or do not take part in any gradient.

use std::fs;
use std::path::Path;

use crate::common::bin::{Storages, write_state_dict};
use crate::common::causal::gguf;
use crate::common::fixture::tiny_checkpoint;
use crate::common::read_tensors;
use kernelview::jacobian::Parameters;
use kernelview::kernel::{
    Arithmetic, Formula, FormulaSet, Gram, GramOptions, dense_jacobian, reference_gram, structured_gram,
};
use kernelview::lm::{
    self, Architecture, CausalArchitecture, CausalLm, MaskedLm, OutputMode, PromptExample, PromptExamples, random,
};
use kernelview::progress::Silent;
use tch::{Device, Kind, Tensor};

fn refused(path: &Path) -> String {
    let error = lm::load(path, Kind::Float, Device::Cpu).err().expect("refused");
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[test]
fn weights_that_are_not_finite_are_named_with_their_file() {
    crate::common::one_thread();
    let directory = tempfile::tempdir().expect("a temporary directory");
    tiny_checkpoint(directory.path(), Architecture::Roberta, 3);
    let tensors = read_tensors(&directory.path().join("model.safetensors"));
    fs::remove_file(directory.path().join("model.safetensors")).expect("a file");
    let name = "roberta.encoder.layer.1.output.dense.weight";
    let _ = tensors[name].get(3).get(5).fill_(f64::NEG_INFINITY);
    let path = directory.path().join("pytorch_model.bin");
    write_state_dict(&path, &tensors, Storages::Shared);
    let problem = "holds NaN or infinity: its training diverged, or the file is damaged";
    assert_eq!(refused(directory.path()), format!("{}: tensor `{name}` {problem}", path.display()));

    let model = CausalLm::new(random::tiny_causal(CausalArchitecture::Llama, 19));
    let parameters = random::parameters(&model, 3, 1.5, Kind::Float, Device::Cpu);
    let mut file = gguf(model.config(), &parameters);
    let tensor = file.tensors.iter_mut().find(|(name, ..)| name == "blk.0.ffn_up.weight").expect("a tensor");
    tensor.3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    let path = directory.path().join("tiny.gguf");
    fs::write(&path, file.bytes()).expect("a file");
    assert_eq!(refused(&path), format!("{}: tensor `blk.0.ffn_up.weight` {problem}", path.display()));
}

fn is_finite(gram: &Gram) -> bool {
    let kernels = [&gram.sgd, &gram.asymmetric, &gram.asymmetric_reversed, &gram.signgd];
    kernels.into_iter().flatten().all(|t| t.isfinite().all().int64_value(&[]) == 1)
}

/// One entry of every weight in turn, with both engines, both arithmetics and every formula separately: sums of signs are
/// finite whatever the gradients, so that each formula needs its own check.
#[test]
fn weights_that_are_not_finite_give_no_kernel() {
    crate::common::one_thread();
    let model = MaskedLm::new(random::tiny(Architecture::Bert, 23));
    let parameters = random::parameters(&model, 3, 1.5, Kind::Double, Device::Cpu);
    let prompts = [vec![2, 17, 8, 4, 11], vec![4, 5], vec![9, 9, 3]].map(|ids| PromptExample {
        segment_ids: vec![0; ids.len()],
        mask_position: ids.len() - 1,
        input_ids: ids,
    });
    let examples = PromptExamples::new(&model, prompts.to_vec(), &[6, 12], OutputMode::Logits, Device::Cpu);
    let examples = examples.expect("valid prompts");
    let mut refused = 0;
    for (at, spec) in parameters.specs().iter().enumerate() {
        let value = [f64::NAN, f64::INFINITY][at % 2];
        let bad: Parameters = parameters.map(Tensor::copy);
        let _ = bad.values()[at].view(-1).get(0).fill_(value);
        let finite = dense_jacobian(&bad, &examples).expect("a Jacobian").isfinite().all().int64_value(&[]) == 1;
        for formula in Formula::ALL {
            let formulas = FormulaSet::of(&[formula]);
            let mut options = GramOptions::new(formulas, bad.len());
            let reference = reference_gram(&bad, &examples, None, formulas, &options.include);
            let structured = Arithmetic::ALL.map(|arithmetic| {
                options.arithmetic = Some(arithmetic);
                (arithmetic.name(), structured_gram(&bad, &examples, None, &options, &Silent))
            });
            for (engine, gram) in structured.into_iter().chain([("reference", reference)]) {
                match gram {
                    Ok(gram) => assert!(finite && is_finite(&gram), "{engine} {formula}: {} = {value}", spec.name),
                    Err(error) => {
                        assert_eq!(error.exit_code(), 1, "{error}");
                        let text = error.to_string();
                        assert!(text.contains("(example ") && text.contains("counted from 0"), "{engine}: {text}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused >= 9 * parameters.len() / 2, "most weights take part: {refused} refusals");
}
