//! Whether a report may be written into a directory: what stands there must be an earlier report of the same kind.

use std::fs;
use std::path::Path;

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

    fn of(report: &serde_json::Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| report.get(kind.mark()).is_some())
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
    if json.exists() {
        let found = fs::read(&json).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        return match found.as_ref().and_then(ReportKind::of) {
            Some(own) if own == kind => Ok(()),
            Some(other) => refuse(&json, &format!("the report {}", other.title())),
            None => refuse(&json, "a file that is no report of this program"),
        };
    }
    // `report.json` is written first, and removed last.
    if markdown.exists() { refuse(&markdown, "a file that is no report of this program") } else { Ok(()) }
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
            &[("report.json", r#"{"claims": []}"#)],
            &[("report.json", r#"{"claims": []}"#), ("report.md", "# Report"), (PLOTS, "/")],
        ] {
            assert_eq!(of(files), Ok(()));
        }
        for (files, expected) in [
            (&[("report.md", "my notes")][..], "report.md: a file that is no report of this program is here"),
            (
                &[("report.json", "[1]"), ("report.md", "")],
                "report.json: a file that is no report of this program is here",
            ),
            (&[("report.json", "not JSON")], "report.json: a file that is no report of this program is here"),
            (&[("report.json", r#"{"zero_shot": 1}"#)], "report.json: the report of an analysis is here"),
            (&[("report.json", r#"{"cells": 1}"#)], "report.json: the report of a grid of analyses is here"),
            (&[("report.md", "/")], "report.md: a directory is here"),
            (&[(PLOTS, "")], "plots: a file is here"),
        ] {
            let said = of(files).expect_err("a refusal");
            assert!(said.contains(expected), "{said}");
        }
    }
}
