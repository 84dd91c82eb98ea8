//! The evidence of `reports/agreement`: networks of the small language, pre-trained and measured.
//!
//! ```sh
//! cargo run --release --example agreement_evidence -- reports/agreement 32,64,128,256 1,2,3
//! ```

use std::path::PathBuf;
use std::time::Instant;

use kernelview::theorems::collect_evidence;
use tch::Device;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kernelview::device::prepare_process();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, widths, seeds] = arguments.as_slice() else {
        return Err("give a directory, widths and seeds".into());
    };
    kernelview::device::set_threads(Some(1))?;
    let directory = PathBuf::from(directory);
    for seed in seeds.split(',') {
        for width in widths.split(',') {
            let start = Instant::now();
            collect_evidence(width.parse()?, seed.parse()?, &directory, Device::Cpu)?;
            println!("width {width}, seed {seed}: {:.1} s", start.elapsed().as_secs_f64());
        }
    }
    Ok(())
}
