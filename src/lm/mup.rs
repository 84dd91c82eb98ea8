//! The maximal update parametrization (muP) of a RoBERTa-style masked language model: how initial values and learning
//! rates scale with the width, so that hidden activations, their updates and the outputs' updates keep their size (G.
//! Yang et al., "Tensor Programs V", Table 8; the rates of SGD by the same argument).
//!
//! Weights are those of an ordinary checkpoint: the multiplier `m = base/width` of the logits, which the tied decoder
//! cannot hold, is folded into the gain and shift of the head's layer norm. So other programs compute the same logits,
//! and everything of the parametrization that training needs is a learning rate per tensor. Knows numbers only.

use super::config::ModelConfig;
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
    /// Deviation of the entries of the embedding tables.
    pub embedding_deviation: f64,
}

/// Mean and deviation of a tensor's initial entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Initial {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// What sort of parameter a tensor is, by which of its axes grow with the width.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Tables: from finitely many ids to n.
    Table,
    /// Matrices from n to n.
    Hidden,
    /// Biases and the gains and shifts of layer norms: n numbers.
    Vector,
    /// Gain and shift of the head's layer norm, which carry the multiplier of the logits.
    Readout,
    /// The decoder's biases: a number for each token.
    OutputBias,
}

impl Sort {
    fn of(spec: &ParameterSpec) -> Self {
        let norm = spec.name.to_ascii_lowercase().replace('_', "").contains("layernorm");
        match (spec.shape.len(), spec.role) {
            (2, Role::Embedding) => Self::Table,
            (2, _) => Self::Hidden,
            (_, Role::Head) if norm => Self::Readout,
            (_, Role::Head) if spec.name == "lm_head.bias" || spec.name == "cls.predictions.bias" => Self::OutputBias,
            _ => Self::Vector,
        }
    }
}

impl Parametrization {
    /// The multiplier of the logits at this width, 1 at the base width.
    pub fn multiplier(&self, config: &ModelConfig) -> f64 {
        match self.scaling {
            Scaling::Mup => self.base_width as f64 / config.hidden_size as f64,
            Scaling::Standard => 1.0,
        }
    }

    /// Initial entries of a tensor.
    pub fn initial(&self, config: &ModelConfig, spec: &ParameterSpec) -> Initial {
        let constant = |mean| Initial { mean, deviation: 0.0 };
        match Sort::of(spec) {
            Sort::Table => Initial { mean: 0.0, deviation: self.embedding_deviation },
            Sort::Hidden => Initial { mean: 0.0, deviation: 1.0 / (spec.shape[1] as f64).sqrt() },
            _ if spec.is_bias() => constant(0.0),
            Sort::Readout => constant(self.multiplier(config)),
            Sort::Vector | Sort::OutputBias => constant(1.0),
        }
    }

    /// Learning rate of a tensor under updates whose entries do not depend on the gradient's size (Adam, SignGD), in
    /// units of the base rate.
    pub fn sign_rate(&self, config: &ModelConfig, spec: &ParameterSpec) -> f64 {
        let m = self.multiplier(config);
        match Sort::of(spec) {
            Sort::Hidden | Sort::Readout => m,
            Sort::Table | Sort::Vector | Sort::OutputBias => 1.0,
        }
    }

    /// The same under SGD: by `1/m` for what n numbers move and `m` for what is folded, so that every tensor's share of
    /// the kernel `Σ rate <∇f, ∇f'>` keeps its size.
    pub fn sgd_rate(&self, config: &ModelConfig, spec: &ParameterSpec) -> f64 {
        let m = self.multiplier(config);
        match Sort::of(spec) {
            Sort::Table | Sort::Vector => 1.0 / m,
            Sort::Hidden | Sort::OutputBias => 1.0,
            Sort::Readout => m,
        }
    }
}
