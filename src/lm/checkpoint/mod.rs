//! Tensors of a checkpoint directory: safetensors or `pytorch_model.bin`, in one file or in shards.
//!
//! Checkpoints are data: nothing in them is executed.

mod bin;
mod index;
mod place;
mod safe;
mod wrapped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Tensor;

use self::index::Index;
use self::place::Weights;
use crate::error::{Error, Result};
use crate::files::is_there;

pub use index::shard_names;
pub(super) use place::no_model;
pub(super) use wrapped::difference;

/// A tensor of a checkpoint and the file it came from.
#[derive(Debug)]
pub struct TensorSource {
    /// The tensor, in the stored element type, on the CPU.
    pub tensor: Tensor,
    /// Whether it is a view of the mapped file, of which a copy must be taken to keep it.
    pub is_view: bool,
    /// The file.
    pub file: PathBuf,
}

/// Tensors by their names.
pub(super) type Tensors = BTreeMap<String, TensorSource>;

/// All tensors of a checkpoint by their names in the files, without training wrappers' additions to them.
pub struct Checkpoint {
    /// Name → tensor and file.
    pub tensors: BTreeMap<String, TensorSource>,
    /// The files read, for digests and messages.
    pub files: Vec<PathBuf>,
}

impl Checkpoint {
    /// Opens the weights in a checkpoint directory. As in transformers, safetensors are preferred to the other format, and
    /// single files to shards. Tensors of shards are read from the shard that the index names.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for files that are missing, damaged or of another kind, and for copies of a tensor
    /// that differ.
    pub fn open(directory: &Path) -> Result<Self> {
        check_directory(directory)?;
        let (tensors, files) = match place::weights(directory)? {
            Weights::Whole(file) => (read(&file)?, vec![file]),
            Weights::Shards(index) => shards(directory, &Index::read(&index)?)?,
        };
        Ok(Self { tensors: wrapped::without(tensors)?, files })
    }

    /// Copies of the tensors of one safetensors file.
    pub fn read(file: &Path) -> Result<BTreeMap<String, Tensor>> {
        Ok(safe::read(file)?.into_iter().map(|(name, source)| (name, source.tensor.copy())).collect())
    }
}

/// The tensors of one file, by its extension.
pub(super) fn read(file: &Path) -> Result<Tensors> {
    if file.extension().is_some_and(|e| e == "safetensors") { safe::read(file) } else { bin::read(file) }
}

/// The tensors of shards, each from the shard that the index names. Copies elsewhere are stale.
fn shards(directory: &Path, index: &Index) -> Result<(Tensors, Vec<PathBuf>)> {
    let (mut tensors, mut files) = (Tensors::new(), Vec::new());
    for name in index.shards() {
        let file = directory.join(name);
        if !is_there(&file)? {
            return Err(index.wrong(format!("shard `{name}` is missing; download it too")));
        }
        tensors.extend(read(&file)?.into_iter().filter(|(tensor, _)| index.shard_of(tensor) == Some(name)));
        files.push(file);
    }
    match index.tensors().find(|tensor| !tensors.contains_key(*tensor)) {
        None => Ok((tensors, files)),
        Some(lost) => {
            let shard = index.shard_of(lost).unwrap_or_default();
            let message = format!(
                "`weight_map` places tensor `{lost}` in `{shard}`, which lacks it; download both \
                                   again"
            );
            Err(index.wrong(message))
        }
    }
}

/// Fails unless the directory exists, saying what a model directory holds.
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
