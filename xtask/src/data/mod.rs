//! Few-shot splits from the original data sets: `cargo xtask data`.
//!
//! The files equal those of LM-BFF's generator in its mode `k-shot-1k-test`, which made the paper's splits, byte for byte:
//! [`numpy`] has its random draws, [`rows`] its way of reading and writing rows, [`shots`] its selection rule, [`tasks`] the
//! data sets. A split's directory is created atomically, and different content is never replaced.

mod numpy;
mod rows;
mod shots;
mod tasks;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache;
use crate::data::rows::{Table, wrong};
use crate::data::shots::Shots;
use crate::data::tasks::{TASKS, Task};
use crate::error::{Doing, Error, Result};

/// The directory of splits with at most 1,000 test rows, in `--out`.
const FOLDER: &str = "k-shot-1k-test";

/// The k of splits from which others are derived.
const LARGE_K: usize = 512;

/// Which splits to make, and from what.
#[derive(clap::Args, Debug)]
pub struct DataArgs {
    /// The original data sets, as DIR/TASK/{train,dev}.tsv or DIR/TASK/{train,test}.csv; with --derive, a k-shot-1k-test
    /// directory
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Directory in which k-shot-1k-test is created
    #[arg(long, value_name = "DIR", default_value = "data")]
    out: PathBuf,
    /// Tasks [default: all of the 14 that DIR has]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    task: Vec<String>,
    /// Training examples per label, and as many for development; several values make several splits
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "16")]
    k: Vec<usize>,
    /// The splits' seeds
    #[arg(long, value_name = "SEED", value_delimiter = ',', default_value = "13,21,42,87,100")]
    seed: Vec<u32>,
    /// Derive the splits from 512-shot splits of the same seeds instead of the original data; for k up to 256
    #[arg(long)]
    derive: bool,
    /// Take all rows of a label that has too few, as the published 512-shot splits do
    #[arg(long)]
    allow_few: bool,
}

/// Makes the splits and lists them.
pub fn run(args: &DataArgs) -> Result<()> {
    let tasks = chosen(args)?;
    if args.k.contains(&0) || args.seed.is_empty() || args.k.is_empty() {
        return Err(Error::Arguments("--k needs numbers of at least 1, --seed at least one number".into()));
    }
    if let Some(k) = args.k.iter().find(|k| args.derive && 2 * **k > LARGE_K) {
        let largest = LARGE_K / 2;
        let detail = format!("--derive takes train and dev from {LARGE_K} rows per label: --k {k} is above {largest}");
        return Err(Error::Arguments(detail));
    }
    for task in tasks {
        let directory = args.from.join(task.name);
        if args.derive { derive(args, task, &directory)? } else { generate(args, task, &directory)? }
    }
    Ok(())
}

/// The tasks asked for, by default those whose directories exist.
fn chosen(args: &DataArgs) -> Result<Vec<&'static Task>> {
    if !args.from.is_dir() {
        return Err(wrong(&args.from, "is not a directory; --from must be a directory with a subdirectory per task"));
    }
    let tasks: Vec<&Task> = if args.task.is_empty() {
        TASKS.iter().filter(|task| args.from.join(task.name).is_dir()).collect()
    } else {
        args.task.iter().map(|name| Task::named(name)).collect::<Result<_>>()?
    };
    if tasks.is_empty() {
        let names: Vec<_> = TASKS.iter().map(|task| task.name).collect();
        return Err(wrong(&args.from, &format!("has none of the directories {}", names.join(", "))));
    }
    Ok(tasks)
}

