//! `kernelview reproduce`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tch::Device;

use super::arguments::{EngineArgs, FineTuningArgs, LimitArgs};
use super::numbers::check_counts;
use super::output::outln;
use super::places::check_out_directory;
use super::select::model_directory;
use super::terminal::Terminal;
use crate::analysis::{Head, Measures};
use crate::error::{Error, Result};
use crate::launch::{environment, place};
use crate::lock::DirectoryLock;
use crate::report::{ReportKind, grid_summary, write_reproduction};
use crate::reproduce::{GridSettings, label, preview, run as run_grid};
use crate::task::{BUILTIN_NAMES, Overrides, builtin};

/// The grid, and how to run it.
#[derive(Args)]
pub(super) struct ReproduceArgs {
    /// Models: checkpoint directories or names
    #[arg(long, num_args = 1.., required = true, value_name = "DIR|NAME")]
    pub models: Vec<String>,
    /// Directory of few-shot splits, laid out as TASK/K-SEED/{train,dev,test}
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Tasks by name, or all 14
    #[arg(long, value_delimiter = ',', default_value = "all", value_name = "NAMES")]
    pub tasks: Vec<String>,
    /// Label words of a task, for models whose vocabulary lacks the built-in ones: SNLI:No,Yes,Perhaps (in the order of
    /// `kernelview tasks`) or SNLI:neutral=Perhaps,…; may be repeated
    #[arg(long, value_name = "TASK:WORDS")]
    pub label_words: Vec<String>,
    /// Training examples per class
    #[arg(long, value_delimiter = ',', default_value = "16")]
    pub k: Vec<usize>,
    /// Seeds of the splits (the paper's five)
    #[arg(long, value_delimiter = ',', default_value = "13,21,42,87,100")]
    pub seeds: Vec<u64>,
    /// Output heads: the task's prompt, or a new head without a prompt
    #[arg(long, value_enum, value_delimiter = ',', default_value = "prompt")]
    pub heads: Vec<Head>,
    /// Also run each prompt cell with LoRA adapters of this rank instead of the weights
    #[arg(long, value_name = "RANK")]
    pub lora_rank: Option<i64>,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub tuning: FineTuningArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Compute only shard I of N of the cells (counted from 0); auto takes I/N from SLURM_ARRAY_TASK_ID, SLURM_PROCID or
    /// RANK. All shards may share one --out-dir; the command without --shard then writes the whole report
    #[arg(long, value_name = "I/N|auto")]
    pub shard: Option<String>,
    /// Print the cells with estimates of time and memory, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Directory of the report and the cells; finished cells found there are reused
    #[arg(long, default_value = "kernelview-reproduce", value_name = "DIR")]
    pub out_dir: PathBuf,
}

/// Runs the grid and writes its report. Returns false if a cell failed.
pub(super) fn run(args: &ReproduceArgs) -> Result<bool> {
    check_out_directory(&args.out_dir, ReportKind::Reproduction)?;
    let device = args.engine.processor.prepare()?;
    let settings = settings(args, device)?;
    if args.dry_run {
        print_plan(&settings, args)?;
        return Ok(true);
    }
    let _lock = match settings.shard {
        Some(_) => DirectoryLock::shared(&args.out_dir)?,
        None => DirectoryLock::alone(&args.out_dir)?,
    };
    let grid = run_grid(&settings, &args.out_dir, &Terminal::new())?;
    let written = write_reproduction(&grid, &args.out_dir)?;
    outln!("{}", grid_summary(&grid))?;
    outln!("report: {}", written.report.markdown.display())?;
    Ok(grid.cells.iter().all(|cell| cell.error.is_none()))
}

/// Refuses options that cannot be, whatever the models and the machine.
pub(super) fn check_options(args: &ReproduceArgs) -> Result<()> {
    refuse_repeated("--k", same(&args.k))?;
    refuse_repeated("--seeds", same(&args.seeds))?;
    let heads = args.heads.iter().filter_map(ValueEnum::to_possible_value).map(|head| head.get_name().to_owned());
    refuse_repeated("--heads", same(heads))?;
    check_counts(&[("--lora-rank", args.lora_rank)])?;
    let counts = args.k.iter().map(|k| ("--k", Some(*k))).chain([("--test-limit", args.limits.parts().1)]);
    check_counts(&counts.collect::<Vec<_>>())?;
    args.tuning.settings(&args.engine, Measures::End).map(drop)
}

