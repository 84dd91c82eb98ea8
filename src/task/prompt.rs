//! Prompts: a task's template filled with an example's texts, as token ids with one mask.
//!
//! Joins definition, tokenizer and examples; may not know tensors, padding or models.
//!
//! Source of the rules: LM-BFF (Gao et al., ACL 2021). Each text is truncated to its limit, then the whole to `max_length`;
//! the mask must remain. For a causal model the prompt ends before the mask and is read at its last token. An answer of
//! several tokens takes the mask's place or follows the prompt, and every prompt leaves room for the longest one.

use std::path::Path;

use super::data::Example;
use super::definition::TaskDefinition;
use super::label_words::{continuation, label_word_tokens, shown};
use super::limits::Limits;
use super::pieces::{Piece, Pieces, tokens};
use super::reading::Reading;
use super::split::{Split, Splits};
use super::template::Choice;
use super::tokenizer::PromptTokenizer;
use crate::error::{Error, Result};
use crate::progress::check_cancelled;

/// An example as a language model reads it, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, at most `max_length`.
    pub input_ids: Vec<i64>,
    /// Segment ids, as many as token ids; zeros unless the task has segments.
    pub segment_ids: Vec<i64>,
    /// Position in `input_ids` to read, counted from 0: the mask's, or the last.
    pub mask_pos: usize,
    /// Index of the label among the task's label words.
    pub label: usize,
    /// Line of the data file, counted from 1.
    pub row: usize,
    /// SHA-256 of the example's texts, see [`Example::digest`].
    pub digest: String,
    /// In multiple choice, the token ids of the example's choices, in the order of the labels.
    pub choices: Vec<Vec<i64>>,
}

/// A task's splits, ready for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptedTask {
    /// The task.
    pub definition: TaskDefinition,
    /// The token ids of each label's word, in the order of the labels; `None` without a prompt, or if every example has its
    /// own choices.
    pub words: Vec<Vec<i64>>,
    /// Examples to train on.
    pub train: Vec<Prompt>,
    /// Examples to select settings on.
    pub dev: Vec<Prompt>,
    /// Examples to report on.
    pub test: Vec<Prompt>,
    /// Notes on the prompts for readers of the results, such as special tokens in texts; often empty.
    pub notes: Vec<String>,
}

impl PromptedTask {
    /// Encodes all three splits and the label words, for reading at the mask.
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
        Self::read_within(None, reading, definition, tokenizer, splits)
    }

    /// The same for a model with this number of positions, if known: a prompt whose token to read lies beyond them is refused.
    pub(crate) fn read_within(
        positions: Option<usize>,
        reading: Reading,
        definition: &TaskDefinition,
        tokenizer: &PromptTokenizer,
        splits: &Splits,
    ) -> Result<Self> {
        if definition.is_choice() && !reading.prompted() {
            let problem = "a new head has outputs for classes, but a multiple choice has different choices in every \
                           row; use its prompt";
            return Err(Error::task(&definition.name, problem));
        }
        let has_words = reading.prompted() && !definition.is_choice();
        let words = if has_words { label_word_tokens(definition, tokenizer)? } else { Vec::new() };
        let longest = words.iter().map(Vec::len).max().unwrap_or(1);
        let limits = Limits { max_length: definition.max_length, positions, more: longest - 1 };
        let mut notes: Vec<String> = long_words(definition, tokenizer, &words).into_iter().collect();
        let asks = |text: &String| text.contains("strftime_now");
        if definition.chat && tokenizer.chat_templates().get("default").is_some_and(asks) {
            notes.push(
                "The checkpoint's chat template asks for the date (strftime_now). It does not get one, so that prompts are the same \
                 every day; in transformers the text may contain it."
                    .into(),
            );
        }
        let mut prompts = |what: &str, split: &Split| -> Result<Vec<Prompt>> {
            let (prompts, seen) = encode_at(reading, definition, tokenizer, (&split.examples, &split.source), limits)?;
            notes.extend(seen.notes(what));
            Ok(prompts)
        };
        let (train, dev, test) =
            (prompts("train", &splits.train)?, prompts("dev", &splits.dev)?, prompts("test", &splits.test)?);
        Ok(Self { words, train, dev, test, definition: definition.clone(), notes })
    }

    /// The token of each label's word, if each is a single token.
    pub fn label_ids(&self) -> Option<Vec<i64>> {
        if self.definition.is_choice() {
            return None;
        }
        self.words.iter().map(|word| if let [id] = word.as_slice() { Some(*id) } else { None }).collect()
    }

    /// The label words' tokens as text, for digests.
    pub fn words_text(&self) -> String {
        self.label_ids().map_or_else(|| format!("{:?}", self.words), |ids| format!("{ids:?}"))
    }

    /// The possible answers to a prompt, in the order of the labels.
    pub fn answers<'a>(&'a self, prompt: &'a Prompt) -> &'a [Vec<i64>] {
        if self.definition.is_choice() { &prompt.choices } else { &self.words }
    }

    /// The maximum number of tokens of a prompt with its longest answer.
    pub fn length(&self, prompt: &Prompt) -> usize {
        prompt.input_ids.len() + self.answers(prompt).iter().map(Vec::len).max().unwrap_or(1) - 1
    }

    /// The number of tokens of the longest prompt.
    pub fn longest(&self) -> usize {
        let prompts = self.train.iter().chain(&self.dev).chain(&self.test);
        prompts.map(|prompt| prompt.input_ids.len()).max().unwrap_or(0)
    }
}