fn generate(args: &DataArgs, task: &Task, directory: &Path) -> Result<()> {
    let read = |stem: &str| Table::read(&directory.join(format!("{stem}.{}", task.extension())), task);
    let train = read("train")?;
    let tests: Vec<(&str, Table)> =
        task.tests.iter().map(|(stem, split)| Ok((*split, read(stem)?))).collect::<Result<_>>()?;
    let missing = train.missing + tests.iter().map(|(_, rows)| rows.missing).sum::<usize>();
    if missing > 0 {
        println!("{}: {missing} text(s) such as `null` become empty, as in the published files", task.name);
    }
    let tests: Vec<(&str, String)> =
        tests.iter().map(|(split, rows)| (*split, rows.write(shots::test(&rows.rows)))).collect();
    for &k in &args.k {
        enough(args, task, &train, directory, k, 2 * k)?;
        for &seed in &args.seed {
            let drawn = shots::draw(&train.rows, task.labels.len(), k, seed);
            place(args, task, (k, seed), &train, &drawn, &tests)?;
        }
    }
    Ok(())
}

fn derive(args: &DataArgs, task: &Task, directory: &Path) -> Result<()> {
    for &seed in &args.seed {
        let large = directory.join(format!("{LARGE_K}-{seed}"));
        let train = Table::read(&large.join(format!("train.{}", task.extension())), task)?;
        let read = |split: &str| {
            let file = large.join(format!("{split}.{}", task.extension()));
            fs::read_to_string(&file).doing(|| format!("read {}", file.display()))
        };
        let tests: Vec<(&str, String)> =
            task.tests.iter().map(|(_, split)| Ok((*split, read(split)?))).collect::<Result<_>>()?;
        for &k in &args.k {
            enough(args, task, &train, &large, k, 2 * k)?;
            let drawn = shots::derive(&train.rows, task.labels.len(), k);
            place(args, task, (k, seed), &train, &drawn, &tests)?;
        }
    }
    Ok(())
}

/// Checks that every label has the rows that a split needs, or prints a note if fewer are allowed.
fn enough(args: &DataArgs, task: &Task, train: &Table, directory: &Path, k: usize, needed: usize) -> Result<()> {
    for (label, count) in shots::short(&train.rows, task.labels.len(), needed) {
        let label = task.labels[label];
        let have =
            format!("label `{label}` has {count} training row(s), but k = {k} needs {needed}, half of them for dev");
        if !args.allow_few {
            let way = "lower --k, or give --allow-few to take what is available, as the published 512-shot splits do";
            return Err(wrong(&directory.join(format!("train.{}", task.extension())), &format!("{have}; {way}")));
        }
        println!("{}: {have}: taking what is available", task.name);
    }
    Ok(())
}

/// Writes one split's directory, unless it exists with the same files.
fn place(
    args: &DataArgs,
    task: &Task,
    (k, seed): (usize, u32),
    train: &Table,
    drawn: &Shots<'_>,
    tests: &[(&str, String)],
) -> Result<()> {
    let extension = task.extension();
    let name = |split: &str| format!("{split}.{extension}");
    let mut files = vec![
        (name("train"), train.write(drawn.train.iter().copied())),
        (name(task.dev), train.write(drawn.dev.iter().copied())),
    ];
    files.extend(tests.iter().map(|(split, text)| (name(split), text.clone())));
    let parent = args.out.join(FOLDER).join(task.name);
    let directory = parent.join(format!("{k}-{seed}"));
    if directory.exists() {
        if files.iter().all(|(name, text)| fs::read(directory.join(name)).is_ok_and(|there| there == text.as_bytes())) {
            println!("{}: already up to date", directory.display());
            return Ok(());
        }
        return Err(wrong(&directory, "exists with different content; remove it, or give another --out"));
    }
    let part = parent.join(format!("{k}-{seed}.part-{}", std::process::id()));
    let written = write_all(&part, &files).and_then(|()| cache::publish(&part, &directory));
    if written.is_err() {
        // Half a split is useless; failing to remove it does no harm.
        let _ = fs::remove_dir_all(&part);
    }
    written?;
    println!("{}: {} training rows, {} dev rows", directory.display(), drawn.train.len(), drawn.dev.len());
    Ok(())
}

fn write_all(directory: &Path, files: &[(String, String)]) -> Result<()> {
    fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
