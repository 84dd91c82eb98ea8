//! Synthetic networks of any width and their infinite-width theory: multilayer perceptrons and small transformers in any
//! abc-parametrization. Knows networks and limits; knows no data, training or claims.

mod abc;
mod activation;
mod dichotomy;
pub mod limits;
mod mlp;
mod random;
mod special;
mod transformer;

pub use abc::{Abc, Scale};
pub use activation::Activation;
pub use dichotomy::{Classification, classify_sgd, classify_sign};
pub use mlp::{Mlp, MlpExamples};
pub use random::{normal_tensor, pair_with_cosine, unit_inputs};
pub use transformer::{Exponents, Heads, Kind, Transformer, TransformerAbc, TransformerExamples, TransformerShape};
