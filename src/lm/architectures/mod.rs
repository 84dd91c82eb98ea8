//! The architectures that load: for each a table of names and a mapping from its `config.json` to a description by parts.
//!
//! A new one is such a table, such a mapping, and a line here. Settings that would change the function and that no part
//! stands for are refused by name.

mod bert;
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
pub(super) struct Family {
    /// Its `model_type`.
    pub name: &'static str,
    /// What checkpoints call its parameters.
    pub names: &'static Names,
    /// From its settings to its parts.
    pub describe: fn(&Fields, &'static str) -> Result<Description>,
}

const fn family(
    name: &'static str,
    names: &'static Names,
    describe: fn(&Fields, &'static str) -> Result<Description>,
) -> Family {
    Family { name, names, describe }
}

/// All of them, masked ones first.
pub(super) const ALL: &[Family] = &[
    family("bert", &bert::BERT, bert::describe),
    family("roberta", &bert::ROBERTA, bert::describe),
    family("xlm-roberta", &bert::ROBERTA, bert::describe),
    family("camembert", &bert::ROBERTA, bert::describe),
    family("distilbert", &bert::DISTILBERT, bert::describe),
    family("electra", &bert::ELECTRA, bert::describe),
    family("albert", &bert::ALBERT, bert::describe),
    family("modernbert", &modernbert::NAMES, modernbert::describe),
    family("deberta-v2", &deberta::NAMES, deberta::describe),
    family("mpnet", &mpnet::NAMES, mpnet::describe),
    family("gpt2", &gpt2::NAMES, gpt2::describe),
    family("llama", &llama::NAMES, llama::llama),
    family("mistral", &llama::NAMES, llama::mistral),
    family("qwen2", &llama::NAMES, llama::qwen2),
    family("qwen3", &llama::NAMES, llama::qwen3),
    family("gemma2", &gemma::NAMES, gemma::gemma2),
    family("gemma3_text", &gemma::NAMES, gemma::gemma3),
    family("phi3", &phi3::NAMES, phi3::describe),
    family("olmo2", &olmo2::NAMES, olmo2::describe),
    family("gpt_neox", &neox::NAMES, neox::describe),
    family("opt", &opt::NAMES, opt::describe),
    family("smollm3", &llama::NAMES, smollm3::describe),
    family("granite", &llama::NAMES, granite::describe),
];

/// The network that a `config.json` describes.
///
/// # Errors
/// An unknown `model_type`, and settings that are wrong or not supported.
pub(super) fn describe(fields: &Fields) -> Result<Description> {
    let name = fields.text("model_type", "")?;
    match ALL.iter().find(|family| family.name == name) {
        Some(family) => (family.describe)(fields, family.name),
        None => Err(unknown_model(fields, name, &ALL.iter().map(|family| family.name).collect::<Vec<_>>())),
    }
}

/// PEFT's default targets of an architecture, by its `model_type`. Where PEFT has none, the maps to queries and values, as
/// for BERT.
pub fn default_targets(architecture: &str) -> &'static [&'static str] {
    ALL.iter().find(|family| family.name == architecture).map_or(&["query", "value"], |family| family.names.targets)
}
