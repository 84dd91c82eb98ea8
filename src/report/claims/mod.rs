//! Reports of runs of the suite of claims: `report.md` and `mutants.md` for people, `report.json` and `junit.xml` for
//! programs, `plots/*.svg` for both.
//!
//! Reads nothing but [`Verification`]: knows no experiment and no tensors. `report.md` has no times and no machine in
//! it, so that two runs with one seed give the same bytes.

mod answer;
mod document;
mod junit;
mod markdown;
mod registry;
mod rows;
mod statement;
mod terminal;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::format::slug;
use super::plots;
use crate::error::{Error, Result};
use crate::evidence::{ClaimEvidence, Figure, Verification};
use crate::files::{create_dir, write_atomic};
use crate::setting::Field;

pub use document::{Document, Picture, write_document};
pub use junit::junit;
pub use markdown::{claims_markdown, mutants_markdown};
pub use registry::{ClaimFacts, registry_list, registry_markdown};
pub use terminal::claims_summary;

/// The files of a report of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenClaims {
    /// `report.md`
    pub markdown: PathBuf,
    /// `report.json`
    pub json: PathBuf,
    /// `junit.xml`
    pub junit: PathBuf,
    /// `mutants.md`, where mutants were run.
    pub mutants: Option<PathBuf>,
    /// `plots/*.svg`, in the order of the report.
    pub plots: Vec<PathBuf>,
}

/// A figure of a claim.
struct Plot {
    /// Path in the report's directory.
    file: String,
    /// What it shows, for those who cannot see it.
    alt: String,
    /// `None` where there was nothing that could be drawn.
    svg: Option<String>,
}

/// Writes the report into a directory, which is created where it is missing. Everything is made before anything is
/// written; `report.json`, which lists what belongs to the report, comes last. Plots and `mutants.md` of an earlier run
/// of the suite that this one does not replace are removed.
///
/// # Errors
/// [`Error::Format`] where the directory has the report of an analysis; [`Error::Io`].
pub fn write_claims(verification: &Verification, directory: &Path) -> Result<WrittenClaims> {
    let json_text = json(verification)?;
    let plots = plots_of(verification)?;
    let markdown_text = markdown::render(verification, &plots)?;
    let junit_text = junit(verification)?;
    let mutants_text = mutants_markdown(verification)?;
    let earlier = earlier_plots(directory)?;

    create_dir(&directory.join(plots::DIRECTORY))?;
    let place = |name: &str| directory.join(name);
    let mut written = WrittenClaims {
        markdown: place("report.md"),
        json: place("report.json"),
        junit: place("junit.xml"),
        mutants: mutants_text.is_some().then(|| place("mutants.md")),
        plots: Vec::new(),
    };
    for plot in plots.iter().flatten() {
        if let Some(svg) = &plot.svg {
            write_atomic(&place(&plot.file), svg.as_bytes())?;
            written.plots.push(place(&plot.file));
        }
    }
    match mutants_text {
        Some(text) => write_atomic(&place("mutants.md"), text.as_bytes())?,
        None => remove(&place("mutants.md"))?,
    }
    write_atomic(&written.junit, junit_text.as_bytes())?;
    write_atomic(&written.markdown, markdown_text.as_bytes())?;
    for path in earlier.iter().map(|file| place(file)).filter(|path| !written.plots.contains(path)) {
        remove(&path)?;
    }
    write_atomic(&written.json, json_text.as_bytes())?;
    Ok(written)
}

/// Fails where a directory has the report of an analysis, which the report of claims would replace.
///
/// # Errors
/// [`Error::Format`].
pub fn check_directory(directory: &Path) -> Result<()> {
    earlier_plots(directory).map(drop)
}

/// Plots of the earlier run of the suite whose report is in the directory.
fn earlier_plots(directory: &Path) -> Result<BTreeSet<String>> {
    /// Of `report.json`, what both kinds of reports and their versions have in common.
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
    // A file that is not ours is replaced as a whole, and names nothing to remove.
    let earlier = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Earlier>(&bytes).ok());
    match earlier {
        Some(Earlier { zero_shot: Some(_), .. }) => Err(Error::format(
            &path,
            format!("this is the report of an analysis; give another {}, or remove that report", Field::OutDirectory),
        )),
        Some(Earlier { claims: Some(claims), .. }) => {
            Ok(claims.iter().flat_map(|c| c.findings.figures.iter().map(|f| plot_file(&c.id, &f.name))).collect())
        }
        _ => Ok(BTreeSet::new()),
    }
}

fn remove(path: &Path) -> Result<()> {
    if path.is_file() { fs::remove_file(path).map_err(Error::io("remove", path)) } else { Ok(()) }
}

fn plot_file(claim: &str, figure: &str) -> String {
    format!("{}/{}-{}.svg", plots::DIRECTORY, slug(claim), slug(figure))
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

/// `report.json`: the evidence, whole and exact. Numbers of tables that are not finite are null.
fn json(verification: &Verification) -> Result<String> {
    let text = serde_json::to_string_pretty(verification);
    let mut text = text.map_err(|e| Error::Numeric(format!("the claims cannot be written as JSON: {e}")))?;
    text.push('\n');
    Ok(text)
}
