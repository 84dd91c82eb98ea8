//! The settings that messages speak of, by one name each.
//!
//! A library cannot know how its caller sets them: a message names the setting, and a command line puts its own flag in the
//! name's place. For that, [`Field`] prints as "setting `max_length`", which no other text in a message looks like.

use std::fmt;

/// Makes the enumeration, its names and the list of all from one table.
macro_rules! fields {
    ($($field:ident = $name:literal: $what:literal;)+) => {
        /// A setting of the library.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $(#[doc = $what] $field,)+
        }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$field),+];

            /// Its name, as fields of settings are written.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)+
                }
            }
        }
    };
}

fields! {
    Alpha = "alpha": "PEFT's `lora_alpha`.";
    Batch = "batch": "Examples per pass of the kernel engine.";
    BatchSize = "batch_size": "Examples per step of training.";
    Chat = "chat": "Whether a prompt is the user's message of a chat.";
    Confidence = "confidence": "Probability of intervals and bounds.";
    Device = "device": "Where a computation runs.";
    Dimensions = "dimensions": "Dimensions of random projections.";
    Distance = "distance": "The asked distance between kernels.";
    Draws = "draws": "Draws of every rank.";
    Dtype = "dtype": "Element type of weights, activations and gradients.";
    EvalEvery = "eval_every": "Steps between two evaluations on dev.";
    FirstSentenceLimit = "first_sentence_limit": "Most tokens of a prompt's first text.";
    Formulas = "formulas": "Kernel formulas.";
    Ignored = "ignored": "Metrics that a comparison leaves out.";
    K = "k": "Training examples per class.";
    Limit = "limit": "Most examples of a drawn task.";
    LrAdam = "lr_adam": "Learning rates of Adam.";
    LrSgd = "lr_sgd": "Learning rates of SGD.";
    LrSigngd = "lr_signgd": "Learning rates of SignGD.";
    MaxLength = "max_length": "Most tokens of a prompt.";
    MaxWords = "max_words": "Most words of a sentence.";
    Memory = "memory": "Most memory of the process.";
    MinWords = "min_words": "Fewest words of a sentence.";
    OtherSentenceLimit = "other_sentence_limit": "Most tokens of the other texts of a prompt.";
    Out = "out": "A file that is written.";
    OutDirectory = "out_directory": "A directory that reports are written to.";
    OutputMode = "output_mode": "What f is.";
    Precision = "precision": "Element type of gradient products.";
    Probes = "probes": "Dev examples that are measured along a run.";
    Ranks = "ranks": "Ranks of adapters.";
    Segments = "segments": "Whether the texts of a prompt have segment ids of their own.";
    Shard = "shard": "Which part of a job this process is.";
    Steps = "steps": "Steps of training.";
    Subset = "subset": "Parameters that take part.";
    Task = "task": "A task by its name.";
    Template = "template": "What a prompt is made by.";
    TestLimit = "test_limit": "Most test examples.";
    Threads = "threads": "Threads of libtorch.";
    TrainPrecision = "train_precision": "What linear maps are multiplied in while training.";
    WriteBaseline = "write_baseline": "Whether a baseline is written.";
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting `{}`", self.name())
    }
}
