//! `kernelview verify`.

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use tch::Device;

use super::board::Board;
use super::gate::GateArgs;
use super::numbers::check_counts;
use super::output::{errln, outln};
use super::places::check_out_directory;
use super::threads::usable;
use crate::device::DeviceRequest;
use crate::error::{Error, Result, amount, nearest};
use crate::evidence::{ClaimVerdict, Profile, Verification};
use crate::gate::Baseline;
use crate::lock::DirectoryLock;
use crate::machine::free_memory;
use crate::pretrain::family_members;
use crate::report::{ReportKind, claims_summary, write_claims};
use crate::theorems::{Claim, all_claims, family_registry, program_registry, registry};
use crate::verify::{self, UntilDecided, VerifySettings};

/// Suites of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Suite {
    /// On randomly drawn networks.
    Theory,
    /// On tensor programs and their limits.
    Program,
    /// On a pre-trained family.
    Family,
    /// All of them.
    All,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Amount of computation: quick takes minutes; standard, a quarter of an hour on two cores (wider networks, more seeds,
    /// narrower intervals); full, an hour (wider still)
    #[arg(long, value_enum, default_value = "quick")]
    pub profile: Profile,
    /// Claims to examine: theory, on networks drawn from --seed; program, on tensor programs and their limits; family, on
    /// pre-trained networks, whose measurements come with the program (but for chi-law-prose, which measures the built-in family;
    /// set KERNELVIEW_FAMILY to use another directory); or all
    #[arg(long, value_enum, default_value = "theory")]
    pub suite: Suite,
    /// Examine only these claims, from any suite; may be repeated
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub claim: Vec<String>,
    /// Also run the claims' mutants [default: with --profile standard and full]
    #[arg(long, overrides_with = "no_mutants")]
    pub mutants: bool,
    /// Run no mutants
    #[arg(long, overrides_with = "mutants")]
    pub no_mutants: bool,
    /// auto (cuda:0 if available), cpu or cuda:INDEX
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// Seed of all random draws
    #[arg(long, default_value_t = 13)]
    pub seed: u64,
    /// Number of experiments to run in parallel, one CPU thread each; on a GPU always one [default: all cores, if memory allows]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Add seeds to underpowered claims until they hold or are violated; a claim's interim looks share its error rate
    #[arg(long)]
    pub until_decided: bool,
    /// Start no further look after this time, e.g. 90s, 20m or 2h; repeat the command to continue
    #[arg(long, value_name = "TIME", requires = "until_decided", value_parser = time)]
    pub at_most: Option<Duration>,
    /// Directory of the report; results of an interrupted run found there are reused
    #[arg(long, default_value = "kernelview-verify", value_name = "DIR")]
    pub out_dir: PathBuf,
    #[command(flatten)]
    pub gate: GateArgs,
}

/// Runs the suite and writes its report. Returns false if it failed or a metric moved from the baseline.
pub(super) fn run(args: &VerifyArgs) -> Result<bool> {
    let runs = args.gate.runs(args.seed, &args.out_dir);
    runs.iter().try_for_each(|(_, directory)| check_out_directory(directory, ReportKind::Claims))?;
    let settings = settings(args)?;
    let old = args.gate.read()?;
    let of = |(seed, directory): &(u64, PathBuf)| one(&VerifySettings { seed: *seed, ..settings.clone() }, directory);
    let found = runs.iter().map(of).collect::<Result<Vec<_>>>()?;
    let unmoved = args.gate.finish(old.as_ref(), &Baseline::of_claims(&found)?)?;
    for ((_, directory), found) in runs.iter().zip(&found) {
        // A claim that ran out of time continues from its finished looks.
        let is_open = args.until_decided && found.claims.iter().any(|c| c.verdict == ClaimVerdict::Underpowered);
        if !is_open {
            verify::forget(directory)?;
        }
    }
    Ok(unmoved && found.iter().all(Verification::succeeded))
}

/// The suite with one seed.
fn one(settings: &VerifySettings, directory: &Path) -> Result<Verification> {
    let _lock = DirectoryLock::alone(directory)?;
    let board = Board::new(settings.experiments().len());
    let verification = verify::run(settings, directory, &board);
    board.clear();
    let verification = verification?;
    let written = write_claims(&verification, directory)?;
    outln!("{}", claims_summary(&verification))?;
    outln!("report: {}", written.report.markdown.display())?;
    Ok(verification)
}

/// The claims of a suite.
fn suite(suite: Suite) -> Vec<&'static Claim> {
    match suite {
        Suite::Theory => registry().iter().collect(),
        Suite::Program => program_registry().iter().collect(),
        Suite::Family => family_registry().iter().collect(),
        Suite::All => all_claims().collect(),
    }
}

fn settings(args: &VerifyArgs) -> Result<VerifySettings> {
    check_counts(&[("--jobs", args.jobs)])?;
    let device = args.device.resolve()?;
    let claims = if args.claim.is_empty() { suite(args.suite) } else { chosen(&args.claim, &suite(Suite::All))? };
    // The claim that measures the family's networks: before the long work, and not as its failure.
    if claims.iter().any(|claim| claim.id == "chi-law-prose") {
        family_members()?;
    }
    let mut settings = VerifySettings {
        profile: args.profile,
        seed: args.seed,
        claims,
        mutants: args.mutants || (args.profile != Profile::Quick && !args.no_mutants),
        device,
        jobs: 1,
        until_decided: args.until_decided.then_some(UntilDecided { at_most: args.at_most }),
    };
    let asked = args.jobs.map(|jobs| usable("--jobs", jobs));
    let note = if device == Device::Cpu {
        let cores = available_parallelism().map_or(1, usize::from);
        let counts = (asked, cores, settings.experiments().len());
        let (jobs, note) = parallel(counts, args.profile.bytes(), free_memory());
        settings.jobs = jobs;
        note
    } else {
        let idle = asked.is_some_and(|jobs| jobs > 1);
        idle.then(|| "--jobs has no effect: on a GPU experiments run one at a time".to_owned())
    };
    if let Some(note) = note {
        errln!("note: {note}");
    }
    Ok(settings)
}

