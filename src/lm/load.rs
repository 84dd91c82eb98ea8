//! Loads language models from checkpoint directories and GGUF files.

use std::path::Path;

use tch::{Device, Kind};

use super::assemble::Wanted;
use super::checkpoint::{Checkpoint, check_directory};
use super::fields::Fields;
use super::model::LanguageModel;
use super::model_names::ModelNames;
use super::network::Network;
use super::parts::Description;
use super::{architectures, gguf};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::jacobian::Parameters;

/// Reads configuration and weights from a checkpoint directory or a GGUF file.
///
/// # Errors
/// Unknown architectures and settings; missing, misshapen or non-finite tensors; layers beyond the configured number.
pub fn load(place: &Path, kind: Kind, device: Device) -> Result<(Box<dyn LanguageModel>, Parameters)> {
    // Settings before the weights, which may be large, so that unsupported ones are refused at once.
    let (network, parameters) = if let Some(file) = Gguf::find(place)? {
        gguf::load(&Gguf::open(&file)?, kind, device)?
    } else {
        check_directory(place)?;
        let network = Network::new(architectures::describe(&Fields::read(place)?)?);
        let parameters = weights(place, network.description(), kind, device)?;
        (network, parameters)
    };
    Ok((Box::new(network), parameters))
}

/// [`LanguageModel::settings`] of the model in a checkpoint directory, from its `config.json` alone.
///
/// # Errors
/// Unknown architectures and settings.
pub fn settings(directory: &Path) -> Result<String> {
    let description = architectures::describe(&Fields::read(directory)?)?;
    Ok(serde_json::to_string(&description).expect("a description is plain data"))
}

/// The parameters of a network from the files of a checkpoint directory.
pub(super) fn weights(directory: &Path, d: &Description, kind: Kind, device: Device) -> Result<Parameters> {
    let checkpoint = Checkpoint::open(directory)?;
    let naming = ModelNames::of(d);
    Wanted::of(d, &naming, "config.json").assemble(directory, &checkpoint, kind, device)
}
