//! `kernelview analyze`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{AdapterArgs, DEFAULT_SEED, EngineArgs, FineTuningArgs, ModelArgs, TaskArgs};
use super::gate::GateArgs;
use super::output::{outln, quoted};
use super::places::check_out_directory;
use super::select;
use super::terminal::Terminal;
use crate::analysis::{AnalysisSettings, Measures, OptimizerGrid, Plan, analyze, check_plan};
use crate::error::{Error, Result};
use crate::evidence::Analysis;
use crate::files::without_directory;
use crate::gate::Baseline;
use crate::lock::DirectoryLock;
use crate::progress::Monitor;
use crate::report::{self, ReportKind};
use crate::train::OptimizerKind;

#[derive(Args)]
pub(super) struct AnalyzeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// Directory of the report; finished parts found there are reused
    #[arg(long, default_value = "kernelview-report", value_name = "DIR")]
    pub out_dir: PathBuf,
    #[command(flatten)]
    pub adapters: AdapterArgs,
    #[command(flatten)]
    pub tuning: FineTuningArgs,
    #[command(flatten)]
    pub gate: GateArgs,
}

/// Runs the analysis and writes the report. Returns false if a metric moved from the baseline.
pub(super) fn run(args: &AnalyzeArgs) -> Result<bool> {
    let old = args.gate.read()?;
    let own = args.task.seed;
    let runs = args.gate.runs(own, &args.out_dir);
    runs.iter().try_for_each(|(_, directory)| check_out_directory(directory, ReportKind::Analysis))?;
    let found = runs.iter().map(|(seed, directory)| one(args, *seed, directory)).collect::<Result<Vec<_>>>()?;
    args.gate.finish(old.as_ref(), &Baseline::of_analyses(&found)?)
}

/// The analysis with one seed.
fn one(args: &AnalyzeArgs, seed: u64, directory: &Path) -> Result<Analysis> {
    let settings = args.tuning.settings(&args.model.engine, Measures::Full)?;
    let task = TaskArgs { seed, ..args.task.clone() };
    let (study, engine) = select::adapted_study(&args.model, &task, Some(&args.adapters))?;
    let plan = Plan { settings, batch: engine.batch, seed };
    let _lock = DirectoryLock::alone(directory)?;
    let terminal = Terminal::new();
    check_plan(&study, &plan)?;
    if report::remove_other_report(directory, &plan.digest(&study.digest()))? {
        terminal.note(&format!("{}: the report of another analysis was there, and is removed", directory.display()));
    }
    terminal.note(&format!(
        "{} ({} parameters) on {}: {} train, {} dev, {} test examples, {}",
        study.model_facts.name,
        study.model_facts.parameters,
        study.task.definition.name,
        study.task.train.len(),
        study.task.dev.len(),
        study.task.test.len(),
        crate::device::device_name(study.device),
    ));
    let analysis = analyze(&study, &plan, &command_line(seed), directory, &terminal)?;
    let written = report::write(&analysis, directory)?;
    outln!("{}", report::terminal_summary(&analysis))?;
    outln!("report: {}", written.markdown.display())?;
    Ok(analysis)
}

