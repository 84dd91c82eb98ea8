//! The local Hugging Face cache, and which files of a model this program needs.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};

use super::HubName;
use crate::error::Result;
use crate::lm::shard_names;

/// Needed by every model.
pub(super) const CONFIG: &str = "config.json";
/// The first of these that exists; an index with the shards that it names.
pub(super) const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// The first of these that exists.
pub(super) const TOKENIZERS: [&str; 7] = [
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
];
/// Optional.
pub(super) const OPTIONAL: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"];

/// Further files that belong to a tokenizer's first file.
pub(super) fn beside(tokenizer: &str) -> Option<&'static str> {
    (tokenizer == "vocab.json").then_some("merges.txt")
}

/// Whether a weights file is an index of shards.
pub(super) fn is_index(weights: &str) -> bool {
    weights.ends_with(".index.json")
}

/// A directory in a variable, in which `~` is expanded as by Hugging Face's library.
fn variable(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)?;
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Some(PathBuf::from(home).join(rest)),
        _ => Some(path),
    }
}

/// Whether a variable is true, in the words accepted by Hugging Face's programs.
fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|v| ["1", "on", "yes", "true"].contains(&v.to_lowercase().as_str()))
}

/// `HF_HOME`, else `XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`.
pub(super) fn home() -> Option<PathBuf> {
    variable("HF_HOME")
        .or_else(|| variable("XDG_CACHE_HOME").map(|c| c.join("huggingface")))
        .or_else(|| variable("HOME").map(|h| h.join(".cache").join("huggingface")))
}

/// The directory of all models: `HF_HUB_CACHE`, or one of its older names, else `hub` in [`home`].
pub(super) fn root() -> Option<PathBuf> {
    let named = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"].into_iter().find_map(variable);
    named.or_else(|| home().map(|h| h.join("hub")))
}

/// The variable that forbids network access, if one does.
pub(super) fn offline() -> Option<&'static str> {
    ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| is_set(name))
}

/// Cached models of this name that belong to an organization.
pub(super) fn namesakes(root: &Path, name: &str) -> Vec<String> {
    let folder = |entry: fs::DirEntry| {
        let model = entry.file_name().to_str()?.strip_prefix("models--")?.replace("--", "/");
        model.split_once('/').is_some_and(|(_, last)| last == name).then_some(model)
    };
    let mut found: Vec<String> = fs::read_dir(root).into_iter().flatten().flatten().filter_map(folder).collect();
    found.sort_unstable();
    found
}

/// A model in the form of the `hf-hub` library.
pub(super) fn repository(model: &str, revision: &str) -> Repo {
    Repo::with_revision(model.to_owned(), RepoType::Model, revision.to_owned())
}

/// Whether a text can be a commit hash, which is safe as a directory name.
pub(super) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The snapshot of a revision, if the cache has one.
pub(super) fn snapshot(root: &Path, name: &HubName) -> Option<PathBuf> {
    let model = root.join(repository(&name.model, &name.revision).folder_name());
    let noted = fs::read_to_string(model.join("refs").join(&name.revision)).ok();
    let commit = noted.as_deref().map_or(name.revision.as_str(), str::trim);
    Some(model.join("snapshots").join(commit)).filter(|d| is_commit(commit) && d.is_dir())
}

/// What a snapshot lacks to be loaded, in words; `None` if it is complete.
pub(super) fn lacking(snapshot: &Path) -> Result<Option<String>> {
    let has = |file: &str| snapshot.join(file).exists();
    let Some(weights) = WEIGHTS.into_iter().find(|f| has(f)) else { return Ok(Some("weights".into())) };
    if is_index(weights) {
        let shards = shard_names(&snapshot.join(weights))?;
        if let Some(shard) = shards.into_iter().find(|f| !has(f)) {
            return Ok(Some(shard));
        }
    }
    if !has(CONFIG) {
        return Ok(Some(CONFIG.into()));
    }
    let Some(tokenizer) = TOKENIZERS.into_iter().find(|f| has(f)) else { return Ok(Some("a tokenizer".into())) };
    Ok(beside(tokenizer).filter(|file| !has(file)).map(str::to_owned))
}
