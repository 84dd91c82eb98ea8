//! Whether a report may be written into a directory: what stands there must be an earlier report of the same kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::value::RawValue;

use super::files::PLOTS;
use crate::error::{Error, Result};
use crate::files::irregular;
use crate::setting::Field;

/// The kinds of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// Of one model and task.
    Analysis,
    /// Of claims.
    Claims,
    /// Of a grid of analyses.
    Reproduction,
    /// Of the output derivative over models.
    Naturalness,
    /// Of the kernels of adapters.
    Adapters,
    /// Of the pre-training of a family.
    Family,
}

impl ReportKind {
    const ALL: [Self; 6] =
        [Self::Analysis, Self::Claims, Self::Reproduction, Self::Naturalness, Self::Adapters, Self::Family];

    /// A field of `report.json` that this kind of report has in all versions, and no other kind.
    fn mark(self) -> &'static str {
        ["zero_shot", "claims", "cells", "measured", "coverage", "coordinates"][self as usize]
    }

    fn title(self) -> &'static str {
        [
            "of an analysis",
            "of claims",
            "of a grid of analyses",
            "of output derivatives",
            "of adapters",
            "of a family's pre-training",
        ][self as usize]
    }

    /// The kind of a report of this program, by the names of its fields.
    fn of(names: &BTreeSet<String>) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| names.contains(kind.mark()) && names.contains("schema_version"))
    }
}

/// Fails if a report of this kind would replace something else than a report of this kind.
///
/// # Errors
/// [`Error::Format`], naming what is there.
pub fn check_directory(directory: &Path, kind: ReportKind) -> Result<()> {
    let refuse = |path: &Path, what: &str| {
        let problem = format!("{what} is here; choose another directory ({}), or move it away", Field::OutDirectory);
        Err(Error::format(path, problem))
    };
    let [markdown, json, plots] = ["report.md", "report.json", PLOTS].map(|name| directory.join(name));
    for path in [&markdown, &json] {
        if let Some(what) = irregular(path) {
            return refuse(path, what);
        }
    }
    if plots.exists() && !plots.is_dir() {
        return refuse(&plots, "a file");
    }
    // `report.json` is written first and removed last, maybe by another process meanwhile.
    let has_markdown = markdown.exists();
    if json.exists() {
        let text = fs::read(&json).map_err(Error::io("read", &json))?;
        let names = serde_json::from_slice::<BTreeMap<String, &RawValue>>(&text).unwrap_or_default();
        return match ReportKind::of(&names.into_keys().collect()) {
            Some(own) if own == kind => Ok(()),
            Some(other) => refuse(&json, &format!("the report {}", other.title())),
            None => refuse(&json, "a file that is no report of this program"),
        };
    }
    if has_markdown { refuse(&markdown, "a file without the report.json of a report of this program") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails for: a file of someone's own that would be replaced, a report of another command, a directory in a file's place.
    #[test]
    fn reports_replace_reports_of_their_kind_alone() {
        let scratch = tempfile::tempdir().expect("a directory");
        let of = |files: &[(&str, &str)]| {
            let place = scratch.path().join("out");
            let _ = fs::remove_dir_all(&place);
            fs::create_dir(&place).expect("a directory");
            for (name, text) in files {
                match *text {
                    "/" => fs::create_dir(place.join(name)).expect("a directory"),
                    text => fs::write(place.join(name), text).expect("a file"),
                }
            }
            check_directory(&place, ReportKind::Claims).map_err(|e| e.to_string())
        };
        assert_eq!(check_directory(&scratch.path().join("new"), ReportKind::Claims).map_err(|e| e.to_string()), Ok(()));
        for files in [
            &[][..],
            &[("other.md", "notes")],
            &[("report.json", r#"{"schema_version": 1, "claims": []}"#)],
            &[("report.json", r#"{"claims": [], "schema_version": 1}"#), ("report.md", "# Report"), (PLOTS, "/")],
        ] {
            assert_eq!(of(files), Ok(()));
        }
        for (files, expected) in [
            (
                &[("report.md", "my notes")][..],
                "report.md: a file without the report.json of a report of this program is here",
            ),
            (
                &[("report.json", "[1]"), ("report.md", "")],
                "report.json: a file that is no report of this program is here",
            ),
            (&[("report.json", "not JSON")], "report.json: a file that is no report of this program is here"),
            (&[("report.json", r#"{"claims": 1}"#)], "report.json: a file that is no report of this program is here"),
            (
                &[("report.json", r#"{"schema_version": 1, "zero_shot": 1}"#)],
                "report.json: the report of an analysis is here",
            ),
            (
                &[("report.json", r#"{"schema_version": 1, "cells": 1}"#)],
                "report.json: the report of a grid of analyses is here",
            ),
            (&[("report.md", "/")], "report.md: a directory is here"),
            (&[(PLOTS, "")], "plots: a file is here"),
        ] {
            let said = of(files).expect_err("a refusal");
            assert!(said.contains(expected), "{said}");
        }
    }

    /// The committed reports, of which every kind but that of output derivatives and of an analysis has one. Fails for: a mark that a
    /// kind's reports do not have.
    #[test]
    fn kinds_are_known_by_their_reports() {
        let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports");
        for (name, kind) in [
            ("standard", ReportKind::Claims),
            ("bert-tiny", ReportKind::Reproduction),
            ("lora", ReportKind::Adapters),
            ("pretraining", ReportKind::Family),
        ] {
            for other in ReportKind::ALL {
                assert_eq!(check_directory(&reports.join(name), other).is_ok(), other == kind, "{name} as {other:?}");
            }
        }
    }
}
