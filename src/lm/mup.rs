//! The maximal update parametrization (muP) of a RoBERTa-style masked language model: how initial values and learning
//! rates scale with the width, so that hidden activations, their updates and the outputs' updates keep their size (G.
//! Yang et al., "Tensor Programs V", Table 8; the rates of SGD by the same argument).
//!
//! Weights are those of an ordinary checkpoint, without multipliers, so that other programs compute the same logits;
//! training only needs a learning rate per tensor. The decoder is not tied to the token embeddings, since it could not have
//! the small updates of an output layer then. Knows numbers only.

use crate::jacobian::{ParameterSpec, Role};

/// How a family of networks scales with its width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// The maximal update parametrization.
    #[default]
    Mup,
    /// The standard parametrization: initial weights by fan-in, one learning rate for all. The control: updates of
    /// hidden activations grow with the width.
    Standard,
}

impl Scaling {
    /// Name in reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Mup => "muP",
            Self::Standard => "standard parametrization",
        }
    }

    /// Name in files and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mup => "mup",
            Self::Standard => "standard",
        }
    }
}

/// A network's place in its family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parametrization {
    /// How the family scales.
    pub scaling: Scaling,
    /// The width at which all learning rates are the base rate.
    pub base_width: i64,
    /// Standard deviation of the embedding tables' entries.
    pub embedding_deviation: f64,
}

/// Mean and standard deviation of a tensor's initial entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Initial {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// The kind of a tensor, by which of its axes grow with the width.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Tables: from finitely many ids to n.
    Table,
    /// Matrices from n to n.
    Hidden,
    /// Biases and the gains and shifts of layer norms: n numbers.
    Vector,
    /// The decoder: from n to finitely many tokens.
    Output,
    /// The decoder's biases: one number per token.
    OutputBias,
}

impl Sort {
    fn of(spec: &ParameterSpec) -> Self {
        let decoder = spec.name.ends_with("decoder.weight");
        match (spec.shape.len(), spec.role) {
            (2, Role::Embedding) => Self::Table,
            (2, _) if decoder => Self::Output,
            (2, _) => Self::Hidden,
            (_, Role::Head) if spec.name == "lm_head.bias" || spec.name == "cls.predictions.bias" => Self::OutputBias,
            _ => Self::Vector,
        }
    }
}

impl Parametrization {
    /// `base/width` in muP, 1 otherwise: the factor by which updates of matrices with growing fan-in shrink.
    pub fn shrinkage(&self, width: i64) -> f64 {
        match self.scaling {
            Scaling::Mup => self.base_width as f64 / width as f64,
            Scaling::Standard => 1.0,
        }
    }

    /// Initial entries of a tensor. The decoder starts at zero, so that initial logits are equal at all widths.
    pub fn initial(&self, spec: &ParameterSpec) -> Initial {
        let constant = |mean| Initial { mean, deviation: 0.0 };
        match Sort::of(spec) {
            Sort::Table => Initial { mean: 0.0, deviation: self.embedding_deviation },
            Sort::Hidden => Initial { mean: 0.0, deviation: 1.0 / (spec.shape[1] as f64).sqrt() },
            Sort::Vector if !spec.is_bias() => constant(1.0),
            Sort::Vector | Sort::Output | Sort::OutputBias => constant(0.0),
        }
    }

    /// Learning rate of a tensor, relative to the base rate, for updates independent of the gradient's size (Adam, SignGD).
    pub fn sign_rate(&self, width: i64, spec: &ParameterSpec) -> f64 {
        match Sort::of(spec) {
            Sort::Hidden | Sort::Output => self.shrinkage(width),
            Sort::Table | Sort::Vector | Sort::OutputBias => 1.0,
        }
    }

    /// The same under SGD, so that every tensor's share of the kernel `Σ rate <∇f, ∇f'>` keeps its size: tensors that the
    /// outputs reach through `1/n` have gradients that small, the decoder has gradients of order one in n entries.
    pub fn sgd_rate(&self, width: i64, spec: &ParameterSpec) -> f64 {
        match Sort::of(spec) {
            Sort::Table | Sort::Vector => 1.0 / self.shrinkage(width),
            Sort::Hidden | Sort::OutputBias => 1.0,
            Sort::Output => self.shrinkage(width),
        }
    }
}
