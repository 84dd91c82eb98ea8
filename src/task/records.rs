//! Splits data files into rows of fields: tabs without quoting, commas or tabs with quoting, JSON lines.
//!
//! Every error names the file and the row, counted as in an editor. May not know tasks.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A row.
pub(super) struct Record {
    /// The line of the file on which the row starts, counted from 1.
    pub line: usize,
    /// Its fields in order.
    pub fields: Vec<String>,
}

/// The text of a file, without its byte order mark; the error names the line that is not UTF-8 or contains a NUL character.
pub(crate) fn decode<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    if let Some(problem) = other_content(bytes) {
        return Err(Error::format(path, problem));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let row = |before: &str| 1 + before.matches('\n').count();
    let text = std::str::from_utf8(bytes).map_err(|reason| {
        let before = std::str::from_utf8(&bytes[..reason.valid_up_to()]).unwrap_or_default();
        Error::row(
            path,
            row(before),
            "is not UTF-8 text; convert the file from what it is in, e.g. with `iconv -f ISO-8859-1 -t UTF-8`",
        )
    })?;
    match text.split_once('\0') {
        Some((before, _)) => Err(Error::row(path, row(before), "contains a NUL character; remove it")),
        None => Ok(text),
    }
}

/// What a file holds if it is not UTF-8 text, as far as its beginning tells, and what to do.
fn other_content(bytes: &[u8]) -> Option<String> {
    let convert = |encoding: &str| {
        Some(format!("is {encoding} text; convert the file, e.g. with `iconv -f {encoding} -t UTF-8`"))
    };
    let packed = |what: &str, advice: &str| Some(format!("is {what}, not text; {advice}"));
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => convert("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => convert("UTF-16"),
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => convert("UTF-16LE"),
        [0, first, 0, second, ..] if *first != 0 && *second != 0 => convert("UTF-16BE"),
        [0x1f, 0x8b, ..] => packed("compressed by gzip", "unpack it with `gunzip`"),
        [b'P', b'A', b'R', b'1', ..] => packed("a Parquet file", "write it as CSV or JSON lines, e.g. with pandas"),
        [b'P', b'K', 3, 4, ..] => packed("a ZIP archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => packed("compressed by Zstandard", "unpack it with `unzstd`"),
        _ => None,
    }
}

/// Rows split at tabs, without quoting; empty lines are skipped, and `\r\n` is also a line end.
pub(super) fn plain_records(text: &str) -> Vec<Record> {
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| Record { line: at + 1, fields: line.split('\t').map(str::to_string).collect() })
        .collect()
}

/// Rows split at a character, with CSV quoting: quotation marks around a field, doubled inside.
pub(super) fn quoted_records(path: &Path, text: &str, delimiter: u8) -> Result<Vec<Record>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
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
        // The reader skips empty lines before the record.
        let start = end - raw.trim_start_matches(['\r', '\n']).len();
        line += text.get(counted..start).unwrap_or_default().matches('\n').count();
        counted = start;
        let raw = text.get(start..end).unwrap_or_default().trim_end_matches(['\r', '\n']);
        if let Some(problem) = misquoted(raw, char::from(delimiter)) {
            return Err(Error::row(path, line, problem));
        }
        records.push(Record { line, fields: record.iter().map(str::to_string).collect() });
    }
}

/// What is wrong with a row's quotation marks. In a field that does not begin with one they are plain characters.
fn misquoted(raw: &str, delimiter: char) -> Option<&'static str> {
    let mut rest = raw;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            let mut end = None;
            while let Some((at, character)) = characters.next() {
                if character != '"' {
                    continue;
                }
                if quoted[at + 1..].starts_with('"') {
                    characters.next();
                } else {
                    end = Some(at + 1);
                    break;
                }
            }
            let Some(end) = end else {
                return Some(
                    "a quotation mark opens here and is not closed in the row; double quotation marks inside a \
                     quoted text, and quote a text that begins with one",
                );
            };
            rest = &quoted[end..];
            if !rest.is_empty() && !rest.starts_with(delimiter) {
                return Some(
                    "a field begins with a quotation mark that is closed before the field ends; double quotation \
                     marks inside a quoted text, and quote a text that begins with one",
                );
            }
        } else {
            let field = rest.split(delimiter).next().unwrap_or_default();
            let trimmed = field.trim_start_matches(' ');
            if trimmed.len() < field.len() && trimmed.starts_with('"') {
                return Some(
                    "a space precedes a quotation mark, which would make the marks part of the text; remove the space",
                );
            }
            rest = &rest[field.len()..];
        }
        match rest.strip_prefix(delimiter) {
            Some(next) => rest = next,
            None => return None,
        }
    }
}

