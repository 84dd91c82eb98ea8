//! Prompt-based few-shot tasks: from data files and a template to the token ids that a language model reads.
//!
//! `definition` says what a task is, `data` reads its rows, `split` its few-shot splits, `template` the
//! language of prompts, `tokenizer` the checkpoint's tokenizer, `prompt` puts them together; `builtin` holds
//! the paper's tasks, `demo` a small task that needs no files, [`cloze`] makes tasks of plain text.
//!
//! May not know tensors, models or kernels: its results are plain integers.

mod builtin;
mod byte_pairs;
mod chat;
mod chat_template;
pub mod cloze;
pub mod columns;
mod data;
mod definition;
mod demo;
mod format;
mod label_words;
mod limits;
mod listed_tokens;
mod merges;
mod pieces;
mod prompt;
mod reading;
mod records;
mod scored_pieces;
mod split;
mod template;
mod tokenizer;

pub use builtin::{BUILTIN_NAMES, builtin};
pub use columns::ColumnNames;
pub(crate) use data::decode;
pub use data::{Example, parse_examples, read_examples};
pub use definition::{LabelWord, Overrides, TaskDefinition};
pub use demo::{DEMO_NAME, demo, demo_definition};
pub use format::DataFormat;
pub use label_words::label_word_tokens;
pub use prompt::{Prompt, PromptedTask, encode};
pub use reading::Reading;
pub use split::{OwnSplit, Split, Splits};
pub use template::{Choice, FirstLetter, KNOWN_VARIABLES, Part, Sentence, Template, literal_text};
pub use tokenizer::{PromptTokenizer, SpecialToken};
