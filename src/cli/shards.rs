//! `kernelview merge` and `kernelview submit`.

use std::path::PathBuf;

use clap::Args;

use super::output::outln;
use super::places::check_out;
use super::slurm::{Submission, write_submission};
use crate::error::{Error, Result};
use crate::shard::merge;

/// What to merge.
#[derive(Args)]
pub(super) struct MergeArgs {
    /// The directory of the shards: FILE.shards, where FILE is the --out of `kernel --shard`
    pub directory: PathBuf,
    /// The kernel file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Joins the blocks into one file.
pub(super) fn run_merge(args: &MergeArgs) -> Result<()> {
    check_out(&args.out, "K.safetensors")?;
    let file = merge(&args.directory)?;
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

/// Writes the scripts.
pub(super) fn run_submit(args: &SubmitArgs) -> Result<()> {
    if args.shards == 0 {
        return Err(Error::argument("--shards", "it must be at least 1"));
    }
    if args.arguments.iter().any(|a| a == "--shard" || a.starts_with("--shard=")) {
        return Err(Error::argument("--shard", "remove it: the scripts set it"));
    }
    let command = args.arguments.clone();
    let join = match command[0].as_str() {
        // The same command without --shard finds all cells finished and writes the whole report.
        "reproduce" => command.clone(),
        "kernel" => {
            let out = command.iter().enumerate().find_map(|(i, a)| {
                let next = || (a == "--out").then(|| command.get(i + 1).cloned())?;
                a.strip_prefix("--out=").map(str::to_owned).or_else(next)
            });
            let Some(out) = out else {
                return Err(Error::argument("-- kernel", "--out FILE is missing"));
            };
            vec!["merge".into(), format!("{out}.shards"), "--out".into(), out]
        }
        other => {
            let problem = "after --, give the command to submit: kernel or reproduce, with its arguments";
            return Err(Error::argument(format!("-- {other}"), problem));
        }
    };
    let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let submission = Submission { program, command, join, shards: args.shards, options: args.option.clone() };
    let script = write_submission(&submission, &args.out_dir)?;
    outln!("sh {}", script.display())?;
    Ok(())
}