/// A note on label words of several tokens for readers of the results.
fn long_words(task: &TaskDefinition, tokenizer: &PromptTokenizer, words: &[Vec<i64>]) -> Option<String> {
    let long = task.label_words.iter().zip(words).filter(|(_, tokens)| tokens.len() > 1);
    let long: Vec<_> = long.map(|(pair, tokens)| format!("`{}` is {}", pair.word, shown(tokenizer, tokens))).collect();
    (!long.is_empty()).then(|| {
        format!(
            "Label words of several tokens ({}): f of a class is the sum of its word's log-probabilities, token by token, not a \
             logit.",
            long.join(", ")
        )
    })
}

/// Encodes examples in order, for reading at the mask; `source` is the data file, for messages.
pub fn encode(
    task: &TaskDefinition,
    tokenizer: &PromptTokenizer,
    examples: &[Example],
    source: &Path,
) -> Result<Vec<Prompt>> {
    let limits = Limits { max_length: task.max_length, positions: None, more: 0 };
    Ok(encode_at(Reading::Mask, task, tokenizer, (examples, source), limits)?.0)
}

/// Findings in the texts for readers of the results.
#[derive(Default)]
struct Seen {
    /// Rows whose texts contain a special token, with the token's name.
    special: Vec<(usize, String)>,
    /// Rows whose prompt begins with the tokenizer's beginning token twice.
    twice: usize,
    rows: usize,
}

impl Seen {
    fn notes(&self, what: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some((row, name)) = self.special.first() {
            let count = self.special.len();
            notes.push(format!(
                "{count} of {} texts of the {what} set contain a special token of the tokenizer, which is read as \
                 that token: first `{name}` in row {row}.",
                self.rows
            ));
        }
        if self.twice > 0 {
            notes.push(format!(
                "{} of {} prompts of the {what} set begin with the tokenizer's first token twice: the tokenizer puts \
                 it before every text, and the template or the text has it too.",
                self.twice, self.rows
            ));
        }
        notes
    }
}

/// Encodes a file's examples within these limits; those of examples with choices leave room for the longest choice.
fn encode_at(
    reading: Reading,
    task: &TaskDefinition,
    tokenizer: &PromptTokenizer,
    (examples, source): (&[Example], &Path),
    limits: Limits,
) -> Result<(Vec<Prompt>, Seen)> {
    task.check()?;
    let pieces = Pieces::new(reading, task, tokenizer)?;
    let choices = task.template_for(reading).choice();
    // A chat template writes the beginning token itself.
    let beginning = if reading.continues() && !task.chat { tokenizer.beginning()? } else { Vec::new() };
    let mut seen = Seen { rows: examples.len(), ..Seen::default() };
    let mut prompts = Vec::with_capacity(examples.len());
    for example in examples {
        check_cancelled()?;
        let tokens = tokens(task, tokenizer, &pieces, example, source)?;
        if let Some(name) = special_in(tokenizer, example, &pieces, &tokens) {
            seen.special.push((example.row, name));
        }
        let choices = match choices {
            Some(choice) => choice_tokens(choice, &pieces, tokenizer, (example, source))?,
            None => Vec::new(),
        };
        let more = choices.iter().map(Vec::len).max().map_or(limits.more, |longest| longest - 1);
        let prompt = encode_one((reading, Limits { more, ..limits }), task, &pieces, tokens, example, source)?;
        let prompt = Prompt { choices, ..prompt };
        let again = prompt.input_ids.get(beginning.len()..).is_some_and(|rest| rest.starts_with(&beginning));
        seen.twice += usize::from(again && !beginning.is_empty());
        prompts.push(prompt);
    }
    Ok((prompts, seen))
}

