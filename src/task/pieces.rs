//! A template's parts as tokens: fixed ones, and places for an example's texts.
//!
//! Source of the rules: LM-BFF tokenizes every part on its own, and one character alone as the vocabulary's entry for it. A
//! tokenizer that writes spaces as marks adds one before every text, so for such tokenizers a causal model's prompt is
//! tokenized as a whole, as the model was trained. May not know data files or models.

use std::path::Path;

use super::chat::{Chat, chat_of, opening};
use super::data::Example;
use super::definition::TaskDefinition;
use super::label_words::label_word_tokens;
use super::reading::Reading;
use super::template::{FirstLetter, Part, Sentence, literal_text};
use super::tokenizer::{PromptTokenizer, SpecialToken};
use crate::error::{Error, Result};
use crate::setting::Field;

/// A place for an example's text, or tokens that are the same in every prompt.
pub(super) enum Piece {
    /// Tokens, after which the segment id may grow.
    Fixed { ids: Vec<i64>, next_segment: bool },
    /// The mask's token.
    Mask(i64),
    /// A text of the example.
    Text(Sentence),
    /// Literal text that is tokenized together with its surroundings.
    Joined(String),
}

/// The pieces of a template, and whether adjacent texts are tokenized as one.
pub(super) struct Pieces {
    pub list: Vec<Piece>,
    joined: bool,
    /// The chat around the first pieces, and how many of these are its message.
    chat: Option<(Chat, usize)>,
    /// Whether the literal text before the mask ends in a space or newline.
    pub ends_in_space: bool,
}

impl Pieces {
    /// The pieces of a task's template for a way of reading.
    pub fn new(reading: Reading, task: &TaskDefinition, tokenizer: &PromptTokenizer) -> Result<Self> {
        if task.chat && reading == Reading::LastToken {
            return Self::chat(task, tokenizer);
        }
        if task.chat && reading == Reading::Mask {
            return Err(Error::setting(
                Field::Chat,
                "on",
                "off: chats are for causal language models, but this is a masked one",
            ));
        }
        let joined = reading.continues() && tokenizer.marks_spaces();
        let maker = Maker { task, tokenizer, joined };
        let list = match reading {
            Reading::Mask => maker.pieces(task.template.parts()),
            Reading::FirstTokenAlone => maker.pieces(&texts_alone(task, true)),
            Reading::LastToken => maker.continued(&opening(task)?),
            Reading::LastTokenAlone => maker.continued(&texts_alone(task, false)),
        }?;
        let names = tokenizer.added_names();
        let parts = task.template_for(reading).parts();
        let in_front = parts.iter().take_while(|part| **part != Part::Mask).last();
        let ends_in_space = matches!(in_front, Some(Part::Literal(source))
            if literal_text(source, &names).ends_with(char::is_whitespace));
        Ok(Self { list, joined, chat: None, ends_in_space })
    }

    /// The prompt inside the checkpoint's chat template, tokenized as a whole.
    fn chat(task: &TaskDefinition, tokenizer: &PromptTokenizer) -> Result<Self> {
        let chat = chat_of(task, tokenizer)?;
        let ends_in_space = chat.answer_begins_bare(tokenizer);
        let maker = Maker { task, tokenizer, joined: true };
        // The chat template's own text, which every row fills in, stands around the message.
        let mut list = vec![Piece::Joined(String::new())];
        list.extend(maker.pieces(&chat.message)?);
        let message = list.len() - 1;
        list.push(Piece::Joined(String::new()));
        list.extend(maker.pieces(&chat.reply)?);
        Ok(Self { list, joined: true, chat: Some((chat, message)), ends_in_space })
    }
}

