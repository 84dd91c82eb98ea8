//! Prompts: a task's template filled with an example's texts, as token ids around one mask.
//!
//! Joins definition, tokenizer and examples; may not know tensors, padding or models.
//!
//! Source of the rules: LM-BFF (Gao et al., ACL 2021). Each text is cut at its limit, then the whole at `max_length`
//! from the tail; the mask must survive. For a model that continues texts the prompt is what stands in front of the mask,
//! and its last token takes the mask's place.

use std::path::Path;

use super::data::Example;
use super::definition::TaskDefinition;
use super::split::{Split, Splits};
use super::template::{FirstLetter, Part, Sentence};
use super::tokenizer::{PromptTokenizer, SpecialToken};
use crate::error::{Error, Result};
use crate::progress::check_stop;

/// Where a model's answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// At the mask.
    #[default]
    Mask,
    /// At the last token in front of the mask: what follows it is the answer.
    LastToken,
    /// At the first token of the texts alone, without a prompt, by a head that is new.
    FirstTokenAlone,
    /// At the last token of the texts alone.
    LastTokenAlone,
}

impl Reading {
    /// Whether the template and the label words take part.
    pub fn prompted(self) -> bool {
        matches!(self, Self::Mask | Self::LastToken)
    }
}

/// One example as a language model reads it, not padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, `max_length` at most.
    pub input_ids: Vec<i64>,
    /// Segment ids, as many as token ids; zeros unless the task has segments.
    pub segment_ids: Vec<i64>,
    /// Position in `input_ids` that is read, counted from 0: the mask's, or the last.
    pub mask_pos: usize,
    /// Index of the label among the task's label words.
    pub label: usize,
    /// Line of the data file, counted from 1.
    pub row: usize,
}

/// A task's splits, ready for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptedTask {
    /// The task.
    pub definition: TaskDefinition,
    /// The token id of each label's word, in the order of the labels; none without a prompt.
    pub label_ids: Vec<i64>,
    /// Examples to train on.
    pub train: Vec<Prompt>,
    /// Examples to select settings on.
    pub dev: Vec<Prompt>,
    /// Examples to report on.
    pub test: Vec<Prompt>,
}

impl PromptedTask {
    /// Encodes all three splits and the label words, to be read at the mask.
    pub fn new(definition: &TaskDefinition, tokenizer: &PromptTokenizer, splits: &Splits) -> Result<Self> {
        Self::read_at(Reading::Mask, definition, tokenizer, splits)
    }

    /// The same for either way of reading.
    pub fn read_at(
        reading: Reading,
        definition: &TaskDefinition,
        tokenizer: &PromptTokenizer,
        splits: &Splits,
    ) -> Result<Self> {
        let prompts = |split: &Split| encode_at(reading, definition, tokenizer, &split.examples, &split.source);
        Ok(Self {
            label_ids: if reading.prompted() { label_word_ids(definition, tokenizer)? } else { Vec::new() },
            train: prompts(&splits.train)?,
            dev: prompts(&splits.dev)?,
            test: prompts(&splits.test)?,
            definition: definition.clone(),
        })
    }

    /// The number of tokens of the longest prompt.
    pub fn longest(&self) -> usize {
        let prompts = self.train.iter().chain(&self.dev).chain(&self.test);
        prompts.map(|prompt| prompt.input_ids.len()).max().unwrap_or(0)
    }
}

/// A template's part that waits for an example, or the tokens that are the same in every prompt.
enum Piece {
    Fixed { ids: Vec<i64>, next_segment: bool },
    Mask(i64),
    Text(Sentence),
}

/// Encodes examples in their order, to be read at the mask; `source` is the data file, for messages.
pub fn encode(
    task: &TaskDefinition,
    tokenizer: &PromptTokenizer,
    examples: &[Example],
    source: &Path,
) -> Result<Vec<Prompt>> {
    encode_at(Reading::Mask, task, tokenizer, examples, source)
}

fn encode_at(
    reading: Reading,
    task: &TaskDefinition,
    tokenizer: &PromptTokenizer,
    examples: &[Example],
    source: &Path,
) -> Result<Vec<Prompt>> {
    task.check()?;
    let pieces = match reading {
        Reading::Mask => pieces(task, tokenizer, task.template.parts())?,
        Reading::LastToken => opening(task, tokenizer)?,
        Reading::FirstTokenAlone => pieces(task, tokenizer, &texts_alone(task, true))?,
        Reading::LastTokenAlone => continued(task, tokenizer, &texts_alone(task, false))?,
    };
    let encoded = examples.iter().map(|example| {
        check_stop()?;
        encode_one(reading, task, tokenizer, &pieces, example, source)
    });
    encoded.collect()
}

