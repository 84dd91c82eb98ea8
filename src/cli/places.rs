//! Checks output paths before the long work.

use std::fs::{self, File};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{destination, irregular, part_path};
use crate::report::{ReportKind, check_directory};

/// Fails if there is something other than a regular file at an output path. `flag` is the argument with the path,
/// `example` an example of a file name.
pub(super) fn check_kind(flag: &str, out: &Path, example: &str) -> Result<()> {
    match irregular(out) {
        Some(what) => Err(Error::format(out, format!("{flag} is {what}; give a file, e.g. {example}"))),
        None => Ok(()),
    }
}

/// Fails before the computation, not after it, if the file cannot be written. The rest as in [`check_kind`].
pub(super) fn check_out(flag: &str, out: &Path, example: &str) -> Result<()> {
    check_kind(flag, out, example)?;
    let place = destination(out)?;
    if let Some(parent) = place.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        return Err(Error::format(parent, format!("the directory of {flag} does not exist; create it first")));
    }
    let probe = part_path(&place);
    File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(Error::io("write", out))
}

/// Fails if the directory of a report is a file, or has something that the report would replace.
pub(super) fn check_out_directory(directory: &Path, kind: ReportKind) -> Result<()> {
    if directory.exists() && !directory.is_dir() {
        return Err(Error::format(directory, "--out-dir is a file; give a new directory or that of an earlier run"));
    }
    check_directory(directory, kind)
}
