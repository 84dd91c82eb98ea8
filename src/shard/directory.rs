//! What directories of independent blocks have in common: a manifest of a layout, and marks of the parts that were begun. Knows no
//! block.

use std::fmt::Display;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files::{create_dir, read_text, write_atomic};
use crate::launch::Place;

/// The manifest's file.
const NAME: &str = "manifest.json";

/// A kind of directory.
pub(crate) struct Layout {
    /// Its version.
    pub version: u32,
    /// The manifest's field that has the version.
    pub field: &'static str,
    /// What the directory is of.
    pub of: &'static str,
    /// What the manifest is.
    pub manifest: &'static str,
    /// What to do about a directory of another version.
    pub again: &'static str,
}

impl Layout {
    /// Reads a manifest of this version.
    ///
    /// # Errors
    /// [`Error::Format`] without one, for another version, and for a text that is none.
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
                format!("field `{}` is {found}, this program reads {}; {}", self.field, self.version, self.again),
            )),
            None => serde_json::from_str(&text).map_err(wrong),
        }
    }

    /// What is wrong with a directory's manifest.
    pub fn wrong(&self, directory: &Path, reason: &dyn Display) -> Error {
        Error::format(directory.join(NAME), format!("not {}: {reason}", self.manifest))
    }

    /// Opens a directory for what a manifest is of, and makes both where they are missing; marks it as begun by a part, so that who
    /// reads it can say which parts of how many are unfinished. `there` reads and checks the manifest of the directory.
    ///
    /// # Errors
    /// [`Error::Format`] with the text `another` where the directory has another manifest; [`Error::Io`].
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
