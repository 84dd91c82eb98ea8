//! Rows of data files: GLUE's TSV, headerless CSV, and users' TSV, CSV or JSON lines with named columns.
//!
//! Every error names the file and the row, counted as in an editor. May not know splits, templates' parts or tokenizers.

use std::fs;
use std::path::Path;

use super::definition::TaskDefinition;
use super::format::DataFormat;
pub(crate) use super::records::decode;
use super::records::{Record, json_records, plain_records, quoted_records};
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::progress::check_cancelled;

/// One labelled example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Its one or two texts as in the file, including spaces.
    pub texts: Vec<String>,
    /// In multiple choice, its choices in the order of the labels.
    pub choices: Vec<String>,
    /// Index into the task's `label_words`.
    pub label: usize,
    /// The line of the file on which the row starts, counted from 1.
    pub row: usize,
}

impl Example {
    /// SHA-256 of the texts in UTF-8, followed by the choices, separated by zero bytes: identifies an example independently
    /// of its position.
    pub fn digest(&self) -> String {
        let all: Vec<&str> = self.texts.iter().chain(&self.choices).map(String::as_str).collect();
        sha256(all.join("\0").as_bytes())
    }
}

/// Which columns of a row are read; negative ones count from the row's end.
#[derive(Default)]
struct Columns {
    texts: Vec<usize>,
    title: Option<usize>,
    label: i64,
    /// Columns of the choices, which the task's label words name.
    choices: Vec<usize>,
    /// Names of the text columns, in which blank texts are refused.
    names: Vec<String>,
    /// Maximum number of fields in a row.
    most: usize,
}

/// Reads a data file in the task's format; rows keep the file's order.
pub fn read_examples(path: impl AsRef<Path>, task: &TaskDefinition) -> Result<Vec<Example>> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse_examples(path, &bytes, task)
}

/// The same for bytes in memory; `path` is for messages, and its extension distinguishes CSV, TSV and JSON lines.
pub fn parse_examples(path: &Path, bytes: &[u8], task: &TaskDefinition) -> Result<Vec<Example>> {
    let text = decode(path, bytes)?;
    let (records, columns) = match &task.format {
        DataFormat::Tsv { texts, label, header } => glue(path, text, task, (texts, *label, *header))?,
        DataFormat::Csv { texts, title, label } => {
            let records = quoted_records(path, text, b',')?;
            let most = records.first().map_or(0, |record| record.fields.len());
            let choices = task.choice_numbers()?;
            (
                records,
                Columns { texts: texts.clone(), title: *title, label: *label, choices, most, ..Columns::default() },
            )
        }
        DataFormat::Named => named(path, text, task)?,
    };
    if records.is_empty() {
        return Err(Error::format(path, format!("has no rows of data for task `{}`", task.name)));
    }
    let examples = records.into_iter().map(|record| {
        check_cancelled()?;
        example(path, record, &columns, task)
    });
    examples.collect()
}

/// GLUE's TSV. If the label is counted from the row's end, rows may have different lengths (as in SNLI).
fn glue(
    path: &Path,
    text: &str,
    task: &TaskDefinition,
    (texts, label, header): (&[usize], i64, bool),
) -> Result<(Vec<Record>, Columns)> {
    let mut records = plain_records(text);
    let first = records.first().map_or(0, |record| record.fields.len());
    if header && !records.is_empty() {
        let names = records.remove(0);
        let place = usize::try_from(label).ok().and_then(|place| names.fields.get(place));
        if let Some(label) = place.filter(|label| task.label_index(label.trim()).is_some()) {
            let message = format!(
                "should be a header line, but its label column holds `{label}`, a label of the task; if the file has no \
                 header, say `header = false` in the task file's [format]"
            );
            return Err(Error::row(path, names.line, message));
        }
    }
    let most = if label < 0 { usize::MAX } else { first };
    let choices = task.choice_numbers()?;
    Ok((records, Columns { texts: texts.to_vec(), label, choices, most, ..Columns::default() }))
}

/// A user's file with named columns, or numbered ones if the task gives numbers for a file without a header.
fn named(path: &Path, text: &str, task: &TaskDefinition) -> Result<(Vec<Record>, Columns)> {
    let two = task.text_count() > 1;
    let names: Vec<String> = ["text", "text2"][..=usize::from(two)].iter().map(|key| task.columns.name(key)).collect();
    let label = task.columns.name("label");
    if is_json(path) {
        let choices = task.choice_columns();
        let wanted: Vec<String> = names.iter().chain([&label]).chain(&choices).cloned().collect();
        let records = json_records(path, text, &wanted, &choices)?;
        let label = names.len();
        return Ok((
            records,
            Columns {
                texts: (0..label).collect(),
                label: label as i64,
                choices: (label + 1..wanted.len()).collect(),
                names,
                most: usize::MAX,
                ..Columns::default()
            },
        ));
    }
    let delimiter = if is_tab_separated(path, text) { b'\t' } else { b',' };
    let mut records = quoted_records(path, text, delimiter)?;
    let Some(first) = records.first() else {
        return Err(Error::format(
            path,
            format!("is empty; the first line must name the columns {}", all(&names, &label)),
        ));
    };
    let most = first.fields.len();
    if let Some((texts, label)) = task.columns.numbers(two)? {
        let choices = task.choice_numbers()?;
        return Ok((records, Columns { texts, label: label as i64, choices, names, most, ..Columns::default() }));
    }
    let header = records.remove(0);
    let places = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
        header.fields.iter().enumerate().filter(|(_, field)| is(field.trim())).map(|(at, _)| at).collect()
    };
    let missing = |name: &str| {
        let found: Vec<_> = header.fields.iter().map(|field| format!("`{}`", field.trim())).collect();
        let message = format!(
            "the header has the columns {}, but `{name}` is missing; name the columns text, text2 (only if there is a second \
             text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a \
             header)",
            found.join(", ")
        );
        Error::row(path, header.line, message)
    };
    let find = |name: &String| {
        let mut found = places(&|field| field == name);
        if found.is_empty() {
            found = places(&|field| field.eq_ignore_ascii_case(name));
        }
        match found[..] {
            [] => Err(missing(name)),
            [place] => Ok(place),
            _ => {
                let message = format!("the header has {} columns `{name}`; rename all but one", found.len());
                Err(Error::row(path, header.line, message))
            }
        }
    };
    let label = find(&label)?;
    let texts = names.iter().map(find).collect::<Result<Vec<_>>>()?;
    let choices = task.choice_columns().iter().map(find).collect::<Result<Vec<_>>>()?;
    Ok((records, Columns { texts, label: label as i64, choices, names, most, ..Columns::default() }))
}

