//! Reads the rows of a file as Python does (`open(…).readlines()` for TSV, `pandas.read_csv` for CSV), each with its label,
//! and writes them as Python does.
//!
//! Every error names the file and the row, counted as an editor does. Knows no splits.

use std::fs;
use std::path::Path;

use crate::data::tasks::{Layout, Task};
use crate::error::{Doing, Error, Result};

/// A file's rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The header line, or nothing: the beginning of every file made from these rows.
    pub header: String,
    /// The rows, in the file's order.
    pub rows: Vec<Row>,
    /// Number of texts that pandas takes for missing values; they are written as empty texts.
    pub missing: usize,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of its label among the task's.
    pub label: usize,
    /// The row as written, with its line end if the file has one.
    pub text: String,
}

/// What `pandas.read_csv` takes for a missing value by default, in versions before 2.0.
const MISSING: [&str; 18] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "n/a", "nan", "null",
];

impl Table {
    /// Reads a task's file.
    pub fn read(path: &Path, task: &Task) -> Result<Self> {
        if !path.is_file() {
            return Err(wrong(path, "is missing: it holds the original data, in the layout of LM-BFF's download"));
        }
        let bytes = fs::read(path).doing(|| format!("read {}", path.display()))?;
        let text = String::from_utf8(bytes).map_err(|reason| {
            let before = &reason.as_bytes()[..reason.utf8_error().valid_up_to()];
            let row = before.split(|byte| *byte == b'\n').count();
            wrong(path, &format!("row {row} is not UTF-8 text"))
        })?;
        let rows = match task.layout {
            Layout::Glue { label_first, columns } => glue(path, &text, task, label_first, columns)?,
            Layout::Csv { columns } => csv(path, &text, task, columns)?,
        };
        if rows.rows.is_empty() {
            return Err(wrong(path, "has no rows of data"));
        }
        Ok(rows)
    }

    /// A file of these rows, in this order.
    pub fn write<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) -> String {
        let mut file = self.header.clone();
        for row in rows {
            // Only a file's last line may lack a line end; in another order it would run into the next.
            if !file.is_empty() && !file.ends_with('\n') {
                file.push('\n');
            }
            file.push_str(&row.text);
        }
        file
    }
}

/// An error about a file.
pub fn wrong(path: &Path, detail: &str) -> Error {
    Error::Data { path: path.to_path_buf(), detail: detail.to_owned() }
}

fn glue(path: &Path, text: &str, task: &Task, label_first: bool, columns: usize) -> Result<Table> {
    let mut lines = universal_lines(text).into_iter();
    let header = lines.next().unwrap_or_default();
    let found = header.trim_end_matches('\n').split('\t').count();
    if found < columns {
        let detail = format!("its header has {found} column(s), but {} has {columns}, divided by tabs", task.name);
        return Err(wrong(path, &detail));
    }
    let mut rows = Vec::new();
    for (at, text) in lines.enumerate() {
        let stripped = text.trim_matches(is_python_space);
        let field = if label_first { stripped.split('\t').next() } else { stripped.split('\t').next_back() };
        let place = if label_first { "first" } else { "last" };
        rows.push(Row { label: label(path, at + 2, task, field.unwrap_or_default(), place)?, text });
    }
    Ok(Table { header, rows, missing: 0 })
}

/// The lines of a file that Python opened as text: `\r\n` and a single `\r` are line ends too, and become `\n`.
fn universal_lines(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// What `str.strip` removes; Rust's definition of white space lacks ASCII's four separators.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn label(path: &Path, row: usize, task: &Task, found: &str, place: &str) -> Result<usize> {
    task.labels.iter().position(|label| *label == found).ok_or_else(|| {
        let found: String = found.chars().take(40).collect();
        let known = task.labels.join(", ");
        wrong(
            path,
            &format!(
                "row {row}: `{found}` in the {place} column is not a label of {}, whose labels are {known}",
                task.name
            ),
        )
    })
}

fn csv(path: &Path, text: &str, task: &Task, columns: usize) -> Result<Table> {
    // A byte order mark is skipped, as pandas does.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let (mut rows, mut missing) = (Vec::new(), 0);
    for record in reader.records() {
        let record = record.map_err(|reason| wrong(path, &reason.to_string()))?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        if record.len() != columns {
            let found = record.len();
            return Err(wrong(path, &format!("row {line} has {found} column(s), but {} has {columns}", task.name)));
        }
        // pandas reads a column of integers as numbers.
        let number = record[0].trim().parse::<i64>().map_or_else(|_| record[0].to_owned(), |n| n.to_string());
        let label = label(path, line, task, &number, "first")?;
        let mut text = number;
        for field in record.iter().skip(1) {
            text.push(',');
            if MISSING.contains(&field) {
                missing += 1;
            } else {
                push_field(&mut text, field);
            }
        }
        text.push('\n');
        rows.push(Row { label, text });
    }
    Ok(Table { header: String::new(), rows, missing })
}

/// A field as Python's `csv` writes it: quoted only if necessary.
fn push_field(row: &mut String, field: &str) {
    if field.contains([',', '"', '\n', '\r']) {
        row.push('"');
        row.push_str(&field.replace('"', "\"\""));
        row.push('"');
    } else {
        row.push_str(field);
    }
}
