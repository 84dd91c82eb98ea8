//! Names and digests of files.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::file_digest;

/// Digest over names and contents of the files of a checkpoint directory, or of a single file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub(super) fn directory_digest(path: &Path) -> Result<String> {
    if path.is_file() {
        return file_digest(path);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
        let entry = entry.map_err(Error::io("read", path))?.path();
        if entry.is_file() {
            names.push(entry);
        }
    }
    names.sort();
    let mut parts = Vec::new();
    for file in names {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        parts.push(format!("{name} {}", file_digest(&file)?).into_bytes());
    }
    Ok(crate::files::digest(parts.iter().map(Vec::as_slice)))
}

/// A directory name for a model: letters, digits, dots and dashes of its last two components.
pub(super) fn safe_name(model: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let name: String = model.trim_matches(['/', '\\', '.']).chars().map(letter).collect();
    let start = name.chars().count().saturating_sub(60);
    name.chars().skip(start).collect()
}
