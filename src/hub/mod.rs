//! Models by the names that they have on the Hugging Face hub, such as `roberta-base` or `org/name@revision`: looked for in
//! the cache that Hugging Face's own programs fill, then downloaded into it.
//!
//! Knows names, files and, with the feature `hub`, the network; knows no network of neurons. Without the feature only
//! names are known, so that an error can say what to build.

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

/// The directory of a model: a snapshot in the cache that has all files, else one that is downloaded. What the cache has is
/// not compared with the hub.
///
/// # Errors
/// [`Error::Hub`] where the cache lacks files and the hub may not be asked (`HF_HUB_OFFLINE`), cannot be reached, does
/// not know the model, or has no files that this program reads; [`Error::Format`] for a damaged shard index.
#[cfg(feature = "hub")]
pub fn find(name: &HubName) -> Result<PathBuf> {
    let missing = |reason: String| Error::Hub { model: name.to_string(), reason };
    let Some(root) = cache::root() else {
        return Err(missing("no place for the Hugging Face cache; set HF_HOME or HOME".into()));
    };
    let snapshot = cache::snapshot(&root, name);
    let lacking = match &snapshot {
        None => "not".to_owned(),
        Some(directory) => match cache::lacking(directory)? {
            None => return Ok(directory.clone()),
            Some(file) => format!("without {file}"),
        },
    };
    let here = format!("no such directory or known model; {lacking} in the Hugging Face cache");
    let mut here = format!("{here} {}", root.display());
    // As in transformers, a name without an organization is not looked for under those that have one.
    if let [namesake, ..] = &cache::namesakes(&root, &name.model)[..] {
        here = format!("{here} (it has {namesake})");
    }
    if let Some(variable) = cache::offline() {
        return Err(missing(format!("{here}, and {variable} forbids asking the hub; {}", download::ELSEWHERE)));
    }
    download::download(&root, name).map_err(|reason| missing(format!("{here}, and {reason}")))
}
