//! All failures that a user can meet. Messages name the file, the field or shapes, and what to do.
//!
//! Knows nothing of tensors or networks, so every module can use it.

mod constructors;
mod kinds;
mod nearest;
mod panics;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::setting::Field;

pub(crate) use nearest::nearest;
pub use panics::{SHORTAGE_ADVICE, is_shortage, panic_text, shortage_text};

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. [`Error::exit_code`] gives the process's exit status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted: "read", "write", "create", …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file's content is invalid.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, which field it concerns, and what was expected.
        message: String,
    },
    /// A row of a data file is invalid.
    #[error("{}, row {row}: {message}", path.display())]
    Row {
        /// The data file.
        path: PathBuf,
        /// Row number as in an editor: the first line is 1.
        row: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A checkpoint lacks a tensor that its architecture needs.
    #[error("{}: tensor `{tensor}` (shape {expected:?}) is missing; {hint}", path.display())]
    TensorMissing {
        /// The checkpoint file or directory.
        path: PathBuf,
        /// The tensor's canonical name.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
        /// What was found instead, or what to check.
        hint: String,
    },
    /// A tensor of a checkpoint does not have the shape that its configuration asks for.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?} ({reason})", path.display())]
    TensorShape {
        /// The checkpoint file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
        /// The shape in the file.
        found: Vec<i64>,
        /// The fields of the configuration that ask for it.
        reason: String,
    },
    /// A setting is out of range or unavailable here.
    #[error("{field} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        field: Field,
        /// What it is.
        value: String,
        /// What it may be, and what else would help.
        expected: String,
    },
    /// An argument that is not a setting is out of range.
    #[error("{what} is {value}; it must be {expected}")]
    Value {
        /// The argument.
        what: String,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// An environment variable has an invalid value.
    #[error("{variable} is `{value}`; it must be {expected}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A command-line argument is invalid, or needs another one.
    #[error("{flag}: {problem}")]
    Arguments {
        /// The argument as typed.
        flag: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A text with invalid syntax.
    #[error("{what} `{text}`: {problem}; {expected}")]
    Syntax {
        /// What the text is: a template, label words, …
        what: &'static str,
        /// The text.
        text: String,
        /// What is wrong.
        problem: String,
        /// The syntax.
        expected: String,
    },
    /// An unknown name.
    #[error("unknown {what} `{name}`; {hint}")]
    Unknown {
        /// What it should name.
        what: String,
        /// The name.
        name: String,
        /// The known names, or where to find them.
        hint: String,
    },
    /// Something given twice that may occur only once.
    #[error("{what} `{name}` is given twice")]
    Duplicate {
        /// What it is.
        what: String,
        /// Its name.
        name: String,
    },
    /// Something needed is missing.
    #[error("no {what}: {needed}")]
    Missing {
        /// What is missing.
        what: String,
        /// What needs it.
        needed: String,
    },
    /// A matrix or tensor has the wrong shape.
    #[error("{what} has shape {found:?}; {expected}")]
    Shape {
        /// The matrix or tensor.
        what: String,
        /// Its shape.
        found: Vec<usize>,
        /// The expected shape.
        expected: String,
    },
    /// A list has the wrong length.
    #[error("{what}: {found} given, {expected} needed")]
    Length {
        /// The list.
        what: String,
        /// Its length.
        found: usize,
        /// The expected length.
        expected: usize,
    },
    /// A training kernel is not symmetric up to round-off.
    #[error(
        "the training kernel (shape {shape:?}) is not symmetric: max|K - Kᵀ| = {gap:.3e}, max|K| = {scale:.3e}; use a solver for \
         asymmetric kernels"
    )]
    NotSymmetric {
        /// Its shape.
        shape: [usize; 2],
        /// `max|K - Kᵀ|`.
        gap: f64,
        /// `max|K|`.
        scale: f64,
    },
    /// All training examples belong to one class.
    #[error("all {examples} training examples belong to class {class}: a classifier needs two classes")]
    OneClass {
        /// How many there are.
        examples: usize,
        /// Their class.
        class: String,
    },
    /// An invalid class index or target.
    #[error("{set}: label {index} is {label}; it must be {expected}")]
    Label {
        /// The set of examples.
        set: String,
        /// The example, from 0.
        index: usize,
        /// Its label.
        label: f64,
        /// What it may be.
        expected: String,
    },
    /// A task definition that is inconsistent or unsuitable here.
    #[error("task `{task}`: {problem}")]
    Task {
        /// Its name.
        task: String,
        /// What is wrong.
        problem: String,
    },
    /// An example that a network cannot read.
    #[error("example {index}: {problem}")]
    Example {
        /// The example, from 0.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// A text with more tokens than the model has positions.
    #[error(
        "{example} has {tokens} tokens, but the model has only {most} positions: {} must be at most {most}",
        Field::MaxLength
    )]
    TooLong {
        /// The example.
        example: String,
        /// Its tokens.
        tokens: usize,
        /// The model's number of positions.
        most: i64,
    },
    /// A token outside the model's vocabulary.
    #[error(
        "{what} has token id {id}, but the model's vocabulary has {entries} entries (vocab_size in config.json): the tokenizer \
         does not belong to this model"
    )]
    NotInVocabulary {
        /// Where the token occurs.
        what: String,
        /// Its id.
        id: i64,
        /// Size of the vocabulary.
        entries: i64,
    },
    /// A model of the wrong kind.
    #[error("the model {model}: {problem}")]
    Model {
        /// Its name.
        model: String,
        /// Its kind, and the kind needed.
        problem: String,
    },
    /// A weight that cannot be adapted, or not in this way.
    #[error("adapter of `{weight}`: {problem}")]
    Adapter {
        /// The weight.
        weight: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor program that is not well-formed.
    #[error("not a program: {0}")]
    Program(String),
    /// Two results that cannot be compared.
    #[error("the two sides cannot be compared: the {aspect} was {first} and is {second}; {advice}")]
    Incomparable {
        /// What differs.
        aspect: String,
        /// What the first side has.
        first: String,
        /// What the second side has.
        second: String,
        /// What can be compared.
        advice: String,
    },
    /// Another process is writing to a directory.
    #[error(
        "{}: another kernelview process is writing here; wait for it to finish, or choose another directory ({})",
        path.display(),
        Field::OutDirectory
    )]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// An invalid or undetermined shard of a job.
    #[error("{} {text}: {problem}", Field::Shard)]
    Shard {
        /// How it is given: `I/N` or `auto`.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// A model found neither on this machine nor on the hub.
    #[error("{model}: {reason}")]
    Hub {
        /// Its name.
        model: String,
        /// Where it was searched for, and why it was not found.
        reason: String,
    },
    /// A computation needs more memory than available.
    #[error("{what} needs about {} of memory, but {} are free; {advice}", amount(*needed), amount(*free))]
    Memory {
        /// The computation.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        free: u64,
        /// What to do.
        advice: String,
    },
    /// A quantity that must be finite is not.
    #[error("{what} is not finite ({place}){}", behind(advice))]
    NotFinite {
        /// The quantity.
        what: String,
        /// Which entry, of which example.
        place: String,
        /// The cause and what to do; may be empty.
        advice: String,
    },
    /// Fine-tuning diverged.
    #[error("{optimizer} diverged {when} at {}; try smaller ones{}", rates(learning_rates), by(*field))]
    Diverged {
        /// The optimizer.
        optimizer: String,
        /// The learning rates that were tried.
        learning_rates: Vec<f64>,
        /// When it diverged.
        when: String,
        /// The setting of the learning rates, if there is one.
        field: Option<Field>,
    },
    /// A system, fit or decomposition without a solution, or whose solution was not found.
    #[error("no {of}: {reason}")]
    NoSolution {
        /// What has no solution.
        of: String,
        /// The reason, with sizes.
        reason: String,
    },
    /// A document that cannot be made from its data.
    #[error("{document} cannot be made: {reason}")]
    Document {
        /// Its file name or description.
        document: String,
        /// Why.
        reason: String,
    },
    /// libtorch reported a failure.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The computation was [cancelled](crate::progress::Cancellation); finished parts are kept.
    #[error("interrupted")]
    Interrupted,
}

/// An amount of memory in words.
pub(crate) fn amount(bytes: u64) -> String {
    if bytes < 1_000_000_000 { format!("{} MB", bytes / 1_000_000) } else { format!("{:.1} GB", bytes as f64 / 1e9) }
}

fn behind(advice: &str) -> String {
    if advice.is_empty() { String::new() } else { format!(": {advice}") }
}

fn rates(learning_rates: &[f64]) -> String {
    let rates: Vec<String> = learning_rates.iter().map(|rate| format!("{rate:e}")).collect();
    format!("learning rate{} {}", if rates.len() == 1 { "" } else { "s" }, rates.join(", "))
}

fn by(field: Option<Field>) -> String {
    field.map_or_else(String::new, |field| format!(": {field}"))
}
