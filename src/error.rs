//! Every failure a user can meet, with the file, the field, the shapes and the way out in its message.
//!
//! Knows nothing of tensors or networks, so that every module can use it.

mod constructors;
mod panics;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::setting::Field;

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
    /// A file was read but its content is not what it must be.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, which field it concerns, and what was expected.
        message: String,
    },
    /// One row of a data file is wrong.
    #[error("{}, row {row}: {message}", path.display())]
    Row {
        /// The data file.
        path: PathBuf,
        /// Row number as an editor shows it: 1 is the first line.
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
    /// A tensor of a checkpoint has another shape than its configuration says.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?} ({reason})", path.display())]
    TensorShape {
        /// The checkpoint file.
        path: PathBuf,
        /// The tensor's name as in the file.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
        /// The shape in the file.
        found: Vec<i64>,
        /// Which fields of the configuration ask for it.
        reason: String,
    },
    /// A setting lies outside its range, or cannot be had here.
    #[error("{field} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        field: Field,
        /// What it is.
        value: String,
        /// What it may be, and what else would help.
        expected: String,
    },
    /// An argument that no setting names lies outside its range.
    #[error("{what} is {value}; it must be {expected}")]
    Value {
        /// The argument.
        what: String,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// A variable of the environment has a value that it cannot have.
    #[error("{variable} is `{value}`; it must be {expected}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// An argument of a command that cannot be had, or not without another.
    #[error("{flag}: {problem}")]
    Arguments {
        /// How it is typed.
        flag: String,
        /// What is wrong, and what would do.
        problem: String,
    },
    /// A text that is not in the notation of what it stands for.
    #[error("{what} `{text}`: {problem}; {expected}")]
    Syntax {
        /// What it stands for: a template, label words, …
        what: &'static str,
        /// The text.
        text: String,
        /// What is wrong.
        problem: String,
        /// The notation.
        expected: String,
    },
    /// A name that nothing has.
    #[error("there is no {what} `{name}`; {hint}")]
    Unknown {
        /// What it should be the name of.
        what: String,
        /// The name.
        name: String,
        /// The names that there are, or where to find them.
        hint: String,
    },
    /// Something that may be there once is there twice.
    #[error("{what} `{name}` is there twice")]
    Duplicate {
        /// What it is.
        what: String,
        /// Its name.
        name: String,
    },
    /// Something that is needed is not there.
    #[error("no {what}: {needed}")]
    Missing {
        /// What is not there.
        what: String,
        /// What needs it.
        needed: String,
    },
    /// A matrix or tensor has a shape that does not fit.
    #[error("{what} has shape {found:?}; {expected}")]
    Shape {
        /// The matrix or tensor.
        what: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that fits.
        expected: String,
    },
    /// A list has another length than what it belongs to.
    #[error("{what}: {found} given, {expected} needed")]
    Length {
        /// The list.
        what: String,
        /// Its length.
        found: usize,
        /// The length that fits.
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
    /// Training examples that are all of one class.
    #[error("all {examples} training examples are of class {class}: a classifier needs two classes")]
    OneClass {
        /// How many there are.
        examples: usize,
        /// Their class.
        class: String,
    },
    /// A class index, or a target, that an example cannot have.
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
    /// A task whose definition contradicts itself or does not fit its use.
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
    /// A text of more tokens than a model has positions for.
    #[error(
        "{example} has {tokens} tokens, the model's position table covers {most}: {} may be {most} at most",
        Field::MaxLength
    )]
    TooLong {
        /// The example.
        example: String,
        /// Its tokens.
        tokens: usize,
        /// The model's positions.
        most: i64,
    },
    /// A token that a model's vocabulary does not have.
    #[error(
        "{what} has token id {id}, but the model's vocabulary has {entries} entries (vocab_size in config.json): the tokenizer \
         does not belong to this model"
    )]
    NotInVocabulary {
        /// Where the token stands.
        what: String,
        /// Its id.
        id: i64,
        /// Entries of the vocabulary.
        entries: i64,
    },
    /// A model of another kind than is needed.
    #[error("the model {model}: {problem}")]
    Model {
        /// Its name.
        model: String,
        /// Of what kind it is, and what is needed.
        problem: String,
    },
    /// A weight that an adapter cannot have, or have in this way.
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
    /// Two sides that cannot be compared.
    #[error("the two sides cannot be compared: the {aspect} was {first} and is {second}; {advice}")]
    Incomparable {
        /// In what they differ.
        aspect: String,
        /// What the first side has.
        first: String,
        /// What the second side has.
        second: String,
        /// What can be compared.
        advice: String,
    },
    /// Another process writes to a directory.
    #[error(
        "{}: another kernelview is writing here; wait until it has ended, or choose another directory ({})",
        path.display(),
        Field::OutDirectory
    )]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A part of a job that is none, or that cannot be told.
    #[error("{} {text}: {problem}", Field::Shard)]
    Shard {
        /// How it is given: `I/N` or `auto`.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// A model that neither this machine nor the hub has.
    #[error("{model}: {reason}")]
    Hub {
        /// Its name.
        model: String,
        /// Where it was looked for, and why it was not found.
        reason: String,
    },
    /// A computation that needs more memory than there is.
    #[error("{what} needs about {} of memory, {} are free; {advice}", amount(*needed), amount(*free))]
    Memory {
        /// The computation.
        what: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that there are.
        free: u64,
        /// The way out.
        advice: String,
    },
    /// A quantity that must be finite is not.
    #[error("{what} is not finite ({place}){}", behind(advice))]
    NotFinite {
        /// The quantity.
        what: String,
        /// Which entry, of which example.
        place: String,
        /// Where that comes from, and what helps; may be empty.
        advice: String,
    },
    /// Fine-tuning whose loss grew beyond all bounds.
    #[error("{optimizer} diverged {when} at {}; give smaller ones{}", rates(learning_rates), by(*field))]
    Diverged {
        /// The optimizer.
        optimizer: String,
        /// The learning rates that were tried.
        learning_rates: Vec<f64>,
        /// When it did.
        when: String,
        /// The setting that the learning rates are, where they are one.
        field: Option<Field>,
    },
    /// A system, a fit or a decomposition that has no solution, or none that is found.
    #[error("no {of}: {reason}")]
    NoSolution {
        /// What has none.
        of: String,
        /// Why, with its size.
        reason: String,
    },
    /// A document that cannot be made of its data.
    #[error("{document} cannot be made: {reason}")]
    Document {
        /// Its file, or what it is.
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

impl Error {
    /// Whether numbers brought a computation to nothing: with others it may succeed.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::Diverged { .. } | Self::NoSolution { .. })
    }

    /// 2 for bad input or settings, 130 for an interruption, 1 for a computation that failed.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Interrupted => 130,
            Self::NotFinite { .. }
            | Self::Diverged { .. }
            | Self::NoSolution { .. }
            | Self::Document { .. }
            | Self::Torch(_) => 1,
            Self::Io { .. }
            | Self::Format { .. }
            | Self::Row { .. }
            | Self::TensorMissing { .. }
            | Self::TensorShape { .. }
            | Self::Setting { .. }
            | Self::Value { .. }
            | Self::Environment { .. }
            | Self::Arguments { .. }
            | Self::Syntax { .. }
            | Self::Unknown { .. }
            | Self::Duplicate { .. }
            | Self::Missing { .. }
            | Self::Shape { .. }
            | Self::Length { .. }
            | Self::NotSymmetric { .. }
            | Self::OneClass { .. }
            | Self::Label { .. }
            | Self::Task { .. }
            | Self::Example { .. }
            | Self::TooLong { .. }
            | Self::NotInVocabulary { .. }
            | Self::Model { .. }
            | Self::Adapter { .. }
            | Self::Program(_)
            | Self::Incomparable { .. }
            | Self::Busy { .. }
            | Self::Shard { .. }
            | Self::Hub { .. }
            | Self::Memory { .. } => 2,
        }
    }
}

fn amount(bytes: u64) -> String {
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
