//! `report.json`: the complete evidence in full precision.

use std::path::Path;

use minijinja::value::Serde;

use super::files;
use crate::error::{Error, Result};
use crate::evidence::{Analysis, SCHEMA_VERSION};
use crate::files::read_text;

/// The file's content. JSON has no infinity or NaN: evidence with one is refused, naming the field.
pub(super) fn to_json(analysis: &Analysis) -> Result<String> {
    let value = minijinja::Value::from(Serde(analysis));
    if let Some(field) = not_finite(&value, "") {
        return Err(Error::NotFinite {
            what: format!("`{field}` of the analysis"),
            place: "report.json".into(),
            advice: "did a run diverge, or is a kernel not finite?".into(),
        });
    }
    files::json(analysis)
}

/// Path of the first number that is not finite.
fn not_finite(value: &minijinja::Value, path: &str) -> Option<String> {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::Number => {
            let bad = !value.is_integer() && f64::try_from(value.clone()).is_ok_and(|v| !v.is_finite());
            bad.then(|| path.to_owned())
        }
        ValueKind::Map => value.try_iter().ok()?.find_map(|key| {
            let dot = if path.is_empty() { "" } else { "." };
            not_finite(&value.get_item(&key).ok()?, &format!("{path}{dot}{key}"))
        }),
        ValueKind::Seq => {
            value.try_iter().ok()?.enumerate().find_map(|(i, item)| not_finite(&item, &format!("{path}[{i}]")))
        }
        _ => None,
    }
}

/// Fields common to all versions of the file.
#[derive(serde::Deserialize)]
struct Header {
    schema_version: Option<serde_json::Value>,
    run: Option<WrittenBy>,
}

#[derive(serde::Deserialize)]
struct WrittenBy {
    program_version: Option<String>,
}

/// Reads a `report.json`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Format`] if it is not a report or has another [`SCHEMA_VERSION`],
/// naming both versions and the program that wrote it.
pub fn read_json(path: &Path) -> Result<Analysis> {
    let text = read_text(path)?;
    let header: Header =
        serde_json::from_str(&text).map_err(|e| Error::format(path, format!("not a kernelview report: {e}")))?;
    let Some(found) = header.schema_version else {
        return Err(Error::format(path, "not a kernelview report: field `schema_version` is missing"));
    };
    if found.as_u64() != Some(u64::from(SCHEMA_VERSION)) {
        let writer = header.run.and_then(|r| r.program_version);
        let writer = writer.map_or_else(String::new, |v| format!(" (written by kernelview {v})"));
        return Err(Error::format(
            path,
            format!(
                "field `schema_version` is {found}{writer}, but kernelview {} reads version {SCHEMA_VERSION}: read it \
                 with the kernelview that wrote it, or analyze again",
                env!("CARGO_PKG_VERSION")
            ),
        ));
    }
    serde_json::from_str(&text)
        .map_err(|e| Error::format(path, format!("not a report of version {SCHEMA_VERSION}: {e}")))
}
