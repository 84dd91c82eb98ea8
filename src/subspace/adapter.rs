//! One adapter: which use of which weight it is on, and where its factors are.

use crate::jacobian::Param;

/// Which use of a weight is adapted. Token embeddings that the decoder shares have two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Products with it.
    Linear,
    /// Rows that tokens or positions look up.
    Embedding,
    /// Rows that are multiplied for the logits of tokens.
    Decoder,
}

/// Where the factors of one adapted weight are among the extended parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The adapted weight W \[out, in\]; of embeddings the table \[V, d\].
    pub weight: Param,
    /// The adapted use.
    pub of: Use,
    /// A \[k, in\]; of embeddings a table \[V, k\].
    pub a: Param,
    /// B \[out, k\]; of embeddings \[d, k\].
    pub b: Param,
    /// Lengths m \[out\] of the rows of `W + s B A`, where they are trained.
    pub magnitude: Option<Param>,
    /// The factor s.
    pub scaling: f64,
}
