//! Stores finished experiments on disk until the whole run is finished.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Done, Experiment, VerifySettings};
use crate::device::device_kind;
use crate::error::{Error, Result};
use crate::files::{create_dir, digest, load_result, store_result};

/// Prefix of file names: the directory may also contain parts of an analysis.
const PREFIX: &str = "verify-";

/// The store of one run.
pub(super) struct Store<'a> {
    directory: PathBuf,
    settings: &'a VerifySettings,
    /// Digest of this program: results of another build are measured again.
    program: String,
}

impl<'a> Store<'a> {
    pub(super) fn open(out_dir: &Path, settings: &'a VerifySettings) -> Result<Self> {
        let directory = directory(out_dir);
        create_dir(&directory)?;
        let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
        let program = fs::read(&program).map_err(Error::io("read", &program))?;
        Ok(Self { directory, settings, program: digest([program.as_slice()]) })
    }

    /// The result stored by an interrupted run, for one look if there are several.
    pub(super) fn load(&self, experiment: &Experiment, look: Option<usize>) -> Option<Done> {
        let digest = self.digest(experiment, look);
        let path = self.path(experiment, &digest);
        match experiment.mutant {
            None => load_result(&path, &digest).map(|claim| Done::Claim(Box::new(claim))),
            Some(_) => load_result(&path, &digest).map(Done::Mutant),
        }
    }

    /// Stores a result; errors are not stored, because the next run may not encounter them.
    pub(super) fn save(&self, experiment: &Experiment, look: Option<usize>, done: &Done) -> Result<()> {
        let digest = self.digest(experiment, look);
        let path = self.path(experiment, &digest);
        match done {
            Done::Claim(claim) => store_result(&path, &digest, claim),
            Done::Mutant(mutant) => store_result(&path, &digest, mutant),
            Done::Error(_) => Ok(()),
        }
    }

    fn digest(&self, experiment: &Experiment, look: Option<usize>) -> String {
        let settings = (
            &self.program,
            experiment.claim.id,
            experiment.mutant.map(|m| m.label()),
            experiment.profile(self.settings),
            self.settings.seed,
            device_kind(self.settings.device),
            look,
        );
        let settings = serde_json::to_string(&settings).expect("settings are plain data");
        digest([settings.as_bytes()])
    }

    fn path(&self, experiment: &Experiment, digest: &str) -> PathBuf {
        self.directory.join(format!("{PREFIX}{}-{}.json", experiment.claim.id, &digest[..16]))
    }
}

/// Removes the results stored in `out_dir`, so that the next run measures again.
pub fn forget(out_dir: &Path) -> Result<()> {
    let directory = directory(out_dir);
    let Ok(entries) = fs::read_dir(&directory) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    // Fails, as intended, if there are other files.
    let _ = fs::remove_dir(&directory);
    Ok(())
}

fn directory(out_dir: &Path) -> PathBuf {
    out_dir.join("parts")
}
