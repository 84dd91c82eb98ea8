//! The files common to all reports: Markdown, JSON and plots.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::format::escape;
use crate::error::{Error, Result};
use crate::files::{create_dir, write_atomic};

/// Directory of the plots inside that of the report.
pub(super) const PLOTS: &str = "plots";

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `report.md`
    pub markdown: PathBuf,
    /// `report.json`
    pub json: PathBuf,
    /// `plots/*.svg`, in the order of the report.
    pub plots: Vec<PathBuf>,
}

/// A plot of a report.
pub(super) struct Plot {
    /// Path in the report's directory.
    pub file: String,
    /// Alternative text.
    pub alt: String,
    /// `None` if there was nothing to draw.
    pub svg: Option<String>,
}

impl Plot {
    /// The plot as Markdown; `None` if nothing was drawn.
    pub(super) fn image(&self) -> Option<String> {
        self.svg.as_ref().map(|_| format!("![{}]({})", escape(&self.alt), self.file))
    }
}

/// The rendered files of a report.
pub(super) struct Files<'a> {
    pub markdown: String,
    pub json: String,
    pub plots: Vec<&'a Plot>,
    /// Other files, by name; `None` removes one left by an earlier report.
    pub beside: Vec<(&'static str, Option<String>)>,
    /// Plots of an earlier report in the same directory; those not replaced are removed.
    pub earlier: Vec<String>,
}

impl Files<'_> {
    /// Writes them into a directory, creating it if missing. `report.json`, which lists the report's contents, and
    /// `report.md` are written last, as the sign that all is complete.
    pub(super) fn write(&self, directory: &Path) -> Result<Written> {
        create_dir(&directory.join(PLOTS))?;
        let place = |name: &str| directory.join(name);
        let mut plots = Vec::new();
        for plot in &self.plots {
            if let Some(svg) = &plot.svg {
                write_atomic(&place(&plot.file), svg.as_bytes())?;
                plots.push(place(&plot.file));
            }
        }
        for (name, text) in &self.beside {
            match text {
                Some(text) => write_atomic(&place(name), text.as_bytes())?,
                None => remove(&place(name))?,
            }
        }
        for path in self.earlier.iter().map(|file| place(file)).filter(|path| !plots.contains(path)) {
            remove(&path)?;
        }
        let written = Written { markdown: place("report.md"), json: place("report.json"), plots };
        write_atomic(&written.json, self.json.as_bytes())?;
        write_atomic(&written.markdown, self.markdown.as_bytes())?;
        Ok(written)
    }
}

/// Removes the report of another analysis from a directory, with the plots that it shows; `digest` is the new one's. Returns
/// whether there was one. Kernels beside it may be replaced before there is a new report, and it would be about others. What is no
/// report of an analysis stays.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_other_report(directory: &Path, digest: &str) -> Result<bool> {
    let (json, markdown) = (directory.join("report.json"), directory.join("report.md"));
    let Ok(text) = fs::read_to_string(&json) else { return Ok(false) };
    let found: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if found["run"]["digest"].as_str().is_none_or(|other| other == digest) {
        return Ok(false);
    }
    let shown = fs::read_to_string(&markdown).unwrap_or_default();
    for name in
        shown.split(&format!("]({PLOTS}/")).skip(1).filter_map(|rest| rest.split_once(')')).map(|(name, _)| name)
    {
        if !name.contains(['/', '\\']) {
            remove(&directory.join(PLOTS).join(name))?;
        }
    }
    remove(&markdown)?;
    remove(&json)?;
    Ok(true)
}

fn remove(path: &Path) -> Result<()> {
    if path.is_file() { fs::remove_file(path).map_err(Error::io("remove", path)) } else { Ok(()) }
}

/// `report.json`: the complete evidence in full precision. Non-finite numbers of tables are null.
pub(super) fn json(data: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(data).map_err(|e| Error::document("report.json", e))?;
    Ok(text + "\n")
}
