//! Which columns of a user's file are read. May not know files or templates.

use crate::error::{Error, Result};

/// The columns of the text, the second text and the label in a user's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnNames {
    given: Vec<(String, String)>,
}

impl ColumnNames {
    const KEYS: [&str; 3] = ["text", "text2", "label"];

    /// Parses `text=sentence,label=label`.
    ///
    /// # Errors
    /// [`Error::Syntax`] for anything else.
    pub fn parse(source: &str) -> Result<Self> {
        let fail = |problem: String| {
            Err(Error::Syntax {
                what: "columns",
                text: source.into(),
                problem,
                expected: "write `text=NAME,text2=NAME,label=NAME`".into(),
            })
        };
        let mut given: Vec<(String, String)> = Vec::new();
        for item in source.split(',') {
            let Some((key, name)) = item.split_once('=').map(|(key, name)| (key.trim(), name.trim())) else {
                return fail(format!("`{item}` names no column"));
            };
            if !Self::KEYS.contains(&key) || name.is_empty() {
                return fail(format!("`{item}` is not known"));
            }
            if given.iter().any(|(earlier, _)| earlier == key) {
                return fail(format!("`{key}` is named twice"));
            }
            given.push((key.to_string(), name.to_string()));
        }
        let columns = Self { given };
        columns.numbers(false)?;
        Ok(columns)
    }

    /// The name of a column.
    pub fn name(&self, key: &str) -> String {
        let found = self.given.iter().find(|(known, _)| known == key);
        found.map_or_else(|| key.to_string(), |(_, name)| name.clone())
    }

    /// Columns by number, counted from 0, for a file without a header: of the one or two texts and the label.
    ///
    /// # Errors
    /// [`Error::Syntax`] if some are numbers and some are not, or one is missing.
    pub fn numbers(&self, two: bool) -> Result<Option<(Vec<usize>, usize)>> {
        let number = |key: &str| self.name(key).parse::<u32>().ok().map(|number| number as usize);
        let numbers = self.given.iter().filter(|(_, name)| name.parse::<u32>().is_ok()).count();
        if numbers == 0 {
            return Ok(None);
        }
        let texts: Option<Vec<usize>> = Self::KEYS[..=usize::from(two)].iter().map(|key| number(key)).collect();
        match (texts, number("label")) {
            (Some(texts), Some(label)) if numbers == self.given.len() => Ok(Some((texts, label))),
            _ => Err(Error::Syntax {
                what: "columns",
                text: self.given.iter().map(|(key, name)| format!("{key}={name}")).collect::<Vec<_>>().join(","),
                problem: "columns by number are for a file without a header".into(),
                expected: "give them all as numbers, from 0, such as `text=3,label=1`".into(),
            }),
        }
    }
}
