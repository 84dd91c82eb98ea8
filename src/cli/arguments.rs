//! Arguments shared by several commands, with their help texts.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use tch::Device;

use super::choices;
use super::numbers::check_counts;
use super::threads::use_threads;
use crate::analysis::{AdapterRequest, Head, Measures};
use crate::device::{DeviceRequest, Dtype};
use crate::error::{Error, Result};
use crate::jacobian::Subset;
use crate::kernel::{Formula, Precision};
use crate::lm::OutputMode;
use crate::products::Parts;
use crate::setting::Field;
use crate::subspace::Init;
use crate::task::Overrides;

/// Which model, and how to run it.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelArgs {
    /// The model: a checkpoint directory (config.json, weights, tokenizer.json); a GGUF file; a built-in model (prose-64,
    /// prose-128 or prose-256; set KERNELVIEW_FAMILY to use another family's directory); a model fetched by `cargo xtask
    /// model`; or a model on the Hugging Face hub (NAME, ORG/NAME, ORG/NAME@REVISION), taken from the local cache or
    /// downloaded into it
    #[arg(long, default_value = DEFAULT_MODEL, value_name = "DIR|NAME")]
    pub model: String,
    /// Output head: the model's own with the task's prompt, or, without a prompt, a new linear head on the first token (the
    /// last one for a causal model), with random weights (drawn from --seed) or those of a linear probe
    #[arg(long, value_enum, default_value = "prompt")]
    pub head: Head,
    /// The output f: one per class (the logit of its label word, or its log-probability, see --label-words), or, for two
    /// classes, the second minus the first [default: difference for two classes, logits otherwise]
    #[arg(long, value_enum)]
    pub output_mode: Option<OutputMode>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Device and threads.
#[derive(Args)]
pub(super) struct ProcessorArgs {
    /// auto (cuda:0 if available), cpu or cuda:INDEX
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// CPU threads of libtorch, at most four per core [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
}

impl ProcessorArgs {
    /// Sets the number of threads and resolves the device.
    pub(super) fn prepare(&self) -> Result<Device> {
        use_threads(self.threads)?;
        self.device.resolve()
    }
}

/// How networks and the kernel engine run.
#[derive(Args)]
pub(super) struct EngineArgs {
    /// Element type of weights, activations and gradients
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    #[command(flatten)]
    pub processor: ProcessorArgs,
    /// Parameters to include in kernels and fine-tuning
    #[arg(long, value_enum, default_value = "all")]
    pub parameters: Subset,
    /// Examples per forward and backward pass of the kernel engine; memory grows with it [default: 32, fewer if there are
    /// many outputs]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Memory limit of the whole process, which the kernel engine keeps to, e.g. 6GB [default: about 3 GB plus the
    /// parameters]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Element type in which gradients are stored and multiplied; `analyze` and `kernel` measure and report the resulting
    /// error [default: that of --dtype]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
}

impl EngineArgs {
    /// Examples per pass, if given.
    pub(super) fn batch(&self) -> Result<Option<usize>> {
        match self.batch {
            Some(0) => Err(Error::setting(Field::Batch, 0, "1 or more")),
            given => Ok(given),
        }
    }
}

/// The default model.
pub(super) const DEFAULT_MODEL: &str = "prose-128";

/// The default model's default task.
pub(super) const DEFAULT_CLOZE: &str = "cloze-was-were";

/// Default seed of splits and mini-batches.
pub(super) const DEFAULT_SEED: u64 = 13;

/// Default number of training examples per class.
pub(super) const DEFAULT_K: usize = 16;

