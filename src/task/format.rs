//! The layout of a data file's rows. May not read files.

use serde::{Deserialize, Serialize};

/// The layout of a data file's rows. Columns count from 0; a negative label column counts from the row's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", from = "FormatFields")]
pub enum DataFormat {
    /// GLUE's TSV: one header line (or none, as `CoLA` has it), then rows split at tabs; quotation marks are ordinary
    /// characters.
    Tsv {
        /// Columns of the texts, in order.
        texts: Vec<usize>,
        /// Column of the label.
        label: i64,
        /// Whether the first line names the columns.
        header: bool,
    },
    /// CSV without a header line, quoted as usual.
    Csv {
        /// Columns of the texts, in order.
        texts: Vec<usize>,
        /// A column prepended to the first text as `title. text` if it is not empty.
        title: Option<usize>,
        /// Column of the label.
        label: i64,
    },
    /// A user's TSV or CSV, quoted as usual, or JSON lines, with columns or fields `text`, optionally `text2`, and `label`
    /// in any order, or the names in [`super::TaskDefinition::columns`].
    #[default]
    Named,
}

/// A format in TOML. A separate type because serde ignores unknown fields next to a unit variant.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum FormatFields {
    Tsv {
        texts: Vec<usize>,
        label: i64,
        #[serde(default = "yes")]
        header: bool,
    },
    Csv {
        texts: Vec<usize>,
        #[serde(default)]
        title: Option<usize>,
        label: i64,
    },
    Named {},
}

impl From<FormatFields> for DataFormat {
    fn from(fields: FormatFields) -> Self {
        match fields {
            FormatFields::Tsv { texts, label, header } => Self::Tsv { texts, label, header },
            FormatFields::Csv { texts, title, label } => Self::Csv { texts, title, label },
            FormatFields::Named {} => Self::Named,
        }
    }
}

impl DataFormat {
    /// The maximum number of texts in a row.
    pub fn text_count(&self) -> usize {
        match self {
            Self::Tsv { texts, .. } | Self::Csv { texts, .. } => texts.len(),
            Self::Named => 2,
        }
    }

    /// The file name extensions to look for, in order.
    pub fn extensions(&self) -> &'static [&'static str] {
        match self {
            Self::Tsv { .. } => &["tsv"],
            Self::Csv { .. } => &["csv"],
            Self::Named => &["tsv", "csv", "jsonl", "json"],
        }
    }
}

const fn yes() -> bool {
    true
}
