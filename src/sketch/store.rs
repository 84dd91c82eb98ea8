//! The directory of a sketch: a manifest, and a file for every block of examples.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Sketch;
use crate::error::{Error, Result};
use crate::files::{digest, read_whole, write_atomic};
use crate::kernel::{Gram, KernelFile};
use crate::launch::Place;
use crate::setting::Field;
use crate::shard::Layout;

const LAYOUT: Layout = Layout {
    version: 1,
    field: "kernelview_sketch",
    of: "a sketch",
    manifest: "a manifest of a sketch",
    again: "compute the sketch again",
};

const SAMPLE: &str = "sample.safetensors";

/// Describes the blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SketchManifest {
    /// Version of the directory's layout.
    pub kernelview_sketch: u32,
    /// Digest of everything that the blocks depend on.
    pub digest: String,
    /// Numbers per row.
    pub size: usize,
    /// Seed of the sketch matrix.
    pub sketch_seed: u64,
    /// Outputs per example.
    pub outputs: usize,
    /// Examples per block.
    pub block: usize,
    /// Examples whose exact kernel is stored next to the blocks, to measure the error.
    pub sample: Vec<usize>,
    /// Classes of all examples.
    pub labels: Vec<usize>,
    /// Metadata of a kernel file with the examples as its columns.
    pub metadata: BTreeMap<String, String>,
}

impl SketchManifest {
    /// A manifest of this layout version; `depends` is a text of everything that the blocks depend on.
    pub fn new(
        depends: &str,
        (size, sketch_seed): (usize, u64),
        (outputs, block): (usize, usize),
        sample: Vec<usize>,
        labels: &[usize],
        metadata: HashMap<String, String>,
    ) -> Self {
        Self {
            kernelview_sketch: LAYOUT.version,
            digest: digest([depends.as_bytes()]),
            size,
            sketch_seed,
            outputs,
            block,
            sample,
            labels: labels.to_vec(),
            metadata: metadata.into_iter().collect(),
        }
    }

    pub(super) fn read(directory: &Path) -> Result<Self> {
        let found: Self = LAYOUT.read(directory)?;
        let examples = found.labels.len();
        if [found.size, found.outputs, found.block, examples].contains(&0) {
            return Err(LAYOUT.wrong(directory, &"sizes of 0"));
        }
        if let Some(outside) = found.sample.iter().find(|i| **i >= examples) {
            let reason = format!("example {outside} of the sample is not one of the {examples}");
            return Err(LAYOUT.wrong(directory, &reason));
        }
        Ok(found)
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.labels.len().div_ceil(self.block)
    }

    /// The examples of a block.
    pub fn range(&self, block: usize) -> std::ops::Range<usize> {
        block * self.block..((block + 1) * self.block).min(self.labels.len())
    }
}

pub(super) fn block_path(directory: &Path, block: usize) -> PathBuf {
    directory.join(format!("block-{block:05}.safetensors"))
}

