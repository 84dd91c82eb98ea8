//! Reports of commands that are neither an analysis nor a run of the suite: a text, what was found, its plots.

use std::path::Path;

use serde::Serialize;

use super::markdown::document;
use super::{Plot, plot, slug};
use crate::error::{Error, Result};
use crate::evidence::Findings;
use crate::files::{create_dir, write_atomic};
use crate::report::{Written, plots};

/// A report.
#[derive(Clone, Debug)]
pub struct Document {
    /// Heading.
    pub title: String,
    /// What the reader should know first, in Markdown.
    pub paragraphs: Vec<String>,
    /// Settings, checks, tables and figures.
    pub findings: Findings,
    /// Plots that are not of the findings' kind.
    pub pictures: Vec<Picture>,
}

/// A plot that is drawn already.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its file is `plots/NAME.svg`.
    pub name: String,
    /// What it shows, for those who cannot see it.
    pub alt: String,
    /// The picture.
    pub svg: String,
}

/// Writes `report.md`, `report.json` (`data`, whole and exact) and plots into a directory, which is made where it is
/// missing. Everything is made before anything is written.
///
/// # Errors
/// [`Error::Numeric`] where it cannot be made; [`Error::Io`].
pub fn write_document(report: &Document, data: &impl Serialize, directory: &Path) -> Result<Written> {
    let json_text = serde_json::to_string_pretty(data)
        .map_err(|e| Error::Numeric(format!("the report cannot be written as JSON: {e}")))?;
    let file = |name: &str| format!("{}/{}.svg", plots::DIRECTORY, slug(name));
    let mut drawn = report.findings.figures.iter().map(|f| plot(&file(&f.name), f)).collect::<Result<Vec<_>>>()?;
    drawn.extend(report.pictures.iter().map(|p| Plot {
        file: file(&p.name),
        alt: p.alt.clone(),
        svg: Some(p.svg.clone()),
    }));
    let text = document(&report.title, &report.paragraphs, &report.findings, &drawn)?;
    create_dir(&directory.join(plots::DIRECTORY))?;
    let mut written =
        Written { markdown: directory.join("report.md"), json: directory.join("report.json"), plots: Vec::new() };
    for plot in &drawn {
        if let Some(svg) = &plot.svg {
            let path = directory.join(&plot.file);
            write_atomic(&path, svg.as_bytes())?;
            written.plots.push(path);
        }
    }
    write_atomic(&written.json, (json_text + "\n").as_bytes())?;
    write_atomic(&written.markdown, text.as_bytes())?;
    Ok(written)
}
