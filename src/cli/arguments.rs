//! The commands, and arguments that several of them have, as the user types them, with the help text that teaches them.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};

use super::analyze::AnalyzeArgs;
use super::claims::ClaimsArgs;
use super::cloze::ClozeArgs;
use super::gate::CompareArgs;
use super::kernel::KernelArgs;
use super::lora::LoraArgs;
use super::natural::NaturalArgs;
use super::pretrain::PretrainArgs;
use super::reproduce::ReproduceArgs;
use super::shards::{MergeArgs, SubmitArgs};
use super::solve::{ConvertArgs, SolveArgs};
use super::verify::VerifyArgs;
use crate::analysis::{AdapterRequest, Head, Measures};
use crate::device::{DeviceRequest, Dtype};
use crate::jacobian::Subset;
use crate::kernel::{Formula, Precision};
use crate::lm::OutputMode;
use crate::subspace::Init;
use crate::task::Overrides;

/// Is this fine-tuning in the kernel regime? Empirical kernels of language models, after Malladi et al. (ICML 2023).
#[derive(Parser)]
#[command(
    name = "kernelview",
    version,
    arg_required_else_help = true,
    after_help = "Every command explains itself, with examples: kernelview analyze --help\n\nExit status: 0 done, 1 the computation or a claim failed or something moved, 2 bad input or settings, 130 interrupted, 70 a defect of this program."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Kernels, kernel regression, fine-tuning and all measures of one model on one task, as a report
    ///
    /// Computes the empirical kernels of the pre-trained model on a prompted few-shot task, solves the task by kernel
    /// regression, fine-tunes with the optimizers that the kernels are analogs of, and measures how far fine-tuning is
    /// from its kernel: output derivative, linearization, gradient and kernel drift. Writes report.md, report.json,
    /// plots and kernels to --out-dir. An interrupted run continues where it was when the same command is given again.
    ///
    /// Without arguments: the pre-trained network `prose-128` that comes with the sources, on the built-in task
    /// `cloze-was-were`.
    #[command(
        after_help = "Examples:\n  kernelview analyze\n  kernelview analyze --data-dir DATA/k-shot-1k-test --task SST-2 --k 16 --seed 13 --out-dir sst2\n  kernelview analyze --model roberta-base/ --data mine.csv \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words bad,good"
    )]
    Analyze(Box<AnalyzeArgs>),
    /// Kernel matrices of one model on one task, as a safetensors file
    ///
    /// Writes kernel.sgd, kernel.asymmetric and kernel.signgd as [N, C, M, C] in double precision (row example, row
    /// output, column example, column output; the asymmetric kernel has plain gradients on its rows and signs on its
    /// columns), logits, labels, and metadata: which row of which file each example is, by line number and by the SHA-256 of
    /// its texts, and everything that the kernel depends on. `docs/kernel-file.md` says what every field means.
    #[command(
        after_help = "Examples:\n  kernelview kernel --formula sgd --out K.safetensors\n  kernelview kernel --data-dir DATA --task RTE --formula sgd --out train_kernels_rte.pt\n  kernelview kernel --data-dir DATA --task RTE --against test --dtype f64 --out RTE.safetensors\n  kernelview kernel --data-dir DATA --task RTE --against test --memory 6GB --plan\n  kernelview kernel --model M --data rows.tsv --out K.safetensors \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words a,b\n  kernelview kernel --model M --data rows.tsv --all-rows --task SST-2 --out K.safetensors"
    )]
    Kernel(Box<KernelArgs>),
    /// Kernel regression on kernels given as files, this program's or the paper's
    ///
    /// Solves the task whose kernels --train (training examples with themselves), --dev and --test (against those sets)
    /// hold, with every solver of `kernelview analyze`, its settings chosen on dev, and prints the accuracies. A file ending
    /// in .pt is read as the paper's program writes it: a `torch.save`d tuple of the kernel, [N, C, M, C] (asymmetric:
    /// [2, N, C, M, C]), and targets; nothing in it is executed. The network's logits are used where files of the paper's
    /// names (train_logits_TASK.pt) lie beside.
    #[command(
        after_help = "Examples:\n  kernelview solve --kernels result/SST-2-roberta-base/16-13\n  kernelview solve --train train.safetensors --dev dev.safetensors --test test.safetensors \\\n    --json solved.json\n  kernelview solve --kernels result/all --task rte --formula signgd"
    )]
    Solve(SolveArgs),
    /// A kernel file as one of the paper's program, or the other way round
    ///
    /// The names' endings say which: .safetensors for this program's files, .pt for the paper's, which hold one kernel and
    /// the targets of its columns. Where a name has `_kernels_`, the logits go to or come from the same name with
    /// `_logits_`.
    #[command(
        after_help = "Examples:\n  kernelview convert train_kernels_sst-2.pt train.safetensors --formula signgd\n  kernelview convert K.safetensors train_kernels_sst-2.pt --formula sgd"
    )]
    Convert(ConvertArgs),
    /// One kernel file from the shards of `kernel --shard`
    ///
    /// Checks that every block is there and of the same run, names the shards that are unfinished, and fills what lies below a
    /// symmetric kernel's diagonal. The file is the one that `kernel --block` writes with the same block size and number of
    /// threads, bit for bit.
    #[command(after_help = "Examples:\n  kernelview merge K.safetensors.shards --out K.safetensors")]
    Merge(MergeArgs),
    /// Scripts that submit a sharded kernel or grid to Slurm: an array of shards, and a merge that waits for it
    #[command(
        after_help = "Examples:\n  kernelview submit --slurm --shards 16 --option=--time=02:00:00 --option=--gpus=1 -- \\\n    kernel --model roberta-base/ --data-dir DATA --task MNLI --against test --out K.safetensors\n  \
                      kernelview submit --slurm --shards 8 -- reproduce \\\n    --models roberta-base/ --data-dir DATA --tasks all"
    )]
    Submit(SubmitArgs),
    /// The built-in tasks with their templates and label words
    ///
    /// One task a line: name, template in LM-BFF's language, label=word. The name goes with --task; --template and
    /// --label-words replace the other two.
    #[command(
        after_help = "Examples:\n  kernelview tasks\n  kernelview analyze --data-dir DATA --task RTE\n  kernelview analyze --task cloze-he-she"
    )]
    Tasks,
    /// A task from any text: sentences with one word left out, and the words that could stand there
    ///
    /// Takes sentences of the text that have exactly one of the words, once, and writes the same number for each word as
    /// a TSV with the columns text (what stands before the word), text2 (what follows it) and label (the word). Prints
    /// the command that analyzes it. A masked language model can do such a task if it knows the text's language, however
    /// small it is.
    ///
    /// The text is UTF-8, plain or gzip, with a paragraph a line: sentences do not go on from one line to the next.
    #[command(
        after_help = "Examples:\n  kernelview cloze --text novel.txt --words he,she --out he-she.tsv\n  kernelview cloze --text books.txt.gz --words was,were --limit 500 --seed 7 --out was-were.tsv\n  kernelview cloze --text novel.txt --words in,on,at --min-words 8 --max-words 20 --out in-on-at.tsv\n  kernelview analyze --data he-she.tsv \\\n    --template '*cls**sent_0**mask**sent_1**sep+*' --label-words he=he,she=she"
    )]
    Cloze(ClozeArgs),
    /// Check the theory: every claim of the paper and of what it rests on, measured, with controls that must fail
    ///
    /// Each claim (`kernelview claims` lists them) predicts numbers, such as the slope of an error in width. They are
    /// measured on networks drawn from --seed and compared through confidence intervals; the same check is made where
    /// it must fail, so that a check that cannot fail shows. Writes report.md, report.json, junit.xml and plots to
    /// --out-dir. An interrupted run continues where it was when the same command is given again.
    ///
    /// A mutant is a deliberately wrong implementation or formula that its claim must notice; with mutants, mutants.md
    /// is written too.
    ///
    /// Needs no model and no data. Exit status: 0 no claim is violated, no control passes, no mutant survives and every
    /// experiment came to its end; 1 otherwise; 2 bad settings; 130 interrupted.
    #[command(
        after_help = "Examples:\n  kernelview verify\n  kernelview verify --mutants --jobs 4\n  kernelview verify --claim sign-kernel-limit,chi-law --seed 7 --out-dir two-claims\n  kernelview verify --profile standard --no-mutants\n  kernelview verify --suite family\n  kernelview verify --profile full --device cuda:0"
    )]
    Verify(Box<VerifyArgs>),
    /// Whether a task is natural for a family of models: the output derivative χ over widths, no update made
    ///
    /// The paper's cheap test: over pre-trained models of one scheme that differ only in width, |χ| = 1 - p(y) must fall on
    /// the downstream examples. Measured on all examples beside three controls that must not fall: permuted labels,
    /// unrelated label words, and a random head without a prompt. Writes report.md, report.json and a plot to --out-dir.
    #[command(
        after_help = "Examples:\n  kernelview natural --models family/prose-64 family/prose-128 family/prose-256 --task cloze-he-she\n  kernelview natural --models A B --data-dir DATA/k-shot-1k-test --task SST-2 --max-length 64 --first-limit 50\n  kernelview natural --models A B C --data he-she.tsv --k 16 \\\n    --template '*cls**sent_0**mask**sent_1**sep+*' --label-words he=he,she=she"
    )]
    Natural(Box<NaturalArgs>),
    /// Pre-train a family of masked language models that differ only in width, in muP
    ///
    /// The recipe (TOML) says everything that the weights depend on: text, vocabulary, sizes, schedule, seed. For every
    /// width a checkpoint in Hugging Face's layout is written to --out-dir/NAME-WIDTH, and a report with learning curves.
    /// The tokenizer is trained on the text. A run that was killed goes on from its last saved state when the same command
    /// is given again, with the same weights bit for bit on a CPU with as many threads.
    #[command(
        after_help = "Examples:\n  kernelview pretrain --config fixtures/family/recipe.toml --corpus-dir BOOKS --out-dir family\n  kernelview pretrain --config my.toml --width 64\n  kernelview pretrain --config my.toml --check coordinates,learning-rates --no-training\n  kernelview pretrain --config my.toml --width 512,1024 --device cuda:0"
    )]
    Pretrain(Box<PretrainArgs>),
    /// The paper's study: kernels and fine-tuning of models on its tasks, over seeds, as tables in the paper's shape
    ///
    /// Every cell of models x tasks x k x seeds x heads is an analysis, stored when it is finished under the digest of its
    /// inputs: a killed run goes on when the same command is given again, and a failed cell does not stop the others.
    /// Writes report.md, report.json, results.csv and a plot to --out-dir, and every cell's own report below cells/.
    ///
    /// Exit status: 0 all cells are there, 1 a cell failed, 2 bad settings, 130 interrupted.
    #[command(
        after_help = "Examples:\n  kernelview reproduce --models roberta-base/ --data-dir DATA/k-shot-1k-test --k 16,64\n  kernelview reproduce --models smollm2-135m --data-dir DATA --tasks SST-2,mr --seeds 13,21 --dry-run\n  kernelview reproduce --models prose-64 prose-256 --data-dir DATA --heads prompt,random,linear-probe \\\n    --max-length 64 --first-limit 50"
    )]
    Reproduce(Box<ReproduceArgs>),
    /// What moved between two runs: baselines or report.json of `analyze` or `verify`
    ///
    /// Flattens both sides into named metrics and compares each by its own rule: names and digests must be equal, what
    /// weights and prompts determine may differ by rounding, what is random may differ by its spread over the seeds of the
    /// old side. Prints what moved, appeared or vanished.
    ///
    /// Exit status: 0 nothing moved, 1 something did, 2 the two cannot be compared.
    #[command(
        after_help = "Examples:\n  kernelview compare old/report.json new/report.json\n  kernelview compare baseline.json kernelview-report/report.json --markdown moved.md\n  kernelview compare baseline.json new-baseline.json --ignore model.digest,plan.*"
    )]
    Compare(CompareArgs),
    /// Which rank of LoRA keeps the kernel: distance of the adapters' kernel to the full one over ranks
    ///
    /// Measures the SGD kernel of LoRA adapters at initialization (or of a PEFT adapter) on the training examples: what share
    /// of the full kernel the adapted weights cover, layer by layer; how near the adapters come over ranks and draws; the
    /// rank that an asked distance needs, measured and proved. In the kernel regime that is what LoRA can learn. Writes
    /// report.md, report.json and plots to --out-dir.
    #[command(
        after_help = "Examples:\n  kernelview lora\n  kernelview lora --data-dir DATA --task SST-2 --model roberta-base/ --ranks 1,4,16,64 --distance 0.2\n  kernelview lora --targets all-linear --intrinsic 64,256\n  kernelview lora --model M --data-dir DATA --task mr --adapter my-adapter/"
    )]
    Lora(Box<LoraArgs>),
    /// The claims that `kernelview verify` examines, with their predictions and sources
    ///
    /// The identifier goes with `kernelview verify --claim`.
    #[command(
        after_help = "Examples:\n  kernelview claims\n  kernelview claims --format markdown\n  kernelview claims --format json"
    )]
    Claims(ClaimsArgs),
}

