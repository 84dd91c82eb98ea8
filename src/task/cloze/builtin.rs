//! The built-in cloze tasks: sentences in the style of novels of 1840-1930, so that a model trained on old books can solve
//! them above chance.
//!
//! The sentences were written for this project, one per line, and are embedded in the binary. May not read files.

use std::path::PathBuf;

use super::{ClozeSettings, Drawn, definition, draw};
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::task::data::Example;
use crate::task::definition::TaskDefinition;
use crate::task::split::{OwnSplit, Split, Splits};

/// A built-in cloze task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltinCloze {
    /// `cloze-` and its words.
    pub name: &'static str,
    /// The words to choose between, in the order of the labels.
    pub words: &'static [&'static str],
    text: &'static str,
}

macro_rules! tasks {
    ($($file:literal: $($word:literal),+;)+) => {
        [$(BuiltinCloze {
            name: concat!("cloze-", $file),
            words: &[$($word),+],
            text: include_str!(concat!("../../../fixtures/cloze/", $file, ".txt")),
        }),+]
    };
}

static TASKS: [BuiltinCloze; 8] = tasks! {
    "he-she": "he", "she";
    "his-her": "his", "her";
    "him-them": "him", "them";
    "was-were": "was", "were";
    "has-have": "has", "have";
    "this-these": "this", "these";
    "in-on": "in", "on";
    "to-of": "to", "of";
};

/// The built-in cloze tasks.
pub fn builtin() -> &'static [BuiltinCloze] {
    &TASKS
}

/// The built-in cloze task of that name, ignoring case, if there is one.
pub fn find(name: &str) -> Option<&'static BuiltinCloze> {
    TASKS.iter().find(|task| task.name.eq_ignore_ascii_case(name))
}

/// The same; the error lists the names.
pub fn named(name: &str) -> Result<&'static BuiltinCloze> {
    find(name).ok_or_else(|| {
        let names: Vec<_> = TASKS.iter().map(|task| task.name).collect();
        Error::Unknown {
            what: "built-in cloze task".into(),
            name: name.into(),
            hint: format!(
                "the tasks are {}; for other words make a data file from a text with `kernelview cloze`",
                names.join(", ")
            ),
        }
    })
}

impl BuiltinCloze {
    /// Template and label words.
    pub fn definition(&self) -> Result<TaskDefinition> {
        definition(self.words)
    }

    /// All its examples, equally many per word; `row` is the line of the task's text.
    pub fn examples(&self) -> Result<Vec<Example>> {
        let Drawn { examples, .. } = draw(&self.source(), self.text, self.words, &ClozeSettings::default())?;
        Ok(examples)
    }

    /// Its sentences, one per line.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The examples, split like a user's data file.
    pub fn splits(&self, own: &OwnSplit) -> Result<Splits> {
        let digest = sha256(self.text.as_bytes());
        let whole = Split { examples: self.examples()?, source: self.source(), digest };
        Splits::divide(&whole, &self.definition()?, own)
    }

    fn source(&self) -> PathBuf {
        PathBuf::from(format!("(built in)/{}.txt", self.name))
    }
}
