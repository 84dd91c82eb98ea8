//! `kernelview lora`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{ModelArgs, TaskArgs};
use super::output::outln;
use super::places::check_out_directory;
use super::select;
use super::terminal::Terminal;
use crate::error::Result;
use crate::lm::default_targets;
use crate::lock::DirectoryLock;
use crate::lora::{LoraSettings, Scaled, lora_summary, measure, write_lora};
use crate::report::ReportKind;
use crate::subspace::Init;

/// Which adapters, and what to measure.
#[derive(Args)]
pub(super) struct LoraArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// Ranks of the adapters
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32", help_heading = "Adapters")]
    pub ranks: Vec<i64>,
    /// Modules to adapt, by name suffix, or all-linear [default: PEFT's for the architecture]
    #[arg(long, value_delimiter = ',', value_name = "NAMES", help_heading = "Adapters")]
    pub targets: Vec<String>,
    /// How the factors A are drawn: N(0, 1/k), PEFT's default, or PEFT's gaussian
    #[arg(long, value_enum, default_value = "kaiming-uniform", help_heading = "Adapters")]
    pub init: Init,
    /// PEFT's lora_alpha; it scales the adapters' kernel
    #[arg(long, default_value_t = 16.0, help_heading = "Adapters")]
    pub alpha: f64,
    /// Divide alpha by the square root of the rank (PEFT's use_rslora)
    #[arg(long, help_heading = "Adapters")]
    pub rslora: bool,
    /// Random draws per rank
    #[arg(long, default_value_t = 4, value_name = "N", help_heading = "Adapters")]
    pub draws: usize,
    /// Measure this PEFT adapter instead of adapters at initialization
    #[arg(long, value_name = "DIR", help_heading = "Adapters")]
    pub adapter: Option<PathBuf>,
    /// Also measure random projections of all parameters to these dimensions (intrinsic dimension); draws parameters x
    /// dimension normal numbers
    #[arg(long, value_delimiter = ',', value_name = "DIMENSIONS", help_heading = "Adapters")]
    pub intrinsic: Vec<i64>,
    /// Kernel distance for which to find the rank
    #[arg(long, default_value_t = 0.1)]
    pub distance: f64,
    /// Confidence level of intervals and bounds
    #[arg(long, default_value_t = 0.95)]
    pub confidence: f64,
    /// Directory of the report; finished kernels found there are reused
    #[arg(long, default_value = "kernelview-lora", value_name = "DIR")]
    pub out_dir: PathBuf,
}

/// Measures and writes the report.
pub(super) fn run(args: &LoraArgs) -> Result<()> {
    check_out_directory(&args.out_dir, ReportKind::Adapters)?;
    let (study, engine) = select::study(&args.model, &args.task)?;
    let targets = if args.targets.is_empty() {
        default_targets(&study.model_facts.architecture).iter().map(|t| (*t).to_owned()).collect()
    } else {
        args.targets.clone()
    };
    let settings = LoraSettings {
        targets,
        ranks: args.ranks.clone(),
        init: args.init,
        scaled: Scaled { alpha: args.alpha, rslora: args.rslora },
        draws: args.draws,
        dimensions: args.intrinsic.clone(),
        distance: args.distance,
        confidence: args.confidence,
        seed: args.task.seed,
    }
    .validated()?;
    let _lock = DirectoryLock::alone(&args.out_dir)?;
    let found = measure(&study, &settings, &engine, args.adapter.as_deref(), &args.out_dir, &Terminal::new())?;
    let written = write_lora(&found, &args.out_dir)?;
    for line in lora_summary(&found) {
        outln!("{line}")?;
    }
    outln!("report: {}", written.markdown.display())?;
    Ok(())
}