/// Which task and which examples.
#[derive(Args, Clone)]
#[command(next_help_heading = "Task")]
pub(super) struct TaskArgs {
    /// A task by name (see `kernelview tasks`): one of the paper's 14, with few-shot splits from --data-dir, or a cloze task
    /// with built-in sentences [default: cloze-was-were for the default model, otherwise built-in remarks, positive or
    /// negative]
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Your own task definition, in TOML
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub task_file: Option<PathBuf>,
    /// Directory of few-shot splits, laid out as TASK/K-SEED/{train,dev,test}
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Your own TSV, CSV or JSON lines file with the columns text[,text2],label (or those of --columns), or a directory with
    /// train, validation and test files
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
    /// Label words: bad,good (in the order of labels 0, 1, …) or neg=bad,pos=good. If every word is a single token, f of a
    /// class is its word's logit; if any word has several tokens, f is, for every class, the sum of the log-probabilities of
    /// its word's tokens. If the template has `*choice*` instead of the mask (multiple choice), these name the columns that
    /// hold a row's choices; in JSON lines also endings.0,endings.1
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub label_words: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Increment the segment id after each sep+ (the paper's runs use zeros everywhere)
    #[arg(long)]
    pub segments: bool,
    /// Wrap a causal model's prompt in the checkpoint's own chat template: what precedes `*reply*` in --template (without
    /// one, everything up to the mask) is the user's message, what follows it starts the answer
    #[arg(long)]
    pub chat: bool,
}

#[derive(Args, Clone)]
pub(super) struct LimitArgs {
    /// Maximum number of test examples (drawn with the seed)
    #[arg(long, value_name = "N")]
    test_limit: Option<usize>,
    /// Maximum prompt length in tokens [default: the task's]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Maximum length of the first text in tokens (0: no limit) [default: the task's]
    #[arg(long, value_name = "TOKENS")]
    first_limit: Option<usize>,
    /// Maximum length of every other text in tokens (0: no limit) [default: the task's]
    #[arg(long, value_name = "TOKENS")]
    other_limit: Option<usize>,
}

impl LimitArgs {
    /// Lengths that override a task's, and the maximum number of test examples.
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

/// LoRA adapters instead of the weights.
#[derive(Args)]
#[command(next_help_heading = "Adapters")]
pub(super) struct AdapterArgs {
    /// Add LoRA adapters of this rank to the network; kernels and fine-tuning are then over their factors. Trained adapters
    /// are written to --out-dir/adapters/OPTIMIZER in PEFT's format
    #[arg(long = "lora-rank", value_name = "RANK", conflicts_with = "adapter")]
    pub rank: Option<i64>,
    /// Modules to adapt, by name suffix, or all-linear [default: PEFT's for the architecture]
    #[arg(long = "lora-targets", value_delimiter = ',', value_name = "NAMES", requires = "rank")]
    pub targets: Vec<String>,
    /// PEFT's lora_alpha: adapters are scaled by alpha/rank [default: the rank, i.e. no scaling]
    #[arg(long = "lora-alpha", requires = "rank")]
    pub alpha: Option<f64>,
    /// How the factors A are drawn: N(0, 1/k) (the kernel of the adapted weights keeps its size), PEFT's default, or PEFT's
    /// gaussian
    #[arg(long = "lora-init", value_enum, default_value = "gaussian", requires = "rank")]
    pub init: Init,
    /// Start from this PEFT adapter; biases and modules that it saves in full replace the model's own and are excluded from
    /// kernels and fine-tuning
    #[arg(long = "lora-adapter", value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

impl AdapterArgs {
    /// The requested adapters, if any.
    pub(super) fn request(&self) -> Result<Option<AdapterRequest>> {
        if let Some(directory) = &self.adapter {
            return Ok(Some(AdapterRequest::Read(directory.clone())));
        }
        check_counts(&[("--lora-rank", self.rank)])?;
        let Some(rank) = self.rank else { return Ok(None) };
        if self.alpha.is_some_and(|alpha| !(alpha.is_finite() && alpha > 0.0)) {
            return Err(Error::argument("--lora-alpha", "it must be a positive number"));
        }
        let scaling = self.alpha.map_or(1.0, |alpha| alpha / rank as f64);
        Ok(Some(AdapterRequest::New { targets: self.targets.clone(), rank, scaling, init: self.init }))
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
    /// Number of steps measured along the run, on a logarithmic scale from the first to the last [default: one for every 25
    /// steps, at least 2, at most the powers of two]
    #[arg(long, value_name = "N")]
    pub measure_steps: Option<usize>,
    /// Number of dev examples used for these measures and to choose the precision of those at the end, evenly spaced [default: 8]
    #[arg(long, value_name = "N")]
    pub probes: Option<usize>,
    /// Compute linear maps from bf16 parts while training; weights, sums and everything else stay in single precision. The
    /// selected run is repeated in single precision, and the report has every measure of both
    #[arg(long, value_parser = choices::parts())]
    pub train_precision: Option<Parts>,
}
