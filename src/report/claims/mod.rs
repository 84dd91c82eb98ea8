//! Reports of runs of the suite of claims: `report.md` and `mutants.md` for people, `report.json` and `junit.xml` for
//! programs, `plots/*.svg` for both.
//!
//! Reads nothing but [`Verification`]: knows no experiment and no tensors. `report.md` contains no times or machine, so that
//! two runs with the same seed give the same bytes.

mod answer;
mod document;
mod junit;
mod markdown;
mod registry;
mod rows;
mod statement;
mod terminal;

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{Files, PLOTS, Plot, Written, json};
use super::format::slug;
use super::place::{ReportKind, check_directory};
use super::plots;
use crate::error::Result;
use crate::evidence::{ClaimEvidence, Figure, Verification};

pub(super) use document::write_with;
pub use document::{Document, Picture, write_document};
pub use junit::junit;
pub use markdown::{claims_markdown, mutants_markdown};
pub use registry::{ClaimFacts, registry_list, registry_markdown};
pub use rows::check_line;
pub use terminal::claims_summary;

/// The files of a report of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenClaims {
    /// Markdown, JSON and plots.
    pub report: Written,
    /// `junit.xml`
    pub junit: PathBuf,
    /// `mutants.md`, if mutants were run.
    pub mutants: Option<PathBuf>,
}

/// Writes the report into a directory, creating it if missing. Everything is rendered before anything is written. Plots and
/// `mutants.md` of an earlier run that are not replaced are removed.
///
/// # Errors
/// Those of [`check_directory`]; [`crate::error::Error::Io`].
pub fn write_claims(verification: &Verification, directory: &Path) -> Result<WrittenClaims> {
    check_directory(directory, ReportKind::Claims)?;
    let plots = plots_of(verification)?;
    let mutants = mutants_markdown(verification)?;
    let has_mutants = mutants.is_some();
    let files = Files {
        markdown: markdown::render(verification, &plots)?,
        json: json(verification)?,
        plots: plots.iter().flatten().collect(),
        beside: vec![("mutants.md", mutants), ("junit.xml", Some(junit(verification)?))],
        earlier: earlier_plots(directory),
    };
    let place = |name: &str| directory.join(name);
    let report = files.write(directory)?;
    Ok(WrittenClaims { report, junit: place("junit.xml"), mutants: has_mutants.then(|| place("mutants.md")) })
}

/// Plots of an earlier run whose report is in the directory.
fn earlier_plots(directory: &Path) -> Vec<String> {
    /// The fields of `report.json` common to all versions.
    #[derive(serde::Deserialize)]
    struct Earlier {
        claims: Vec<EarlierClaim>,
    }
    #[derive(serde::Deserialize)]
    struct EarlierClaim {
        id: String,
        findings: EarlierFindings,
    }
    #[derive(serde::Deserialize)]
    struct EarlierFindings {
        figures: Vec<Named>,
    }
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let earlier = fs::read(directory.join("report.json")).ok();
    let earlier = earlier.and_then(|bytes| serde_json::from_slice::<Earlier>(&bytes).ok());
    let claims = earlier.map_or_else(Vec::new, |report| report.claims);
    claims.iter().flat_map(|c| c.findings.figures.iter().map(|f| plot_file(&c.id, &f.name))).collect()
}

fn plot_file(claim: &str, figure: &str) -> String {
    format!("{}/{}-{}.svg", PLOTS, slug(claim), slug(figure))
}

/// The plots of every claim.
fn plots_of(verification: &Verification) -> Result<Vec<Vec<Plot>>> {
    let of_claim = |c: &ClaimEvidence| c.findings.figures.iter().map(|f| plot(&plot_file(&c.id, &f.name), f)).collect();
    verification.claims.iter().map(of_claim).collect()
}

fn plot(file: &str, figure: &Figure) -> Result<Plot> {
    let alt = answer::alt(figure);
    let svg = plots::scaling(figure, &alt)?;
    Ok(Plot { file: file.to_owned(), alt, svg })
}
