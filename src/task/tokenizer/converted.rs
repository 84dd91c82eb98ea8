//! The result of converting slow files, and its components.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// A converted tokenizer, and the tokens around a text, which are set after all tokens are added.
pub(super) struct Converted {
    pub inner: Tokenizer,
    pub source: PathBuf,
    pub before: Vec<String>,
    pub after: Vec<String>,
}

/// A component written as in `tokenizer.json`.
pub(super) fn component<T: serde::de::DeserializeOwned>(source: &Path, value: serde_json::Value) -> Result<T> {
    serde_json::from_value(value).map_err(|reason| Error::format(source, format!("cannot be converted: {reason}")))
}
