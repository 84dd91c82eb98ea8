//! Pre-trained language models in Hugging Face's checkpoint layout or GGUF files, written over `jacobian`'s tap.
//!
//! Knows configurations, weights and forward passes; knows no task, no kernel and no claim.

mod activation;
mod angles;
mod answers;
mod architectures;
mod assemble;
mod attention;
mod checkpoint;
mod config;
mod configured;
mod decoder;
mod encoder;
mod examples;
mod fields;
mod gguf;
mod head;
mod layout;
mod load;
mod model;
mod model_names;
mod mup;
mod names;
mod network;
mod operations;
mod packing;
mod parts;
mod peft;
#[cfg(test)]
mod plain;
pub mod random;
mod relative;
mod rotary;
mod rounding;
mod save;
mod sequences;
mod single;

pub use activation::Activation;
pub use answers::AnswerExamples;
pub use architectures::default_targets;
pub use checkpoint::{Checkpoint, TensorSource, shard_names};
pub use config::{Architecture, ModelConfig, Sharing};
pub use configured::Configured;
pub use decoder::{Biases, CausalArchitecture, CausalConfig, CausalLm};
pub use encoder::MaskedLm;
pub use examples::{AnsweredExample, OutputMode, PromptExample, PromptExamples};
pub use head::{HeadExamples, with_head};
pub use load::{load, settings};
pub use model::{LanguageModel, NetworkFacts, Reads, Roundings, TokenBatch};
pub use mup::{Initial, Parametrization, Scaling};
pub use peft::{Modules, PeftAdapter, TargetModules, save_adapter};
pub use save::{StoredType, save, write_tensors};
