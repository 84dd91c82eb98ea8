//! The directory of a sharded kernel: a manifest, and a file for every block.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::{Layout, incomplete};
use crate::error::{Error, Result};
use crate::kernel::{Block, BlockGrid, Gram, KernelFile};
use crate::launch::Place;
use crate::progress::check_cancelled;
use crate::setting::Field;

const LAYOUT: Layout = Layout {
    version: 1,
    field: "kernelview_shards",
    of: "a sharded kernel",
    manifest: "a manifest of shards",
    again: "compute the shards again",
};

/// Describes the blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the directory's layout.
    pub kernelview_shards: u32,
    /// Digest of everything that the blocks depend on.
    pub digest: String,
    /// How the kernel is divided into blocks.
    #[serde(rename = "plan")]
    pub grid: BlockGrid,
    /// Classes of the left and the right examples.
    pub labels: (Vec<usize>, Vec<usize>),
    /// Metadata of the whole file.
    pub metadata: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest of this layout version.
    pub fn new(
        digest: String,
        grid: BlockGrid,
        labels: (&[usize], &[usize]),
        metadata: HashMap<String, String>,
    ) -> Self {
        Self {
            kernelview_shards: LAYOUT.version,
            digest,
            grid,
            labels: (labels.0.to_vec(), labels.1.to_vec()),
            metadata: metadata.into_iter().collect(),
        }
    }

    /// The manifest in a directory.
    ///
    /// # Errors
    /// [`Error::Format`] if there is none, or one that does not fit together.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let found: Self = LAYOUT.read(directory)?;
        let grid = &found.grid;
        let counts = (found.labels.0.len(), found.labels.1.len());
        if grid.block == 0 || grid.chunks == 0 || grid.left == 0 || counts != (grid.left, grid.right.unwrap_or(0)) {
            return Err(LAYOUT.wrong(directory, &format!("its grid {grid:?} does not fit {counts:?} labels")));
        }
        Ok(found)
    }
}

/// A directory to which shards are written.
pub struct ShardStore {
    directory: PathBuf,
    manifest: Manifest,
}

impl ShardStore {
    /// Opens a directory for the kernel of a manifest, and creates both if missing.
    ///
    /// # Errors
    /// [`Error::Format`] if the directory is that of another kernel.
    pub fn open(directory: &Path, manifest: Manifest, place: Place) -> Result<Self> {
        let another = format!(
            "these are the shards of another kernel (different model, task, settings or block size); choose another \
             file ({}), or remove them",
            Field::Out
        );
        Layout::open(directory, &manifest, place, Manifest::read, &another)?;
        Ok(Self { directory: directory.to_path_buf(), manifest })
    }

    /// Whether a block is complete.
    pub fn has(&self, block: &Block) -> bool {
        read_block(&self.directory, &self.manifest, block).is_ok_and(|found| found.is_some())
    }

    /// Stores a block.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, block: &Block, gram: &Gram) -> Result<()> {
        let labels = |range: &std::ops::Range<usize>| &self.manifest.labels.0[range.clone()];
        let columns = if gram.symmetric {
            &[][..]
        } else if self.manifest.grid.right.is_some() {
            &self.manifest.labels.1[block.columns.clone()]
        } else {
            labels(&block.columns)
        };
        let shares: Vec<(String, f64, Option<f64>)> =
            gram.shares.iter().map(|s| (s.parameter.to_string(), s.trace_sgd, s.trace_signgd)).collect();
        let metadata = HashMap::from([
            ("digest".to_owned(), self.manifest.digest.clone()),
            ("shares".to_owned(), serde_json::to_string(&shares).expect("names and numbers")),
        ]);
        KernelFile::of(gram, (labels(&block.rows), columns), metadata).write(&path(&self.directory, block))
    }
}

fn path(directory: &Path, block: &Block) -> PathBuf {
    directory.join(format!("block-{:04}-{:04}-{:02}.safetensors", block.place.0, block.place.1, block.chunk))
}

/// A block, if it exists and belongs to the manifest.
fn read_block(directory: &Path, manifest: &Manifest, block: &Block) -> Result<Option<Gram>> {
    let path = path(directory, block);
    if !path.exists() {
        return Ok(None);
    }
    let file = KernelFile::read(&path)?;
    if file.metadata.get("digest") != Some(&manifest.digest) {
        return Ok(None);
    }
    Ok(file.to_gram())
}

/// Assembles the kernel file from the blocks in a directory.
///
/// # Errors
/// [`Error::Format`] if blocks are missing, naming their shards, or if a file is damaged.
pub fn merge(directory: &Path) -> Result<KernelFile> {
    let manifest = Manifest::read(directory)?;
    let blocks = manifest.grid.blocks();
    let (mut grams, mut missing) = (Vec::new(), Vec::new());
    for (number, block) in blocks.iter().enumerate() {
        check_cancelled()?;
        match read_block(directory, &manifest, block)? {
            Some(gram) => grams.push(gram),
            None => missing.push((number, path(directory, block))),
        }
    }
    if !missing.is_empty() {
        return Err(incomplete(directory, blocks.len(), &missing));
    }
    let gram = manifest.grid.assemble(&grams).map_err(|e| Error::format(directory, e.to_string()))?;
    let labels = (manifest.labels.0.as_slice(), manifest.labels.1.as_slice());
    Ok(KernelFile::of(&gram, labels, manifest.metadata.into_iter().collect()))
}
