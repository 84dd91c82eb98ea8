//! The evidence of `reports/english`: language models of English, measured with the built-in cloze tasks.
//!
//! ```sh
//! cargo run --release --example english_evidence -- reports/english prose-64-seed-1=fixtures/family/prose-64
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use kernelview::theorems::collect_english_evidence;
use tch::Device;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kernelview::device::prepare_process();
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("give a directory, and models as NAME=DIRECTORY")?);
    kernelview::device::set_threads(None)?;
    for model in arguments {
        let start = Instant::now();
        let (name, checkpoint) = model.split_once('=').ok_or("a model is NAME=DIRECTORY")?;
        collect_english_evidence(name, Path::new(checkpoint), &directory, Device::Cpu)?;
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}
