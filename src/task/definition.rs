//! What a task is: name, template, label words, lengths and the layout of its data files; built in, overridden, or from
//! a TOML file.
//!
//! May not know tokenizers or read data.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::columns::ColumnNames;
use super::format::DataFormat;
use super::reading::Reading;
use super::template::Template;
use crate::error::{Error, Result};
use crate::setting::Field;

/// The label in the data files, and the word that represents it at the mask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LabelWord {
    /// The label in the data: `1`, `entailment`.
    pub label: String,
    /// One or more words, with an implied space before them. In multiple choice, the column that holds the choice.
    pub word: String,
}

impl LabelWord {
    /// A pair of label and word.
    pub fn new(label: &str, word: &str) -> Self {
        Self { label: label.to_string(), word: word.to_string() }
    }
}

/// A prompt-based classification task, or a multiple-choice task, whose template has `choice` instead of the mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinition {
    /// Its name; for the built-in tasks also that of its data directory.
    pub name: String,
    /// The prompt.
    pub template: Template,
    /// The prompt for causal models, if it is not the template up to its mask.
    pub causal_template: Option<Template>,
    /// Labels and their words, in the order of the outputs.
    pub label_words: Vec<LabelWord>,
    /// Tokens of a whole prompt, at most; the tail is cut.
    pub max_length: usize,
    /// Tokens of text 0, at most; no limit if `None`.
    pub first_sentence_limit: Option<usize>,
    /// Tokens of each other text, at most; no limit if `None`.
    pub other_sentence_limit: Option<usize>,
    /// The layout of the data files.
    pub format: DataFormat,
    /// Whether segment ids grow after each `sep+`; the paper's runs have zeros everywhere.
    pub segments: bool,
    /// The columns of a user's file, if they have other names.
    pub columns: ColumnNames,
    /// Whether a causal model's prompt is wrapped in the checkpoint's own chat template.
    pub chat: bool,
}

/// Settings that override those of a definition; `None` keeps the original.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// A template in LM-BFF's language.
    pub template: Option<String>,
    /// `terrible,great` (in the order of the labels) or `0=terrible,1=great`; in multiple choice, the columns of the
    /// choices.
    pub label_words: Option<String>,
    /// Maximum tokens of a whole prompt.
    pub max_length: Option<usize>,
    /// Tokens of text 0; 0 means no limit.
    pub first_sentence_limit: Option<usize>,
    /// Tokens of each other text; 0 means no limit.
    pub other_sentence_limit: Option<usize>,
    /// Segment ids.
    pub segments: Option<bool>,
    /// The columns of a user's file: `text=sentence,label=label`.
    pub columns: Option<String>,
    /// Whether the prompt is wrapped in the checkpoint's chat template.
    pub chat: Option<bool>,
}

/// A task TOML, field by field; see [`TaskDefinition::from_toml`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    template: String,
    causal_template: Option<String>,
    label_words: Vec<String>,
    #[serde(default = "default_max_length")]
    max_length: usize,
    #[serde(default)]
    first_sentence_limit: usize,
    #[serde(default)]
    other_sentence_limit: usize,
    #[serde(default)]
    format: DataFormat,
    #[serde(default)]
    segments: bool,
    columns: Option<String>,
    #[serde(default)]
    chat: bool,
}

const fn default_max_length() -> usize {
    128
}

impl TaskDefinition {
    /// A task for a user's data file ([`DataFormat::Named`], 128 tokens, no sentence limits). Label words without labels
    /// (`terrible,great`) are for the labels 0, 1, ….
    pub fn new(name: &str, template: &str, label_words: &str) -> Result<Self> {
        let definition = Self {
            name: name.to_string(),
            template: Template::parse(template)?,
            causal_template: None,
            label_words: parse_label_words(label_words, None)?,
            max_length: default_max_length(),
            first_sentence_limit: None,
            other_sentence_limit: None,
            format: DataFormat::Named,
            segments: false,
            columns: ColumnNames::default(),
            chat: false,
        };
        definition.check()?;
        Ok(definition)
    }

