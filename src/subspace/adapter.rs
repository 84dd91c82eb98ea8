//! One adapter: the weight, its adapted use, and the factors.

use crate::jacobian::Param;

/// The use of a weight that is adapted. Token embeddings tied to the decoder have two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Products with it.
    Linear,
    /// Rows that tokens or positions look up.
    Embedding,
    /// Rows multiplied for the tokens' logits.
    Decoder,
}

/// The factors of an adapted weight among the extended parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The adapted weight W \[out, in\]; for embeddings, the table \[V, d\].
    pub weight: Param,
    /// The adapted use.
    pub of: Use,
    /// A \[k, in\]; for embeddings, a table \[V, k\].
    pub a: Param,
    /// B \[out, k\]; for embeddings, \[d, k\].
    pub b: Param,
    /// Norms m \[out\] of the rows of `W + s B A`, if they are trained.
    pub magnitude: Option<Param>,
    /// The factor s.
    pub scaling: f64,
}
