//! The tokens of each label's word.
//!
//! A word is tokenized as it continues a text: with a preceding space, if the tokenizer has such a token. May not know
//! templates or examples.

use super::chat::chat_of;
use super::definition::TaskDefinition;
use super::tokenizer::{PromptTokenizer, SpecialToken};
use crate::error::{Error, Result};

/// The token ids of each label's word, in the order of the labels; usually one.
///
/// A word gets a preceding space (`great` and `_great` are ` great`); if that is several tokens but the word alone is one,
/// as in languages without spaces, the word alone is used. A word that starts with `<`, `[`, `.` or `,`, or with the
/// vocabulary's own mark of a space or of a word's inside (`Ġgreat`, `▁great`, `##ing`), is the vocabulary's entry of that name,
/// if there is one; a word in `<…>` or `[…]` must be one. In a chat whose answer begins on a new line the word alone is tried first. A word of several tokens follows
/// `continuation`.
///
/// # Errors
/// [`Error::Format`] for a word that is not in the vocabulary, or has the same tokens as another label's.
pub fn label_word_tokens(task: &TaskDefinition, tokenizer: &PromptTokenizer) -> Result<Vec<Vec<i64>>> {
    let bare = task.chat && chat_of(task, tokenizer)?.answer_begins_bare(tokenizer);
    let mut words: Vec<Vec<i64>> = Vec::with_capacity(task.label_words.len());
    for pair in &task.label_words {
        let fail = |problem: String| {
            let message = format!(
                "label `{}` of task `{}`: the word `{}` {problem}; choose another word in the label words",
                pair.label, task.name, pair.word
            );
            Err(Error::format(tokenizer.source(), message))
        };
        let tokens = word_tokens(&pair.word, tokenizer, bare)?;
        let unknown = tokenizer.special(SpecialToken::Unk);
        // Unless the word is the token's own name, as of GPT-2's token for the end of a text.
        let named = tokenizer.token_to_id(&pair.word).is_some_and(|id| tokens == [id]);
        if tokens.is_empty() || !named && tokens.iter().any(|id| Some(*id) == unknown) {
            let what = if tokens.len() > 1 { "has parts that are" } else { "is" };
            return fail(format!("{what} not in the tokenizer's vocabulary"));
        }
        if let Some(at) = words.iter().position(|earlier| *earlier == tokens) {
            let other = &task.label_words[at];
            let (what, tokens) = (if tokens.len() == 1 { "token" } else { "tokens" }, shown(tokenizer, &tokens));
            return fail(format!("has the same {what} ({tokens}) as `{}` of label `{}`", other.word, other.label));
        }
        words.push(tokens);
    }
    Ok(words)
}

/// The tokens of a label word; `bare`: the word alone is tried first.
fn word_tokens(word: &str, tokenizer: &PromptTokenizer, bare: bool) -> Result<Vec<i64>> {
    let listed = is_listed(word).then(|| tokenizer.token_to_id(word)).flatten();
    if let Some(id) = listed {
        return Ok(vec![id]);
    }
    // The name of a token that the vocabulary does not have.
    if [('<', '>'), ('[', ']')].iter().any(|(first, last)| word.starts_with(*first) && word.ends_with(*last)) {
        return Ok(Vec::new());
    }
    if let Some(id) = tokenizer.whole_token(word).filter(|_| bare) {
        return Ok(vec![id]);
    }
    let asked = word.strip_prefix('_').filter(|rest| !rest.is_empty());
    let spaced = tokenizer.encode_continuing(&format!(" {}", asked.unwrap_or(word)))?;
    if spaced.len() == 1 || asked.is_some() {
        return Ok(spaced);
    }
    // Without a space: the vocabulary's entry for the word itself, in the vocabulary's own characters.
    match tokenizer.whole_token(word) {
        Some(id) => Ok(vec![id]),
        None => continuation(word, tokenizer, bare),
    }
}

/// The tokens of a text that answers a prompt, with a preceding space unless `bare` says that the prompt ends in a space or
/// newline, or the text begins with a letter of a script without spaces.
///
/// # Errors
/// [`Error::Format`] for a text that cannot be tokenized.
pub(super) fn continuation(text: &str, tokenizer: &PromptTokenizer, bare: bool) -> Result<Vec<i64>> {
    if bare {
        tokenizer.encode_on_a_new_line(text)
    } else if text.chars().next().is_some_and(is_unspaced) {
        tokenizer.encode_continuing(text)
    } else {
        tokenizer.encode_continuing(&format!(" {text}"))
    }
}

/// Whether a letter belongs to a script without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
fn is_unspaced(letter: char) -> bool {
    matches!(
        letter,
        '\u{0E00}'..='\u{0EFF}'
            | '\u{1000}'..='\u{109F}'
            | '\u{1780}'..='\u{17FF}'
            | '\u{3005}'..='\u{30FF}'
            | '\u{31F0}'..='\u{31FF}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{FF66}'..='\u{FF9F}'
            | '\u{20000}'..='\u{3FFFF}'
    )
}

/// Whether a word looks like a special token, a punctuation mark or a piece of the vocabulary.
fn is_listed(word: &str) -> bool {
    word.starts_with(['<', '[', '.', ',', 'Ġ', '▁']) || word.starts_with("##")
}

/// Tokens for a message, as in the vocabulary, in backticks.
pub(super) fn shown(tokenizer: &PromptTokenizer, ids: &[i64]) -> String {
    let one = |id: &i64| tokenizer.id_to_token(*id).map_or_else(|| format!("id {id}"), |token| format!("`{token}`"));
    ids.iter().map(one).collect::<Vec<_>>().join(" ")
}