/// The token id of each label's word, in the order of the labels. A word stands with a space in front and must be one
/// token then; one that starts with `<`, `[`, `.` or `,` is looked up in the vocabulary as it is.
pub fn label_word_ids(task: &TaskDefinition, tokenizer: &PromptTokenizer) -> Result<Vec<i64>> {
    let mut ids: Vec<i64> = Vec::with_capacity(task.label_words.len());
    for pair in &task.label_words {
        let (label, word) = (&pair.label, &pair.word);
        let fail = |problem: String| {
            let message = format!(
                "label `{label}` of task `{}`: the word `{word}` {problem}; choose another word in the label words",
                task.name
            );
            Err(Error::format(tokenizer.source(), message))
        };
        let id = if word.starts_with(['<', '[', '.', ',']) {
            tokenizer.token_to_id(word)
        } else {
            match tokenizer.encode(&format!(" {word}"))?.as_slice() {
                [id] => Some(*id),
                [] => None,
                several => {
                    let tokens: Vec<_> = several.iter().map(|id| shown(tokenizer, *id)).collect();
                    let problem = format!("is {} tokens ({}), but must be one", tokens.len(), tokens.join(" "));
                    return fail(problem);
                }
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

/// A token for a message: as in the vocabulary, in quotation marks of code.
fn shown(tokenizer: &PromptTokenizer, id: i64) -> String {
    tokenizer.id_to_token(id).map_or_else(|| format!("id {id}"), |token| format!("`{token}`"))
}

/// The template's texts without anything else: set apart by separators, as LM-BFF feeds standard fine-tuning, or one
/// after the other.
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

/// The pieces in front of the mask.
fn opening(task: &TaskDefinition, tokenizer: &PromptTokenizer) -> Result<Vec<Piece>> {
    let template = task.template_for(Reading::LastToken);
    let parts = template.parts();
    let mask = parts.iter().position(|part| *part == Part::Mask).unwrap_or(parts.len());
    let (before, after) = parts.split_at(mask);
    if let Some(lost) = after.iter().find(|part| matches!(part, Part::Sentence(_) | Part::Label(_))) {
        return Err(Error::Settings(format!(
            "template `{template}`: a causal language model reads the prompt up to its mask, but `{lost}` stands behind it; give a \
             template whose texts are all in front of the mask (--template), such as `*sent_0*_It_was*mask*`"
        )));
    }
    let before: Vec<Part> = before.iter().filter(|part| **part != Part::Cls).cloned().collect();
    continued(task, tokenizer, &before)
}

/// These parts after whatever the tokenizer begins every text with: that is what `cls` means to a model that continues
/// texts.
fn continued(task: &TaskDefinition, tokenizer: &PromptTokenizer, parts: &[Part]) -> Result<Vec<Piece>> {
    let mut all = vec![Piece::Fixed { ids: tokenizer.beginning()?, next_segment: false }];
    all.extend(pieces(task, tokenizer, parts)?);
    Ok(all)
}

/// Tokenizes what all prompts have in common.
fn pieces(task: &TaskDefinition, tokenizer: &PromptTokenizer, parts: &[Part]) -> Result<Vec<Piece>> {
    let label_ids = if task.template.label_count() > 0 { label_word_ids(task, tokenizer)? } else { Vec::new() };
    let fixed = |ids: Vec<i64>| Piece::Fixed { ids, next_segment: false };
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        pieces.push(match part {
            Part::Cls => fixed(vec![tokenizer.require(SpecialToken::Cls)?]),
            Part::Sep { next_segment } => {
                Piece::Fixed { ids: vec![tokenizer.require(SpecialToken::Sep)?], next_segment: *next_segment }
            }
            Part::Mask => Piece::Mask(tokenizer.require(SpecialToken::Mask)?),
            Part::Sentence(sentence) => Piece::Text(*sentence),
            Part::Label(index) => fixed(label_ids.get(*index).copied().into_iter().collect()),
            Part::Literal(text) => fixed(literal(task, tokenizer, text)?),
        });
    }
    Ok(pieces)
}

/// One character is a token of its own; anything longer is tokenized.
fn literal(task: &TaskDefinition, tokenizer: &PromptTokenizer, text: &str) -> Result<Vec<i64>> {
    let mut characters = text.chars();
    if let (Some(_), None) = (characters.next(), characters.next()) {
        let id = tokenizer.token_to_id(text);
        return Ok(vec![id.map_or_else(|| tokenizer.require(SpecialToken::Unk), Ok)?]);
    }
    for (token, variable) in [(SpecialToken::Cls, "cls"), (SpecialToken::Sep, "sep"), (SpecialToken::Mask, "mask")] {
        let name = tokenizer.special(token).and_then(|id| tokenizer.id_to_token(id));
        if let Some(name) = name.filter(|name| text.contains(name.as_str())) {
            return Err(Error::Settings(format!(
                "template `{}`: `{name}` is a special token of this tokenizer; write `*{variable}*` in its place",
                task.template
            )));
        }
    }
    tokenizer.encode(text)
}

/// Token ids of the texts that the pieces take, in their order, each cut at its limit.
fn texts_of(
    task: &TaskDefinition,
    tokenizer: &PromptTokenizer,
    pieces: &[Piece],
    example: &Example,
    source: &Path,
) -> Result<Vec<Vec<i64>>> {
    let sentences =
        pieces.iter().filter_map(|piece| if let Piece::Text(sentence) = piece { Some(sentence) } else { None });
    sentences
        .map(|sentence| {
            let Some(text) = example.texts.get(sentence.index) else {
                let (wanted, found) = (sentence.index + 1, example.texts.len());
                let message = format!("has {found} text(s), but the template `{}` needs {wanted}", task.template);
                return Err(Error::row(source, example.row, message));
            };
            let mut ids = tokenizer.encode(&sentence.apply(text))?;
            let limit = if sentence.index == 0 { task.first_sentence_limit } else { task.other_sentence_limit };
            ids.truncate(limit.unwrap_or(usize::MAX));
            Ok(ids)
        })
        .collect()
}

/// Cuts the longest text, again and again, until the whole is no longer than `max_length`: a model that continues texts
/// reads at the end, so that the tail must stay.
fn shorten(max_length: usize, pieces: &[Piece], texts: &mut [Vec<i64>]) {
    let fixed: usize = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Fixed { ids, .. } => ids.len(),
            Piece::Mask(_) => 1,
            Piece::Text(_) => 0,
        })
        .sum();
    while fixed + texts.iter().map(Vec::len).sum::<usize>() > max_length {
        match texts.iter_mut().max_by_key(|ids| ids.len()).filter(|ids| !ids.is_empty()) {
            Some(longest) => longest.pop(),
            None => return,
        };
    }
}

fn encode_one(
    reading: Reading,
    task: &TaskDefinition,
    tokenizer: &PromptTokenizer,
    pieces: &[Piece],
    example: &Example,
    source: &Path,
) -> Result<Prompt> {
    let mut texts = texts_of(task, tokenizer, pieces, example, source)?;
    if matches!(reading, Reading::LastToken | Reading::LastTokenAlone) {
        shorten(task.max_length, pieces, &mut texts);
    }
    let mut texts = texts.into_iter();
    let mut input_ids = Vec::new();
    let mut segment_ids = Vec::new();
    let mut segment = 0;
    let mut mask_pos = 0;
    // The texts in front of the mask with their lengths: one of them must be cut if the mask does not fit.
    let mut before_mask = Vec::new();
    let mut mask_seen = false;
    for piece in pieces {
        match piece {
            Piece::Fixed { ids, .. } => input_ids.extend_from_slice(ids),
            Piece::Mask(id) => {
                mask_pos = input_ids.len();
                mask_seen = true;
                input_ids.push(*id);
            }
            Piece::Text(sentence) => {
                let mut ids = texts.next().unwrap_or_default();
                if !mask_seen {
                    before_mask.push((sentence.index, ids.len()));
                }
                input_ids.append(&mut ids);
            }
        }
        segment_ids.resize(input_ids.len(), segment);
        if task.segments && matches!(piece, Piece::Fixed { next_segment: true, .. }) {
            segment += 1;
        }
    }
    if matches!(reading, Reading::LastToken | Reading::LastTokenAlone) {
        let Some(last) = input_ids.len().checked_sub(1) else {
            let message = "the prompt is empty: there is no token to read".to_owned();
            return Err(Error::row(source, example.row, message));
        };
        mask_pos = last;
    }
    if mask_pos >= task.max_length {
        return Err(Error::row(source, example.row, mask_lost(reading, task, mask_pos, &before_mask)));
    }
    input_ids.truncate(task.max_length);
    segment_ids.truncate(task.max_length);
    Ok(Prompt { input_ids, segment_ids, mask_pos, label: example.label, row: example.row })
}

/// Which limit to set so that the mask stays: a shorter text in front of it, or a longer prompt.
fn mask_lost(reading: Reading, task: &TaskDefinition, mask_pos: usize, before_mask: &[(usize, usize)]) -> String {
    let excess = mask_pos + 1 - task.max_length;
    let what = match reading {
        Reading::Mask => "mask",
        Reading::LastToken => "token in front of the mask",
        Reading::FirstTokenAlone | Reading::LastTokenAlone => "token that is read",
    };
    let message = format!(
        "the {what} would be token {} of a prompt cut at {} tokens (max_length); set max_length (--max-length) to {} or more",
        mask_pos + 1,
        task.max_length,
        mask_pos + 1
    );
    if let Some((index, length)) = before_mask.iter().filter(|(_, length)| *length > excess).max_by_key(|text| text.1) {
        let name =
            if *index == 0 { "first_sentence_limit (--first-limit)" } else { "other_sentence_limit (--other-limit)" };
        let enough = length - excess;
        return format!("{message}, or {name} to {enough} or less");
    }
    message
}
