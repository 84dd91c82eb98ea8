//! Cloze tasks from plain text: a sentence with one word left out, and two or more words that could stand there.
//!
//! A cloze task asks what a masked language model was trained on, so a model of any size and any language can do it, and no
//! data set is needed: `he` or `she` is read off the text itself. Every example is a sentence in which exactly one of the
//! label words occurs, once; the mask takes its place ([`TEMPLATE`]) and the word is the label. [`draw`] makes balanced
//! examples of any text, [`mod@builtin`] holds tasks of sentences written for this project.
//!
//! May not know files, tokenizers, tensors or models. What it promises to tokenizers with bytes as letters (those of
//! GPT-2 and `RoBERTa`) is that the word had a space in front and that the text goes on after it with a character that
//! starts another token, so that the mask replaces that word's tokens and nothing else.

pub mod builtin;
mod sentence;

use std::collections::HashSet;
use std::path::Path;

use super::data::Example;
use super::definition::TaskDefinition;
use super::split::shuffled;
use crate::error::{Error, Result};
use crate::progress::check_cancelled;
use crate::setting::Field;

pub use builtin::{BuiltinCloze, builtin, find, named};

/// The prompt of every cloze task: the mask between the text before the word and the text after it. Neither gets a space
/// of its own: the word's space belongs to the word, and the text after begins with whatever followed it.
pub const TEMPLATE: &str = "*cls**sent_0**mask**sent_1**sep+*";

/// With fewer examples of a word there is none for each of train, dev and test.
pub const LEAST: usize = 3;

/// Which sentences become examples, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClozeSettings {
    /// Examples of each word, at most; as many as the rarest word has if `None`.
    pub limit: Option<usize>,
    /// Which of a word's sentences are taken where it has more: another seed, other sentences.
    pub seed: u64,
    /// Words of a sentence, at least.
    pub min_words: usize,
    /// Words of a sentence, at most.
    pub max_words: usize,
}

impl Default for ClozeSettings {
    fn default() -> Self {
        Self { limit: None, seed: 13, min_words: 5, max_words: 30 }
    }
}

impl ClozeSettings {
    fn check(&self) -> Result<()> {
        if let Some(limit) = self.limit.filter(|limit| *limit < LEAST) {
            return Err(Error::setting(
                Field::Limit,
                limit,
                format!("{LEAST} or more: one example of each word to train, select and test on"),
            ));
        }
        if self.min_words > self.max_words {
            let expected = format!("{} or less, as {} is", self.max_words, Field::MaxWords);
            return Err(Error::setting(Field::MinWords, self.min_words, expected));
        }
        Ok(())
    }
}

/// Examples made from a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// As many of each word, in the order of the text. The two texts are what stands before the word, without the space
    /// between, and what follows it; `row` is the line of the text.
    pub examples: Vec<Example>,
    /// How many different sentences the text has for each word.
    pub found: Vec<usize>,
}

/// Makes examples of `text`, whose lines are paragraphs; `source` is its name in messages.
///
/// A sentence is taken if it begins with a capital (quotation marks aside), ends with `.`, `!` or `?`, has a length
/// within the bounds and no control characters, and has exactly one of the label words, in whatever capitals, exactly
/// once: in lower case, with a space in front, as a word of its own (`he'll` and `he-goat` rule a sentence out). Where
/// two sentences are equal but for the label word, the first counts.
pub fn draw(source: &Path, text: &str, words: &[impl AsRef<str>], settings: &ClozeSettings) -> Result<Drawn> {
    check_words(words)?;
    settings.check()?;
    let all = usable(text, words, settings)?;
    let of = |label: usize| all.iter().enumerate().filter(move |(_, e)| e.label == label).map(|(at, _)| at);
    let found: Vec<usize> = (0..words.len()).map(|label| of(label).count()).collect();
    let rarest = found.iter().copied().min().unwrap_or(0);
    if rarest < LEAST {
        let at = found.iter().position(|count| *count == rarest).unwrap_or(0);
        return Err(Error::format(
            source,
            format!(
                "`{}` is the only label word in {rarest} sentence(s) of {} to {} words, but a task needs {LEAST} of each \
                 word at least; give a longer text, other words, or other lengths ({}, {})",
                words[at].as_ref(),
                settings.min_words,
                settings.max_words,
                Field::MinWords,
                Field::MaxWords
            ),
        ));
    }
    let count = settings.limit.map_or(rarest, |limit| limit.min(rarest));
    let mut kept = HashSet::with_capacity(count * words.len());
    for label in 0..words.len() {
        let rows: Vec<usize> = of(label).collect();
        kept.extend(shuffled(rows.len(), "cloze", settings.seed).into_iter().take(count).map(|at| rows[at]));
    }
    let examples = all.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, example)| example);
    Ok(Drawn { examples: examples.collect(), found })
}

