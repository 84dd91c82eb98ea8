//! BERT-like masked language models whose configuration is built in code, for pre-training and tests.

use std::path::Path;

use tch::{Device, Kind};

use super::checkpoint::check_directory;
use super::config::ModelConfig;
use super::configured::Configured;
use super::fields::Fields;
use super::load::weights;
use crate::error::Result;
use crate::jacobian::Parameters;

/// A masked language model with its configuration.
pub type MaskedLm = Configured<ModelConfig>;

impl MaskedLm {
    /// The network of a configuration.
    pub fn new(config: ModelConfig) -> Self {
        Self::of(config, ModelConfig::describe)
    }

    /// Reads configuration and weights of a checkpoint directory.
    ///
    /// # Errors
    /// Unknown architectures; missing, misshapen or non-finite tensors; layers beyond the configured number.
    pub fn load(directory: &Path, kind: Kind, device: Device) -> Result<(Self, Parameters)> {
        check_directory(directory)?;
        let config = ModelConfig::parse(&Fields::read(directory)?)?;
        let model = Self::new(config);
        let parameters = weights(directory, model.description(), kind, device)?;
        Ok((model, parameters))
    }
}
