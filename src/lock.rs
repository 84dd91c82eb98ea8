//! Allows one process at a time to write to an output directory. The directory itself is locked, so no file is left behind,
//! and the system releases the lock when the process ends for any reason.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::create_dir;

/// A locked directory, unlocked on drop.
#[derive(Debug)]
pub struct DirectoryLock {
    _directory: File,
}

impl DirectoryLock {
    /// Locks a directory for this process alone; creates it if missing.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process has locked it; [`Error::Io`].
    pub fn alone(directory: &Path) -> Result<Self> {
        Self::take(directory, File::try_lock)
    }

    /// Locks a directory together with other processes that share it.
    ///
    /// # Errors
    /// As [`Self::alone`].
    pub fn shared(directory: &Path) -> Result<Self> {
        Self::take(directory, File::try_lock_shared)
    }

    fn take(directory: &Path, lock: fn(&File) -> std::result::Result<(), TryLockError>) -> Result<Self> {
        create_dir(directory)?;
        let file = File::open(directory).map_err(Error::io("open", directory))?;
        match lock(&file) {
            Ok(()) => Ok(Self { _directory: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: directory.to_path_buf() }),
            // Some network file systems have no locks: better unlocked than unusable.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => Ok(Self { _directory: file }),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", directory)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_or_several_together() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let place = scratch.path().join("new/out");
        let first = DirectoryLock::alone(&place).expect("nobody has it");
        let refused = DirectoryLock::alone(&place).expect_err("taken").to_string();
        assert!(refused.contains("new/out: another kernelview process is writing here"), "{refused}");
        assert!(DirectoryLock::shared(&place).is_err());
        drop(first);
        let (a, b) = (DirectoryLock::shared(&place), DirectoryLock::shared(&place));
        assert!(a.is_ok() && b.is_ok() && DirectoryLock::alone(&place).is_err());
        drop((a, b));
        assert!(DirectoryLock::alone(&place).is_ok());
    }
}
