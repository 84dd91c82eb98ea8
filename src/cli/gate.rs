//! The regression gate: `--baseline` of `analyze` and `verify`, and `kernelview compare`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{self, outln};
use super::places::check_kind;
use crate::error::{Error, Result};
use crate::files::{create_dir, write_atomic};
use crate::gate::{Baseline, Comparison, Ignored, Options, compare};
use crate::report::{gate_annotations, gate_junit, gate_markdown, gate_summary};

/// Write a run as a baseline, or compare it with one.
#[derive(Args)]
#[command(next_help_heading = "Regression gate")]
pub(super) struct GateArgs {
    /// Compare the run with this baseline: exit status 1 if anything moved (see `kernelview compare`)
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Run with several seeds and write their metrics to --baseline, with the spread against which later runs are judged;
    /// reports of the additional seeds go to --out-dir/seed-SEED
    #[arg(long, requires = "baseline")]
    pub write_baseline: bool,
    /// Seeds of the baseline: a number of consecutive seeds starting at --seed, or a list such as 13,21,42
    #[arg(long, default_value = "10", value_name = "N|SEED,SEED", requires = "write_baseline")]
    pub baseline_seeds: Seeds,
    #[command(flatten)]
    pub output: GateOutputArgs,
}

/// What to compare, and where to report it.
#[derive(Args)]
pub(super) struct GateOutputArgs {
    /// Metrics to ignore, by name; * matches any text
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// Require results of training and regression, too, to be equal at the same seed up to rounding; for runs on the same
    /// kind of machine
    #[arg(long)]
    pub strict: bool,
    /// Write what moved as Markdown, for a pull request
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write the comparison as JUnit, one test case per metric
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print what moved as GitHub Actions annotations [default: if GITHUB_ACTIONS is true]
    #[arg(long)]
    pub github: bool,
}

#[derive(Args)]
pub(super) struct CompareArgs {
    /// The old side: a baseline or a report.json
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The new side: a baseline or a report.json
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    #[command(flatten)]
    pub output: GateOutputArgs,
}

/// Seeds of a baseline: a count or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seeds {
    /// Consecutive seeds starting at the command's own.
    Count(u64),
    /// The seeds themselves.
    List(Vec<u64>),
}

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |t: &str| t.trim().parse::<u64>().map_err(|_| format!("`{t}` is not a whole number"));
        let seeds = if text.contains(',') {
            let list = text.split(',').map(number).collect::<std::result::Result<Vec<_>, _>>()?;
            if let Some(twice) = list.iter().enumerate().find(|(i, s)| list[..*i].contains(s)) {
                return Err(format!("seed {} is given twice", twice.1));
            }
            Self::List(list)
        } else {
            Self::Count(number(text)?)
        };
        match seeds {
            Self::Count(0 | 1) => Err("a spread needs at least two seeds".into()),
            seeds => Ok(seeds),
        }
    }
}

impl GateArgs {
    /// The seeds to run: only the command's own, unless a baseline is to be written.
    fn seeds(&self, own: u64) -> Vec<u64> {
        match &self.baseline_seeds {
            _ if !self.write_baseline => vec![own],
            Seeds::Count(count) => (0..*count).map(|i| own.wrapping_add(i)).collect(),
            Seeds::List(list) => list.clone(),
        }
    }

    /// The same with the directories of their reports: the given one for the first, others inside of it.
    pub(super) fn runs(&self, own: u64, directory: &Path) -> Vec<(u64, PathBuf)> {
        let place = |(number, seed): (usize, u64)| {
            (seed, if number == 0 { directory.to_owned() } else { directory.join(format!("seed-{seed}")) })
        };
        self.seeds(own).into_iter().enumerate().map(place).collect()
    }

    /// Reads the baseline before the run, so that a bad one does not cost hours; nor does a place that no file can take.
    pub(super) fn read(&self) -> Result<Option<Baseline>> {
        self.output.check()?;
        match &self.baseline {
            Some(path) if self.write_baseline => check_kind("--baseline", path, "baseline.json").map(|()| None),
            Some(path) => {
                if !path.exists() {
                    return Err(Error::format(path, "there is no baseline; make one with --write-baseline"));
                }
                Baseline::read(path).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Compares a run with the baseline from [`Self::read`], or writes it as the baseline. Returns false if a metric moved.
    pub(super) fn finish(&self, old: Option<&Baseline>, new: &Baseline) -> Result<bool> {
        match (&self.baseline, old) {
            (Some(path), Some(old)) => judge((old, path), new, &self.output),
            (Some(path), None) => {
                make_room(path)?;
                new.write(path)?;
                outln!("baseline: {} ({} metrics, {} seeds)", path.display(), new.metrics.len(), new.seeds.len())?;
                Ok(true)
            }
            (None, _) => Ok(true),
        }
    }
}

impl GateOutputArgs {
    /// Fails if a file of the comparison would replace something other than a file. Its directory is made where it is missing.
    fn check(&self) -> Result<()> {
        let files = [("--markdown", &self.markdown, "moved.md"), ("--junit", &self.junit, "moved.xml")];
        files.into_iter().try_for_each(|(flag, path, example)| match path {
            Some(path) => check_kind(flag, path, example),
            None => Ok(()),
        })
    }
}

/// `kernelview compare`: returns false if a metric moved.
pub(super) fn run(args: &CompareArgs) -> Result<bool> {
    args.output.check()?;
    let (old, new) = (Baseline::read(&args.old)?, Baseline::read(&args.new)?);
    judge((&old, &args.old), &new, &args.output)
}

fn judge((old, path): (&Baseline, &Path), new: &Baseline, output: &GateOutputArgs) -> Result<bool> {
    let options = Options { ignored: Ignored::new(&output.ignore), strict: output.strict };
    let comparison = compare(old, new, &options)?;
    write(&comparison, output)?;
    output::text(gate_summary(&comparison))?;
    if output.github || std::env::var_os("GITHUB_ACTIONS").is_some_and(|v| v == "true") {
        output::text(gate_annotations(&comparison, &path.display().to_string()))?;
    }
    Ok(comparison.passed())
}

fn write(comparison: &Comparison, output: &GateOutputArgs) -> Result<()> {
    if let Some(path) = &output.markdown {
        make_room(path)?;
        write_atomic(path, gate_markdown(comparison).as_bytes())?;
    }
    if let Some(path) = &output.junit {
        make_room(path)?;
        write_atomic(path, gate_junit(comparison)?.as_bytes())?;
    }
    Ok(())
}

/// Makes the directory of a file: after hours of work a missing one is no reason to lose it.
fn make_room(path: &Path) -> Result<()> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), create_dir)
}

#[cfg(test)]
mod tests {
    use super::Seeds;

    #[test]
    fn seeds_are_a_number_or_a_list() {
        assert_eq!("5".parse(), Ok(Seeds::Count(5)));
        assert_eq!("13,21, 42".parse(), Ok(Seeds::List(vec![13, 21, 42])));
        for (text, message) in [
            ("1", "a spread needs at least two seeds"),
            ("13,13", "seed 13 is given twice"),
            ("many", "`many` is not a whole number"),
            ("13,", "`` is not a whole number"),
        ] {
            assert_eq!(text.parse::<Seeds>(), Err(message.to_owned()), "{text}");
        }
    }
}
