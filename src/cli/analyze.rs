//! `kernelview analyze`.

use bytesize::ByteSize;

use super::arguments::{AnalyzeArgs, FineTuningArgs};
use super::select;
use super::terminal::Terminal;
use crate::analysis::{Measures, OptimizerPlan, Plan, analyze};
use crate::error::{Error, Result};
use crate::files::create_dir;
use crate::kernel::Precision;
use crate::progress::Monitor;
use crate::report;
use crate::train::OptimizerKind;

/// Runs the analysis and writes the report.
pub(super) fn run(args: &AnalyzeArgs) -> Result<()> {
    if args.out_dir.exists() && !args.out_dir.is_dir() {
        return Err(Error::format(&args.out_dir, "--out-dir names a file; give a directory, new or of an earlier run"));
    }
    let study = select::study(&args.model, &args.task)?;
    let batch = select::batch(&args.model, &study);
    let plan = args.tuning.plan(batch, args.model.memory, args.model.precision, args.task.seed, Measures::Full)?;
    create_dir(&args.out_dir)?;
    let terminal = Terminal::new();
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
    let analysis = analyze(&study, &plan, &command_line(), &args.out_dir, &terminal)?;
    let written = report::write(&analysis, &args.out_dir)?;
    println!("{}", report::terminal_summary(&analysis));
    println!("report: {}", written.markdown.display());
    Ok(())
}

impl FineTuningArgs {
    /// The plan of an analysis; `measures` where nothing else was asked for.
    pub(super) fn plan(
        &self,
        batch: usize,
        memory: Option<ByteSize>,
        precision: Option<Precision>,
        seed: u64,
        measures: Measures,
    ) -> Result<Plan> {
        let optimizers = distinct(&self.optimizers)
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| match name.as_str() {
                "sgd" => Ok(OptimizerPlan { kind: OptimizerKind::Sgd, learning_rates: distinct(&self.lr_sgd) }),
                "signgd" => {
                    Ok(OptimizerPlan { kind: OptimizerKind::Signgd, learning_rates: distinct(&self.lr_signgd) })
                }
                "adam" => Ok(OptimizerPlan { kind: OptimizerKind::ADAM, learning_rates: distinct(&self.lr_adam) }),
                other => Err(Error::Settings(format!("--optimizers: `{other}` is none of sgd, signgd, adam"))),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut formulas = self.formula.clone();
        formulas.sort_unstable();
        formulas.dedup();
        let plan = Plan {
            formulas,
            batch,
            memory: memory.map(|m| m.as_u64()),
            precision,
            optimizers,
            batch_size: self.train_batch_size,
            steps: self.steps,
            eval_every: self.eval_every,
            measures: self.measures.unwrap_or(measures),
            seed,
        };
        plan.validate()?;
        Ok(plan)
    }
}

/// The items without repetitions, in order of their first.
fn distinct<T: PartialEq + Clone>(items: &[T]) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for item in items {
        if !found.contains(item) {
            found.push(item.clone());
        }
    }
    found
}

/// The command as typed, with quotes where a shell needs them, the output directory left out (it changes nothing).
fn command_line() -> String {
    let mut words = vec!["kernelview".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        if word == "--out-dir" {
            arguments.next();
        } else if !word.starts_with("--out-dir=") {
            let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./,=:+@%".contains(c));
            words.push(if plain { word } else { format!("'{}'", word.replace('\'', r"'\''")) });
        }
    }
    words.join(" ")
}