fn all(names: &[String], label: &str) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).chain([label]).collect();
    names.join(", ")
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).unwrap_or_default()
}

fn is_json(path: &Path) -> bool {
    matches!(extension(path).as_str(), "json" | "jsonl" | "ndjson")
}

/// By the file's extension; if it is neither `csv` nor `tsv`, by the header line.
fn is_tab_separated(path: &Path, text: &str) -> bool {
    match extension(path).as_str() {
        "csv" => false,
        "tsv" => true,
        _ => text.lines().next().is_some_and(|header| header.contains('\t')),
    }
}

/// Reads the columns of one row.
fn example(path: &Path, record: Record, columns: &Columns, task: &TaskDefinition) -> Result<Example> {
    let Record { line, mut fields } = record;
    let count = fields.len();
    if count > columns.most {
        let message = format!(
            "has {count} fields, but the file has {} columns: a text that contains the separator must be in \
             quotation marks (in files without quoting it must not contain it)",
            columns.most
        );
        return Err(Error::row(path, line, message));
    }
    let label_column = usize::try_from(columns.label).ok().or_else(|| count.checked_add_signed(columns.label as isize));
    if let Some(both) = label_column.filter(|column| columns.texts.contains(column)) {
        let message = format!("column {} (counted from 1) is read as a text and as the label", both + 1);
        return Err(Error::row(path, line, message));
    }
    let label_column = label_column.filter(|column| *column < count);
    let reached = columns.texts.iter().chain(&columns.title).chain(&columns.choices).all(|column| *column < count);
    let Some(label_column) = label_column.filter(|_| reached) else {
        return Err(Error::row(path, line, too_few_columns(count, columns, task)));
    };
    let label = fields[label_column].trim();
    let Some(label) = task.label_index(label) else {
        let message = format!(
            "label `{label}` has no label word; the labels of task `{}` are {}; correct the row, or give every label \
             a word (`{label}=WORD`) in the label words",
            task.name,
            task.label_summary()
        );
        return Err(Error::row(path, line, message));
    };
    let title = columns.title.map(|column| fields[column].trim().to_string()).filter(|title| !title.is_empty());
    let mut texts: Vec<_> = columns.texts.iter().map(|column| std::mem::take(&mut fields[*column])).collect();
    if let (Some(title), Some(text)) = (title, texts.first_mut()) {
        *text = format!("{title}. {text}");
    }
    if let Some((name, _)) = columns.names.iter().zip(&texts).find(|(_, text)| text.trim().is_empty()) {
        return Err(Error::row(path, line, format!("the column `{name}` is empty; write a text or remove the row")));
    }
    let choices: Vec<String> = columns.choices.iter().map(|column| fields[*column].clone()).collect();
    if let Some(problem) = wrong_choices(&choices, task) {
        return Err(Error::row(path, line, problem));
    }
    Ok(Example { texts, choices, label, row: line })
}

/// What is wrong with the choices of a row: one is empty, or two are the same.
fn wrong_choices(choices: &[String], task: &TaskDefinition) -> Option<String> {
    let column = |at: usize| &task.label_words[at].word;
    for (at, choice) in choices.iter().enumerate() {
        if choice.trim().is_empty() {
            return Some(format!("the choice `{}` is empty; every row must have as many choices", column(at)));
        }
        if let Some(earlier) = choices[..at].iter().position(|earlier| earlier.trim() == choice.trim()) {
            return Some(format!("the choices `{}` and `{}` are the same text", column(earlier), column(at)));
        }
    }
    None
}

/// Columns are counted from 1 here, as in spreadsheets.
fn too_few_columns(count: usize, columns: &Columns, task: &TaskDefinition) -> String {
    let read = columns.texts.iter().chain(&columns.title).chain(&columns.choices);
    let texts: Vec<_> = read.map(|column| (column + 1).to_string()).collect();
    let label = match columns.label {
        -1 => "the last column".to_string(),
        label if label < 0 => format!("column {} from the end", -label),
        label => format!("column {}", label + 1),
    };
    format!(
        "has {count} column(s), but task `{}` reads text from column {} and the label from {label} (counted from 1)",
        task.name,
        texts.join(" and ")
    )
}
