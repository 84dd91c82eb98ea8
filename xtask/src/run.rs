//! Runs cargo: replaces this process if nothing follows, otherwise as a child.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::error::{Doing, Result};

/// Replaces this process by `cargo FIXED ARGS`, so that signals and the exit status are cargo's own. Returns only on
/// failure, or on systems without exec.
pub fn become_cargo(root: &Path, fixed: &[&str], args: &[OsString]) -> Result<ExitCode> {
    let mut command = cargo(fixed);
    command.args(args);
    // Runs in the caller's directory, because `analyze` takes relative paths; cargo finds the workspace by itself.
    if std::env::current_dir().is_ok_and(|here| !here.starts_with(root)) {
        command.current_dir(root);
    }
    println!("running {}", shown(&command));
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        Err(command.exec()).doing(|| "start cargo".to_owned())
    }
    #[cfg(not(unix))]
    {
        let status = command.status().doing(|| "start cargo".to_owned())?;
        Ok(exit_code(status.code()))
    }
}

/// Checks formatting, lints and documentation, and stops at the first failure, with its exit status.
pub fn check(root: &Path) -> Result<ExitCode> {
    let steps: [(&[&str], Option<&str>); 3] = [
        (&["fmt", "--all", "--", "--check"], None),
        (&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], None),
        (&["doc", "--workspace", "--no-deps"], Some("-D warnings")),
    ];
    for (args, rustdoc_flags) in steps {
        let mut command = cargo(args);
        command.current_dir(root);
        if let Some(flags) = rustdoc_flags {
            command.env("RUSTDOCFLAGS", flags);
        }
        println!("running {}", shown(&command));
        let start = Instant::now();
        let status = command.status().doing(|| "start cargo".to_owned())?;
        println!("cargo {}: {:.1} s, {status}", args[0], start.elapsed().as_secs_f64());
        if !status.success() {
            return Ok(exit_code(status.code()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether two paths, which need not exist, are the same: equal last components in the same directory.
pub fn same_place(a: &Path, b: &Path) -> bool {
    let directory = |path: &Path| path.parent().and_then(|parent| parent.canonicalize().ok());
    a == b || (a.file_name() == b.file_name() && directory(a).is_some_and(|of_a| Some(of_a) == directory(b)))
}

/// A cargo command.
pub fn cargo(args: &[&str]) -> Command {
    // The cargo that runs this program, to keep a toolchain chosen by `cargo +NAME xtask`.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    // The variables that `cargo run` sets for this package would reach other packages' build scripts, some of which (ring's)
    // run again if they change: `cargo test` after `cargo xtask test` would rebuild half of everything.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_this_package)) {
        command.env_remove(name);
    }
    command
}

/// Whether `cargo run` sets this variable for the program that it runs.
fn is_of_this_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|prefix| name.starts_with(prefix))
        || name == "CARGO_PRIMARY_PACKAGE"
        || name == "OUT_DIR"
}

fn shown(command: &Command) -> String {
    let args = command.get_args().map(|arg| format!(" {}", arg.to_string_lossy()));
    format!("cargo{}", args.collect::<String>())
}

/// The child's exit status; a child killed by a signal has none and counts as failed.
fn exit_code(code: Option<i32>) -> ExitCode {
    ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_under_two_names() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().join("libtorch");
        assert!(same_place(&here, &dir.path().join("./libtorch")), "also when it does not exist");
        assert!(!same_place(&here, &dir.path().join("other")));
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        assert!(same_place(&here, &dir.path().join("sub/../libtorch")));
        assert!(!same_place(&here, &dir.path().join("sub/libtorch")));
    }

    #[test]
    fn cargo_does_not_inherit_what_cargo_run_says_of_this_package() {
        // Under `cargo test` these variables are set as under `cargo run`.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let command = cargo(&["test"]);
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.iter().any(|name| *name == "CARGO_PKG_NAME"), "{removed:?}");
        assert!(!removed.iter().any(|name| *name == "CARGO_HOME" || *name == "CARGO"), "{removed:?}");
    }

    #[test]
    fn a_step_ended_by_a_signal_counts_as_failed() {
        assert_eq!(exit_code(Some(0)), ExitCode::SUCCESS);
        assert_eq!(exit_code(Some(101)), ExitCode::from(101));
        assert_eq!(exit_code(None), ExitCode::FAILURE);
    }
}
