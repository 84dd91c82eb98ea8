//! Shape and parametrization of a transformer: kinds of parameters, and the powers of the width by which their multipliers,
//! initial values and learning rates scale. Knows numbers only.

use crate::network::Activation;

/// How attention grows with the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// A fixed number of heads, whose dimension grows with the width.
    Number(i64),
    /// Heads of fixed dimension, whose number grows with the width.
    Dimension(i64),
}

/// Sizes of a transformer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformerShape {
    /// Number of token ids.
    pub vocab: i64,
    /// Largest number of tokens in a sequence.
    pub positions: i64,
    /// Width n of the residual stream.
    pub width: i64,
    /// Heads of every attention.
    pub heads: Heads,
    /// Number of layers (attention and perceptron).
    pub layers: usize,
    /// Hidden width of every perceptron, in multiples of n.
    pub inner: i64,
    /// Number of outputs C.
    pub outputs: i64,
    /// Nonlinearity of the perceptrons.
    pub activation: Activation,
}

impl TransformerShape {
    /// Number of heads.
    ///
    /// # Panics
    /// If the width is not divisible.
    pub fn head_count(&self) -> i64 {
        let (Heads::Number(divisor) | Heads::Dimension(divisor)) = self.heads;
        assert!(divisor > 0 && self.width % divisor == 0, "width {} is not a multiple of {divisor}", self.width);
        match self.heads {
            Heads::Number(count) => count,
            Heads::Dimension(dimension) => self.width / dimension,
        }
    }

    /// Dimension of one head.
    pub fn head_dimension(&self) -> i64 {
        self.width / self.head_count()
    }
}

/// The kind of a tensor, by which of its axes grow with the width (G. Yang et al., "Tensor Programs V", Section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Token and position tables: from finitely many ids to n.
    Embedding,
    /// Matrices with two axes that grow.
    Hidden,
    /// The readout: from n to finitely many outputs.
    Output,
    /// Biases, gains and shifts: n entries that act elementwise.
    Vector,
}

/// Exponents of one kind: multiplier n^-a, initial entries N(0, n^-2b), learning rate η n^-c, where n is the fan-in of
/// hidden matrices and the width otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponents {
    /// Multiplier exponent.
    pub a: f64,
    /// Initialization exponent. Vectors have none: gains start at n^a, so that gain times multiplier is 1; biases and shifts
    /// start at 0.
    pub b: f64,
    /// Learning-rate exponent.
    pub c: f64,
}

/// An abc-parametrization of a transformer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerAbc {
    /// Token and position tables.
    pub embedding: Exponents,
    /// Matrices of attention and perceptrons.
    pub hidden: Exponents,
    /// The readout.
    pub output: Exponents,
    /// Biases, gains and shifts.
    pub vector: Exponents,
    /// Attention logits are `<q, k> / d_head^attention`.
    pub attention: f64,
}

impl TransformerAbc {
    fn from_parts(parts: [(f64, f64); 4], attention: f64) -> Self {
        let [embedding, hidden, output, vector] = parts.map(|(a, b)| Exponents { a, b, c: 0.0 });
        Self { embedding, hidden, output, vector, attention }
    }

    /// Standard parametrization: a = 0, matrices and readout N(0, 1/fan-in), logits over √d_head, c = 0.
    pub fn standard() -> Self {
        Self::from_parts([(0.0, 0.0), (0.0, 0.5), (0.0, 0.5), (0.0, 0.0)], 0.5)
    }

    /// Neural-tangent parametrization: entries N(0, 1), matrices and readout over √fan-in, logits over √d_head, c = 0.
    pub fn ntk() -> Self {
        Self::from_parts([(0.0, 0.0), (0.5, 0.0), (0.5, 0.0), (0.0, 0.0)], 0.5)
    }

    /// Maximal-update parametrization for SGD: as the perceptron's, vectors like input weights, logits over d_head.
    pub fn mup() -> Self {
        Self::from_parts([(-0.5, 0.5), (0.0, 0.5), (0.5, 0.5), (-0.5, 0.5)], 1.0)
    }

    /// The same with learning rates for sign updates, for both [`Self::ntk`] and [`Self::mup`]: c = 1 for hidden matrices,
    /// 1/2 otherwise (see [`crate::network::Abc::ntk_sign`]).
    #[must_use]
    pub fn with_sign_rates(mut self) -> Self {
        for kind in [&mut self.embedding, &mut self.output, &mut self.vector] {
            kind.c = 0.5;
        }
        self.hidden.c = 1.0;
        self
    }

    /// Exponents of a kind.
    pub fn of(&self, kind: Kind) -> Exponents {
        match kind {
            Kind::Embedding => self.embedding,
            Kind::Hidden => self.hidden,
            Kind::Output => self.output,
            Kind::Vector => self.vector,
        }
    }
}
