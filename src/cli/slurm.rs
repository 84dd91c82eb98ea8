//! Scripts that run a sharded kernel or grid under Slurm: a job array of shards, and a job that joins them afterwards.

use std::path::{Path, PathBuf};

use super::output::quoted;
use crate::error::Result;
use crate::files::{create_dir, write_atomic};

/// What to submit.
pub(super) struct Submission {
    /// The program.
    pub program: PathBuf,
    /// The command of each shard, with its arguments.
    pub command: Vec<String>,
    /// The command that joins the shards, with its arguments.
    pub join: Vec<String>,
    /// Number of shards.
    pub shards: usize,
    /// Lines for the `#SBATCH` heads, e.g. `--time=01:00:00`.
    pub options: Vec<String>,
}

/// Writes `shards.sbatch`, `merge.sbatch` and `submit.sh` into a directory, and returns the last one's path.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub(super) fn write_submission(submission: &Submission, directory: &Path) -> Result<PathBuf> {
    let Submission { program, command, join, shards, options } = submission;
    let head = |name: &str| {
        let mut lines = vec![
            "#!/bin/sh".to_owned(),
            format!("#SBATCH --job-name=kernelview-{name}"),
            format!("#SBATCH --output={name}-%A_%a.log"),
        ];
        lines.extend(options.iter().map(|o| format!("#SBATCH {o}")));
        lines.join("\n") + "\n"
    };
    let program = quoted(&program.display().to_string());
    let line = |words: &[String]| {
        let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
        format!("exec {program} {}", words.join(" "))
    };
    let shard = format!("{}{}\n", head("shard"), line(command));
    let merge = format!("{}{}\n", head("merge").replace("%A_%a", "%j"), line(join));
    let submit = format!(
        "#!/bin/sh\n# Submits the shards, and the merge behind them. A shard that fails holds the merge back; submit again: what\n\
         # is finished is not computed anew.\nset -e\ncd \"$(dirname \"$0\")\"\n\
         shards=$(sbatch --parsable --array=0-{} --chdir=\"$OLDPWD\" shards.sbatch)\n\
         sbatch --parsable --dependency=afterok:\"$shards\" --chdir=\"$OLDPWD\" merge.sbatch\n",
        shards - 1
    );
    create_dir(directory)?;
    write_atomic(&directory.join("shards.sbatch"), shard.as_bytes())?;
    write_atomic(&directory.join("merge.sbatch"), merge.as_bytes())?;
    let path = directory.join("submit.sh");
    write_atomic(&path, submit.as_bytes())?;
    Ok(path)
}