/// Every different usable sentence, in the order of the text.
fn usable(text: &str, words: &[impl AsRef<str>], settings: &ClozeSettings) -> Result<Vec<Example>> {
    let mut seen = HashSet::new();
    let mut examples = Vec::new();
    for (at, line) in text.lines().enumerate() {
        check_cancelled()?;
        // Runs of spaces are a matter of layout. Tabs are not touched: their sentences are passed over.
        let paragraph = line.split(' ').filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" ");
        for whole in sentence::sentences(&paragraph) {
            if !(settings.min_words..=settings.max_words).contains(&whole.split_whitespace().count()) {
                continue;
            }
            let Some((before, label, after)) = sentence::cut(whole, words) else { continue };
            let texts = vec![before.to_string(), after.to_string()];
            if seen.insert(texts.clone()) {
                examples.push(Example { texts, choices: Vec::new(), label, row: at + 1 });
            }
        }
    }
    Ok(examples)
}

/// Fails unless there are two words or more, all different, each of lower-case letters alone.
pub fn check_words(words: &[impl AsRef<str>]) -> Result<()> {
    let listed = words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",");
    let fail = |problem: String| {
        Err(Error::Syntax {
            what: "cloze words",
            text: listed.clone(),
            problem,
            expected: "write two lower-case words or more with commas between, e.g. he,she".into(),
        })
    };
    if words.len() < 2 {
        return fail("there is nothing to choose between".to_string());
    }
    for (at, word) in words.iter().map(AsRef::as_ref).enumerate() {
        if word.is_empty() || !word.chars().all(char::is_lowercase) {
            return fail(format!("`{word}` is not a single word of lower-case letters"));
        }
        if words[..at].iter().any(|earlier| earlier.as_ref() == word) {
            return fail(format!("`{word}` occurs twice"));
        }
    }
    Ok(())
}

/// The task of these words, named after them (`cloze-he-she`); each word is its own label.
pub fn definition(words: &[impl AsRef<str>]) -> Result<TaskDefinition> {
    check_words(words)?;
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    TaskDefinition::new(&format!("cloze-{}", words.join("-")), TEMPLATE, &label_words(&words))
}

/// The label words as `--label-words` takes them: `he=he,she=she`.
pub fn label_words(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("{0}={0}", word.as_ref())).collect::<Vec<_>>().join(",")
}

/// The sentence that an example was made of.
pub fn restore(example: &Example, words: &[impl AsRef<str>]) -> String {
    format!("{} {}{}", example.texts[0], words[example.label].as_ref(), example.texts[1])
}

/// The examples as a data file of one's own: a TSV with the columns `text`, `text2` and `label`.
pub fn to_tsv(examples: &[Example], words: &[impl AsRef<str>]) -> String {
    let mut tsv = String::from("text\ttext2\tlabel\n");
    for example in examples {
        for text in &example.texts {
            // As pandas writes them: a quotation mark stands twice inside of two.
            if text.contains(['"', '\t', '\n', '\r']) {
                tsv.push('"');
                tsv.push_str(&text.replace('"', "\"\""));
                tsv.push('"');
            } else {
                tsv.push_str(text);
            }
            tsv.push('\t');
        }
        tsv.push_str(words[example.label].as_ref());
        tsv.push('\n');
    }
    tsv
}