/// Which model, and how to run it.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelArgs {
    /// Checkpoint directory (config.json, weights, tokenizer.json), or the name of a network of the family that comes
    /// with the sources (prose-64, prose-128, prose-256; KERNELVIEW_FAMILY names the directory of another) or of a model
    /// fetched by `cargo xtask model`; a GGUF file; a model of the Hugging Face hub (NAME, ORG/NAME, ORG/NAME@REVISION),
    /// from its cache or downloaded into it
    #[arg(long, default_value = DEFAULT_MODEL, value_name = "DIR|NAME")]
    pub model: String,
    /// Element type of weights, activations and gradients
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    /// auto (cuda:0 where there is one), cpu, cuda:INDEX
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// CPU threads of libtorch, four for each core at most [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Parameters that take part in kernels and fine-tuning
    #[arg(long, value_enum, default_value = "all")]
    pub parameters: Subset,
    /// What reads the network: its own head under the task's prompt, or, without a prompt, a new linear head on the first
    /// token (the last of a causal model) with random weights (drawn by --seed) or those of a linear probe
    #[arg(long, value_enum, default_value = "prompt")]
    pub head: Head,
    /// What f is: one output per class, its label word's logit (or log-probability, see --label-words), or for two classes
    /// the second's minus the first's [default: difference for two classes, logits otherwise]
    #[arg(long, value_enum)]
    pub output_mode: Option<OutputMode>,
    /// Examples per forward and backward pass of the kernel engine; memory grows with it [default: 32, fewer where
    /// there are many outputs]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Most memory that the kernel engine may take, the whole process included, e.g. 6GB [default: about 3 GB beside the
    /// parameters]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Element type in which gradients are kept and multiplied; `analyze` and `kernel` measure and store the error that it
    /// makes [default: that of --dtype]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
}

