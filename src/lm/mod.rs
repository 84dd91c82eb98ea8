//! Pre-trained language models in Hugging Face's checkpoint layout, written over `jacobian`'s tap.
//!
//! Knows configurations, weights and forward passes; knows no task, no kernel and no claim.

mod checkpoint;
mod config;
mod encoder;
mod examples;
mod names;
mod pickle;
pub mod random;

pub use checkpoint::{Checkpoint, TensorSource};
pub use config::{Activation, Architecture, ModelConfig};
pub use encoder::{MaskedLm, TokenBatch};
pub use examples::{OutputMode, PromptExample, PromptExamples};
