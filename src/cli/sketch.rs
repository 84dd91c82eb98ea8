//! `kernelview sketch` and `kernelview sketch-kernel`.

use std::path::PathBuf;

use clap::Args;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::arguments::{ModelArgs, TaskArgs};
use super::numbers::check_counts;
use super::output::outln;
use super::places::check_out;
use super::select;
use super::solve::write_published;
use super::terminal::Terminal;
use crate::analysis::{SplitName, is_published};
use crate::error::{Error, Result};
use crate::files::named_seed;
use crate::jacobian::Examples;
use crate::kernel::{Formula, FormulaSet, gram_units, structured_gram};
use crate::launch::{Place, environment, place};
use crate::progress::{Monitor, check_cancelled};
use crate::sketch::{SketchManifest, SketchSettings, SketchStore, Sketches, sketch};

/// What to sketch.
#[derive(Args)]
pub(super) struct SketchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// Examples to sketch
    #[arg(long, value_enum, default_value = "train")]
    pub split: SplitName,
    /// Use all rows of --data, in the file's order, without splitting or drawing
    #[arg(long, requires = "data", conflicts_with_all = ["split", "k", "dev_data", "test_data", "test_limit"])]
    pub all_rows: bool,
    /// Numbers kept per gradient; the error of a kernel entry falls as the inverse square root
    #[arg(long, default_value_t = 1024, value_name = "NUMBERS")]
    pub size: usize,
    /// Seed of the sketch; sketches need the same seed to be combined in a kernel
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub sketch_seed: u64,
    /// Examples per file of the sketch, the unit of resuming and sharding
    #[arg(long, default_value_t = 2048, value_name = "EXAMPLES")]
    pub block: usize,
    /// Number of examples whose exact kernel is computed too, to measure the error; 0 for none
    #[arg(long, default_value_t = 24, value_name = "EXAMPLES")]
    pub sample: usize,
    /// Compute only shard I of N of the files (counted from 0); auto takes I/N from SLURM_ARRAY_TASK_ID, SLURM_PROCID or
    /// RANK
    #[arg(long, value_name = "I/N|auto")]
    pub shard: Option<String>,
    /// The directory to write; an unfinished sketch found there is completed
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Which kernel to compute from sketches.
#[derive(Args)]
pub(super) struct SketchKernelArgs {
    /// Directory of the sketch whose examples are the rows
    #[arg(value_name = "ROWS")]
    pub rows: PathBuf,
    /// Directory of the sketch whose examples are the columns [default: that of the rows]
    #[arg(long, value_name = "COLUMNS")]
    pub against: Option<PathBuf>,
    /// Use only the first N examples of the rows
    #[arg(long, value_name = "EXAMPLES")]
    pub first: Option<usize>,
    /// Use only the first N examples of --against
    #[arg(long, value_name = "EXAMPLES", requires = "against")]
    pub first_against: Option<usize>,
    /// The file to write: safetensors, or the paper's format if the name ends in .pt
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Writes a sketch, or the missing part of one.
pub(super) fn run(args: &SketchArgs) -> Result<()> {
    check_counts(&[("--size", Some(args.size)), ("--block", Some(args.block))])?;
    if args.out.exists() && !args.out.is_dir() {
        return Err(Error::format(&args.out, "--out is a file; give a new directory or that of an earlier run"));
    }
    if args.model.engine.precision.is_some() {
        let problem = "only for products of gradients; a sketch sums entries in the precision of --dtype: remove it";
        return Err(Error::argument("--precision", problem));
    }
    let place = args.shard.as_deref().map(|text| place(text, &environment)).transpose()?;
    let place = place.unwrap_or(Place { index: 0, count: 1 });
    let (study, engine) = if args.all_rows {
        select::undivided_study(&args.model, &args.task)?
    } else {
        select::study(&args.model, &args.task)?
    };
    let parameters = study.model_facts.parameters_in_subset;
    if i64::try_from(args.size).unwrap_or(i64::MAX) > parameters {
        let problem = format!("a sketch has fewer numbers than a gradient, which has {parameters} here");
        return Err(Error::argument(format!("--size {}", args.size), problem));
    }
    let examples = study.examples(args.split, study.mode)?;
    let count = examples.len();
    let mut sample = index::sample(
        &mut ChaCha8Rng::seed_from_u64(named_seed(args.sketch_seed, "sketch sample")),
        count,
        args.sample.min(count),
    )
    .into_vec();
    sample.sort_unstable();
    let depends = (&study.digest(), study.subset_name(), args.split, args.size, args.sketch_seed, args.block, &sample);
    let manifest = SketchManifest::new(
        &serde_json::to_string(&depends).expect("settings are plain data"),
        (args.size, args.sketch_seed),
        (examples.outputs(), args.block),
        sample.clone(),
        study.labels(args.split),
        study.kernel_metadata((args.split, None), &[Formula::Sgd]),
    );
    let ranges: Vec<_> = (0..manifest.blocks()).map(|block| manifest.range(block)).collect();
    let store = SketchStore::open(&args.out, manifest, place)?;
    let terminal = Terminal::new();
    let settings =
        SketchSettings { size: args.size, seed: args.sketch_seed, batch: engine.batch, include: study.include.clone() };
    let own: Vec<usize> = (0..ranges.len()).filter(|block| place.has(*block)).collect();
    let missing: Vec<usize> = own.iter().copied().filter(|block| !store.has(*block)).collect();
    if missing.len() < own.len() {
        terminal.note(&format!("{} of {} files are already complete", own.len() - missing.len(), own.len()));
    }
    terminal.begin("sketch", missing.iter().map(|block| ranges[*block].len() as u64).sum());
    for block in missing {
        check_cancelled()?;
        let chosen: Vec<usize> = ranges[block].clone().collect();
        store.put(block, &sketch(&study.parameters, &examples.select(&chosen), &settings, &terminal)?)?;
    }
    terminal.end();
    if place.index == 0 && !sample.is_empty() && !store.has_sample() {
        let chosen = examples.select(&sample);
        let formulas = FormulaSet::of(&[Formula::Sgd]);
        let options = engine.options(&study, &study.parameters, formulas, &chosen, None)?;
        terminal.begin("exact kernel of a sample", gram_units(sample.len(), None));
        let gram = structured_gram(&study.parameters, &chosen, None, &options, &terminal);
        terminal.end();
        store.put_sample(&gram?)?;
    }
    if place.count > 1 {
        outln!("{}: shard {} of {} is complete", args.out.display(), place.index, place.count)?;
        return Ok(());
    }
    let found = Sketches::open(&args.out)?;
    outln!("{}: {count} examples x {} output(s), {} numbers each", args.out.display(), examples.outputs(), args.size)?;
    report_error(&found)
}

fn report_error(found: &Sketches) -> Result<()> {
    if let Some(error) = found.error()? {
        outln!(
            "error of kernel entries relative to √(K_ii K_jj), against {} exact ones: root mean square {:.1e} (bound \
             {:.1e}), largest {:.1e}",
            error.entries,
            error.measured,
            error.bound,
            error.largest
        )?;
    }
    Ok(())
}

/// Writes a kernel file from one or two sketches.
pub(super) fn run_kernel(args: &SketchKernelArgs) -> Result<()> {
    check_counts(&[("--first", args.first), ("--first-against", args.first_against)])?;
    check_out("--out", &args.out, "K.safetensors")?;
    let rows = Sketches::open(&args.rows)?;
    let columns = args.against.as_deref().map(Sketches::open).transpose()?;
    let whole = |sketches: &Sketches, first: Option<usize>| first.unwrap_or(sketches.manifest().labels.len());
    let other = columns.as_ref().map(|columns| (columns, whole(columns, args.first_against)));
    let count = whole(&rows, args.first);
    let file = rows.kernel(count, other, &Terminal::new())?;
    if is_published(&args.out) {
        write_published(&args.rows, &file, None, &args.out)?;
        return report_error(&rows);
    }
    file.write(&args.out)?;
    outln!(
        "{}: {count} x {} examples, {} output(s), sgd, from sketches of {} numbers",
        args.out.display(),
        other.map_or(count, |(_, count)| count),
        rows.manifest().outputs,
        rows.manifest().size
    )?;
    report_error(&rows)
}
