//! Fine-tuning by gradient descent on the label words' cross-entropy: the training that the paper's kernels are analogs of.
//!
//! Knows networks only as [`Examples`](crate::jacobian::Examples). No dropout, no weight decay, a constant learning rate: the
//! theory covers nothing else.

mod fused;
mod loss;
mod optimizer;
mod rows;
mod run;

pub use loss::{cross_entropy, loss_gradient, output_derivative};
pub use optimizer::{Optimizer, OptimizerKind, OptimizerState};
pub use run::{
    FineTuning, LabelledExamples, Step, TrainedModel, Watch, accuracy, answers, evaluate, f1, fine_tune, predictions,
};
