//! Tensors of a checkpoint directory: `model.safetensors`, sharded safetensors, or `pytorch_model.bin`.
//!
//! Checkpoints are data: nothing in them is executed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype as StoredType, SafeTensors};
use tch::{Kind, Tensor};

use super::bin;
use crate::error::{Error, Result};
use crate::files::read_text;

/// A tensor of a checkpoint and the file it came from.
pub struct TensorSource {
    /// The tensor, in the stored element type, on the CPU.
    pub tensor: Tensor,
    /// The file.
    pub file: PathBuf,
}

/// All tensors of a checkpoint by their names in the files.
pub struct Checkpoint {
    /// Name → tensor and file.
    pub tensors: BTreeMap<String, TensorSource>,
    /// The files read, for digests and messages.
    pub files: Vec<PathBuf>,
}

impl Checkpoint {
    /// Opens the weights in a checkpoint directory. Safetensors are preferred where both kinds exist.
    pub fn open(directory: &Path) -> Result<Self> {
        check_directory(directory)?;
        let single = directory.join("model.safetensors");
        let index = directory.join("model.safetensors.index.json");
        let pytorch = directory.join("pytorch_model.bin");
        let files = if single.exists() {
            vec![single]
        } else if index.exists() {
            shards(directory, &index)?
        } else if pytorch.exists() {
            return Ok(Self { tensors: bin::read(&pytorch)?, files: vec![pytorch] });
        } else {
            return Err(Error::format(
                directory,
                "no weights: expected model.safetensors, model.safetensors.index.json or pytorch_model.bin",
            ));
        };
        let mut tensors = BTreeMap::new();
        for file in &files {
            read_safetensors(file, &mut tensors)?;
        }
        Ok(Self { tensors, files })
    }

    /// The tensors of one safetensors file.
    pub fn read(file: &Path) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        read_safetensors(file, &mut tensors)?;
        Ok(tensors.into_iter().map(|(name, source)| (name, source.tensor)).collect())
    }
}

/// Fails unless there is such a directory, saying what a model directory holds.
pub(super) fn check_directory(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let hint = if directory.exists() { "it is a file" } else { "it does not exist" };
    Err(Error::format(
        directory,
        format!("not a model directory ({hint}); expected a directory with config.json, weights and tokenizer.json"),
    ))
}

/// The shard files that an index names, in order of their names, all beside it.
fn shards(directory: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    shard_names(index)?
        .into_iter()
        .map(|name| {
            let path = directory.join(&name);
            if path.exists() {
                return Ok(path);
            }
            Err(Error::format(index, format!("shard `{name}` does not exist beside it; download it too")))
        })
        .collect()
}

/// The names of the files that an index of shards speaks of, in their order; each is a plain name without a directory.
///
/// # Errors
/// [`Error::Io`], and [`Error::Format`] where it is no such index.
pub fn shard_names(index: &Path) -> Result<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(&read_text(index)?)
        .map_err(|e| Error::format(index, format!("not a JSON document: {e}")))?;
    let map = json
        .get("weight_map")
        .and_then(serde_json::Value::as_object)
        .ok_or_else(|| Error::format(index, "the object `weight_map` (tensor name → shard file) is missing"))?;
    let mut names = Vec::with_capacity(map.len());
    for (tensor, file) in map {
        names.push(file.as_str().ok_or_else(|| {
            Error::format(
                index,
                format!("`weight_map` gives {file} for tensor `{tensor}`, expected the name of a file"),
            )
        })?);
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(Error::format(index, "`weight_map` names no shard"));
    }
    if let Some(name) = names.iter().find(|name| Path::new(name).file_name().is_none_or(|f| f != **name)) {
        return Err(Error::format(index, format!("shard `{name}` does not lie in the model directory itself")));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

pub(super) fn read_safetensors(path: &Path, into: &mut BTreeMap<String, TensorSource>) -> Result<()> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let archive = SafeTensors::deserialize(&bytes).map_err(|e| {
        Error::format(
            path,
            format!("not a complete safetensors file of {} bytes ({e}); download it again", bytes.len()),
        )
    })?;
    for (name, view) in archive.iter() {
        let kind = match view.dtype() {
            StoredType::F64 => Kind::Double,
            StoredType::F32 => Kind::Float,
            StoredType::F16 => Kind::Half,
            StoredType::BF16 => Kind::BFloat16,
            StoredType::I64 => Kind::Int64,
            StoredType::I32 => Kind::Int,
            StoredType::U8 => Kind::Uint8,
            StoredType::BOOL => Kind::Bool,
            other => {
                return Err(Error::format(
                    path,
                    format!("tensor `{name}` has element type {other:?}, which is not supported"),
                ));
            }
        };
        let shape: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .map_err(|e| Error::format(path, format!("tensor `{name}` of shape {shape:?}: {}", Error::from(e))))?;
        into.insert(name.to_owned(), TensorSource { tensor, file: path.to_path_buf() });
    }
    Ok(())
}
