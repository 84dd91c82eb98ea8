//! `kernelview merge`, and the arguments of `kernelview submit`.

use std::path::PathBuf;

use clap::Args;

use super::output::outln;
use super::places::check_out;
use super::solve::write_published;
use crate::analysis::is_published;
use crate::error::{Error, Result};
use crate::shard::{Manifest, merge};

/// What to merge.
#[derive(Args)]
pub(super) struct MergeArgs {
    /// The directory of the shards: FILE.shards, where FILE is the --out of `kernel --shard`
    pub directory: PathBuf,
    /// The file to write: safetensors, or the paper's format if the name ends in .pt (for shards of a single formula)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Joins the blocks into one file.
pub(super) fn run_merge(args: &MergeArgs) -> Result<()> {
    check_out("--out", &args.out, "K.safetensors")?;
    let published = is_published(&args.out);
    if published {
        let manifest = Manifest::read(&args.directory)?;
        if let Some(several) = manifest.metadata.get("formula").filter(|formulas| formulas.contains(',')) {
            let problem = format!(
                "a .pt file holds one kernel, and the shards are of {several}: give a name ending in .safetensors, and \
                 `kernelview convert` it"
            );
            return Err(Error::argument("--out", problem));
        }
    }
    let file = merge(&args.directory)?;
    if published {
        return write_published(&args.directory, &file, None, &args.out);
    }
    file.write(&args.out)?;
    outln!("{}: {} tensors from {}", args.out.display(), file.tensors.len(), args.directory.display())?;
    Ok(())
}

/// What to submit.
#[derive(Args)]
pub(super) struct SubmitArgs {
    /// Write Slurm scripts, the only scheduler supported
    #[arg(long, required = true)]
    pub slurm: bool,
    /// Number of shards
    #[arg(long, default_value_t = 4)]
    pub shards: usize,
    /// Option for the scripts' #SBATCH lines, e.g. --option=--time=01:00:00; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub option: Vec<String>,
    /// Directory of the scripts
    #[arg(long, default_value = "kernelview-submit", value_name = "DIR")]
    pub out_dir: PathBuf,
    /// `kernel` with its arguments, including --out FILE, or `reproduce` with its arguments
    #[arg(last = true, required = true)]
    pub arguments: Vec<String>,
}
