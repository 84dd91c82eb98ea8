//! The supported architectures: for each, a table of names and a mapping from its `config.json` to a description by parts.
//!
//! To add one, write such a table and mapping, and add a line here. Settings that would change the function and cannot be
//! described are refused by name.

mod bert;
mod causal;
mod deberta;
mod gemma;
mod gpt2;
mod granite;
mod llama;
mod modernbert;
mod mpnet;
mod neox;
mod olmo2;
mod opt;
mod phi3;
mod rope;
mod settings;
mod smollm3;

use super::config::unknown_model;
use super::fields::Fields;
use super::names::Names;
use super::parts::Description;
use crate::error::Result;

/// A kind of language model.
pub(super) struct ModelType {
    /// Its `model_type`.
    pub name: &'static str,
    /// What checkpoints call its parameters.
    pub names: &'static Names,
    /// Maps its settings to parts.
    pub describe: fn(&Fields, &'static str) -> Result<Description>,
}

const fn model_type(
    name: &'static str,
    names: &'static Names,
    describe: fn(&Fields, &'static str) -> Result<Description>,
) -> ModelType {
    ModelType { name, names, describe }
}

/// All of them, masked ones first.
pub(super) const ALL: &[ModelType] = &[
    model_type("bert", &bert::BERT, bert::describe),
    model_type("roberta", &bert::ROBERTA, bert::describe),
    model_type("xlm-roberta", &bert::ROBERTA, bert::describe),
    model_type("camembert", &bert::ROBERTA, bert::describe),
    model_type("distilbert", &bert::DISTILBERT, bert::describe),
    model_type("electra", &bert::ELECTRA, bert::describe),
    model_type("albert", &bert::ALBERT, bert::describe),
    model_type("modernbert", &modernbert::NAMES, modernbert::describe),
    model_type("deberta-v2", &deberta::NAMES, deberta::describe),
    model_type("mpnet", &mpnet::NAMES, mpnet::describe),
    model_type("gpt2", &gpt2::NAMES, gpt2::describe),
    model_type("llama", &llama::NAMES, llama::llama),
    model_type("mistral", &llama::NAMES, llama::mistral),
    model_type("qwen2", &llama::NAMES, llama::qwen2),
    model_type("qwen3", &llama::NAMES, llama::qwen3),
    model_type("gemma2", &gemma::NAMES, gemma::gemma2),
    model_type("gemma3_text", &gemma::NAMES, gemma::gemma3),
    model_type("phi3", &phi3::NAMES, phi3::describe),
    model_type("olmo2", &olmo2::NAMES, olmo2::describe),
    model_type("gpt_neox", &neox::NAMES, neox::describe),
    model_type("opt", &opt::NAMES, opt::describe),
    model_type("smollm3", &llama::NAMES, smollm3::describe),
    model_type("granite", &llama::NAMES, granite::describe),
];

/// The network that a `config.json` describes.
///
/// # Errors
/// An unknown `model_type`, and settings that are wrong or not supported.
pub(super) fn describe(fields: &Fields) -> Result<Description> {
    let name = fields.text("model_type", "")?;
    match ALL.iter().find(|model_type| model_type.name == name) {
        Some(model_type) => (model_type.describe)(fields, model_type.name),
        None => Err(unknown_model(fields, name, &ALL.iter().map(|model_type| model_type.name).collect::<Vec<_>>())),
    }
}

/// PEFT's default targets of an architecture, by its `model_type`. If PEFT has none, the maps to queries and values, as for
/// BERT.
pub fn default_targets(architecture: &str) -> &'static [&'static str] {
    ALL.iter()
        .find(|model_type| model_type.name == architecture)
        .map_or(&["query", "value"], |model_type| model_type.names.targets)
}
