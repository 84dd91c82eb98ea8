//! Networks of `network` as programs, for every width and for the limit.

mod attention;
mod perceptron;
mod recurrent;
mod training;

pub use attention::{Attention, attention};
pub use perceptron::{LayerKernels, PerceptronKernels, Table, perceptron_kernels};
pub use recurrent::{Recurrent, recurrent};
pub use training::{Gradient, Input, Network, Regime, Training, Update};
