//! `kernelview kernel`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{ModelArgs, TaskArgs};
use super::estimate;
use super::numbers::check_counts;
use super::output::{self, outln};
use super::places::check_out;
use super::select;
use super::solve::write_published;
use super::terminal::Terminal;
use crate::analysis::{SplitName, is_published, regression_cost};
use crate::error::{Error, Result};
use crate::files::digest;
use crate::jacobian::Examples;
use crate::kernel::{
    Block, BlockGrid, Formula, FormulaSet, Gram, KernelFile, estimate_gram, gram_units, precision_errors,
    reference_gram, structured_gram,
};
use crate::launch::{Place, environment, place};
use crate::products::computed_by;
use crate::progress::{Monitor, check_cancelled};
use crate::shard::{Manifest, ShardStore};

#[derive(Args)]
pub(super) struct KernelArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// Kernel formulas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sgd,asymmetric,signgd")]
    pub formula: Vec<Formula>,
    /// Split whose examples are the columns of the kernel [default: train]
    #[arg(long, value_enum)]
    pub against: Option<SplitName>,
    /// Use all rows of --data, in the file's order, without splitting or drawing
    #[arg(long, requires = "data", conflicts_with_all = ["against", "k", "dev_data", "test_data", "test_limit"])]
    pub all_rows: bool,
    /// Engine: structured, or reference (plain autograd, whole Jacobian in memory) as a check
    #[arg(long, value_enum, default_value = "structured")]
    pub engine: Engine,
    /// Also store each parameter's share of the SGD kernel, as share.NAME [N·C, N·C]
    #[arg(long)]
    pub shares: bool,
    /// Compute the kernel in independent blocks of at most this many examples per side, at the cost of more work
    #[arg(long, value_name = "EXAMPLES", conflicts_with_all = ["shares", "plan"])]
    pub block: Option<usize>,
    /// Split each block's sum over parameters into this many chunks of similar size, for networks whose blocks take too long
    /// for one job. Every chunk runs the network again
    #[arg(long, value_name = "PARTS", conflicts_with_all = ["shares", "plan"])]
    pub parameter_chunks: Option<usize>,
    /// Compute only shard I of N of the blocks (counted from 0), into FILE.shards, for `kernelview merge`; auto takes I/N
    /// from SLURM_ARRAY_TASK_ID, SLURM_PROCID or RANK. On machines with several GPUs, LOCAL_RANK or SLURM_LOCALID selects
    /// one. Blocks have 64 examples unless --block is given
    #[arg(long, value_name = "I/N|auto", conflicts_with_all = ["shares", "plan"])]
    pub shard: Option<String>,
    /// Print the plan with method, time and memory per layer, and stop
    #[arg(long)]
    pub plan: bool,
    /// The file to write: safetensors, or the paper's format if the name ends in .pt (with a single formula)
    #[arg(long, value_name = "FILE", required_unless_present = "plan")]
    pub out: Option<PathBuf>,
}

/// Engines of the kernel command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Engine {
    /// Factored gradients, blocked products.
    Structured,
    /// Plain autograd.
    Reference,
}

impl KernelArgs {
    /// The split of the columns, unless it is that of the rows.
    fn other_split(&self) -> Option<SplitName> {
        self.against.filter(|s| *s != SplitName::Train)
    }

    /// Whether the kernel is computed block by block.
    fn is_cut(&self) -> bool {
        self.block.is_some() || self.parameter_chunks.is_some() || self.shard.is_some()
    }

    /// Whether the file is to be in the paper's format.
    fn is_published(&self) -> bool {
        self.out.as_deref().is_some_and(is_published)
    }
}

/// Refuses options that contradict one another whatever the model and the machine.
pub(super) fn check_options(args: &KernelArgs) -> Result<()> {
    if args.shares && args.other_split().is_some() {
        return Err(Error::argument("--shares", "only for the kernel of the training examples; remove --against"));
    }
    if args.is_cut() && args.engine == Engine::Reference {
        return Err(Error::argument(
            "--engine reference",
            "--block, --parameter-chunks and --shard need the structured engine",
        ));
    }
    check_counts(&[
        ("--k", Some(args.task.k)),
        ("--block", args.block),
        ("--parameter-chunks", args.parameter_chunks),
    ])?;
    if args.is_published() && args.shard.is_some() {
        return Err(Error::argument(
            "--shard",
            "shards are merged into a kernel file first: give --out a name ending in .safetensors",
        ));
    }
    if args.is_published() && (args.formula.len() != 1 || args.shares) {
        let problem = "a .pt file holds one kernel: give one --formula and no --shares, or a name ending in \
                       .safetensors";
        return Err(Error::argument("--out", problem));
    }
    Ok(())
}

