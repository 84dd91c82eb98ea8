//! Encodes texts to token ids: whole, with positions, by character, and as continuations of other texts.

use std::fmt;
use std::ops::Range;

use super::PromptTokenizer;
use super::spaces::Spaces;
use crate::error::{Error, Result};

/// A token and its byte range in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::task) struct Placed {
    /// Its id.
    pub id: i64,
    /// Its bytes in the text.
    pub bytes: Range<usize>,
}

impl PromptTokenizer {
    /// Whether a text's tokens depend on the preceding text: spaces are marks, and every text gets an additional one.
    pub fn marks_spaces(&self) -> bool {
        self.spaces == Spaces::Marks
    }

    /// The token ids of a text, without truncation; names of special and added tokens in it become these tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|reason| self.cannot(text, &*reason))?;
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    }

    /// The same with each token's byte range.
    pub(in crate::task) fn encode_placed(&self, text: &str) -> Result<Vec<Placed>> {
        let encoding = self.inner.encode(text, false).map_err(|reason| self.cannot(text, &*reason))?;
        let places = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(places.map(|(id, (start, end))| Placed { id: i64::from(*id), bytes: *start..*end }).collect())
    }

    /// The tokens of a single character: the vocabulary's entry for it, or for its bytes in a byte-level vocabulary. If
    /// spaces are marks, it is tokenized like any text, with a mark.
    pub fn encode_character(&self, character: char) -> Result<Vec<i64>> {
        let text = character.to_string();
        let added = self.inner.get_added_vocabulary().get_vocab().get(&text).map(|id| i64::from(*id));
        let entry = added.or_else(|| match self.spaces {
            Spaces::Bytes => self.token_to_id(&byte_text(&text)),
            Spaces::Dropped => self.token_to_id(&text),
            Spaces::Marks => None,
        });
        entry.map_or_else(|| self.encode(&text), |id| Ok(vec![id]))
    }

    /// The tokens of a text that continues another one: its tokens after some word, without that word's.
    pub fn encode_continuing(&self, text: &str) -> Result<Vec<i64>> {
        const BEFORE: &str = "a";
        let placed = self.encode_placed(&format!("{BEFORE}{text}"))?;
        Ok(placed.into_iter().filter(|token| token.bytes.end > BEFORE.len()).map(|token| token.id).collect())
    }

    /// The tokens of a text at the beginning of a line that is not the first.
    pub fn encode_on_a_new_line(&self, text: &str) -> Result<Vec<i64>> {
        const BEFORE: &str = "\n";
        let placed = self.encode_placed(&format!("{BEFORE}{text}"))?;
        Ok(placed.into_iter().filter(|token| token.bytes.end > BEFORE.len()).map(|token| token.id).collect())
    }

    /// The single token of a whole text at a beginning; `None` if the vocabulary has no such token.
    pub fn whole_token(&self, text: &str) -> Option<i64> {
        let written = if self.spaces == Spaces::Bytes { byte_text(text) } else { text.to_string() };
        let id = self.token_to_id(&written)?;
        // The vocabulary may have a byte-level spelling that tokenization never produces.
        let alone = self.encode(text).is_ok_and(|ids| ids == [id]);
        (alone || self.spaces == Spaces::Marks).then_some(id)
    }

    fn cannot(&self, text: &str, reason: &dyn fmt::Display) -> Error {
        let shown: String = text.chars().take(40).collect();
        Error::format(&self.source, format!("cannot tokenize `{shown}`: {reason}"))
    }
}

/// A text in byte-level spelling: a printable character for every byte.
fn byte_text(text: &str) -> String {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let character = |byte: u8| {
        if printable(byte) {
            return char::from(byte);
        }
        let place = (0..byte).filter(|other| !printable(*other)).count() as u32;
        char::from_u32(256 + place).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    text.bytes().map(character).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn bytes_are_written_as_byte_level_vocabularies_write_them() {
        assert_eq!(byte_text("a.\n \té"), "a.ĊĠĉÃ©");
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let all: BTreeSet<char> = (0..=255u8)
            .flat_map(|byte| byte_text(&String::from_utf8_lossy(&[byte])).chars().collect::<Vec<_>>())
            .collect();
        assert!(all.iter().all(|character| alphabet.contains(character)));
    }
}