/// The name of a special token contained in a text of the example.
fn special_in(tokenizer: &PromptTokenizer, example: &Example, pieces: &Pieces, tokens: &[Vec<i64>]) -> Option<String> {
    let texts = pieces.list.iter().zip(tokens).filter(|(piece, _)| matches!(piece, Piece::Text(_)));
    let special = texts.flat_map(|(_, ids)| ids).filter(|id| tokenizer.is_special(**id));
    let mut names = special.filter_map(|id| tokenizer.id_to_token(*id));
    names.find(|name| example.texts.iter().any(|text| text.contains(name.as_str())))
}

/// Repeatedly truncates the longest text until the whole is at most `max_length`: a causal model reads at the end, so the
/// tail must remain.
fn shorten(max_length: usize, pieces: &Pieces, tokens: &mut [Vec<i64>]) {
    while tokens.iter().map(Vec::len).sum::<usize>() > max_length {
        let texts = pieces.list.iter().zip(tokens.iter_mut()).filter(|(piece, _)| matches!(piece, Piece::Text(_)));
        match texts.map(|(_, ids)| ids).max_by_key(|ids| ids.len()).filter(|ids| !ids.is_empty()) {
            Some(longest) => longest.pop(),
            None => return,
        };
    }
}

/// The number of tokens that shortening leaves: all but those of texts.
fn fixed(pieces: &Pieces, tokens: &[Vec<i64>]) -> usize {
    let kept = pieces.list.iter().zip(tokens).filter(|(piece, _)| !matches!(piece, Piece::Text(_)));
    kept.map(|(_, ids)| ids.len()).sum()
}

fn encode_one(
    (reading, limits): (Reading, Limits),
    task: &TaskDefinition,
    pieces: &Pieces,
    mut tokens: Vec<Vec<i64>>,
    example: &Example,
    source: &Path,
) -> Result<Prompt> {
    let room = limits.prompt();
    if reading.continues() {
        shorten(room, pieces, &mut tokens);
    }
    let mut input_ids = Vec::new();
    let mut segment_ids = Vec::new();
    let mut segment = 0;
    let mut mask_pos = 0;
    // The texts before the mask with their lengths: they must be shorter if the mask does not fit. A causal model's are
    // shortened already.
    let mut before_mask = Vec::new();
    let mut mask_seen = false;
    for (piece, ids) in pieces.list.iter().zip(&tokens) {
        match piece {
            Piece::Mask(_) => {
                mask_pos = input_ids.len();
                mask_seen = true;
            }
            Piece::Text(sentence) if !mask_seen && !reading.continues() => {
                before_mask.push((sentence.index, ids.len()));
            }
            _ => {}
        }
        input_ids.extend_from_slice(ids);
        segment_ids.resize(input_ids.len(), segment);
        if task.segments && matches!(piece, Piece::Fixed { next_segment: true, .. }) {
            segment += 1;
        }
    }
    if reading.continues() {
        let Some(last) = input_ids.len().checked_sub(1) else {
            let message = "the prompt is empty: there is no token to read".to_owned();
            return Err(Error::row(source, example.row, message));
        };
        mask_pos = last;
    }
    let kept = if reading.continues() { fixed(pieces, &tokens).max(1) } else { mask_pos + 1 };
    if let Some(problem) = limits.problem(reading, kept + limits.more, &before_mask) {
        return Err(Error::row(source, example.row, problem));
    }
    input_ids.truncate(room);
    segment_ids.truncate(room);
    let (label, row, digest) = (example.label, example.row, example.digest());
    Ok(Prompt { input_ids, segment_ids, mask_pos, label, row, digest, choices: Vec::new() })
}

/// The tokens of an example's choices; an error for one without tokens, or two with the same tokens.
fn choice_tokens(
    choice: Choice,
    pieces: &Pieces,
    tokenizer: &PromptTokenizer,
    (example, source): (&Example, &Path),
) -> Result<Vec<Vec<i64>>> {
    let fail = |problem: String| Err(Error::row(source, example.row, problem));
    let mut found: Vec<Vec<i64>> = Vec::with_capacity(example.choices.len());
    for text in &example.choices {
        let tokens = continuation(&choice.apply(text.trim()), tokenizer, pieces.ends_in_space)?;
        let shown: String = text.chars().take(40).collect();
        if tokens.is_empty() {
            return fail(format!("the choice `{shown}` has no tokens under this tokenizer"));
        }
        if found.contains(&tokens) {
            return fail(format!(
                "the choice `{shown}` has the same tokens as another choice of the row under this tokenizer"
            ));
        }
        found.push(tokens);
    }
    Ok(found)
}
