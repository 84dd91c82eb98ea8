//! What an analysis was run on.

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
    /// Which parameters took part: `all`, `no-embeddings`, `no-head`, `biases-only`.
    pub subset: String,
    /// Seed of mini-batch orders.
    pub seed: u64,
    /// All settings of the analysis: formulas, batch sizes, optimizers with their learning rates and constants, steps.
    pub plan: serde_json::Value,
    /// The command's arguments that matter, as a shell would take them; paths as given.
    pub command: String,
    /// SHA-256 over versions, weights, configuration, prompts and settings: two analyses with one digest are the same
    /// analysis.
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
    /// Number of parameters that take part (see [`RunFacts::subset`]).
    pub parameters_in_subset: i64,
    /// Encoder layers.
    pub layers: i64,
    /// Width of the residual stream.
    pub width: i64,
    /// SHA-256 of the weights' files.
    pub digest: String,
    /// What the model's own description says one should know, or the commit on the hub; if anything.
    pub note: Option<String>,
}

/// A class and its label word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabelWordFacts {
    /// Label as in the data.
    pub label: String,
    /// Label word, or the column of the choice.
    pub word: String,
    /// Its token id; none without a prompt, or where it is several tokens.
    pub token_id: Option<i64>,
    /// Its token ids where it is several tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_ids: Vec<i64>,
    /// Training examples of the class.
    pub train: usize,
    /// Test examples of the class.
    pub test: usize,
}

/// Which rows of which file the examples of one set are, in the order of every figure that is given per example.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SetFacts {
    /// `train`, `dev` or `test`; `all` where a file was not divided.
    pub set: String,
    /// Name of the file.
    pub file: String,
    /// SHA-256 of the file.
    pub file_digest: String,
    /// Line of the file on which each example starts, counted from 1.
    pub rows: Vec<usize>,
    /// SHA-256 of each example's texts, and choices, in UTF-8, with a zero byte between two.
    pub text_digests: Vec<String>,
}

/// The task, its data and its prompt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TaskFacts {
    /// Name.
    pub name: String,
    /// Name of the data, wherever a machine keeps it: `TASK/K-SEED`, or a file's name.
    pub source: String,
    /// SHA-256 over those of the files, train, dev and test. Empty in reports of programs that did not tell.
    #[serde(default)]
    pub source_digest: String,
    /// The rows of train, dev and test. Empty as above.
    #[serde(default)]
    pub sets: Vec<SetFacts>,
    /// Template in LM-BFF's language; empty without a prompt.
    pub template: String,
    /// What reads the network: `prompt`, or a new head without one.
    pub head: String,
    /// Classes in the order of outputs.
    pub label_words: Vec<LabelWordFacts>,
    /// Examples per class, where the split is k-shot.
    pub k: Option<usize>,
    /// Seed of the split, where it has one.
    pub split_seed: Option<u64>,
    /// Number of training examples.
    pub train: usize,
    /// Number of dev examples.
    pub dev: usize,
    /// Number of test examples.
    pub test: usize,
    /// Tokens of the longest prompt.
    pub longest_prompt: usize,
    /// What f is in the kernels: `logits` (one output per class) or `difference` (second label word minus first); or
    /// `log-probabilities`, summed over the tokens of each answer, or `difference of log-probabilities`.
    pub output_mode: String,
    /// Accuracy of always answering the most frequent class of the test set.
    pub majority_accuracy: f64,
    /// Notes of the data's readers, e.g. how a split was derived.
    pub notes: Vec<String>,
    /// SHA-256 of the tokenizer: vocabulary, rules and special tokens. Empty in reports of programs that did not tell.
    #[serde(default)]
    pub tokenizer_digest: String,
    /// The tokenizer's class and the files that decided. Empty as above.
    #[serde(default)]
    pub tokenizer: String,
    /// The first training prompt, token by token, as the vocabulary writes them. Empty as above.
    #[serde(default)]
    pub first_prompt: Vec<String>,
    /// SHA-256 of all prompts as token ids, with their labels. Empty as above.
    #[serde(default)]
    pub prompts_digest: String,
}