/// A block's sketches \[rows, k\] and outputs \[examples, C\]; `None` if it is missing or from another run.
pub(super) fn read_block(
    directory: &Path,
    manifest: &SketchManifest,
    block: usize,
) -> Result<Option<(Tensor, Tensor)>> {
    let path = block_path(directory, block);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_whole(&path)?;
    let broken = |e: &dyn std::fmt::Display| Error::format(&path, format!("not a complete block of a sketch ({e})"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    if header.metadata().as_ref().and_then(|m| m.get("digest")) != Some(&manifest.digest) {
        return Ok(None);
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let examples = manifest.range(block).len();
    let tensor = |name: &str, kind: (Dtype, Kind), shape: [usize; 2]| {
        let found = file.tensor(name).map_err(|e| broken(&e))?;
        if found.dtype() != kind.0 || found.shape() != shape {
            let message = format!(
                "{name} is {:?} of shape {:?}, expected {:?} of {shape:?}",
                found.dtype(),
                found.shape(),
                kind.0
            );
            return Err(Error::format(&path, message));
        }
        let shape = shape.map(|n| n as i64);
        Ok(Tensor::f_from_data_size(found.data(), &shape, kind.1)?)
    };
    let rows = tensor("sketch", (Dtype::F32, Kind::Float), [examples * manifest.outputs, manifest.size])?;
    let outputs = tensor("logits", (Dtype::F64, Kind::Double), [examples, manifest.outputs])?;
    if rows.isfinite().all().int64_value(&[]) == 0 {
        return Err(Error::format(&path, "sketch contains a number that is not finite"));
    }
    Ok(Some((rows, outputs)))
}

/// A directory to which a sketch is written.
pub struct SketchStore {
    directory: PathBuf,
    manifest: SketchManifest,
}

impl SketchStore {
    /// Opens a directory for the sketch of a manifest, and creates both if missing.
    ///
    /// # Errors
    /// [`Error::Format`] if the directory is that of another sketch.
    pub fn open(directory: &Path, manifest: SketchManifest, place: Place) -> Result<Self> {
        let another = format!(
            "this is another sketch (different model, task, settings or size); give another {}, or remove it",
            Field::Out
        );
        Layout::open(directory, &manifest, place, SketchManifest::read, &another)?;
        Ok(Self { directory: directory.to_path_buf(), manifest })
    }

    /// Whether a block is complete.
    pub fn has(&self, block: usize) -> bool {
        read_block(&self.directory, &self.manifest, block).is_ok_and(|found| found.is_some())
    }

    /// Stores a block.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, block: usize, sketch: &Sketch) -> Result<()> {
        let path = block_path(&self.directory, block);
        let rows = Vec::<f32>::try_from(sketch.rows.contiguous().view(-1)).expect("a flat f32 tensor");
        let outputs = Vec::<f64>::try_from(sketch.outputs.contiguous().view(-1)).expect("a flat f64 tensor");
        let rows: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        let outputs: Vec<u8> = outputs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = |t: &Tensor| t.size().iter().map(|n| *n as usize).collect::<Vec<_>>();
        let view = |kind, t: &Tensor, bytes| {
            TensorView::new(kind, shape(t), bytes).map_err(|e| Error::format(&path, e.to_string()))
        };
        let tensors = [
            ("sketch", view(Dtype::F32, &sketch.rows, &rows)?),
            ("logits", view(Dtype::F64, &sketch.outputs, &outputs)?),
        ];
        let metadata = HashMap::from([("digest".to_owned(), self.manifest.digest.clone())]);
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| Error::format(&path, e.to_string()))?;
        write_atomic(&path, &bytes)
    }

    /// Whether the exact kernel of the sample is complete.
    pub fn has_sample(&self) -> bool {
        read_sample(&self.directory, &self.manifest).is_ok_and(|found| found.is_some())
    }

    /// Stores the exact SGD kernel of the sample's examples with themselves.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put_sample(&self, gram: &Gram) -> Result<()> {
        let labels: Vec<usize> = self.manifest.sample.iter().map(|i| self.manifest.labels[*i]).collect();
        let metadata = HashMap::from([("digest".to_owned(), self.manifest.digest.clone())]);
        KernelFile::of(gram, (&labels, &[]), metadata).write(&self.directory.join(SAMPLE))
    }
}

/// The sample's exact kernel \[rows, rows\].
pub(super) fn read_sample(directory: &Path, manifest: &SketchManifest) -> Result<Option<Tensor>> {
    let path = directory.join(SAMPLE);
    if !path.exists() {
        return Ok(None);
    }
    let file = KernelFile::read(&path)?;
    if file.metadata.get("digest") != Some(&manifest.digest) {
        return Ok(None);
    }
    let rows = (manifest.sample.len() * manifest.outputs) as i64;
    let kernel = file.to_gram().and_then(|gram| gram.sgd).filter(|kernel| kernel.size() == [rows, rows]);
    kernel.map(Some).ok_or_else(|| Error::format(&path, format!("holds no kernel.sgd of {rows} rows")))
}