/// Only the template's texts: separated by separator tokens, as in LM-BFF's standard fine-tuning, or concatenated.
fn texts_alone(task: &TaskDefinition, separated: bool) -> Vec<Part> {
    let text = |index| {
        let space_before = !separated && index > 0;
        Part::Sentence(Sentence { index, space_before, first_letter: FirstLetter::Keep, drop_last: false })
    };
    let texts = (0..task.template.text_count()).map(text);
    if !separated {
        return texts.collect();
    }
    [Part::Cls].into_iter().chain(texts.flat_map(|text| [text, Part::Sep { next_segment: true }])).collect()
}

/// The context for making pieces.
struct Maker<'a> {
    task: &'a TaskDefinition,
    tokenizer: &'a PromptTokenizer,
    /// Whether literals and texts are tokenized together.
    joined: bool,
}

impl Maker<'_> {
    /// These parts after the tokenizer's beginning of texts, which is the meaning of `cls` for causal models.
    fn continued(&self, parts: &[Part]) -> Result<Vec<Piece>> {
        let mut all = vec![Piece::Fixed { ids: self.tokenizer.beginning()?, next_segment: false }];
        all.extend(self.pieces(parts)?);
        Ok(all)
    }

    /// Tokenizes the fixed parts.
    fn pieces(&self, parts: &[Part]) -> Result<Vec<Piece>> {
        let (task, tokenizer) = (self.task, self.tokenizer);
        let words = if task.template.label_count() > 0 { label_word_tokens(task, tokenizer)? } else { Vec::new() };
        let names = tokenizer.added_names();
        let fixed = |ids: Vec<i64>| Piece::Fixed { ids, next_segment: false };
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            pieces.push(match part {
                Part::Cls => fixed(vec![tokenizer.require(SpecialToken::Cls)?]),
                Part::Sep { .. } if self.joined => Piece::Joined(self.separator()?),
                Part::Sep { next_segment } => {
                    Piece::Fixed { ids: vec![tokenizer.require(SpecialToken::Sep)?], next_segment: *next_segment }
                }
                Part::Mask => Piece::Mask(tokenizer.require(SpecialToken::Mask)?),
                Part::Sentence(sentence) => Piece::Text(*sentence),
                Part::Label(index) if self.joined => Piece::Joined(
                    task.label_words.get(*index).map_or_else(String::new, |pair| format!(" {}", pair.word)),
                ),
                Part::Label(index) => fixed(words.get(*index).cloned().unwrap_or_default()),
                Part::Reply => {
                    return Err(Error::Syntax {
                        what: "template",
                        text: task.template.to_string(),
                        problem: "`reply` belongs to a chat, but the task is not a chat".into(),
                        expected: "set `chat` in the task, or remove `reply`".into(),
                    });
                }
                Part::Literal(source) => {
                    let text = literal_text(source, &names);
                    self.refuse_mask(&text)?;
                    if self.joined { Piece::Joined(text) } else { fixed(self.literal(&text)?) }
                }
            });
        }
        Ok(pieces)
    }

    /// The separator token.
    fn separator(&self) -> Result<String> {
        let id = self.tokenizer.require(SpecialToken::Sep)?;
        Ok(self.tokenizer.id_to_token(id).unwrap_or_default())
    }

    /// A single character is looked up as a token; anything longer is tokenized.
    fn literal(&self, text: &str) -> Result<Vec<i64>> {
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => self.tokenizer.encode_character(character),
            _ => self.tokenizer.encode(text),
        }
    }

    /// A prompt has one mask, which must be written as a variable.
    fn refuse_mask(&self, text: &str) -> Result<()> {
        let mask = self.tokenizer.special(SpecialToken::Mask).and_then(|id| self.tokenizer.id_to_token(id));
        match mask.filter(|name| text.contains(name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Error::Syntax {
                what: "template",
                text: self.task.template.to_string(),
                problem: format!("`{name}` is this tokenizer's mask"),
                expected: "write `*mask*` instead".into(),
            }),
        }
    }
}