    /// Reads a task from a TOML file. Only `name`, `template` and `label_words` are required; without `format` the data file
    /// has named columns. Sentence limits of 0 mean none. Unknown fields are errors.
    ///
    /// ```toml
    /// name = "reviews"
    /// template = "*cls**sent_0*_It_was*mask*.*sep+*"
    /// causal_template = "*sent_0*_All_in_all,_it_was*mask*"   # for GPT-2, Llama, …; by default the template up to its mask
    /// label_words = ["negative=terrible", "positive=great"]
    /// max_length = 128
    /// first_sentence_limit = 110
    /// other_sentence_limit = 50
    /// segments = false
    /// columns = "text=sentence"   # the names of the columns, or numbers from 0 for a file without a header
    /// chat = false                # a causal model's prompt in the checkpoint's own chat template
    /// # With `*choice*` in the mask's place every row has answers of its own, and label_words name their columns:
    /// # label_words = ["0=choice1", "1=choice2"], or fields of JSON lines, "0=endings.0"
    /// [format]
    /// kind = "tsv"      # header line, no quoting; or "csv": no header line, quoted; or "named", as without [format]
    /// texts = [0]       # columns count from 0
    /// label = -1        # from the end
    /// header = true     # false: the first line is a row
    /// ```
    pub fn from_toml(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let source = String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8 text"))?;
        let file: TaskFile = toml::from_str(&source).map_err(|reason| {
            let place = reason.span().and_then(|span| source.get(..span.start));
            let line = place.map_or_else(String::new, |before| format!("line {}: ", before.matches('\n').count() + 1));
            Error::format(path, format!("{line}{}", reason.message()))
        })?;
        let build = || {
            let definition = Self {
                name: file.name,
                template: Template::parse(&file.template)?,
                causal_template: file.causal_template.as_deref().map(Template::parse).transpose()?,
                label_words: parse_label_words(&file.label_words.join(","), None)?,
                max_length: file.max_length,
                first_sentence_limit: limit(file.first_sentence_limit),
                other_sentence_limit: limit(file.other_sentence_limit),
                format: file.format,
                segments: file.segments,
                columns: file.columns.as_deref().map(ColumnNames::parse).transpose()?.unwrap_or_default(),
                chat: file.chat,
            };
            definition.check()?;
            Ok(definition)
        };
        build().map_err(|error: Error| Error::format(path, error.to_string()))
    }

