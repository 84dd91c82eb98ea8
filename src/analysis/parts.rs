//! Finished parts of an analysis on disk: written whole, reused when nothing that they depend on has changed.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::files::{create_dir, digest, load_part, store_part};
use crate::progress::Monitor;

/// Grows whenever the meaning of a stored part changes, so that parts of older programs are made again.
const PARTS_VERSION: &str = "4";

/// The store of one analysis.
pub struct Parts {
    root: PathBuf,
    study: String,
}

impl Parts {
    /// Opens (and creates) the store in an output directory, for a study of this digest.
    pub fn open(root: &Path, study: &str) -> Result<Self> {
        create_dir(&root.join("parts"))?;
        create_dir(&root.join("kernels"))?;
        Ok(Self { root: root.to_path_buf(), study: study.to_owned() })
    }

    /// Digest of a part: of the study and of the part's own settings.
    pub fn digest(&self, settings: &impl Serialize) -> String {
        let settings = serde_json::to_string(settings).expect("settings are plain data");
        digest([PARTS_VERSION.as_bytes(), self.study.as_bytes(), settings.as_bytes()])
    }

    /// Path of a kernel file in the output directory.
    pub fn kernel_path(&self, name: &str) -> PathBuf {
        self.root.join("kernels").join(format!("{name}.safetensors"))
    }

    /// Directory of the adapters that an optimizer trained.
    pub fn adapter_path(&self, optimizer: &str) -> PathBuf {
        self.root.join("adapters").join(optimizer)
    }

    /// Path of an intermediate file.
    pub fn part_path(&self, name: &str) -> PathBuf {
        self.root.join("parts").join(name)
    }

    /// The stored value of a part. A file that cannot be read as the part counts as absent: the part is made again.
    pub fn stored<T: DeserializeOwned>(
        &self,
        name: &str,
        settings: &impl Serialize,
        monitor: &dyn Monitor,
    ) -> Option<T> {
        let value = load_part(&self.part_path(&format!("{name}.json")), &self.digest(settings))?;
        monitor.note(&format!("{name}: already there"));
        Some(value)
    }

    /// Stores a part.
    pub fn store(&self, name: &str, settings: &impl Serialize, value: &impl Serialize) -> Result<()> {
        store_part(&self.part_path(&format!("{name}.json")), &self.digest(settings), value)
    }

    /// The stored value of a part, or a newly computed one, stored.
    pub fn json<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        settings: &impl Serialize,
        monitor: &dyn Monitor,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some(value) = self.stored(name, settings, monitor) {
            return Ok(value);
        }
        let value = compute()?;
        self.store(name, settings, &value)?;
        Ok(value)
    }
}
