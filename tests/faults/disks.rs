//! Disks that are full or cannot be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::common::command::Scratch;
use super::{ANALYZE, results, words};

/// A small separate file system, removed on drop.
struct Mount(PathBuf);

impl Mount {
    /// `None` if this user may not mount.
    fn new(place: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&place).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&place).stderr(Stdio::null());
        mount.status().is_ok_and(|s| s.success()).then_some(Self(place))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A failure is harmless: the directory is temporary.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn disks_that_cannot_be_written() {
    let scratch = Scratch::new();
    let Some(_small) = Mount::new(scratch.path("small"), "size=48k") else {
        println!("skipped: this user may not mount a file system");
        return;
    };
    let full = scratch.run(&words(ANALYZE, "small/out"));
    assert_eq!(full.code, Some(2), "{}", full.stderr);
    assert!(full.stderr.contains("cannot write") && full.stderr.contains("small/out"), "{}", full.stderr);
    for name in results(&scratch.path("small/out")).keys() {
        assert_ne!(name, Path::new("report.md"), "a report of a run that failed");
    }
    let Some(_read_only) = Mount::new(scratch.path("fixed"), "ro,size=48k") else { return };
    let refused = scratch.run(&words(ANALYZE, "fixed/out"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("cannot create directory DIR/fixed/out") || refused.stderr.contains("fixed/out"));
}
