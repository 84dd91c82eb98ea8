//! Downloads with `python3 -m pip download`, so that the machine's proxy, index and certificate settings apply.

use std::fs;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Doing, Error, Result};
use crate::wheel::Wheel;

/// Fetches the wheels into `directory`, checks their hashes, and returns their paths in the same order.
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
    command.args(["-m", "pip", "download", "--quiet", "--progress-bar", "off", "--disable-pip-version-check"]);
    command.args(["--no-input", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--require-hashes"]);
    // The wheel is that of a fixed Python version, not the installed one: only its shared libraries are used.
    command.args(["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]);
    for tag in ["manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"] {
        command.args(["--platform", &format!("{tag}_x86_64")]);
    }
    command.arg("--dest").arg(directory).arg("--requirement").arg(&requirements).env("TMPDIR", &temporary);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());

    let total: u64 = wheels.iter().map(|wheel| wheel.bytes).sum();
    println!("fetching {what} ({} MB)", megabytes(total));
    let start = Instant::now();
    let mut child = command.spawn().doing(|| "start python3".to_owned())?;
    // Kept in memory: on a full disk, a log file would lose the very message that says so.
    let mut complaints = child.stderr.take();
    let complaints = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = complaints.as_mut().map(|pipe| pipe.read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    });
    let status = loop {
        if let Some(status) = child.try_wait().doing(|| "wait for pip".to_owned())? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
        report_progress(directory, total, start);
    };
    end_progress_line();
    if !status.success() {
        let said = complaints.join().unwrap_or_default();
        return Err(explain(&what, directory, &said));
    }
    println!("fetched {what} in {:.1} s", start.elapsed().as_secs_f64());
    wheels.iter().map(|wheel| wheel.find_checked(directory)).collect()
}

/// Distinguishes a missing Python from a missing pip before anything else can fail.
fn require_pip() -> Result<()> {
    let output = Command::new("python3").args(["-m", "pip", "--version"]).stdin(Stdio::null()).output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NoPython),
        Err(error) => Err(error).doing(|| "start python3".to_owned()),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if said.contains("No module named pip") {
                return Err(Error::NoPip);
            }
            Err(Error::Pip { what: "anything".to_owned(), detail: last_lines(&said, 3) })
        }
    }
}

/// Extracts the cause from pip's output.
fn explain(what: &str, directory: &Path, said: &str) -> Error {
    // From the pattern to the closing quotation mark in pip's message.
    let find = |patterns: &[&str]| {
        let in_line = |line: &'_ str| patterns.iter().find_map(|pattern| line.find(pattern));
        let (line, at) = said.lines().rev().find_map(|line| Some((line, in_line(line)?)))?;
        line[at..].split(['\'', '"', ')']).next().map(str::to_owned)
    };
    let what = what.to_owned();
    if find(&["No space left on device", "Errno 28", "Disk quota exceeded"]).is_some() {
        return Error::DiskFull { what: format!("fetch {what} into {}", directory.display()) };
    }
    if find(&["DO NOT MATCH THE HASHES"]).is_some() {
        let figures =
            said.lines().map(str::trim).filter(|line| line.starts_with("Expected") || line.starts_with("Got"));
        let detail = figures.collect::<Vec<_>>().join(", ");
        return Error::Hash { what, detail };
    }
    // pip ends with "no matching distribution" even if it never connected: look for that cause first.
    let connection = find(&[
        "Failed to establish a new connection",
        "Name or service not known",
        "Temporary failure in name resolution",
        "NameResolutionError",
        "NewConnectionError",
        "Network is unreachable",
        "Connection refused",
        "Connection reset",
        "Connection broken",
        "Connection aborted",
        "Cannot connect to proxy",
        "ProxyError",
        "SSLError",
        "timed out",
        "TimeoutError",
        "Max retries exceeded",
    ]);
    match connection {
        Some(detail) => Error::NoNetwork { what, detail },
        None => Error::Pip { what, detail: last_lines(said, 3) },
    }
}

fn last_lines(said: &str, count: usize) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "nothing".to_owned(),
        length => lines[length.saturating_sub(count)..].join(" / "),
    }
}

/// Rewrites one progress line; only on a terminal, to keep logs short.
fn report_progress(directory: &Path, total: u64, start: Instant) {
    if std::io::stdout().is_terminal() {
        // pip copies from its temporary directory at the end, so both together may exceed the total.
        let there = bytes_below(directory).min(total);
        let seconds = start.elapsed().as_secs_f64();
        print!("\r  {} of {} MB, {seconds:.0} s\u{1b}[K", megabytes(there), megabytes(total));
        let _ = std::io::stdout().flush();
    }
}

fn end_progress_line() {
    if std::io::stdout().is_terminal() {
        print!("\r\u{1b}[K");
    }
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Bytes as whole megabytes, at least one.
pub fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(said: &str) -> Error {
        explain("libtorch", Path::new("/cache"), said)
    }

    #[test]
    fn a_dead_network_is_told_from_a_missing_version() {
        let retry = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('Failed to \
                     establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/torch/\n";
        let end = "ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from versions: none)\n\
                   ERROR: No matching distribution found for torch==2.11.0";
        let Error::NoNetwork { detail, .. } = explained(&format!("{retry}{end}")) else {
            panic!("expected no network")
        };
        assert_eq!(detail, "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution");
        let Error::Pip { detail, .. } = explained(end) else { panic!("expected pip's own words") };
        assert!(detail.ends_with("No matching distribution found for torch==2.11.0"), "{detail}");
    }

    #[test]
    fn pips_hash_refusal_keeps_both_hashes() {
        let said = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. \n    torch==2.11.0:\n\
                            Expected sha256 00\n             Got        11\n";
        let Error::Hash { detail, .. } = explained(said) else { panic!("expected a hash error") };
        assert_eq!(detail, "Expected sha256 00, Got        11");
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device";
        assert!(matches!(explained(said), Error::DiskFull { .. }));
    }
}
