//! The SGD kernel of a checkpoint on a prompted task, in ten lines: `cargo run --example kernel_of_a_checkpoint [MODEL_DIR]`.

use std::path::PathBuf;

use kernelview::analysis::{Pretrained, SplitName, Study, StudyRequest};
use kernelview::device::Dtype;
use kernelview::error::Result;
use kernelview::kernel::{FormulaSet, GramOptions, structured_gram};
use kernelview::progress::Silent;
use kernelview::tch::Device;

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).map_or_else(|| PathBuf::from("fixtures/family/prose-64"), PathBuf::from);
    let network = Pretrained::load(&directory, Dtype::F64, Device::Cpu)?;
    let (task, splits) = (kernelview::task::demo_definition()?, kernelview::task::demo()?);
    let study = Study::new(StudyRequest::new(&network, &task, &splits))?;
    let examples = study.examples(SplitName::Train, study.mode)?;
    let options = GramOptions::new(FormulaSet::SGD, study.parameters.len());
    let gram = structured_gram(&study.parameters, &examples, None, &options, &Silent)?;
    let kernel = gram.sgd.expect("asked for");
    println!("K(SGD) of {} on {} examples:\n{kernel:.4}", directory.display(), gram.left);
    Ok(())
}
