//! Rows of data files: GLUE's TSV, headerless CSV, and one's own TSV or CSV with named columns.
//!
//! Every error names the file and the row as an editor counts it. May not know splits, templates' parts or tokenizers.

use std::fs;
use std::path::Path;

use super::definition::{DataFormat, TaskDefinition};
use crate::error::{Error, Result};
use crate::progress::check_stop;

/// One labelled example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Its texts as the file has them, spaces included; one or two.
    pub texts: Vec<String>,
    /// Index into the task's `label_words`.
    pub label: usize,
    /// The line of the file on which the row starts, counted from 1.
    pub row: usize,
}

/// A row before its columns have a meaning.
struct Record {
    line: usize,
    fields: Vec<String>,
}

/// Which columns of a row are read; negative ones count from the row's end.
struct Columns {
    texts: Vec<usize>,
    title: Option<usize>,
    label: i64,
}

/// Reads a data file in the task's format; the rows keep the file's order.
pub fn read_examples(path: impl AsRef<Path>, task: &TaskDefinition) -> Result<Vec<Example>> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse_examples(path, &bytes, task)
}

/// The same for bytes that are in memory; `path` stands in messages, and its extension tells CSV from TSV.
pub fn parse_examples(path: &Path, bytes: &[u8], task: &TaskDefinition) -> Result<Vec<Example>> {
    let text = decode(path, bytes)?;
    let (records, columns) = match &task.format {
        DataFormat::Tsv { texts, label } => {
            let columns = Columns { texts: texts.clone(), title: None, label: *label };
            (tab_records(text).skip(1).collect(), columns)
        }
        DataFormat::Csv { texts, title, label } => {
            let columns = Columns { texts: texts.clone(), title: *title, label: *label };
            (comma_records(path, text)?, columns)
        }
        DataFormat::Named => {
            let mut records: Vec<_> =
                if is_tab_separated(path, text) { tab_records(text).collect() } else { comma_records(path, text)? };
            if records.is_empty() {
                return Err(Error::format(path, "is empty; the first line must name the columns text, text2, label"));
            }
            let header = records.remove(0);
            (records, named_columns(path, &header, task)?)
        }
    };
    if records.is_empty() {
        return Err(Error::format(path, format!("has no rows of data for task `{}`", task.name)));
    }
    let examples = records.into_iter().map(|record| {
        check_stop()?;
        example(path, record, &columns, task)
    });
    examples.collect()
}

/// The text of a file, without its byte order mark; the error gives the line that is not UTF-8.
pub(crate) fn decode<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|reason| {
        let before = std::str::from_utf8(&bytes[..reason.valid_up_to()]).unwrap_or_default();
        let row = 1 + before.matches('\n').count();
        Error::row(path, row, "is not UTF-8 text; convert the file, for instance with `iconv -t UTF-8`")
    })
}

/// Rows split at tabs, nothing quoted; empty lines are passed over, `\r\n` is a line end too.
fn tab_records(text: &str) -> impl Iterator<Item = Record> {
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| Record { line: at + 1, fields: line.split('\t').map(str::to_string).collect() })
}

/// Rows of CSV with quotation marks and no header.
fn comma_records(path: &Path, text: &str) -> Result<Vec<Record>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut records = Vec::new();
    let mut record = csv::StringRecord::new();
    let (mut line, mut counted) = (1, 0);
    loop {
        let begin = reader.position().byte() as usize;
        let more = reader.read_record(&mut record).map_err(|reason| Error::format(path, reason.to_string()))?;
        if !more {
            return Ok(records);
        }
        let end = (reader.position().byte() as usize).min(text.len());
        let raw = text.get(begin..end).unwrap_or_default();
        // The reader passes over empty lines on its way to the record.
        let start = end - raw.trim_start_matches(['\r', '\n']).len();
        line += text.get(counted..start).unwrap_or_default().matches('\n').count();
        counted = start;
        if raw.matches('"').count() % 2 == 1 && record.iter().any(|field| field.contains('\n')) {
            return Err(Error::row(
                path,
                line,
                "a quotation mark opens here and is not closed in the row; write a quotation mark inside a quoted \
                 text twice",
            ));
        }
        records.push(Record { line, fields: record.iter().map(str::to_string).collect() });
    }
}

/// By the file's extension; where it is neither `csv` nor `tsv`, by the header line.
fn is_tab_separated(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => false,
        Some("tsv") => true,
        _ => text.lines().next().is_some_and(|header| header.contains('\t')),
    }
}

/// Finds `text`, `text2` and `label` in the header of one's own file.
fn named_columns(path: &Path, header: &Record, task: &TaskDefinition) -> Result<Columns> {
    let find = |name: &str| header.fields.iter().position(|field| field.trim().eq_ignore_ascii_case(name));
    let missing = |name: &str| {
        let found: Vec<_> = header.fields.iter().map(|field| format!("`{}`", field.trim())).collect();
        let message = format!(
            "the header has the columns {}, but `{name}` is missing; the columns must be named text, text2 (only if \
             there is a second text) and label",
            found.join(", ")
        );
        Error::row(path, header.line, message)
    };
    let label = find("label").ok_or_else(|| missing("label"))?;
    let mut texts = vec![find("text").ok_or_else(|| missing("text"))?];
    match find("text2") {
        Some(column) => texts.push(column),
        None if task.template.text_count() > 1 => return Err(missing("text2")),
        None => {}
    }
    Ok(Columns { texts, title: None, label: label as i64 })
}

/// Reads the columns of one row.
fn example(path: &Path, record: Record, columns: &Columns, task: &TaskDefinition) -> Result<Example> {
    let Record { line, mut fields } = record;
    let count = fields.len();
    let label_column = usize::try_from(columns.label).ok().or_else(|| count.checked_add_signed(columns.label as isize));
    let label_column = label_column.filter(|column| *column < count && !columns.texts.contains(column));
    let reached = columns.texts.iter().chain(&columns.title).all(|column| *column < count);
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
    if task.format == DataFormat::Named && texts.iter().any(|text| text.trim().is_empty()) {
        return Err(Error::row(path, line, "the text is empty; write one or remove the row"));
    }
    Ok(Example { texts, label, row: line })
}

/// Columns are counted from 1 here, as spreadsheets do.
fn too_few_columns(count: usize, columns: &Columns, task: &TaskDefinition) -> String {
    let texts: Vec<_> = columns.texts.iter().chain(&columns.title).map(|column| (column + 1).to_string()).collect();
    let label = match columns.label {
        -1 => "the last column".to_string(),
        label if label < 0 => format!("column {} from the end", -label),
        label => format!("column {}", label + 1),
    };
    format!(
        "has {count} column(s), but task `{}` reads text from column {} and the label from {label}",
        task.name,
        texts.join(" and ")
    )
}
