//! Common to directories of independent blocks: a versioned manifest, and marks of started shards. Knows no blocks.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files::{create_dir, read_text, write_atomic};
use crate::launch::Place;
use crate::setting::Field;

/// The manifest's file.
const NAME: &str = "manifest.json";

/// A kind of directory.
pub(crate) struct Layout {
    /// Version of its layout.
    pub version: u32,
    /// The manifest's field with the version.
    pub field: &'static str,
    /// What the directory contains.
    pub of: &'static str,
    /// What the manifest describes.
    pub manifest: &'static str,
    /// What to do about a directory of another version.
    pub again: &'static str,
}

impl Layout {
    /// Reads a manifest of this version.
    ///
    /// # Errors
    /// [`Error::Format`] if it is missing, of another version, or invalid.
    pub fn read<M: DeserializeOwned>(&self, directory: &Path) -> Result<M> {
        let path = directory.join(NAME);
        if !path.exists() {
            return Err(Error::format(directory, format!("no {NAME} here: expected the directory of {}", self.of)));
        }
        let text = read_text(&path)?;
        let wrong = |e: serde_json::Error| self.wrong(directory, &e);
        let all: serde_json::Value = serde_json::from_str(&text).map_err(wrong)?;
        let version = all.get(self.field).and_then(serde_json::Value::as_u64);
        match version.filter(|found| *found != u64::from(self.version)) {
            Some(found) => Err(Error::format(
                &path,
                format!("field `{}` is {found}, but this program reads {}; {}", self.field, self.version, self.again),
            )),
            None => serde_json::from_str(&text).map_err(wrong),
        }
    }

    /// An error about a directory's manifest.
    pub fn wrong(&self, directory: &Path, reason: &dyn Display) -> Error {
        Error::format(directory.join(NAME), format!("not {}: {reason}", self.manifest))
    }

    /// Opens the directory for a manifest, and creates both if missing. Marks the shard as started, so that a reader can
    /// name unfinished shards. `there` reads and checks the directory's manifest.
    ///
    /// # Errors
    /// [`Error::Format`] with the text `another` if the directory has another manifest; [`Error::Io`].
    pub fn open<M: Serialize + PartialEq>(
        directory: &Path,
        manifest: &M,
        place: Place,
        there: impl FnOnce(&Path) -> Result<M>,
        another: &str,
    ) -> Result<()> {
        create_dir(directory)?;
        if directory.join(NAME).exists() {
            if there(directory)? != *manifest {
                return Err(Error::format(directory, another));
            }
        } else {
            let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
            write_atomic(&directory.join(NAME), (text + "\n").as_bytes())?;
        }
        write_atomic(&directory.join(format!("{}-of-{}.started", place.index, place.count)), b"")
    }
}

/// The error for missing blocks, given by number and path, out of `total`. Names the first few and the shards to compute
/// again.
pub(crate) fn incomplete(directory: &Path, total: usize, missing: &[(usize, PathBuf)]) -> Error {
    let first: Vec<_> =
        missing.iter().take(5).map(|(_, path)| path.file_name().unwrap_or_default().to_string_lossy()).collect();
    let more = if missing.len() > first.len() { ", …" } else { "" };
    let started = fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        entry.file_name().to_str()?.strip_suffix(".started")?.split_once("-of-")?.1.parse::<usize>().ok()
    });
    let again = match started.max() {
        Some(count) if count > 1 => {
            let unfinished: BTreeSet<usize> = missing.iter().map(|(number, _)| number % count).collect();
            let names: Vec<String> = unfinished.iter().map(|index| format!("{index}/{count}")).collect();
            format!("compute again {} {}", Field::Shard, names.join(", "))
        }
        _ => "repeat the command that began the directory".to_owned(),
    };
    let (count, first) = (missing.len(), first.join(", "));
    Error::format(
        directory,
        format!("{count} of {total} blocks are missing or from another run: {first}{more}; {again}"),
    )
}
