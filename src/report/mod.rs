//! From evidence to files: `report.md` for people, `report.json` for programs, `plots/*.svg` for both.
//!
//! Reads nothing but evidence, and comparisons made of it: knows no tensors, no models and no data. Nothing in a report depends on the time,
//! the machine or its fonts, so that two reports of one analysis are the same bytes.

mod answer;
mod caveats;
mod claims;
mod format;
mod gate;
mod grid;
mod json;
mod junit_file;
mod markdown;
mod plots;
mod rows;
mod terminal;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::evidence::Analysis;
use crate::files::{create_dir, write_atomic};

pub use claims::{
    ClaimFacts, Document, Picture, WrittenClaims, check_directory, claims_markdown, claims_summary, junit,
    mutants_markdown, registry_list, registry_markdown, write_claims, write_document,
};
pub use gate::{gate_annotations, gate_junit, gate_markdown, gate_summary};
pub use grid::{WrittenGrid, grid_summary, write_reproduction};
pub use json::read_json;
pub use terminal::terminal_summary;

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

/// Writes a report into a directory, which is created where it is missing. Everything is made before anything is
/// written; `report.md` comes last, so that where it is, the rest is too.
///
/// # Errors
/// [`crate::error::Error::Numeric`] where a figure is not finite, with the field's name; [`crate::error::Error::Io`].
pub fn write(analysis: &Analysis, directory: &Path) -> Result<Written> {
    let json_text = json::to_json(analysis)?;
    let figures = plots::figures(analysis)?;
    let markdown_text = markdown::render(analysis, &figures)?;
    create_dir(&directory.join(plots::DIRECTORY))?;
    let mut plot_paths = Vec::new();
    for figure in &figures {
        if let Some(svg) = &figure.svg {
            let path = directory.join(&figure.file);
            write_atomic(&path, svg.as_bytes())?;
            plot_paths.push(path);
        }
    }
    let (json, markdown) = (directory.join("report.json"), directory.join("report.md"));
    write_atomic(&json, json_text.as_bytes())?;
    write_atomic(&markdown, markdown_text.as_bytes())?;
    Ok(Written { markdown, json, plots: plot_paths })
}

/// The text of `report.md`.
///
/// # Errors
/// [`crate::error::Error::Numeric`] where a figure is not finite, with the field's name.
pub fn render_markdown(analysis: &Analysis) -> Result<String> {
    json::to_json(analysis)?;
    markdown::render(analysis, &plots::figures(analysis)?)
}
