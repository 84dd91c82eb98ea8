//! Fine-tuning by gradient descent on the label words' cross-entropy, the way the paper's kernels are analogs of.
//!
//! Knows networks only as [`Examples`](crate::jacobian::Examples); no dropout, no weight decay, a constant learning
//! rate: what remains is what the theory speaks of.

mod fused;
mod loss;
mod optimizer;
mod run;

pub use loss::{cross_entropy, loss_gradient, output_derivative};
pub use optimizer::{Optimizer, OptimizerKind, OptimizerState};
pub use run::{
    FineTuning, LabelledExamples, Step, TrainedModel, accuracy, answers, evaluate, f1, fine_tune, predictions,
};
