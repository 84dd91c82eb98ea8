//! The settings of an analysis.

/// Program, machine-independent settings and seeds. Nothing here changes between two runs of the same analysis.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunFacts {
    /// Version of this program.
    pub program_version: String,
    /// Version of libtorch.
    pub torch_version: String,
    /// `cpu`, `cuda:0`, …
    pub device: String,
    /// `f32` or `f64`
    pub dtype: String,
    /// Included parameters: `all`, `no-embeddings`, `no-head`, `biases-only`.
    pub subset: String,
    /// Seed of mini-batch orders.
    pub seed: u64,
    /// All settings of the analysis: formulas, batch sizes, optimizers with their learning rates and constants, steps.
    pub plan: serde_json::Value,
    /// The relevant arguments of the command, quoted for a shell; paths as given.
    pub command: String,
    /// SHA-256 over versions, weights, configuration, prompts and settings: two analyses with the same digest are the same.
    pub digest: String,
}

/// The language model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ModelFacts {
    /// Name of the checkpoint directory, or on the hub.
    pub name: String,
    /// `bert`, `roberta`, …
    pub architecture: String,
    /// Number of parameters.
    pub parameters: i64,
    /// Number of included parameters (see [`RunFacts::subset`]).
    pub parameters_in_subset: i64,
    /// Encoder layers.
    pub layers: i64,
    /// Width of the residual stream.
    pub width: i64,
    /// SHA-256 of the weights' files.
    pub digest: String,
    /// A caveat from the model's own description, or its commit on the hub.
    pub note: Option<String>,
}

/// A class and its label word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabelWordFacts {
    /// Label as in the data.
    pub label: String,
    /// Label word, or the column of the choice.
    pub word: String,
    /// Its token id; `None` without a prompt, or if it has several tokens.
    pub token_id: Option<i64>,
    /// Its token ids if it has several tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_ids: Vec<i64>,
    /// Training examples of the class.
    pub train: usize,
    /// Test examples of the class.
    pub test: usize,
}

/// The file and rows of a set's examples, in the order of all figures per example.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SetFacts {
    /// `train`, `dev` or `test`; `all` if a file was not split.
    pub set: String,
    /// Name of the file.
    pub file: String,
    /// SHA-256 of the file.
    pub file_digest: String,
    /// Line of the file on which each example starts, counted from 1.
    pub rows: Vec<usize>,
    /// SHA-256 of each example's texts and choices in UTF-8, separated by zero bytes.
    pub text_digests: Vec<String>,
}

/// The task, its data and its prompt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TaskFacts {
    /// Name.
    pub name: String,
    /// Name of the data, independent of its location: `TASK/K-SEED`, or a file's name.
    pub source: String,
    /// SHA-256 of the digests of the files of train, dev and test. Empty in older reports.
    #[serde(default)]
    pub source_digest: String,
    /// The rows of train, dev and test. Empty as above.
    #[serde(default)]
    pub sets: Vec<SetFacts>,
    /// Template in LM-BFF's language; empty without a prompt.
    pub template: String,
    /// Output head: `prompt`, or a new head without a prompt.
    pub head: String,
    /// Classes in the order of outputs.
    pub label_words: Vec<LabelWordFacts>,
    /// Examples per class, if the split is k-shot.
    pub k: Option<usize>,
    /// Seed of the split, if it has one.
    pub split_seed: Option<u64>,
    /// Number of training examples.
    pub train: usize,
    /// Number of dev examples.
    pub dev: usize,
    /// Number of test examples.
    pub test: usize,
    /// Tokens of the longest prompt.
    pub longest_prompt: usize,
    /// The output f in the kernels: `logits` (one output per class) or `difference` (second label word minus first); or
    /// `log-probabilities`, summed over the tokens of each answer, or `difference of log-probabilities`.
    pub output_mode: String,
    /// Accuracy of always answering the most frequent class of the test set.
    pub majority_accuracy: f64,
    /// Notes of the data's readers, e.g. how a split was derived.
    pub notes: Vec<String>,
    /// SHA-256 of the tokenizer: vocabulary, rules and special tokens. Empty in older reports.
    #[serde(default)]
    pub tokenizer_digest: String,
    /// The tokenizer's class and files. Empty as above.
    #[serde(default)]
    pub tokenizer: String,
    /// The first training prompt, as tokens spelled as in the vocabulary. Empty as above.
    #[serde(default)]
    pub first_prompt: Vec<String>,
    /// SHA-256 of all prompts as token ids, with their labels. Empty as above.
    #[serde(default)]
    pub prompts_digest: String,
}