/// Computes the kernel and writes its file, or prints the plan.
pub(super) fn run(args: &KernelArgs) -> Result<()> {
    if let Some(out) = args.out.as_deref().filter(|_| !args.plan) {
        check_out("--out", out, "K.safetensors")?;
    }
    check_options(args)?;
    let against = args.other_split();
    let place = args.shard.as_deref().map(|text| place(text, &environment)).transpose()?;
    let (study, engine) = if args.all_rows {
        select::undivided_study(&args.model, &args.task)?
    } else {
        select::study(&args.model, &args.task)?
    };
    let train = study.examples(SplitName::Train, study.mode)?;
    let other = against.map(|s| study.examples(s, study.mode)).transpose()?;
    let other = other.as_ref().map(|e| e as &dyn Examples);
    let formulas = FormulaSet::of(&args.formula);
    let mut options = engine.options(&study, &study.parameters, formulas, &train, other)?;
    options.share_matrices = args.shares;
    let (true, Some(out)) = (!args.plan, &args.out) else {
        let estimate = estimate_gram(&study.parameters, &train, other, &options);
        output::text(estimate::markdown(&estimate))?;
        output::text(estimate::regression(&regression_cost(&study, &args.formula)?, estimate.rate))?;
        return Ok(());
    };
    let terminal = Terminal::new();
    let mut metadata = study.kernel_metadata((against.unwrap_or(SplitName::Train), None), &args.formula);
    if let Some(precision) = args.model.engine.precision {
        metadata.insert("precision".into(), precision.name().into());
        // All shards must have the same manifest, and the measured error differs slightly between devices.
        if place.is_none() {
            if let Some(parts) = precision.parts() {
                metadata.insert("products_by".into(), computed_by(parts).into());
            }
            let errors = precision_errors(&study.parameters, &train, &options)?;
            let texts: Vec<String> = errors.iter().map(|(f, e)| format!("{f} {e:.1e}")).collect();
            terminal.note(&format!(
                "products in {}: largest error of an entry relative to the largest entry, on a few examples: {}",
                precision.name(),
                texts.join(", ")
            ));
            metadata.insert("precision_error".into(), texts.join(", "));
        }
    }
    let labels = (study.labels(SplitName::Train), against.map_or(&[][..], |s| study.labels(s)));
    let grid = args.is_cut().then(|| BlockGrid {
        left: train.len(),
        right: other.map(Examples::len),
        block: args.block.unwrap_or(BLOCK),
        chunks: args.parameter_chunks.unwrap_or(1),
    });
    let parameters = study.include.iter().filter(|i| **i).count();
    if let Some(grid) = grid.as_ref().filter(|grid| grid.chunks > parameters) {
        let problem = format!("the kernel has only {parameters} parameter tensors");
        return Err(Error::argument(format!("--parameter-chunks {}", grid.chunks), problem));
    }
    let compute = |grid: &BlockGrid, block: &Block, title: &str| {
        terminal.begin(title, gram_units(block.rows.len(), Some(block.columns.len())));
        let gram = grid.compute(block, &study.parameters, (&train, other), &options, &terminal);
        terminal.end();
        gram
    };
    if let (Some(grid), Some(place)) = (&grid, place) {
        let depends = (study.digest(), &args.formula, args.model.engine.precision, options.batch, grid, args.against);
        let depends = serde_json::to_string(&depends).expect("settings are plain data");
        let manifest = Manifest::new(digest([depends.as_bytes()]), grid.clone(), labels, metadata);
        let store = ShardStore::open(&shards_of(out), manifest, place)?;
        write_shard(&store, grid, place, &terminal, compute)?;
        outln!("{}: shard {} of {} is complete", shards_of(out).display(), place.index, place.count)?;
        return Ok(());
    }
    let gram = if let Some(grid) = &grid {
        let mut grams = Vec::new();
        for block in grid.blocks() {
            grams.push(compute(grid, &block, "kernel, block by block")?);
        }
        grid.assemble(&grams)?
    } else if args.engine == Engine::Reference {
        terminal.note("reference engine: one example at a time");
        reference_gram(&study.parameters, &train, other, formulas, &study.include)?
    } else {
        terminal.begin("kernel", gram_units(train.len(), other.map(Examples::len)));
        let gram = structured_gram(&study.parameters, &train, other, &options, &terminal);
        terminal.end();
        gram?
    };
    let mut file = KernelFile::of(&gram, labels, metadata);
    if args.shares {
        for share in &gram.shares {
            if let Some(matrix) = share.sgd.as_ref().filter(|_| study.include[share.parameter]) {
                let name = &study.parameters.specs()[share.parameter].name;
                file.tensors.push((format!("share.{name}"), matrix.shallow_clone()));
            }
        }
    }
    if args.is_published() {
        return write_published(out, &file, None, out);
    }
    file.write(out)?;
    outln!(
        "{}: {} x {} examples, {} output(s), {}",
        out.display(),
        gram.left,
        gram.right,
        gram.outputs,
        args.formula.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
    )?;
    Ok(())
}

/// Computes the missing blocks of one shard.
fn write_shard(
    store: &ShardStore,
    grid: &BlockGrid,
    place: Place,
    terminal: &Terminal,
    compute: impl Fn(&BlockGrid, &Block, &str) -> Result<Gram>,
) -> Result<()> {
    let all = grid.blocks().into_iter().enumerate();
    let own: Vec<Block> = all.filter(|(number, _)| place.has(*number)).map(|(_, block)| block).collect();
    for (number, block) in own.iter().enumerate() {
        check_cancelled()?;
        let title = format!("block {} of {}", number + 1, own.len());
        if store.has(block) {
            terminal.note(&format!("{title}: already there"));
            continue;
        }
        store.put(block, &compute(grid, block, &title)?)?;
    }
    Ok(())
}

/// Default number of examples per side of a block.
const BLOCK: usize = 64;

/// The directory of a kernel file's shards.
pub(super) fn shards_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(".shards");
    out.with_file_name(name)
}
