//! Models by their names on the Hugging Face hub, such as `roberta-base` or `org/name@revision`: found in the cache shared
//! with Hugging Face's own programs, or downloaded into it.
//!
//! Knows names, files and, with the feature `hub`, the internet; knows no neural networks. Without the feature it only
//! parses names, so that an error can mention the feature.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod download;
mod name;

pub use name::{HubName, Origin};

#[cfg(feature = "hub")]
use std::path::PathBuf;

#[cfg(feature = "hub")]
use crate::error::{Error, Result};

/// The directory of a model: a complete snapshot in the cache, or else a new download. Cached files are not compared with
/// the hub's.
///
/// # Errors
/// [`Error::Hub`] if the cache lacks files and the hub is forbidden (`HF_HUB_OFFLINE`), cannot be reached, does not know the
/// model, or has no files that this program reads; [`Error::Format`] for a damaged shard index.
#[cfg(feature = "hub")]
pub fn find(name: &HubName) -> Result<PathBuf> {
    let missing = |reason: String| Error::Hub { model: name.to_string(), reason };
    let Some(root) = cache::root() else {
        return Err(missing("there is no directory for the Hugging Face cache; set HF_HOME or HOME".into()));
    };
    let snapshot = cache::snapshot(&root, name);
    let lacking = match &snapshot {
        None => "not".to_owned(),
        Some(directory) => match cache::lacking(directory)? {
            None => return Ok(directory.clone()),
            Some(file) => format!("without {file}"),
        },
    };
    let here = format!(
        "no such directory, built-in model (prose-64, prose-128, prose-256) or model fetched by `cargo xtask model`; {lacking} in the Hugging Face cache"
    );
    let mut here = format!("{here} {}", root.display());
    // As in transformers, a name without an organization does not match names with one.
    if let [namesake, ..] = &cache::namesakes(&root, &name.model)[..] {
        here = format!("{here} (it has {namesake})");
    }
    if let Some(variable) = cache::offline() {
        return Err(missing(format!("{here}, and {variable} forbids network access; {}", download::ELSEWHERE)));
    }
    download::download(&root, name).map_err(|reason| missing(format!("{here}, and {reason}")))
}