fn settings(args: &ReproduceArgs, device: Device) -> Result<GridSettings> {
    check_options(args)?;
    let models = args
        .models
        .iter()
        .map(|name| Ok((name.clone(), model_directory("--models", name)?)))
        .collect::<Result<Vec<_>>>()?;
    let all = args.tasks.iter().any(|t| t.eq_ignore_ascii_case("all"));
    let names = if all { BUILTIN_NAMES.to_vec() } else { args.tasks.iter().map(String::as_str).collect() };
    let mut tasks = names.into_iter().map(builtin).collect::<Result<Vec<_>>>()?;
    for text in &args.label_words {
        let fail = |message: &str| Error::argument(format!("--label-words {text}"), message);
        let (name, words) = text.split_once(':').ok_or_else(|| fail("write TASK:WORDS, e.g. SNLI:No,Yes,Perhaps"))?;
        let task = tasks.iter_mut().find(|t| t.name.eq_ignore_ascii_case(name));
        let task = task.ok_or_else(|| fail("no such task in the grid"))?;
        *task = task.clone().with(&Overrides { label_words: Some(words.into()), ..Overrides::default() })?;
    }
    if !args.data_dir.is_dir() {
        return Err(Error::format(&args.data_dir, "--data-dir is not a directory; give that of the few-shot splits"));
    }
    // What is given twice would count as two networks or two seeds of one answer.
    let places = models.iter().map(|(_, place)| place.canonicalize().unwrap_or_else(|_| place.clone()));
    refuse_repeated("--models", models.iter().map(|(name, _)| name).zip(places))?;
    refuse_repeated("--tasks", same(tasks.iter().map(|task| &task.name)))?;
    let (overrides, test_limit) = args.limits.parts();
    let shard = args.shard.as_deref().map(|text| place(text, &environment)).transpose()?;
    Ok(GridSettings {
        models,
        tasks,
        k: args.k.clone(),
        seeds: args.seeds.clone(),
        heads: args.heads.clone(),
        lora_rank: args.lora_rank,
        data_dir: args.data_dir.clone(),
        overrides,
        test_limit,
        dtype: args.engine.dtype,
        device,
        subset: args.engine.parameters,
        batch: args.engine.batch()?,
        analysis: args.tuning.settings(&args.engine, Measures::End)?,
        shard,
    })
}

/// Refuses a list in which something comes twice, by what it is, and says it as it was written.
fn refuse_repeated<T: Display, I: Ord>(flag: &str, list: impl IntoIterator<Item = (T, I)>) -> Result<()> {
    let mut seen = BTreeSet::new();
    match list.into_iter().find_map(|(said, is)| (!seen.insert(is)).then_some(said)) {
        Some(twice) => Err(Error::argument(flag, format!("`{twice}` is given twice"))),
        None => Ok(()),
    }
}

/// Things that are what is said.
fn same<T: Clone>(list: impl IntoIterator<Item = T>) -> impl Iterator<Item = (T, T)> {
    list.into_iter().map(|entry| (entry.clone(), entry))
}

/// Prints the cells with their estimated cost.
fn print_plan(settings: &GridSettings, args: &ReproduceArgs) -> Result<()> {
    let (mut seconds, mut bytes, mut waiting) = (0.0, 0f64, 0);
    for cell in preview(settings, &args.out_dir)? {
        let what = match cell.estimate {
            None => "already there".to_owned(),
            Some(Ok(estimate)) => {
                seconds += estimate.seconds;
                bytes = bytes.max(estimate.bytes);
                waiting += 1;
                format!("about {:.0} s, {:.1} GB", estimate.seconds, estimate.bytes / 1e9)
            }
            Some(Err(error)) => format!("will fail: {error}"),
        };
        outln!("{}: {what}", label(&cell.key))?;
    }
    let time = if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 3600.0 {
        format!("{:.0} minutes", seconds / 60.0)
    } else {
        format!("{:.1} hours", seconds / 3600.0)
    };
    let cells = if waiting == 1 { "cell" } else { "cells" };
    outln!("{waiting} {cells} to compute: about {time}, {:.1} GB at the peak", bytes / 1e9)?;
    Ok(())
}
