//! How a tokenizer represents spaces, determined from its components.

use tokenizers::Tokenizer;

/// How a tokenizer represents spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spaces {
    /// Not at all: words are split at them.
    Dropped,
    /// As bytes before words (`Ġ`).
    Bytes,
    /// As a mark before words (`▁`), often with an additional one before a text.
    Marks,
}

/// The representation of spaces, from the tokenizer's components.
pub(super) fn spaces(inner: &Tokenizer) -> Spaces {
    let (normalizer, cut) = (written(inner.get_normalizer()), written(inner.get_pre_tokenizer()));
    if cut.contains("\"ByteLevel\"") || normalizer.contains("\"ByteLevel\"") {
        Spaces::Bytes
    } else if cut.contains("\"Metaspace\"") || normalizer.contains('▁') {
        Spaces::Marks
    } else {
        Spaces::Dropped
    }
}

/// A component as JSON; empty if it is missing.
pub(super) fn written(component: Option<&impl serde::Serialize>) -> String {
    component.and_then(|part| serde_json::to_string(part).ok()).unwrap_or_default()
}
