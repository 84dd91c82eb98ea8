//! The settings named in messages.
//!
//! The library does not know how its caller sets them: a message names the setting, and the command line replaces the name
//! by its flag. For that, [`Field`] prints as "setting `max_length`", which no other text in a message looks like.

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

            /// Its name.
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
    Confidence = "confidence": "Confidence level of intervals and bounds.";
    Device = "device": "Device of the computation.";
    Dimensions = "dimensions": "Dimensions of random projections.";
    Distance = "distance": "Kernel distance for which to find the rank.";
    Draws = "draws": "Random draws per rank.";
    Dtype = "dtype": "Element type of weights, activations and gradients.";
    EvalEvery = "eval_every": "Steps between evaluations on dev.";
    FirstSentenceLimit = "first_sentence_limit": "Maximum number of tokens of a prompt's first text.";
    Formulas = "formulas": "Kernel formulas.";
    Ignored = "ignored": "Metrics that a comparison ignores.";
    K = "k": "Training examples per class.";
    Limit = "limit": "Maximum number of examples of a drawn task.";
    LrAdam = "lr_adam": "Learning rates of Adam.";
    LrSgd = "lr_sgd": "Learning rates of SGD.";
    LrSigngd = "lr_signgd": "Learning rates of SignGD.";
    MaxLength = "max_length": "Maximum number of tokens of a prompt.";
    MaxWords = "max_words": "Maximum number of words of a sentence.";
    Memory = "memory": "Memory limit of the process.";
    MinWords = "min_words": "Minimum number of words of a sentence.";
    OtherSentenceLimit = "other_sentence_limit": "Maximum number of tokens of a prompt's other texts.";
    Out = "out": "Output file.";
    OutDirectory = "out_directory": "Output directory of a report.";
    OutputMode = "output_mode": "The output f.";
    Precision = "precision": "Element type of gradient products.";
    Probes = "probes": "Number of dev examples measured along a run.";
    Ranks = "ranks": "Ranks of adapters.";
    Segments = "segments": "Whether a prompt's texts have different segment ids.";
    Shard = "shard": "Which shard of a job this process computes.";
    Steps = "steps": "Steps of training.";
    Subset = "subset": "Parameters to include.";
    Task = "task": "Name of a task.";
    Template = "template": "Template of prompts.";
    TestLimit = "test_limit": "Maximum number of test examples.";
    Threads = "threads": "Threads of libtorch.";
    TrainPrecision = "train_precision": "Precision of linear maps in training.";
    WriteBaseline = "write_baseline": "Whether a baseline is written.";
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting `{}`", self.name())
    }
}