/// The model where nothing else is said.
pub(super) const DEFAULT_MODEL: &str = "prose-128";

/// Its task where nothing else is said.
pub(super) const DEFAULT_CLOZE: &str = "cloze-was-were";

/// Seed of splits and mini-batches where nothing else is said.
pub(super) const DEFAULT_SEED: u64 = 13;

/// Training examples per class where nothing else is said.
pub(super) const DEFAULT_K: usize = 16;

/// Which task and which examples.
#[derive(Args, Clone)]
#[command(next_help_heading = "Task")]
pub(super) struct TaskArgs {
    /// A task by name (see `kernelview tasks`): one of the paper's 14, whose few-shot splits are read from --data-dir, or
    /// a cloze task, which has sentences of its own [default: cloze-was-were for the default model,
    /// else built-in remarks, positive or negative]
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// A task definition of one's own in TOML
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub task_file: Option<PathBuf>,
    /// Directory of few-shot splits, laid out as TASK/K-SEED/{train,dev,test}
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A TSV, CSV or JSON lines file of one's own with the columns text[,text2],label (or those of --columns), or a directory
    /// with train, validation and test files
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    pub data: Option<PathBuf>,
    /// The columns of --data: text=sentence,label=label; numbers, counted from 0, for a file without a header: text=3,label=1
    #[arg(long, value_name = "NAMES")]
    pub columns: Option<String>,
    /// Dev examples for --data [default: k rows per label of the same file]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub dev_data: Option<PathBuf>,
    /// Test examples for --data [default: the remaining rows of the same file]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub test_data: Option<PathBuf>,
    /// Training examples per class
    #[arg(long, default_value_t = DEFAULT_K)]
    pub k: usize,
    /// Seed of the few-shot split and of mini-batch orders
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
    /// Template in LM-BFF's language, e.g. '*cls**sent_0*_It_was*mask*.*sep+*'
    #[arg(long)]
    pub template: Option<String>,
    /// Label words: bad,good (in the order of labels 0, 1, …) or neg=bad,pos=good. Where every word is one token, f of a class
    /// is its word's logit; where one is several, f is for all classes the sum of the word's log-probabilities, token by token.
    /// With `*choice*` in the template in the mask's place (multiple choice) they are the columns that hold a row's choices, in
    /// JSON lines also endings.0,endings.1
    #[arg(long, value_name = "WORDS")]
    pub label_words: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Segment ids that grow after each sep+ (the paper's runs have zeros everywhere)
    #[arg(long)]
    pub segments: bool,
    /// Put a causal model's prompt into the checkpoint's own chat template: what stands in front of `*reply*` in --template (all
    /// up to the mask without one) is the user's message, what stands behind it begins the answer
    #[arg(long)]
    pub chat: bool,
}

#[derive(Args, Clone)]
pub(super) struct LimitArgs {
    /// Use at most so many test examples (drawn by the seed)
    #[arg(long, value_name = "N")]
    test_limit: Option<usize>,
    /// Longest prompt in tokens [default: the task's]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Longest first text in tokens (0: no limit) [default: the task's]
    #[arg(long, value_name = "TOKENS")]
    first_limit: Option<usize>,
    /// Longest other text in tokens (0: no limit) [default: the task's]
    #[arg(long, value_name = "TOKENS")]
    other_limit: Option<usize>,
}

impl LimitArgs {
    /// The lengths, over those of a task, and the number of test examples.
    pub fn parts(&self) -> (Overrides, Option<usize>) {
        let Self { test_limit, max_length, first_limit, other_limit } = self.clone();
        let lengths = Overrides {
            max_length,
            first_sentence_limit: first_limit,
            other_sentence_limit: other_limit,
            ..Overrides::default()
        };
        (lengths, test_limit)
    }
}

/// LoRA adapters in place of the weights.
#[derive(Args)]
#[command(next_help_heading = "Adapters")]
pub(super) struct AdapterArgs {
    /// Put LoRA adapters of this rank on the network: kernels and fine-tuning are theirs. What an optimizer trained is written
    /// to --out-dir/adapters/OPTIMIZER in PEFT's format
    #[arg(long = "lora-rank", value_name = "RANK", conflicts_with = "adapter")]
    pub rank: Option<i64>,
    /// Modules to adapt, by the ends of their names, or all-linear [default: PEFT's for the architecture]
    #[arg(long = "lora-targets", value_delimiter = ',', value_name = "NAMES", requires = "rank")]
    pub targets: Vec<String>,
    /// PEFT's lora_alpha: the factor of the adapters is alpha over rank [default: the rank, so that it is 1]
    #[arg(long = "lora-alpha", requires = "rank")]
    pub alpha: Option<f64>,
    /// How the factors A are drawn: N(0, 1/k) (the kernel of the adapted weights keeps its size), PEFT's default, or PEFT's
    /// gaussian
    #[arg(long = "lora-init", value_enum, default_value = "gaussian", requires = "rank")]
    pub init: Init,
    /// Start from this PEFT adapter
    #[arg(long = "lora-adapter", value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

impl AdapterArgs {
    /// Which adapters, if any.
    pub(super) fn request(&self) -> Option<AdapterRequest> {
        if let Some(directory) = &self.adapter {
            return Some(AdapterRequest::Read(directory.clone()));
        }
        self.rank.map(|rank| AdapterRequest::New {
            targets: self.targets.clone(),
            rank,
            scaling: self.alpha.map_or(1.0, |alpha| alpha / rank as f64),
            init: self.init,
        })
    }
}

/// Kernels and fine-tuning runs of an analysis.
#[derive(Args)]
#[command(next_help_heading = "Kernels and fine-tuning")]
pub(super) struct FineTuningArgs {
    /// Kernel formulas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sgd,signgd,asymmetric")]
    pub formula: Vec<Formula>,
    /// Optimizers to fine-tune with: sgd, signgd, adam; '' for none
    #[arg(long, value_delimiter = ',', default_value = "sgd,adam")]
    pub optimizers: Vec<String>,
    /// Learning rates for SGD; the best on dev is kept
    #[arg(long, value_delimiter = ',', default_value = "1e-5,1e-4,1e-3,1e-2")]
    pub lr_sgd: Vec<f64>,
    /// Learning rates for SignGD
    #[arg(long, value_delimiter = ',', default_value = "1e-6,1e-5,1e-4")]
    pub lr_signgd: Vec<f64>,
    /// Learning rates for Adam
    #[arg(long, value_delimiter = ',', default_value = "1e-6,1e-5,1e-4")]
    pub lr_adam: Vec<f64>,
    /// Examples per fine-tuning step
    #[arg(long, default_value_t = 8)]
    pub train_batch_size: usize,
    /// Fine-tuning steps
    #[arg(long, default_value_t = 500)]
    pub steps: usize,
    /// Steps between evaluations on dev
    #[arg(long, default_value_t = 50)]
    pub eval_every: usize,
    /// Measure along the run and at its end in double precision, or at its end alone in --dtype (for large models)
    /// [default: full, end for `reproduce`]
    #[arg(long, value_enum)]
    pub measures: Option<Measures>,
}
