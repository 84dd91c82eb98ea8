//! The lists of tokens in a GGUF file's metadata, with the kind of each token.

use crate::error::Result;
use crate::gguf::{Gguf, Value};

/// Kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// An ordinary token.
    Plain,
    /// A special token.
    Control,
    /// A token added by users.
    UserDefined,
}

/// The kind of each token. Files without types identify special tokens only by number.
pub(super) fn kinds(file: &Gguf, tokens: usize) -> Result<Vec<TokenKind>> {
    const FIELD: &str = "tokenizer.ggml.token_type";
    if file.field(FIELD).is_none() {
        let mut kinds = vec![TokenKind::Plain; tokens];
        for role in ["bos", "eos", "unknown", "padding"] {
            let field = format!("tokenizer.ggml.{role}_token_id");
            if file.field(&field).is_some()
                && let Some(kind) = kinds.get_mut(file.index(&field)?)
            {
                *kind = TokenKind::Control;
            }
        }
        return Ok(kinds);
    }
    let types = file.list(FIELD)?;
    if types.len() != tokens {
        return Err(file.wrong(FIELD, format!("has {} entries for {tokens} tokens", types.len())));
    }
    let kind = |value: &Value| match value {
        // The unknown token (2), by its name in a text.
        Value::Integer(2 | 3) => TokenKind::Control,
        Value::Integer(4) => TokenKind::UserDefined,
        _ => TokenKind::Plain,
    };
    Ok(types.iter().map(kind).collect())
}

/// A list of texts.
pub(super) fn texts<'a>(file: &'a Gguf, field: &str) -> Result<Vec<&'a str>> {
    let text = |value: &'a Value| match value {
        Value::Text(text) => Ok(text.as_str()),
        other => Err(file.wrong(field, format!("must be a list of texts, found {other} in it"))),
    };
    file.list(field)?.iter().map(text).collect()
}
