//! Language models whose configuration is built in code rather than read from a file.

use std::sync::Arc;

use tch::Tensor;

use super::model::{LanguageModel, NetworkFacts, TokenBatch};
use super::network::Network;
use super::parts::Description;
use crate::jacobian::{ParameterSpec, Tap};

/// A language model with its configuration. Values live in [`crate::jacobian::Parameters`], so that a model can be evaluated
/// at many parameter vectors.
pub struct Configured<C> {
    config: C,
    network: Network,
}

impl<C> Configured<C> {
    /// The network that a configuration describes.
    pub(super) fn of(config: C, describe: impl FnOnce(&C) -> Description) -> Self {
        let network = Network::new(describe(&config));
        Self { config, network }
    }

    /// The configuration.
    pub fn config(&self) -> &C {
        &self.config
    }

    /// Specifications of the parameters.
    pub fn specs(&self) -> &Arc<[ParameterSpec]> {
        self.network.specs()
    }

    /// The decoder's input at the positions read \[B, width\]: the last hidden states after the head's transform.
    pub fn transformed(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        self.network.transformed(tap, batch)
    }

    /// Its parts.
    pub(super) fn description(&self) -> &Description {
        self.network.description()
    }
}

impl<C: Send + Sync> LanguageModel for Configured<C> {
    fn specs(&self) -> &Arc<[ParameterSpec]> {
        self.network.specs()
    }

    fn facts(&self) -> NetworkFacts {
        self.network.facts()
    }

    fn settings(&self) -> String {
        self.network.settings()
    }

    fn features(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        self.network.features(tap, batch)
    }

    fn label_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch, label_ids: &Tensor) -> Tensor {
        self.network.label_logits(tap, batch, label_ids)
    }

    fn vocabulary_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        self.network.vocabulary_logits(tap, batch)
    }
}
