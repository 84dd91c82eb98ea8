//! Finished results of an analysis on disk: written atomically, reused while nothing that they depend on has changed.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::files::{create_dir, digest, load_result, store_result};
use crate::progress::Monitor;

/// Increases whenever the meaning of a stored result changes, so that older programs' results are computed again.
const VERSION: &str = "5";

/// Directory of the results within the output directory.
const DIRECTORY: &str = "parts";

/// The store of one analysis.
#[derive(Clone)]
pub struct ResultStore {
    root: PathBuf,
    study: String,
}

impl ResultStore {
    /// Opens (and creates) the store in an output directory, for the study with this digest.
    pub fn open(root: &Path, study: &str) -> Result<Self> {
        create_dir(&root.join(DIRECTORY))?;
        create_dir(&root.join("kernels"))?;
        Ok(Self { root: root.to_path_buf(), study: study.to_owned() })
    }

    /// Digest of a result, from the study and the result's own settings.
    pub fn digest(&self, settings: &impl Serialize) -> String {
        let settings = serde_json::to_string(settings).expect("settings are plain data");
        digest([VERSION.as_bytes(), self.study.as_bytes(), settings.as_bytes()])
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
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(DIRECTORY).join(name)
    }

    /// A stored result. A file that cannot be read as this result counts as absent, and the result is computed again.
    pub fn get<T: DeserializeOwned>(&self, name: &str, settings: &impl Serialize, monitor: &dyn Monitor) -> Option<T> {
        let value = load_result(&self.path(&format!("{name}.json")), &self.digest(settings))?;
        monitor.note(&format!("{name}: already there"));
        Some(value)
    }

    /// Stores a result.
    pub fn put(&self, name: &str, settings: &impl Serialize, value: &impl Serialize) -> Result<()> {
        store_result(&self.path(&format!("{name}.json")), &self.digest(settings), value)
    }

    /// The stored result; otherwise computes and stores it.
    pub fn get_or_compute<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        settings: &impl Serialize,
        monitor: &dyn Monitor,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some(value) = self.get(name, settings, monitor) {
            return Ok(value);
        }
        let value = compute()?;
        self.put(name, settings, &value)?;
        Ok(value)
    }
}