/// The tokens of every piece for an example, in order; texts are truncated at their limits.
pub(super) fn tokens(
    task: &TaskDefinition,
    tokenizer: &PromptTokenizer,
    pieces: &Pieces,
    example: &Example,
    source: &Path,
) -> Result<Vec<Vec<i64>>> {
    let text = |piece: &Piece| match piece {
        Piece::Text(sentence) => filled(task, sentence, example, source).map(Some),
        Piece::Joined(text) => Ok(Some(text.clone())),
        Piece::Fixed { .. } | Piece::Mask(_) => Ok(None),
    };
    let mut texts = pieces.list.iter().map(text).collect::<Result<Vec<Option<String>>>>()?;
    if let Some((chat, message)) = &pieces.chat {
        let parts: Vec<String> = texts[1..=*message].iter().flatten().cloned().collect();
        let (before, parts, after) =
            chat.written(&parts).map_err(|problem| Error::row(source, example.row, problem))?;
        let written = [vec![before], parts, vec![after]].concat();
        texts.splice(..written.len(), written.into_iter().map(Some));
    }
    let mut found = Vec::with_capacity(pieces.list.len());
    let mut run: Vec<Stretch> = Vec::new();
    for (text, piece) in texts.into_iter().zip(&pieces.list) {
        match (text, piece) {
            (Some(text), piece) if pieces.joined => run.push(Stretch { text, fixed: !matches!(piece, Piece::Text(_)) }),
            (Some(text), _) => found.push(tokenizer.encode(&text)?),
            (None, piece) => {
                found.extend(joined(tokenizer, &std::mem::take(&mut run))?);
                found.push(match piece {
                    Piece::Fixed { ids, .. } => ids.clone(),
                    Piece::Mask(id) => vec![*id],
                    Piece::Text(_) | Piece::Joined(_) => Vec::new(),
                });
            }
        }
    }
    found.extend(joined(tokenizer, &run)?);
    for (piece, ids) in pieces.list.iter().zip(&mut found) {
        if let Piece::Text(sentence) = piece {
            let limit = if sentence.index == 0 { task.first_sentence_limit } else { task.other_sentence_limit };
            ids.truncate(limit.unwrap_or(usize::MAX));
        }
    }
    Ok(found)
}

/// A text of the example, modified as its part says.
fn filled(task: &TaskDefinition, sentence: &Sentence, example: &Example, source: &Path) -> Result<String> {
    let Some(text) = example.texts.get(sentence.index) else {
        let (wanted, found) = (sentence.index + 1, example.texts.len());
        let message = format!("has {found} text(s), but the template `{}` needs {wanted}", task.template);
        return Err(Error::row(source, example.row, message));
    };
    Ok(sentence.apply(text))
}

/// A piece's text that is tokenized together with its neighbours'.
struct Stretch {
    text: String,
    /// Whether it is the template's, which truncation leaves whole.
    fixed: bool,
}

/// Tokenizes adjacent texts as one, and assigns each the tokens that begin in it; but a token that begins in an example's text
/// and reaches into the template's belongs to the latter.
fn joined(tokenizer: &PromptTokenizer, texts: &[Stretch]) -> Result<Vec<Vec<i64>>> {
    let mut found = vec![Vec::new(); texts.len()];
    let mut ends = Vec::with_capacity(texts.len());
    let mut whole = String::new();
    for stretch in texts {
        whole.push_str(&stretch.text);
        ends.push(whole.len());
    }
    if whole.is_empty() {
        return Ok(found);
    }
    let mut at = 0;
    for token in tokenizer.encode_placed(&whole)? {
        // Tokens are in order of position; an empty one belongs to the preceding text.
        while at + 1 < texts.len() && token.bytes.start >= ends[at] {
            at += 1;
        }
        let reached = (at..texts.len()).take_while(|k| *k == at || token.bytes.end > ends[*k - 1]);
        let owner = reached.clone().find(|k| texts[*k].fixed && !texts[*k].text.is_empty()).unwrap_or(at);
        found[owner].push(token.id);
    }
    Ok(found)
}
