//! The index of shards, which maps tensors to files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::read_text;

/// An index that was read.
pub(super) struct Index {
    path: PathBuf,
    /// Tensor → file.
    map: BTreeMap<String, String>,
}

impl Index {
    /// Reads an index; every file in it must be a plain name without a directory.
    pub fn read(path: &Path) -> Result<Self> {
        let json: Value = serde_json::from_str(&read_text(path)?)
            .map_err(|e| Error::format(path, format!("not a JSON document: {e}")))?;
        let entries = json
            .get("weight_map")
            .and_then(Value::as_object)
            .ok_or_else(|| Error::format(path, "the object `weight_map` (tensor name → shard file) is missing"))?;
        let mut index = Self { path: path.to_path_buf(), map: BTreeMap::new() };
        for (tensor, file) in entries {
            let Some(name) = file.as_str() else {
                let message = format!("`weight_map` gives {file} for tensor `{tensor}`, expected the name of a file");
                return Err(index.wrong(message));
            };
            if Path::new(name).file_name().is_none_or(|plain| plain != name) {
                return Err(index.wrong(format!("shard `{name}` is outside the model directory")));
            }
            index.map.insert(tensor.clone(), name.to_owned());
        }
        if index.map.is_empty() { Err(index.wrong("`weight_map` names no shard")) } else { Ok(index) }
    }

    /// An error about the index.
    pub fn wrong(&self, message: impl Into<String>) -> Error {
        Error::format(&self.path, message)
    }

    /// The names of the files, without repetitions, in order.
    pub fn shards(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of the tensors.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// The file of a tensor.
    pub fn shard_of(&self, tensor: &str) -> Option<&str> {
        self.map.get(tensor).map(String::as_str)
    }
}

/// The names of the files in an index of shards, in order; each is a plain name without a directory.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] if it is not an index.
pub fn shard_names(index: &Path) -> Result<Vec<String>> {
    Ok(Index::read(index)?.shards().into_iter().map(str::to_owned).collect())
}