impl FineTuningArgs {
    /// Settings of an analysis, but for the engine's batch; `usual` are its default measures.
    pub(super) fn settings(&self, engine: &EngineArgs, usual: Measures) -> Result<AnalysisSettings> {
        let Self { formula, optimizers, lr_sgd, lr_signgd, lr_adam, .. } = self;
        let optimizers = distinct(optimizers)
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| match name.as_str() {
                "sgd" => Ok(OptimizerGrid { kind: OptimizerKind::Sgd, learning_rates: distinct(lr_sgd) }),
                "signgd" => Ok(OptimizerGrid { kind: OptimizerKind::Signgd, learning_rates: distinct(lr_signgd) }),
                "adam" => Ok(OptimizerGrid { kind: OptimizerKind::ADAM, learning_rates: distinct(lr_adam) }),
                other => Err(Error::argument("--optimizers", format!("`{other}` is not one of sgd, signgd, adam"))),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut formulas = formula.clone();
        formulas.sort_unstable();
        formulas.dedup();
        let settings = AnalysisSettings {
            formulas,
            memory: engine.memory.map(|m| m.as_u64()),
            precision: engine.precision,
            optimizers,
            batch_size: self.train_batch_size,
            steps: self.steps,
            eval_every: self.eval_every,
            measures: self.measures.unwrap_or(usual),
            measure_steps: self.measure_steps,
            probes: self.probes,
            train_precision: self.train_precision,
        };
        settings.validate()?;
        Ok(settings)
    }
}

/// The items without repetitions, in order of first occurrence.
fn distinct<T: PartialEq + Clone>(items: &[T]) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for item in items {
        if !found.contains(item) {
            found.push(item.clone());
        }
    }
    found
}

/// Options with a value that do not affect the report.
const LEFT_OUT: [&str; 7] =
    ["--out-dir", "--baseline", "--baseline-seeds", "--ignore", "--markdown", "--junit", "--seed"];

/// Options whose value is a path.
const PATHS: [&str; 7] = ["--model", "--data", "--data-dir", "--dev-data", "--test-data", "--task-file", "--adapter"];

/// The command as typed, quoted for a shell, for a run with this seed. Options that do not affect the report are omitted.
/// Absolute paths are shortened to their last component: they mean nothing on another machine and reveal who ran the command
/// where.
fn command_line(seed: u64) -> String {
    let typed: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    command_of(&typed, seed)
}

fn command_of(typed: &[String], seed: u64) -> String {
    let mut words = vec!["kernelview".to_owned()];
    let mut arguments = typed.iter();
    let mut seed_is_there = false;
    let mut is_path = false;
    while let Some(word) = arguments.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if LEFT_OUT.contains(&name) {
            if name == word {
                // Its value is the next word.
                arguments.next();
            }
            if name == "--seed" {
                seed_is_there = true;
                words.push(format!("--seed {seed}"));
            }
        } else if !["--write-baseline", "--github", "--strict"].contains(&name) {
            let word = match word.split_once('=').filter(|_| PATHS.contains(&name)) {
                Some((_, path)) => format!("{name}={}", without_directory(Path::new(path))),
                None if is_path => without_directory(Path::new(word)),
                None => word.clone(),
            };
            words.push(quoted(&word));
        }
        is_path = PATHS.contains(&word.as_str());
    }
    if !seed_is_there && seed != DEFAULT_SEED {
        words.push(format!("--seed {seed}"));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_SEED, command_of};

    #[test]
    fn the_command_of_a_report_names_no_directory_of_a_machine() {
        let of = |text: &str| command_of(&text.split(' ').map(str::to_owned).collect::<Vec<_>>(), DEFAULT_SEED);
        assert_eq!(
            of("analyze --data-dir /home/a/k-shot --task RTE"),
            "kernelview analyze --data-dir k-shot --task RTE"
        );
        assert_eq!(of("analyze --data=/home/a/rows.tsv"), "kernelview analyze --data=rows.tsv");
        assert_eq!(
            of("analyze --model ../m --label-words /a,/b"),
            "kernelview analyze --model ../m --label-words /a,/b"
        );
    }

    #[test]
    fn the_command_of_a_report_leaves_out_what_changes_nothing() {
        let of = |text: &str, seed| command_of(&text.split(' ').map(str::to_owned).collect::<Vec<_>>(), seed);
        assert_eq!(of("analyze --k 4 --out-dir o --baseline=b --github", DEFAULT_SEED), "kernelview analyze --k 4");
        assert_eq!(of("analyze --seed 1 --template *a*", 2), "kernelview analyze --seed 2 --template '*a*'");
        assert_eq!(of("analyze --write-baseline", 14), "kernelview analyze --seed 14");
    }
}
