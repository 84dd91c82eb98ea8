//! Pre-trained language models in Hugging Face's checkpoint layout, written over `jacobian`'s tap.
//!
//! Knows configurations, weights and forward passes; knows no task, no kernel and no claim.

mod checkpoint;
mod config;
mod encoder;
mod examples;
mod head;
mod mup;
mod names;
mod pickle;
pub mod random;
mod save;

pub use checkpoint::{Checkpoint, TensorSource};
pub use config::{Activation, Architecture, ModelConfig};
pub use encoder::{MaskedLm, TokenBatch};
pub use examples::{OutputMode, PromptExample, PromptExamples};
pub use head::{HeadExamples, with_head};
pub use mup::{Initial, Parametrization, Scaling};
pub use save::{StoredType, save, write_tensors};
