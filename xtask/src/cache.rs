//! The user's cache directory: its location, its lock, and atomic creation of directories in it.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};

/// The per-user directory of everything fetched.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

/// Locks the cache for one set-up at a time; released on drop, and when the process is killed.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

impl Cache {
    /// Finds the cache directory from the environment.
    pub fn locate() -> Result<Self> {
        let directory = resolve(|name| std::env::var_os(name))?;
        // Links and rpaths are made from this path, so it must not depend on the current directory.
        let directory =
            std::path::absolute(&directory).doing(|| format!("make {} an absolute path", directory.display()))?;
        Ok(Self { directory })
    }

    /// The cache in a given directory.
    #[cfg(test)]
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// The directory itself; it need not exist.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Creates the directory and waits until no other set-up uses it.
    pub fn lock(&self) -> Result<CacheLock> {
        fs::create_dir_all(&self.directory).doing(|| format!("create {}", self.directory.display()))?;
        let path = self.directory.join(".lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.doing(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!("waiting for another set-up that uses {}", self.directory.display());
                file.lock().doing(|| format!("lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => Err(error).doing(|| format!("lock {}", path.display()))?,
        }
        Ok(CacheLock { _file: file })
    }

    /// An empty directory for unfinished files; removes what an interrupted set-up left there.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        remove(&path)?;
        fs::create_dir_all(&path).doing(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Fails if fewer than `needed` bytes are free.
    pub fn require_space(&self, what: &str, needed: u64) -> Result<()> {
        // The directory may not exist yet: its nearest existing ancestor is on the same disk.
        let existing = self.directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let disk = rustix::fs::statvfs(existing).doing(|| format!("read the free space of {}", existing.display()))?;
        enough_space(what, existing, needed, disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Moves a finished directory into place, so that no reader ever sees half of it.
pub fn publish(part: &Path, place: &Path) -> Result<()> {
    // File systems may reorder writes: without this, a power cut could leave a directory of empty files.
    #[cfg(target_os = "linux")]
    {
        let opened = File::open(part).doing(|| format!("open {}", part.display()))?;
        rustix::fs::syncfs(&opened).doing(|| format!("write {} to disk", part.display()))?;
    }
    remove(place)?;
    fs::rename(part, place).doing(|| format!("rename {} to {}", part.display(), place.display()))?;
    let parent = place.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|parent| parent.sync_all()).doing(|| format!("write {} to disk", parent.display()))
}

/// Removes a file, link or directory; does nothing if there is none.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.doing(|| format!("remove {}", path.display()))
}

/// Whether `path` is a file of exactly `bytes` bytes: a cheap check that detects interrupted copies.
pub fn has_size(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.len() == bytes)
}

fn resolve(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = path("KERNELVIEW_CACHE") {
        return Ok(directory);
    }
    // The XDG specification says to ignore a relative XDG_CACHE_HOME.
    let base = path("XDG_CACHE_HOME").filter(|base| base.is_absolute());
    let base = base.or_else(|| path("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("kernelview")).ok_or(Error::NoCacheDirectory)
}

fn enough_space(what: &str, path: &Path, needed: u64, available: u64) -> Result<()> {
    if available < needed {
        return Err(Error::NoSpace { what: what.to_owned(), path: path.to_path_buf(), needed, available });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_resolution(variables: &[(&str, &str)], expected: Option<&str>) {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        assert_eq!(resolve(lookup).ok(), expected.map(PathBuf::from), "{variables:?}");
    }

    #[test]
    fn the_nearest_variable_names_the_cache() {
        check_resolution(&[("KERNELVIEW_CACHE", "/k"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/k"));
        check_resolution(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/kernelview"));
        check_resolution(&[("HOME", "/h")], Some("/h/.cache/kernelview"));
        check_resolution(&[], None);
    }

    #[test]
    fn empty_and_relative_variables_do_not_count() {
        check_resolution(&[("KERNELVIEW_CACHE", ""), ("XDG_CACHE_HOME", "/x")], Some("/x/kernelview"));
        check_resolution(&[("XDG_CACHE_HOME", "rel"), ("HOME", "/h")], Some("/h/.cache/kernelview"));
    }

    #[test]
    fn too_little_space_is_said_with_both_figures_and_the_way_out() {
        let error = enough_space("libtorch", Path::new("/cache"), 1_300_000_000, 12_000_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not enough disk space in /cache: libtorch needs 1300 MB free while unpacking, but 12 MB are free. Free \
             some space, or set KERNELVIEW_CACHE to a directory on a larger disk, then run the command again"
        );
        assert!(enough_space("libtorch", Path::new("/cache"), 12, 12).is_ok());
    }

    #[test]
    fn space_is_looked_up_for_a_cache_that_does_not_exist_yet() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(&dir.path().join("not/there/yet"));
        cache.require_space("nothing", 0).unwrap();
        assert!(matches!(cache.require_space("all", u64::MAX), Err(Error::NoSpace { .. })));
    }

    #[test]
    fn publishing_replaces_the_whole_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (part, place) = (dir.path().join("a.part"), dir.path().join("a"));
        for (directory, file) in [(&part, "new"), (&place, "old")] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join(file), "").unwrap();
        }
        publish(&part, &place).unwrap();
        assert!(place.join("new").exists() && !place.join("old").exists() && !part.exists());
    }

    #[test]
    fn a_lock_is_held_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let held = cache.lock().unwrap();
        let second = File::open(dir.path().join(".lock")).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        second.try_lock().unwrap();
    }
}
