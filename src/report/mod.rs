//! Renders evidence as files: `report.md` for people, `report.json` for programs, `plots/*.svg` for both.
//!
//! Reads only evidence and comparisons of it: knows no tensors, no models and no data. Reports do not depend on the time,
//! the machine or its fonts, so that two reports of one analysis have the same bytes.

mod answer;
mod caveats;
mod claims;
mod files;
mod format;
mod gate;
mod grid;
mod json;
mod junit_file;
mod markdown;
mod place;
mod plots;
mod rows;
mod terminal;

use std::path::Path;

use crate::error::Result;
use crate::evidence::Analysis;
use files::Files;

pub use claims::{
    ClaimFacts, Document, Picture, WrittenClaims, check_line, claims_markdown, claims_summary, junit, mutants_markdown,
    registry_list, registry_markdown, write_claims, write_document,
};
pub use files::{Written, remove_other_report};
pub use gate::{gate_annotations, gate_junit, gate_markdown, gate_summary};
pub use grid::{WrittenGrid, grid_summary, write_reproduction};
pub use json::read_json;
pub use place::{ReportKind, check_directory};
pub use terminal::terminal_summary;

/// Writes a report into a directory, creating it if missing. Everything is rendered before anything is written; `report.md`
/// is written last, as the sign that all is complete.
///
/// # Errors
/// [`crate::error::Error::NotFinite`] if a figure is not finite, naming the field; [`crate::error::Error::Io`].
pub fn write(analysis: &Analysis, directory: &Path) -> Result<Written> {
    let json = json::to_json(analysis)?;
    let figures = plots::figures(analysis)?;
    let markdown = markdown::render(analysis, &figures)?;
    let plots = figures.iter().map(|figure| &figure.plot).collect();
    Files { markdown, json, plots, beside: Vec::new(), earlier: Vec::new() }.write(directory)
}

/// The text of `report.md`.
///
/// # Errors
/// [`crate::error::Error::NotFinite`] if a figure is not finite, naming the field.
pub fn render_markdown(analysis: &Analysis) -> Result<String> {
    json::to_json(analysis)?;
    markdown::render(analysis, &plots::figures(analysis)?)
}
