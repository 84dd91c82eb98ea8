//! Arguments that several commands have, as the user types them, with the help text that teaches them.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use tch::Device;

use super::choices;
use super::threads::use_threads;
use crate::analysis::{AdapterRequest, Head, Measures};
use crate::device::{DeviceRequest, Dtype};
use crate::error::{Error, Result};
use crate::jacobian::Subset;
use crate::kernel::{Formula, Precision};
use crate::lm::OutputMode;
use crate::setting::Field;
use crate::split::Parts;
use crate::subspace::Init;
use crate::task::Overrides;

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
    /// What reads the network: its own head under the task's prompt, or, without a prompt, a new linear head on the first
    /// token (the last of a causal model) with random weights (drawn by --seed) or those of a linear probe
    #[arg(long, value_enum, default_value = "prompt")]
    pub head: Head,
    /// What f is: one output per class, its label word's logit (or log-probability, see --label-words), or for two classes
    /// the second's minus the first's [default: difference for two classes, logits otherwise]
    #[arg(long, value_enum)]
    pub output_mode: Option<OutputMode>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What computes.
#[derive(Args)]
pub(super) struct ProcessorArgs {
    /// auto (cuda:0 where there is one), cpu, cuda:INDEX
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// CPU threads of libtorch, four for each core at most [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
}

impl ProcessorArgs {
    /// Sets the number of threads, and finds the device.
    pub(super) fn prepare(&self) -> Result<Device> {
        use_threads(self.threads)?;
        self.device.resolve()
    }
}

/// How networks and the kernel engine run, whatever they run on.
#[derive(Args)]
pub(super) struct EngineArgs {
    /// Element type of weights, activations and gradients
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    #[command(flatten)]
    pub processor: ProcessorArgs,
    /// Parameters that take part in kernels and fine-tuning
    #[arg(long, value_enum, default_value = "all")]
    pub parameters: Subset,
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

impl EngineArgs {
    /// Examples per pass, where they are given.
    pub(super) fn batch(&self) -> Result<Option<usize>> {
        match self.batch {
            Some(0) => Err(Error::setting(Field::Batch, 0, "1 or more")),
            given => Ok(given),
        }
    }
}

/// The default model.
pub(super) const DEFAULT_MODEL: &str = "prose-128";

/// Its default task.
pub(super) const DEFAULT_CLOZE: &str = "cloze-was-were";

/// Default seed of splits and mini-batches.
pub(super) const DEFAULT_SEED: u64 = 13;

/// Default number of training examples per class.
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
    /// Most test examples to use (drawn by the seed)
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
    /// Start from this PEFT adapter; biases and modules that it saves whole replace the model's own, and take no part in kernels
    /// and fine-tuning
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
    /// Measure along the run and at its end, or at its end alone [default: full, end for `reproduce`]
    #[arg(long, value_enum)]
    pub measures: Option<Measures>,
    /// Number of steps along the run that are measured, on a logarithmic scale from the first to the last [default: one for every
    /// 25 steps, at least 2, at most the powers of two]
    #[arg(long, value_name = "N")]
    pub measure_steps: Option<usize>,
    /// Dev examples on which they are measured, evenly spaced [default: 8]
    #[arg(long, value_name = "N")]
    pub probes: Option<usize>,
    /// Multiply the linear maps in parts of bf16 while training, with weights, sums and everything else in single precision. The
    /// selected run is trained once more without, and every measure of both is in the report
    #[arg(long, value_parser = choices::parts())]
    pub train_precision: Option<Parts>,
}
