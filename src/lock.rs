//! One process at a time on an output directory. The lock is on the directory itself: it leaves no file behind, and the
//! system releases it when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::create_dir;

/// Holds a directory until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _directory: File,
}

impl DirectoryLock {
    /// Takes a directory for this process alone; makes it where it is missing.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has it; [`Error::Io`].
    pub fn alone(directory: &Path) -> Result<Self> {
        Self::take(directory, File::try_lock)
    }

    /// Takes a directory beside others that share it, none of which has it alone.
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
            // A file system without locks, as some networks have: better unguarded than unusable.
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
        assert!(refused.contains("new/out: another kernelview is writing here"), "{refused}");
        assert!(DirectoryLock::shared(&place).is_err());
        drop(first);
        let (a, b) = (DirectoryLock::shared(&place), DirectoryLock::shared(&place));
        assert!(a.is_ok() && b.is_ok() && DirectoryLock::alone(&place).is_err());
        drop((a, b));
        assert!(DirectoryLock::alone(&place).is_ok());
    }
}
