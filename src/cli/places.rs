//! Checks output paths before the long work.

use std::fs::{self, File};
use std::path::Path;

use crate::error::{Error, Result};

/// Fails before the computation, not after it, if the file cannot be written. `example` is an example of a file name.
pub(super) fn check_out(out: &Path, example: &str) -> Result<()> {
    if out.is_dir() {
        return Err(Error::format(out, format!("--out is a directory; give a file, e.g. {example}")));
    }
    if let Some(parent) = out.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        return Err(Error::format(parent, "the directory of --out does not exist; create it first"));
    }
    let mut probe = out.file_name().unwrap_or_default().to_os_string();
    probe.push(format!(".part-{}", std::process::id()));
    let probe = out.with_file_name(probe);
    File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(Error::io("write", out))
}

/// Fails if the directory of a report is a file.
pub(super) fn check_out_directory(directory: &Path) -> Result<()> {
    if directory.exists() && !directory.is_dir() {
        return Err(Error::format(directory, "--out-dir is a file; give a new directory or that of an earlier run"));
    }
    Ok(())
}
