//! Cloze tasks from plain text: a sentence with one word left out, and two or more candidate words.
//!
//! A cloze task asks for what a masked language model was trained on, so models of any size and language can do it, and no
//! labelled data are needed: the text itself says whether it is `he` or `she`. Every example is a sentence in which exactly
//! one of the label words occurs, exactly once; the mask takes its place ([`TEMPLATE`]) and the word is the label. [`draw`]
//! makes balanced examples from any text; [`mod@builtin`] has tasks with sentences written for this project.
//!
//! May not know files, tokenizers, tensors or models. For byte-level tokenizers (as of GPT-2 and `RoBERTa`) it guarantees
//! that the word was preceded by a space and followed by a character that starts another token, so that the mask replaces
//! exactly that word's tokens.

pub mod builtin;
mod sentence;

use std::collections::HashSet;
use std::path::Path;

use super::data::Example;
use super::definition::TaskDefinition;
use super::split::shuffled;
use super::template::Template;
use crate::error::{Error, Result};
use crate::progress::check_cancelled;
use crate::setting::Field;

pub use builtin::{BuiltinCloze, builtin, find, named};

/// The prompt of every cloze task: the mask between the text before the word and the text after it. Neither gets an
/// additional space: the word's space belongs to the word, and the text after it begins with whatever followed.
pub const TEMPLATE: &str = "*cls**sent_0**mask**sent_1**sep+*";

/// The same for a causal model, which continues the text before the word.
pub const CAUSAL_TEMPLATE: &str = "*sent_0**mask*";

/// Minimum number of examples per word: one each for train, dev and test.
pub const LEAST: usize = 3;

/// Which sentences become examples, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClozeSettings {
    /// Maximum number of examples per word; `None` for as many as the rarest word has.
    pub limit: Option<usize>,
    /// Seed of the choice among a word's sentences, if it has more.
    pub seed: u64,
    /// Minimum number of words in a sentence.
    pub min_words: usize,
    /// Maximum number of words in a sentence.
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
                format!("{LEAST} or more: one example per word for train, dev and test each"),
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
    /// Equally many per word, in the order of the text. The two texts are what precedes the word, without the space between,
    /// and what follows it; `row` is the line of the text.
    pub examples: Vec<Example>,
    /// How many different sentences the text has for each word.
    pub found: Vec<usize>,
}

/// Makes examples from `text`, whose lines are paragraphs; `source` is its name in messages.
///
/// A sentence is taken if it begins with a capital (quotation marks aside), ends with `.`, `!` or `?`, has a length within
/// the bounds and no control characters, and has exactly one of the label words, ignoring case, exactly once: in lower case,
/// after a space, as a separate word (`he'll` and `he-goat` exclude a sentence). If two sentences differ only in the label
/// word, the first is used.
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
                "`{}` is the only label word in {rarest} sentence(s) of {} to {} words, but a task needs at least \
                 {LEAST} per word; give a longer text, other words, or other lengths ({}, {})",
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

/// All distinct usable sentences, in the order of the text.
fn usable(text: &str, words: &[impl AsRef<str>], settings: &ClozeSettings) -> Result<Vec<Example>> {
    let mut seen = HashSet::new();
    let mut examples = Vec::new();
    for (at, line) in text.lines().enumerate() {
        check_cancelled()?;
        // Runs of spaces are collapsed. Tabs are kept, which excludes their sentences.
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

/// Fails unless there are at least two words, all distinct, each of only lower-case letters.
pub fn check_words(words: &[impl AsRef<str>]) -> Result<()> {
    let listed = words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",");
    let fail = |problem: String| {
        Err(Error::Syntax {
            what: "cloze words",
            text: listed.clone(),
            problem,
            expected: "write two or more lower-case words separated by commas, e.g. he,she".into(),
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
    let definition = TaskDefinition::new(&format!("cloze-{}", words.join("-")), TEMPLATE, &label_words(&words))?;
    Ok(TaskDefinition { causal_template: Some(Template::parse(CAUSAL_TEMPLATE)?), ..definition })
}

/// The label words in the syntax of `--label-words`: `he=he,she=she`.
pub fn label_words(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("{0}={0}", word.as_ref())).collect::<Vec<_>>().join(",")
}

/// The sentence from which an example was made.
pub fn restore(example: &Example, words: &[impl AsRef<str>]) -> String {
    format!("{} {}{}", example.texts[0], words[example.label].as_ref(), example.texts[1])
}

/// The examples as a data file: a TSV with the columns `text`, `text2` and `label`.
pub fn to_tsv(examples: &[Example], words: &[impl AsRef<str>]) -> String {
    let mut tsv = String::from("text\ttext2\tlabel\n");
    for example in examples {
        for text in &example.texts {
            // Quoted as by pandas: quotation marks are doubled.
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
