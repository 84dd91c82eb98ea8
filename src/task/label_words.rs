//! The token of each label's word.
//!
//! A word is meant as it goes on after a text: with a space in front, where the tokenizer has such a token. May not know templates
//! or examples.

use super::definition::TaskDefinition;
use super::pieces::chat_of;
use super::tokenizer::{PromptTokenizer, SpecialToken};
use crate::error::{Error, Result};

/// The token id of each label's word, in the order of the labels.
///
/// A word stands with a space in front (`great` and `_great` are ` great`); where that is several tokens and the word alone is
/// one, as in languages without spaces, it is the word alone. One that starts with `<`, `[`, `.` or `,`, or with the
/// vocabulary's own mark of a space or of a word's inside (`Ġgreat`, `▁great`, `##ing`), is looked up in the vocabulary as it is.
/// In a chat whose answer begins on a new line it is the word alone first.
///
/// # Errors
/// [`Error::Format`] for a word that is several tokens, none of the vocabulary, or the token of another label.
pub fn label_word_ids(task: &TaskDefinition, tokenizer: &PromptTokenizer) -> Result<Vec<i64>> {
    let bare = task.chat && chat_of(task, tokenizer)?.answer_begins_bare(tokenizer);
    let mut ids: Vec<i64> = Vec::with_capacity(task.label_words.len());
    for pair in &task.label_words {
        let fail = |problem: String| {
            let message = format!(
                "label `{}` of task `{}`: the word `{}` {problem}; choose another word in the label words",
                pair.label, task.name, pair.word
            );
            Err(Error::format(tokenizer.source(), message))
        };
        let id = match word_ids(&pair.word, tokenizer, bare)?.as_slice() {
            [] => None,
            [id] => Some(*id),
            several => {
                let tokens: Vec<_> = several.iter().map(|id| shown(tokenizer, *id)).collect();
                return fail(format!("is {} tokens ({}), but must be one", tokens.len(), tokens.join(" ")));
            }
        };
        let Some(id) = id.filter(|id| Some(*id) != tokenizer.special(SpecialToken::Unk)) else {
            return fail("is not in the tokenizer's vocabulary".to_string());
        };
        if let Some(at) = ids.iter().position(|earlier| *earlier == id) {
            let other = &task.label_words[at];
            let token = shown(tokenizer, id);
            return fail(format!("is the same token ({token}) as `{}` of label `{}`", other.word, other.label));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The tokens of a label word; `bare`: the word alone is meant first.
fn word_ids(word: &str, tokenizer: &PromptTokenizer, bare: bool) -> Result<Vec<i64>> {
    if word.starts_with(['<', '[', '.', ',']) {
        return Ok(tokenizer.token_to_id(word).into_iter().collect());
    }
    let listed = is_listed(word, tokenizer).then(|| tokenizer.token_to_id(word)).flatten();
    if let Some(id) = listed {
        return Ok(vec![id]);
    }
    if let Some(id) = tokenizer.whole_token(word).filter(|_| bare) {
        return Ok(vec![id]);
    }
    let asked = word.strip_prefix('_').filter(|rest| !rest.is_empty());
    let spaced = tokenizer.encode_continuing(&format!(" {}", asked.unwrap_or(word)))?;
    if spaced.len() == 1 || asked.is_some() {
        return Ok(spaced);
    }
    // Without a space: what the vocabulary has for the word as it is, in the vocabulary's own letters.
    match tokenizer.whole_token(word) {
        Some(id) => Ok(vec![id]),
        None => Ok(spaced),
    }
}

/// Whether a word is written as the vocabulary writes a token that no plain word is.
fn is_listed(word: &str, tokenizer: &PromptTokenizer) -> bool {
    (word.starts_with(['Ġ', '▁']) || word.starts_with("##")) && tokenizer.token_to_id(word).is_some()
}

/// A token for a message: as in the vocabulary, in quotation marks of code.
fn shown(tokenizer: &PromptTokenizer, id: i64) -> String {
    tokenizer.id_to_token(id).map_or_else(|| format!("id {id}"), |token| format!("`{token}`"))
}
