//! Provides libtorch: a CPU build in the user's cache, linked into the checkout, or the user's own, checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cache::{self, Cache};
use crate::error::{Doing, Error, Result};
use crate::pip::megabytes;
use crate::torch_check;
use crate::wheel::{self, Extracted, Wheel};
use crate::{pip, run};

/// The only version that the bindings support.
pub const VERSION: &str = "2.11.0";

const DIRECTORY: &str = "libtorch-2.11.0-cpu";

/// PyTorch, and two small wheels with CUDA libraries against which even its CPU library is linked.
const WHEELS: [Wheel; 3] = [
    Wheel {
        name: "torch",
        version: VERSION,
        sha256: "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
        bytes: 530_712_279,
    },
    Wheel {
        name: "nvidia-cuda-runtime",
        version: "13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        bytes: 2_243_632,
    },
    Wheel {
        name: "nvidia-cuda-cupti",
        version: "13.0.85",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        bytes: 10_715_597,
    },
];

/// The shared libraries taken from the wheels, with their sizes. Their rpath is $ORIGIN, so they find each other.
const LIBRARIES: [(&str, u64); 6] = [
    ("libc10.so", 1_498_969),
    ("libcudart.so.13", 704_288),
    ("libcupti.so.13", 4_152_208),
    ("libgomp.so.1", 254_009),
    ("libtorch.so", 343_121),
    ("libtorch_cpu.so", 451_209_129),
];

/// Headers whose presence is checked: one of the C++ interface, one of the core.
const HEADERS: [&str; 2] = ["include/torch/csrc/api/include/torch/torch.h", "include/ATen/ATen.h"];

/// Downloaded and unpacked files coexist for a while, and pip copies the download once.
const SPACE_NEEDED: u64 = 1_300_000_000;

/// Ensures that the build finds the right version of libtorch: the user's own, or else a link to the cache's.
pub fn setup(root: &Path) -> Result<()> {
    let link = root.join("third_party/libtorch");
    if let Some(version) = check_own(&link)? {
        println!("libtorch {version}: using your own");
        return Ok(());
    }
    let cache = Cache::locate()?;
    let torch = provide(&cache)?;
    if link_to(&link, &torch)? {
        println!("libtorch {VERSION}: linked third_party/libtorch -> {}", torch.display());
    } else {
        println!("libtorch {VERSION}: ready in {}", torch.display());
    }
    Ok(())
}

/// The version of the libtorch the user chose, if they chose one.
fn check_own(link: &Path) -> Result<Option<String>> {
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return torch_check::check_python().map(Some);
    }
    // cargo sets LIBTORCH to our own link for every program that it runs, including this one.
    if let Some(own) = std::env::var_os("LIBTORCH").map(PathBuf::from).filter(|own| !run::same_place(own, link)) {
        return torch_check::check_directory(&format!("LIBTORCH={}", own.display()), &own).map(Some);
    }
    // A libtorch put or linked there by hand is kept.
    if link.exists() && !is_our_link(link) {
        return torch_check::check_directory("third_party/libtorch", link).map(Some);
    }
    Ok(None)
}

/// Whether `link` is a symbolic link to the libtorch of some cache.
fn is_our_link(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target.ends_with(Path::new(DIRECTORY).join("torch")))
}

/// The cache's libtorch, fetched if missing.
fn provide(cache: &Cache) -> Result<PathBuf> {
    let place = cache.directory().join(DIRECTORY);
    let torch = place.join("torch");
    if is_complete(&torch) {
        return Ok(torch);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::Platform { os: std::env::consts::OS, arch: std::env::consts::ARCH });
    }
    let _lock = cache.lock()?;
    // Another process may have provided it while this one waited for the lock.
    if is_complete(&torch) {
        return Ok(torch);
    }
    if place.exists() {
        println!("{} is incomplete: fetching it again", place.display());
    }
    cache.require_space("libtorch", SPACE_NEEDED)?;
    let download = cache.fresh("libtorch.download")?;
    let part = cache.fresh(&format!("{DIRECTORY}.part"))?;
    let fetched = fetch_into(&download, &part);
    // The half gigabyte of wheels is no longer needed, whatever the outcome.
    cache::remove(&download)?;
    if fetched.is_err() {
        cache::remove(&part)?;
    }
    fetched?;
    cache::publish(&part, &place)?;
    Ok(torch)
}

