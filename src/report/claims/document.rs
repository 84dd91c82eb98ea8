//! Reports of other commands than `analyze` and `verify`: text, findings and plots.

use std::path::Path;

use serde::Serialize;

use super::markdown::document;
use super::{plot, slug};
use crate::error::Result;
use crate::evidence::Findings;
use crate::report::files::{Files, PLOTS, Plot, Written, json};

/// A report.
#[derive(Clone, Debug)]
pub struct Document {
    /// Heading.
    pub title: String,
    /// Introduction, in Markdown.
    pub paragraphs: Vec<String>,
    /// Settings, checks, tables and figures.
    pub findings: Findings,
    /// Additional plots.
    pub pictures: Vec<Picture>,
}

/// A finished plot.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its file is `plots/NAME.svg`.
    pub name: String,
    /// Alternative text.
    pub alt: String,
    /// The picture.
    pub svg: String,
}

/// Writes `report.md`, `report.json` (`data`, whole and exact) and plots into a directory, creating it if missing.
/// Everything is rendered before anything is written.
///
/// # Errors
/// [`Error::Document`](crate::error::Error::Document) if it cannot be rendered; [`Error::Io`](crate::error::Error::Io).
pub fn write_document(report: &Document, data: &impl Serialize, directory: &Path) -> Result<Written> {
    write_with(report, data, Vec::new(), directory)
}

/// The same with additional files, by name.
pub(in crate::report) fn write_with(
    report: &Document,
    data: &impl Serialize,
    beside: Vec<(&'static str, Option<String>)>,
    directory: &Path,
) -> Result<Written> {
    let file = |name: &str| format!("{}/{}.svg", PLOTS, slug(name));
    let mut drawn = report.findings.figures.iter().map(|f| plot(&file(&f.name), f)).collect::<Result<Vec<_>>>()?;
    drawn.extend(report.pictures.iter().map(|p| Plot {
        file: file(&p.name),
        alt: p.alt.clone(),
        svg: Some(p.svg.clone()),
    }));
    let markdown = document(&report.title, &report.paragraphs, &report.findings, &drawn)?;
    let plots = drawn.iter().collect();
    Files { markdown, json: json(data)?, plots, beside, earlier: Vec::new() }.write(directory)
}
