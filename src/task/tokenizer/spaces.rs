//! How a tokenizer keeps the spaces of a text, told by its components.

use tokenizers::Tokenizer;

/// How a tokenizer keeps the spaces of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spaces {
    /// Not at all: words are cut at them.
    Dropped,
    /// As bytes in front of words (`Ġ`).
    Bytes,
    /// As a mark in front of words (`▁`), often one more in front of a text.
    Marks,
}

/// How spaces are kept, by the components that a tokenizer has.
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

/// A component as JSON; empty where it is not there.
pub(super) fn written(component: Option<&impl serde::Serialize>) -> String {
    component.and_then(|part| serde_json::to_string(part).ok()).unwrap_or_default()
}
