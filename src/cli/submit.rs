//! `kernelview submit`: parses a command as its jobs will, so that what they would be refused for is refused at once,
//! and writes their scripts.

use std::path::Path;

use clap::{ArgMatches, FromArgMatches};

use super::command::{Cli, Command, commands};
use super::idle;
use super::kernel::{KernelArgs, check_options, shards_of};
use super::numbers::check_counts;
use super::output::outln;
use super::reproduce;
use super::shards::SubmitArgs;
use super::slurm::{Submission, write_submission};
use crate::error::{Error, Result};

/// Writes the scripts.
pub(super) fn run(args: &SubmitArgs) -> Result<()> {
    check_counts(&[("--shards", Some(args.shards))])?;
    if let Some(option) = args.option.iter().find(|option| !is_option(option)) {
        let problem = "give an option of sbatch in one line that begins with -, e.g. --option=--time=01:00:00";
        return Err(Error::argument(format!("--option {option}"), problem));
    }
    let given = args.arguments.as_slice();
    check_given(given)?;
    let command = [given, &["--shard".to_owned(), "auto".to_owned()]].concat();
    let (job, matches) = parsed(&command)?;
    idle::tell(&matches)?;
    let join = match job {
        Command::Kernel(kernel) => merge_of(&kernel)?,
        Command::Reproduce(grid) => {
            reproduce::check_options(&grid)?;
            // The same command without --shard finds all cells finished and writes the whole report.
            given.to_vec()
        }
        _ => unreachable!("kernel or reproduce (`check_given`)"),
    };
    let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let submission = Submission { program, command, join, shards: args.shards, options: args.option.clone() };
    let script = write_submission(&submission, &args.out_dir)?;
    outln!("sh {}", script.display())?;
    Ok(())
}

/// Whether a text can be an `#SBATCH` line's.
fn is_option(text: &str) -> bool {
    text.starts_with('-') && text != "-" && text != "--" && !text.contains(char::is_control)
}

/// Refuses commands that no jobs can share, before the scripts' own option is added.
fn check_given(given: &[String]) -> Result<()> {
    if !["kernel", "reproduce"].contains(&given[0].as_str()) {
        let problem = "after --, give the command to submit: kernel or reproduce, with its arguments";
        return Err(Error::argument(format!("-- {}", given[0]), problem));
    }
    let (command, _) = parsed(given)?;
    let (shard, plan) = match command {
        Command::Kernel(kernel) => (kernel.shard, kernel.plan.then_some("--plan")),
        Command::Reproduce(grid) => (grid.shard, grid.dry_run.then_some("--dry-run")),
        _ => (None, None),
    };
    if shard.is_some() {
        return Err(Error::argument("--shard", "remove it: the scripts set it"));
    }
    match plan {
        Some(flag) => Err(Error::argument(flag, "remove it: jobs compute; run the command itself for its plan")),
        None => Ok(()),
    }
}

/// The merge behind the shards of a kernel.
fn merge_of(kernel: &KernelArgs) -> Result<Vec<String>> {
    check_options(kernel)?;
    let Some(out) = &kernel.out else { return Err(Error::argument("-- kernel", "--out FILE is missing")) };
    let text = |path: &Path| path.display().to_string();
    Ok(vec!["merge".into(), text(&shards_of(out)), "--out".into(), text(out)])
}

/// A command of this program, as a job will parse it.
///
/// # Errors
/// [`Error::Arguments`] with the parser's message.
fn parsed(words: &[String]) -> Result<(Command, ArgMatches)> {
    parse(words).map_err(|refused| {
        let text = refused.render().to_string();
        let problem = if refused.use_stderr() { text.trim_end() } else { "remove --help: jobs compute" };
        Error::argument(format!("-- {}", words[0]), problem.strip_prefix("error: ").unwrap_or(problem))
    })
}

fn parse(words: &[String]) -> std::result::Result<(Command, ArgMatches), clap::Error> {
    let line = std::iter::once("kernelview").chain(words.iter().map(String::as_str));
    let matches = commands().try_get_matches_from(line)?;
    Ok((Cli::from_arg_matches(&matches)?.command, matches))
}
