//! Checks a user's own libtorch: that it exists, is complete enough to build with, and has the right version.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::libtorch::VERSION;

const WAY_OUT: &str = "Point the variable at version 2.11.0, or unset LIBTORCH and LIBTORCH_USE_PYTORCH to have `cargo \
                       xtask setup` provide the CPU build";

/// Checks a directory with `lib` and `include`, as LIBTORCH names one; returns its full version.
pub fn check_directory(source_of: &str, directory: &Path) -> Result<String> {
    let unusable = |found: String| unusable(source_of, found);
    if !directory.is_dir() {
        return Err(unusable(format!("there is no directory {}", directory.display())));
    }
    for part in ["lib", "include/torch"] {
        if !directory.join(part).is_dir() {
            return Err(unusable(format!("{} has no {part} directory", directory.display())));
        }
    }
    let version =
        version_of(directory).ok_or_else(|| unusable(format!("no version found in {}", directory.display())))?;
    require_version(source_of, &version)?;
    Ok(version)
}

/// Checks the PyTorch that `python3` imports, as LIBTORCH_USE_PYTORCH asks for; returns its full version.
pub fn check_python() -> Result<String> {
    let source_of = "the PyTorch of LIBTORCH_USE_PYTORCH";
    // The same interpreter and import as in the bindings' build script.
    let interpreter = if std::env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let script = "import torch; from torch.utils import cpp_extension; print('VERSION:', torch.__version__)";
    let output = Command::new(interpreter).args(["-c", script]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| unusable(source_of, format!("`{interpreter}` does not start ({error})")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let Some(version) = said.lines().find_map(|line| line.strip_prefix("VERSION: ")) else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.trim().lines().last().unwrap_or("no output").to_owned();
        return Err(unusable(source_of, format!("`{interpreter}` cannot import it ({complaint})")));
    };
    require_version(source_of, version)?;
    Ok(version.to_owned())
}

fn require_version(source_of: &str, version: &str) -> Result<()> {
    let plain = version.split('+').next().unwrap_or(version);
    if plain == VERSION {
        return Ok(());
    }
    Err(unusable(source_of, format!("its version is {version}")))
}

fn unusable(source_of: &str, found: String) -> Error {
    Error::OwnTorch { source_of: source_of.to_owned(), found, needed: VERSION, way_out: WAY_OUT }
}

/// The version stated by a libtorch archive, a Python package or else the headers.
fn version_of(directory: &Path) -> Option<String> {
    let archive = fs::read_to_string(directory.join("build-version")).ok().map(|text| text.trim().to_owned());
    archive
        .or_else(|| python_version(&fs::read_to_string(directory.join("version.py")).ok()?))
        .or_else(|| header_version(&fs::read_to_string(directory.join("include/torch/headeronly/version.h")).ok()?))
        .or_else(|| {
            header_version(&fs::read_to_string(directory.join("include/torch/csrc/api/include/torch/version.h")).ok()?)
        })
}

fn python_version(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("__version__")?.trim_start().strip_prefix('='))?;
    Some(value.trim().trim_matches(['\'', '"']).to_owned())
}

fn header_version(text: &str) -> Option<String> {
    let number = |name: &str| {
        let define = format!("#define TORCH_VERSION_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&define)?.trim().parse::<u32>().ok())
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as LIBTORCH names one, with the given file as its only sign of a version.
    fn libtorch(file: &str, content: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib")).unwrap();
        fs::create_dir_all(dir.path().join("include/torch/headeronly")).unwrap();
        fs::write(dir.path().join(file), content).unwrap();
        dir
    }

    #[track_caller]
    fn check(file: &str, content: &str, expected: Option<&str>) {
        let dir = libtorch(file, content);
        let version = check_directory("LIBTORCH=test", dir.path());
        assert_eq!(version.ok().as_deref(), expected, "{file}: {content:?}");
    }

    #[test]
    fn each_way_to_state_the_version_is_read() {
        check("build-version", "2.11.0+cpu\n", Some("2.11.0+cpu"));
        check("version.py", "from typing import Optional\n__version__ = '2.11.0+cu130'\n", Some("2.11.0+cu130"));
        let header = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 0\n";
        check("include/torch/headeronly/version.h", header, Some("2.11.0"));
        check("build-version", "2.11.1\n", None);
        check("version.py", "__version__ = '2.1.10'\n", None);
        check("README", "", None);
    }

    #[test]
    fn a_wrong_version_is_said_with_what_is_needed_and_the_way_out() {
        let dir = libtorch("build-version", "2.9.1+cpu\n");
        let error = check_directory("LIBTORCH=/opt/libtorch", dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "LIBTORCH=/opt/libtorch cannot be used: its version is 2.9.1+cpu. kernelview needs libtorch 2.11.0 exactly, \
             because its bindings are generated for that version. Point the variable at version 2.11.0, or unset \
             LIBTORCH and LIBTORCH_USE_PYTORCH to have `cargo xtask setup` provide the CPU build"
        );
    }

    #[test]
    fn a_directory_without_libraries_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = check_directory("LIBTORCH=x", dir.path()).unwrap_err().to_string();
        assert!(error.contains("has no lib directory"), "{error}");
        let error = check_directory("LIBTORCH=x", &dir.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("there is no directory"), "{error}");
    }
}
