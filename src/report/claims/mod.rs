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
use super::plots;
use crate::error::{Error, Result};
use crate::evidence::{ClaimEvidence, Figure, Verification};
use crate::setting::Field;

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
/// [`Error::Format`] if the directory has the report of an analysis; [`Error::Io`].
pub fn write_claims(verification: &Verification, directory: &Path) -> Result<WrittenClaims> {
    let plots = plots_of(verification)?;
    let mutants = mutants_markdown(verification)?;
    let has_mutants = mutants.is_some();
    let files = Files {
        markdown: markdown::render(verification, &plots)?,
        json: json(verification)?,
        plots: plots.iter().flatten().collect(),
        beside: vec![("mutants.md", mutants), ("junit.xml", Some(junit(verification)?))],
        earlier: earlier_plots(directory)?,
    };
    let place = |name: &str| directory.join(name);
    let report = files.write(directory)?;
    Ok(WrittenClaims { report, junit: place("junit.xml"), mutants: has_mutants.then(|| place("mutants.md")) })
}

/// Fails if the directory has the report of an analysis, which would be overwritten.
///
/// # Errors
/// [`Error::Format`].
pub fn check_directory(directory: &Path) -> Result<()> {
    earlier_plots(directory).map(drop)
}

/// Plots of an earlier run whose report is in the directory.
fn earlier_plots(directory: &Path) -> Result<Vec<String>> {
    /// The fields of `report.json` common to both kinds of reports and all versions.
    #[derive(serde::Deserialize)]
    struct Earlier {
        claims: Option<Vec<EarlierClaim>>,
        zero_shot: Option<serde_json::Value>,
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
    let path = directory.join("report.json");
    // Another program's file is replaced, and lists nothing to remove.
    let earlier = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Earlier>(&bytes).ok());
    match earlier {
        Some(Earlier { zero_shot: Some(_), .. }) => Err(Error::format(
            &path,
            format!(
                "this is the report of an analysis; choose another directory ({}), or remove that report",
                Field::OutDirectory
            ),
        )),
        Some(Earlier { claims: Some(claims), .. }) => {
            Ok(claims.iter().flat_map(|c| c.findings.figures.iter().map(|f| plot_file(&c.id, &f.name))).collect())
        }
        _ => Ok(Vec::new()),
    }
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
