//! Prompt-based few-shot tasks: from data files and a template to the token ids that a language model reads.
//!
//! [`definition`] says what a task is, [`data`] reads its rows, [`split`] its few-shot splits, [`template`] the
//! language of prompts, [`tokenizer`] the checkpoint's tokenizer, [`prompt`] puts them together; [`mod@builtin`] holds
//! the paper's tasks, [`mod@demo`] a small task that needs no files, [`cloze`] makes tasks of plain text.
//!
//! May not know tensors, models or kernels: its results are plain integers.

pub mod builtin;
mod byte_pairs;
mod chat;
pub mod cloze;
pub mod columns;
pub mod data;
pub mod definition;
pub mod demo;
pub mod label_words;
mod merges;
mod pieces;
pub mod prompt;
mod records;
mod scored_pieces;
pub mod split;
pub mod template;
pub mod tokenizer;

pub use builtin::{BUILTIN_NAMES, builtin};
pub use columns::ColumnNames;
pub use data::{Example, parse_examples, read_examples};
pub use definition::{DataFormat, LabelWord, Overrides, TaskDefinition};
pub use demo::{DEMO_NAME, demo, demo_definition};
pub use label_words::label_word_tokens;
pub use prompt::{Prompt, PromptedTask, Reading, encode};
pub use split::{OwnSplit, Split, Splits};
pub use template::{Choice, FirstLetter, Part, Sentence, Template, literal_text};
pub use tokenizer::{PromptTokenizer, SpecialToken};
