//! `report.md` and `mutants.md`: the evidence of claims, poured into the templates `claims.md.j2` and `mutants.md.j2`.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::rows::{CheckRow, Role, cell, controls, reasons, verdict};
use super::statement::fitted;
use super::{Plot, answer, plots_of, slug};
use crate::error::{Error, Result};
use crate::evidence::{
    Cell, Check, ClaimEvidence, ClaimVerdict, ExperimentError, Findings, MutantResult, Table, Verification,
};
use crate::report::format::{code, escape};

const CLAIMS: &str = include_str!("claims.md.j2");
const MUTANTS: &str = include_str!("mutants.md.j2");
/// Settings, checks, tables and plots, which reports of claims and other documents share.
const FINDINGS: &str = include_str!("findings.md.j2");

/// The text of `report.md`.
///
/// # Errors
/// [`Error::Numeric`] where it cannot be made.
pub fn claims_markdown(verification: &Verification) -> Result<String> {
    render(verification, &plots_of(verification)?)
}

/// Renders `report.md`; `plots` are those of the same claims.
pub(super) fn render(verification: &Verification, plots: &[Vec<Plot>]) -> Result<String> {
    let run = &verification.run;
    let claims: Vec<Value> =
        verification.claims.iter().zip(plots).map(|(claim, plots)| section(claim, plots)).collect();
    let context = context! {
        run => Serde(run),
        profile => run.profile.name(),
        error_rate => format!("{:e}", run.error_rate),
        paragraph => answer::paragraph(verification),
        mutants => answer::mutants(verification),
        mutant_count => verification.mutants.len(),
        survivors => Serde(verification.mutants.iter().filter(|m| m.survived()).collect::<Vec<_>>()),
        errors => errors(verification),
        claims,
    };
    fill("report.md", CLAIMS, context)
}

/// The text of `mutants.md`; `None` where no mutants were run.
///
/// # Errors
/// [`Error::Numeric`] where it cannot be made.
pub fn mutants_markdown(verification: &Verification) -> Result<Option<String>> {
    let Some(sentence) = answer::mutants(verification) else { return Ok(None) };
    let (survivors, caught): (Vec<_>, Vec<_>) = verification.mutants.iter().partition(|m| m.survived());
    let view = |m: &&MutantResult| {
        context! { claim => m.claim.as_str(), mutant => m.mutant.as_str(), change => m.change.as_str(), caught_by => m.caught_by.clone(), verdict => m.verdict.text() }
    };
    let context = context! {
        sentence,
        survivors => survivors.iter().map(view).collect::<Vec<_>>(),
        caught => caught.iter().map(view).collect::<Vec<_>>(),
        errors => errors(verification),
    };
    fill("mutants.md", MUTANTS, context).map(Some)
}

fn errors(verification: &Verification) -> Vec<Value> {
    let view = |e: &ExperimentError| {
        context! { name => e.name(), claim => e.claim.as_str(), prediction => e.prediction.as_str(), message => e.message.as_str(), mutant => e.mutant.clone() }
    };
    verification.errors.iter().map(view).collect()
}

/// What the template needs of one claim.
fn section(claim: &ClaimEvidence, plots: &[Plot]) -> Value {
    let reasons = reasons(claim);
    let headline = match reasons.as_slice() {
        [first, more @ ..] if !more.is_empty() => format!("{first}; {} more", more.len()),
        _ => reasons.join("; "),
    };
    context! {
        id => claim.id.as_str(),
        anchor => slug(&claim.id),
        title => claim.title.as_str(),
        family => claim.family.as_str(),
        source => claim.source.as_str(),
        prediction => claim.prediction.as_str(),
        statement => fitted(&claim.statement),
        verdict => verdict(claim.verdict),
        reason => (claim.verdict != ClaimVerdict::Holds).then(|| reasons.join("; ")),
        headline,
        controls_text => controls(&claim.findings),
        is_claim => true,
        ..body(&claim.findings, plots)
    }
}

/// What `findings.md.j2` needs.
fn body(findings: &Findings, plots: &[Plot]) -> Value {
    let rows = |checks: &[Check], role: Role| -> Vec<Value> {
        checks.iter().map(|c| Value::from(Serde(CheckRow::of(c, role)))).collect()
    };
    let image = |plot: &Plot| plot.svg.as_ref().map(|_| format!("![{}]({})", escape(&plot.alt), plot.file));
    context! {
        settings => Serde(&findings.settings),
        hypotheses => rows(&findings.hypotheses, Role::Hypothesis),
        checks => rows(&findings.checks, Role::Prediction),
        controls => rows(&findings.controls, Role::Control),
        tables => findings.tables.iter().map(table).collect::<Vec<_>>(),
        images => plots.iter().filter_map(image).collect::<Vec<_>>(),
        notes => findings.notes.clone(),
    }
}

/// A document of its own: a title, paragraphs in Markdown, and what was found.
pub(super) fn document(title: &str, paragraphs: &[String], findings: &Findings, plots: &[Plot]) -> Result<String> {
    const DOCUMENT: &str = "# {{ title }}{% for paragraph in paragraphs %}\n\n{{ paragraph }}{% endfor %}\
                            {% with level = \"##\" %}{% include \"findings.md\" %}{% endwith %}\n";
    let part = context! { is_claim => false, ..body(findings, plots) };
    fill("report.md", DOCUMENT, context! { title => escape(title), paragraphs => paragraphs.to_vec(), part })
}

/// A table with its cells as Markdown; columns of numbers are aligned to the right.
fn table(table: &Table) -> Value {
    let numeric = |column: usize| {
        let mut cells = table.rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some() && cells.all(|c| !matches!(c, Cell::Text(_)))
    };
    let rules: Vec<&str> = (0..table.columns.len()).map(|c| if numeric(c) { "---:" } else { "---" }).collect();
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    context! { title => table.title.as_str(), columns => table.columns.clone(), rules, rows }
}

fn fill(name: &'static str, template: &'static str, context: Value) -> Result<String> {
    let render = || -> std::result::Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("esc", |text: String| escape(&text));
        environment.add_filter("code", |text: String| code(&text));
        environment.add_template("findings.md", FINDINGS)?;
        environment.add_template(name, template)?;
        let mut text = environment.get_template(name)?.render(context)?;
        text.truncate(text.trim_end().len());
        text.push('\n');
        Ok(text)
    };
    render().map_err(|e| Error::Numeric(format!("{name} cannot be made: {e:#}")))
}
