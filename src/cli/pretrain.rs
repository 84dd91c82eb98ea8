//! `kernelview pretrain`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::ProcessorArgs;
use super::output::{errln, outln};
use super::places::check_out_directory;
use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::evidence::SCHEMA_VERSION;
use crate::files::{digest, load_result, store_result};
use crate::lm::Scaling;
use crate::lock::DirectoryLock;
use crate::pretrain::{
    Corpus, FamilyReport, Recipe, check_coordinates, family_findings, refuse_another, sweep, train, write_family,
};
use crate::report::{ReportKind, check_line};
use crate::stats::Outcome;

#[derive(Args)]
pub(super) struct PretrainArgs {
    /// The recipe
    #[arg(long, value_name = "FILE.toml")]
    pub config: PathBuf,
    /// Directory of networks and report; finished networks and saved states found there are reused
    #[arg(long, default_value = "kernelview-pretrain", value_name = "DIR")]
    pub out_dir: PathBuf,
    /// Directory of the recipe's text files [default: the recipe's own]
    #[arg(long, value_name = "DIR")]
    pub corpus_dir: Option<PathBuf>,
    /// Widths to train, which may include others than the recipe's [default: the recipe's]
    #[arg(long, value_name = "WIDTHS", value_delimiter = ',')]
    pub width: Vec<i64>,
    /// Override the recipe's seed: changes initial weights, the order of the data, and the sentences drawn from a language
    #[arg(long)]
    pub seed: Option<u64>,
    /// Override the recipe's number of steps
    #[arg(long)]
    pub steps: Option<NonZeroUsize>,
    /// Checks of the parametrization to run before training; may be repeated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CHECK")]
    pub check: Vec<PretrainCheck>,
    /// Run only the checks
    #[arg(long, requires = "check")]
    pub no_training: bool,
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// Checks of a family's parametrization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum PretrainCheck {
    /// Whether activations keep their size over widths in muP, and do not in the standard parametrization, the control.
    Coordinates,
    /// Whether the same learning rate is best at all widths.
    LearningRates,
}

/// Runs checks and training and writes the report. Returns false if a check failed or a control passed.
pub(super) fn run(args: &PretrainArgs) -> Result<bool> {
    check_out_directory(&args.out_dir, ReportKind::Family)?;
    let device = args.processor.prepare()?;
    let mut recipe = Recipe::read(&args.config)?;
    if !args.width.is_empty() {
        recipe = recipe.with_widths(&args.width).map_err(|message| Error::argument("--width", message))?;
    }
    if let Some(seed) = args.seed {
        recipe = recipe.with_seed(seed);
    }
    if let Some(steps) = args.steps {
        recipe = recipe.with_steps(steps.get());
    }
    if recipe.corpus.is_none() && args.corpus_dir.is_some() {
        errln!("note: --corpus-dir has no effect: the recipe has a language and no texts");
    }
    let own = args.config.parent().unwrap_or(Path::new(""));
    let base = args.corpus_dir.as_deref().unwrap_or(own);
    let terminal = Terminal::new();
    let corpus = Corpus::prepare(&recipe, base, &args.out_dir.join("corpus"), &terminal)?;
    recipe.corpus = recipe.corpus.map(|corpus| corpus.without_directories());
    let _lock = DirectoryLock::alone(&args.out_dir)?;
    let widths = if args.no_training { Vec::new() } else { recipe.model.widths.clone() };
    for width in &widths {
        refuse_another(&recipe, *width, &corpus, &args.out_dir)?;
    }
    let mut family = FamilyReport {
        schema_version: SCHEMA_VERSION,
        corpus_sha256: corpus.sha256.clone(),
        tokens: (corpus.train.len(), corpus.heldout.len()),
        curves: Vec::new(),
        coordinates: Vec::new(),
        sweeps: Vec::new(),
        recipe,
    };
    let key = {
        let base = family.recipe.model.base_width;
        let checks = serde_json::to_string(&family.recipe.checks).expect("plain data");
        digest([family.recipe.digest(base, &corpus.digest).as_bytes(), checks.as_bytes()])
    };
    for scaling in [Scaling::Mup, Scaling::Standard] {
        let wanted = |check| args.check.contains(&check);
        let file = |what: &str| args.out_dir.join(format!("check-{what}-{}.json", scaling.name()));
        let recipe = &family.recipe;
        let found = kept(&file("coordinates"), &key, wanted(PretrainCheck::Coordinates), || {
            check_coordinates(recipe, scaling, &corpus, device, &terminal)
        })?;
        family.coordinates.extend(found);
        let found = kept(&file("learning-rates"), &key, wanted(PretrainCheck::LearningRates), || {
            sweep(recipe, scaling, &corpus, device, &terminal)
        })?;
        family.sweeps.extend(found);
    }
    // Written again after every network, so that a later failure does not lose the report of what is finished.
    let mut written = write_family(&family, &args.out_dir)?;
    for width in widths {
        let trained = train(&family.recipe, width, &corpus, &args.out_dir, device, &terminal)?;
        outln!(
            "{}: held-out loss {:.3} ({:.3} by frequencies), {}",
            trained.directory.display(),
            trained.curve.final_loss(),
            trained.curve.unigram_loss,
            if trained.seconds > 0.0 { format!("{:.0} s", trained.seconds) } else { "already there".to_owned() }
        )?;
        family.curves.push(trained.curve);
        written = write_family(&family, &args.out_dir)?;
    }
    outln!("report: {}", written.markdown.display())?;
    let findings = family_findings(&family)?;
    let failed = findings.checks.iter().filter(|c| c.outcome == Outcome::Violated);
    let passed = findings.controls.iter().filter(|c| c.outcome == Outcome::Holds);
    let bad: Vec<String> =
        failed.map(check_line).chain(passed.map(|c| format!("control, {}", check_line(c)))).collect();
    for line in &bad {
        outln!("check failed: {line}")?;
    }
    Ok(bad.is_empty())
}

/// The stored result for the same recipe and text. If there is none and it is wanted, computes and stores it.
fn kept<T: Serialize + DeserializeOwned>(
    file: &Path,
    key: &str,
    wanted: bool,
    make: impl FnOnce() -> Result<T>,
) -> Result<Option<T>> {
    if let Some(found) = load_result(file, key) {
        return Ok(Some(found));
    }
    if !wanted {
        return Ok(None);
    }
    let made = make()?;
    store_result(file, key, &made)?;
    Ok(Some(made))
}
