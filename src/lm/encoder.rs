//! Masked language models of BERT's plan whose configuration is built by hand: what pre-training writes, and tests draw.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::checkpoint::check_directory;
use super::config::ModelConfig;
use super::fields::Fields;
use super::model::{LanguageModel, NetworkFacts, TokenBatch, weights};
use super::network::Network;
use crate::error::Result;
use crate::jacobian::{ParameterSpec, Parameters, Tap};

/// A masked language model with its configuration. Values live in [`Parameters`], so that one model can be evaluated at
/// many parameter vectors.
pub struct MaskedLm {
    config: ModelConfig,
    network: Network,
}

impl MaskedLm {
    /// The network of a configuration.
    pub fn new(config: ModelConfig) -> Self {
        let network = Network::new(config.describe());
        Self { config, network }
    }

    /// Reads configuration and weights of a checkpoint directory.
    ///
    /// # Errors
    /// Unknown architectures; missing, misshapen or non-finite tensors; layers beyond the configured number.
    pub fn load(directory: &Path, kind: Kind, device: Device) -> Result<(Self, Parameters)> {
        check_directory(directory)?;
        let config = ModelConfig::parse(&Fields::read(directory)?)?;
        let model = Self::new(config);
        let parameters = weights(directory, model.network.description(), kind, device)?;
        Ok((model, parameters))
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Specifications of the parameters.
    pub fn specs(&self) -> &Arc<[ParameterSpec]> {
        self.network.specs()
    }
}

impl LanguageModel for MaskedLm {
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