fn fetch_into(download: &Path, part: &Path) -> Result<()> {
    let wheels = pip::download(&WHEELS, download)?;
    let start = Instant::now();
    let mut total = Extracted::default();
    for file in &wheels {
        let extracted = wheel::extract(file, part, place_of)?;
        total.files += extracted.files;
        total.bytes += extracted.bytes;
        cache::remove(file)?;
    }
    let torch = part.join("torch");
    // Written last, as the sign of a complete extraction; the bindings' build reads this file too.
    let stamp = torch.join("build-version");
    fs::write(&stamp, format!("{VERSION}\n")).doing(|| format!("write {}", stamp.display()))?;
    if !is_complete(&torch) {
        let detail = "the wheels do not contain the libraries and headers expected".to_owned();
        return Err(Error::Archive { file: download.to_path_buf(), detail });
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("unpacked {} files, {} MB, in {seconds:.1} s", total.files, megabytes(total.bytes));
    Ok(())
}

/// The path of a wheel's entry in the cache directory; `None` for entries that a CPU build does not need.
fn place_of(entry: &str) -> Option<String> {
    if entry.starts_with("torch/include/") {
        return Some(entry.to_owned());
    }
    let (directory, file) = entry.rsplit_once('/')?;
    if LIBRARIES.iter().any(|(name, _)| *name == file) && (directory == "torch/lib" || directory.starts_with("nvidia/"))
    {
        return Some(format!("torch/lib/{file}"));
    }
    // Licences are kept with what they cover.
    let (package, _) = directory.split_once(".dist-info")?;
    directory.ends_with("/licenses").then(|| format!("licenses/{package}/{file}"))
}

/// Whether a libtorch directory is complete: right version, libraries of the right size, headers.
fn is_complete(torch: &Path) -> bool {
    let version = fs::read_to_string(torch.join("build-version"));
    version.is_ok_and(|version| version.trim() == VERSION)
        && LIBRARIES.iter().all(|(name, bytes)| cache::has_size(&torch.join("lib").join(name), *bytes))
        && HEADERS.iter().all(|header| torch.join(header).is_file())
}

/// Points `link` at `target`; returns false if it already did.
fn link_to(link: &Path, target: &Path) -> Result<bool> {
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(false);
    }
    let parent = link.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).doing(|| format!("create {}", parent.display()))?;
    // Renames a new link over the old one, so that a concurrent build finds one or the other.
    let new = parent.join(format!(".libtorch.{}", std::process::id()));
    cache::remove(&new)?;
    symlink(target, &new).doing(|| format!("link {} to {}", new.display(), target.display()))?;
    fs::rename(&new, link).doing(|| format!("replace {}", link.display()))?;
    Ok(true)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A directory that looks whole; the libraries are sparse files of the right size.
    fn fake_libtorch(torch: &Path) {
        for (name, bytes) in LIBRARIES {
            fs::create_dir_all(torch.join("lib")).unwrap();
            File::create(torch.join("lib").join(name)).unwrap().set_len(bytes).unwrap();
        }
        for header in HEADERS {
            fs::create_dir_all(torch.join(header).parent().unwrap()).unwrap();
            fs::write(torch.join(header), "").unwrap();
        }
        fs::write(torch.join("build-version"), "2.11.0\n").unwrap();
    }

    #[track_caller]
    fn check_incomplete(damage: impl Fn(&Path)) {
        let dir = tempfile::tempdir().unwrap();
        fake_libtorch(dir.path());
        assert!(is_complete(dir.path()));
        damage(dir.path());
        assert!(!is_complete(dir.path()));
    }

    #[test]
    fn a_half_made_cache_is_not_taken_for_complete() {
        check_incomplete(|torch| fs::remove_file(torch.join("build-version")).unwrap());
        check_incomplete(|torch| fs::write(torch.join("build-version"), "2.12.0").unwrap());
        check_incomplete(|torch| fs::remove_file(torch.join("lib/libgomp.so.1")).unwrap());
        check_incomplete(|torch| fs::write(torch.join("lib/libtorch_cpu.so"), "short").unwrap());
        check_incomplete(|torch| fs::remove_dir_all(torch.join("include")).unwrap());
    }

    #[test]
    fn a_complete_cache_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let torch = dir.path().join(DIRECTORY).join("torch");
        fake_libtorch(&torch);
        assert_eq!(provide(&cache).unwrap(), torch);
    }

    #[test]
    fn the_link_follows_the_cache_but_not_someone_elses_target() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("third_party/libtorch");
        let (old, new) = (dir.path().join("old").join(DIRECTORY), dir.path().join("new").join(DIRECTORY));
        assert!(link_to(&link, &old.join("torch")).unwrap());
        assert!(is_our_link(&link), "also while it dangles");
        assert!(link_to(&link, &new.join("torch")).unwrap());
        assert!(!link_to(&link, &new.join("torch")).unwrap());
        assert_eq!(fs::read_link(&link).unwrap(), new.join("torch"));
        link_to(&link, dir.path()).unwrap();
        assert!(!is_our_link(&link));
    }

    #[test]
    fn only_what_a_cpu_build_needs_is_kept() {
        let cases = [
            ("torch/lib/libtorch_cpu.so", Some("torch/lib/libtorch_cpu.so")),
            ("torch/lib/libtorch_cuda.so", None),
            ("torch/include/ATen/ATen.h", Some("torch/include/ATen/ATen.h")),
            ("nvidia/cu13/lib/libcudart.so.13", Some("torch/lib/libcudart.so.13")),
            ("torch/bin/libtorch.so", None),
            ("torch-2.11.0.dist-info/licenses/LICENSE", Some("licenses/torch-2.11.0/LICENSE")),
            ("torch-2.11.0.dist-info/RECORD", None),
        ];
        for (entry, place) in cases {
            assert_eq!(place_of(entry).as_deref(), place, "{entry}");
        }
    }
}