    /// The definition with some settings overridden.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self> {
        if let Some(template) = &overrides.template {
            self.template = Template::parse(template)?;
            self.causal_template = None;
        }
        if let Some(words) = &overrides.label_words {
            self.label_words = parse_label_words(words, Some(&self.label_words))?;
        }
        self.max_length = overrides.max_length.unwrap_or(self.max_length);
        self.first_sentence_limit = overrides.first_sentence_limit.map_or(self.first_sentence_limit, limit);
        self.other_sentence_limit = overrides.other_sentence_limit.map_or(self.other_sentence_limit, limit);
        self.segments = overrides.segments.unwrap_or(self.segments);
        if let Some(columns) = &overrides.columns {
            self.columns = ColumnNames::parse(columns)?;
        }
        self.chat = overrides.chat.unwrap_or(self.chat);
        self.check()?;
        Ok(self)
    }

    /// Checks consistency: at least two labels, no label twice, a template that the data can fill.
    pub fn check(&self) -> Result<()> {
        let fail = |problem: String| Err(Error::task(&self.name, problem));
        if self.label_words.len() < 2 {
            let count = self.label_words.len();
            return fail(format!("{count} label word(s), but a classification needs at least two"));
        }
        for (at, pair) in self.label_words.iter().enumerate() {
            if self.label_words[..at].iter().any(|earlier| earlier.label == pair.label) {
                return fail(format!("the label `{}` has two words", pair.label));
            }
            if self.is_choice() && self.label_words[..at].iter().any(|earlier| earlier.word == pair.word) {
                return fail(format!("two labels have the choice in the column `{}`", pair.word));
            }
        }
        if self.max_length == 0 {
            return fail(format!("{} is 0, expected 1 or more", Field::MaxLength));
        }
        for template in [Some(&self.template), self.causal_template.as_ref()].into_iter().flatten() {
            if template.choice().is_some() != self.is_choice() {
                return fail("one of its templates has `choice` instead of the mask and the other has not".to_string());
            }
            if template.choice().is_some() && template.label_count() > 0 {
                return fail(
                    "the template reads a label's word, but in multiple choice the words differ by row".to_string(),
                );
            }
            let (wanted, available) = (template.text_count(), self.format.text_count());
            if wanted == 0 {
                return fail(format!("the template `{template}` reads no text (sent_0 is the first)"));
            }
            if wanted > available {
                let last = wanted - 1;
                let rows = format!("its rows have {available} text(s), from sent_0");
                return fail(format!("the template reads sent_{last}, but {rows}"));
            }
            if template.label_count() > self.label_words.len() {
                let (last, count) = (template.label_count() - 1, self.label_words.len());
                return fail(format!("the template reads label_{last}, but there are {count} labels, from label_0"));
            }
        }
        Ok(())
    }

    /// Whether every row has its own answers, in the columns that the label words name.
    pub fn is_choice(&self) -> bool {
        self.template.choice().is_some()
    }

    /// The columns of a row's choices, in the order of the labels; `None` if all rows have the same label words.
    pub fn choice_columns(&self) -> Vec<String> {
        if self.is_choice() { self.label_words.iter().map(|pair| pair.word.clone()).collect() } else { Vec::new() }
    }

    /// The same by number, counted from 0, for files without a header.
    ///
    /// # Errors
    /// [`Error::Task`] for a column that is not a number.
    pub fn choice_numbers(&self) -> Result<Vec<usize>> {
        let number = |column: &String| {
            column.parse().map_err(|_| {
                let problem = format!(
                    "the label words of a multiple choice name the choices' columns, but `{column}` is not a number, \
                     which the columns of this file are"
                );
                Error::task(&self.name, problem)
            })
        };
        self.choice_columns().iter().map(number).collect()
    }

    /// How many texts the templates read.
    pub fn text_count(&self) -> usize {
        let causal = self.causal_template.as_ref().map_or(0, Template::text_count);
        self.template.text_count().max(causal)
    }

    /// The template for a way of reading.
    pub fn template_for(&self, reading: Reading) -> &Template {
        match (&self.causal_template, reading) {
            (Some(template), Reading::LastToken) => template,
            _ => &self.template,
        }
    }

    /// The index of a label of the data among the label words.
    pub fn label_index(&self, label: &str) -> Option<usize> {
        self.label_words.iter().position(|pair| pair.label == label)
    }

    /// Labels and words as messages show them: `0=terrible, 1=great`.
    pub fn label_summary(&self) -> String {
        let pairs: Vec<_> = self.label_words.iter().map(|pair| format!("{}={}", pair.label, pair.word)).collect();
        pairs.join(", ")
    }
}

/// 0 means no limit.
fn limit(tokens: usize) -> Option<usize> {
    (tokens > 0).then_some(tokens)
}

/// `terrible,great` or `0=terrible,1=great`; words without labels get those of `known`, or 0, 1, ….
fn parse_label_words(source: &str, known: Option<&[LabelWord]>) -> Result<Vec<LabelWord>> {
    let fail = |problem: String| {
        Err(Error::Syntax {
            what: "label words",
            text: source.into(),
            problem,
            expected: "write `terrible,great` in the order of the labels, or `0=terrible,1=great`".into(),
        })
    };
    let items: Vec<&str> = source.split(',').map(str::trim).collect();
    let with_label = items.iter().filter(|item| item.contains('=')).count();
    if with_label != 0 && with_label != items.len() {
        return fail("some words have a label and some have none".to_string());
    }
    if let Some(known) = known
        && with_label == 0
        && known.len() != items.len()
    {
        let labels: Vec<_> = known.iter().map(|pair| pair.label.as_str()).collect();
        return fail(format!("{} word(s) for the {} labels {}", items.len(), known.len(), labels.join(", ")));
    }
    let mut pairs = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let number = at.to_string();
        let (label, word) = item.split_once('=').unwrap_or_else(|| {
            (known.and_then(|known| known.get(at)).map_or(number.as_str(), |pair| pair.label.as_str()), item)
        });
        let (label, word) = (label.trim(), word.trim());
        if label.is_empty() || word.is_empty() {
            return fail(format!("item {} is empty", at + 1));
        }
        if word.contains(|letter: char| letter.is_whitespace() && letter != ' ') {
            return fail(format!("`{}` contains a newline or tab", word.escape_debug()));
        }
        pairs.push(LabelWord::new(label, word));
    }
    Ok(pairs)
}