/// Rows of JSON lines: the values of these fields of the object on each line, as text; `answers.0` is the first entry of the
/// list `answers`, or the field `0` of an object in it. Numbers and booleans are written as in the file; a field that is
/// absent or not a text is an error, and so is a list with more entries than are among the `whole` fields.
pub(super) fn json_records(path: &Path, text: &str, columns: &[String], whole: &[String]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line).map_err(|reason| {
            let hint =
                if line.trim_start().starts_with('[') { "; expected one object per line, not a list" } else { "" };
            Error::row(path, at + 1, format!("is not a JSON object ({reason}){hint}"))
        })?;
        let Value::Object(object) = value else {
            let list = if value.is_array() { ", not a list" } else { "" };
            return Err(Error::row(path, at + 1, format!("is not a JSON object; expected one object per line{list}")));
        };
        if let Some(twice) = serde_json::from_str(line).ok().and_then(|Names(names)| repeated(&names).cloned()) {
            return Err(Error::row(path, at + 1, format!("has the field `{twice}` twice")));
        }
        if let Some(problem) = whole.iter().find_map(|name| longer_list(&object, name, whole)) {
            return Err(Error::row(path, at + 1, problem));
        }
        let mut fields = Vec::with_capacity(columns.len());
        for name in columns {
            fields.push(match field(&object, name) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => written(line, name).unwrap_or_else(|| number.to_string()),
                Some(Value::Bool(value)) => value.to_string(),
                None => {
                    let found: Vec<_> = object.keys().map(|key| format!("`{key}`")).collect();
                    let message = format!("has the fields {}, but `{name}` is missing", found.join(", "));
                    return Err(Error::row(path, at + 1, message));
                }
                Some(other) => {
                    return Err(Error::row(
                        path,
                        at + 1,
                        format!("`{name}` must be a text or a number, found {other}"),
                    ));
                }
            });
        }
        records.push(Record { line: at + 1, fields });
    }
    Ok(records)
}

/// The names of an object's fields, as often as they come.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Names;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = fields.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        from.deserialize_map(Fields)
    }
}

/// A name that comes twice.
fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = HashSet::new();
    names.iter().find(|name| !seen.insert(name.as_str()))
}

/// A field by its name, or by a path of names separated by dots; list entries by number.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = object.get(steps.next()?)?;
        steps.try_fold(first, |value, step| match value {
            Value::Array(entries) => entries.get(step.parse::<usize>().ok()?),
            Value::Object(fields) => fields.get(step),
            _ => None,
        })
    })
}

/// A field's value as it is written in the file: a number may have more digits than a binary one.
fn written(line: &str, name: &str) -> Option<String> {
    let object: BTreeMap<String, &RawValue> = serde_json::from_str(line).ok()?;
    let found = object.get(name).copied().or_else(|| {
        let mut steps = name.split('.');
        let first = *object.get(steps.next()?)?;
        steps.try_fold(first, |value, step| match step.parse::<usize>() {
            Ok(at) if value.get().starts_with('[') => {
                serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.get(at).copied()
            }
            _ => serde_json::from_str::<BTreeMap<String, &RawValue>>(value.get()).ok()?.remove(step),
        })
    });
    found.map(|value| value.get().to_owned())
}

/// What is wrong with a field's list, if the number of its entries differs from the number read.
fn longer_list(object: &Map<String, Value>, name: &str, all: &[String]) -> Option<String> {
    let (list, _) = name.rsplit_once('.')?;
    let entries = field(object, list)?.as_array()?.len();
    let read = all.iter().filter(|other| other.rsplit_once('.').is_some_and(|(of, _)| of == list)).count();
    (entries != read).then(|| {
        format!("`{list}` is a list of {entries}, but the task reads {read} choices of it; every row must have as many choices")
    })
}