/// The number of parallel experiments, each of which takes at most so many bytes, and what to say about it: as many as asked for,
/// or as there are cores and as fit into free memory, but at least one, and no more than there are.
fn parallel(
    (asked, cores, experiments): (Option<usize>, usize, usize),
    each: u64,
    free: Option<u64>,
) -> (usize, Option<String>) {
    let (asked, cores) = (asked.map(|jobs| jobs.min(experiments)), cores.min(experiments));
    let fit = free.map_or(usize::MAX, |free| usize::try_from(free / each).unwrap_or(usize::MAX).max(1));
    let jobs = asked.unwrap_or_else(|| cores.min(fit));
    let memory = |what: String| {
        let (each, free) = (amount(each), amount(free.unwrap_or(0)));
        Some(format!("{what}: an experiment takes up to {each}, and {free} are free"))
    };
    let note = match asked {
        Some(jobs) if jobs > fit => memory(format!("--jobs {jobs} may run out of memory")),
        None if fit < cores => memory(format!("{jobs} at a time instead of {cores}")),
        _ => None,
    };
    (jobs, note)
}

/// A time with its unit.
fn time(text: &str) -> std::result::Result<Duration, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("write a whole number with its unit, such as 90s, 20m or 2h".into()),
    }
}

/// The claims with these identifiers, in the registry's order.
fn chosen(ids: &[String], registry: &[&'static Claim]) -> Result<Vec<&'static Claim>> {
    for id in ids {
        if !registry.iter().any(|c| c.id == id) {
            let near = nearest(id, registry.iter().map(|c| c.id), usize::MAX);
            let hint = near.map_or_else(String::new, |near| format!(" did you mean `{near}`?"));
            return Err(Error::argument(
                format!("--claim {id}"),
                format!("no such claim;{hint} `kernelview claims` lists them"),
            ));
        }
    }
    Ok(registry.iter().copied().filter(|c| ids.iter().any(|id| id == c.id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Findings;
    use crate::theorems::Topic;

    const fn claim(id: &'static str) -> Claim {
        Claim {
            id,
            topic: Topic::Width,
            title: "",
            source: "",
            prediction: "",
            text: "",
            mutants: &[],
            graded: &[],
            experiment: |_| Ok(Findings::default()),
        }
    }

    static CLAIMS: [Claim; 3] = [claim("chain-rule"), claim("sign-kernel-limit"), claim("adam-analog")];

    fn ids(wanted: &[&str]) -> std::result::Result<Vec<&'static str>, String> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        chosen(&wanted, &CLAIMS.iter().collect::<Vec<_>>())
            .map(|c| c.iter().map(|c| c.id).collect())
            .map_err(|e| e.to_string())
    }

    /// Fails for: jobs without regard to memory, none at all, a choice that is overruled.
    #[test]
    fn experiments_run_at_a_time_as_cores_and_memory_allow() {
        let gb = 1_000_000_000;
        let run = |asked, cores, free: Option<u64>| parallel((asked, cores, 30), 4 * gb, free.map(|free| free * gb));
        assert_eq!(run(None, 2, Some(24)), (2, None));
        assert_eq!(run(None, 16, None), (16, None));
        let note = |text: &str| Some(text.to_owned());
        assert_eq!(
            run(None, 16, Some(14)),
            (3, note("3 at a time instead of 16: an experiment takes up to 4.0 GB, and 14.0 GB are free"))
        );
        let alone = "1 at a time instead of 2: an experiment takes up to 4.0 GB, and 1.0 GB are free";
        assert_eq!(run(None, 2, Some(1)), (1, note(alone)));
        assert_eq!(run(Some(3), 2, Some(14)), (3, None));
        let warning = "--jobs 4 may run out of memory: an experiment takes up to 4.0 GB, and 14.0 GB are free";
        assert_eq!(run(Some(4), 2, Some(14)), (4, note(warning)));
        assert_eq!(parallel((Some(4), 2, 1), 4 * gb, Some(5 * gb)), (1, None), "there is one");
    }

    #[test]
    fn claims_are_chosen_in_the_order_of_the_registry() {
        assert_eq!(ids(&["adam-analog", "chain-rule", "adam-analog"]), Ok(vec!["chain-rule", "adam-analog"]));
    }

    #[test]
    fn an_unknown_claim_is_refused_with_the_nearest() {
        let message = |id| ids(&[id]).expect_err("an unknown claim");
        assert_eq!(
            message("sign-kernel-limits"),
            "--claim sign-kernel-limits: no such claim; did you mean `sign-kernel-limit`? `kernelview claims` lists them"
        );
        assert_eq!(
            message("nothing-like-it-at-all"),
            "--claim nothing-like-it-at-all: no such claim; `kernelview claims` lists them"
        );
    }
}
