//! `report.md` and `mutants.md`: renders the evidence of claims with the templates `claims.md.j2` and `mutants.md.j2`.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::rows::{CheckRow, Role, cell, controls, reasons, verdict};
use super::statement::fitted;
use super::{answer, plots_of, slug};
use crate::error::{Error, Result};
use crate::evidence::{
    Cell, Check, ClaimEvidence, ClaimVerdict, ExperimentError, Fate, Findings, MutantResult, Table, Verification,
};
use crate::report::files::Plot;
use crate::report::format::{chosen, code, escape};
use crate::stats::{Expectation, Method, probability_of_violation};

const CLAIMS: &str = include_str!("claims.md.j2");
const MUTANTS: &str = include_str!("mutants.md.j2");
/// Settings, checks, tables and plots, shared by reports of claims and other documents.
const FINDINGS: &str = include_str!("findings.md.j2");

/// The text of `report.md`.
///
/// # Errors
/// [`Error::Document`] if it cannot be rendered.
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
        survivors => failed_mutants(verification),
        errors => errors(verification),
        claims,
    };
    fill("report.md", CLAIMS, context)
}

/// The text of `mutants.md`; `None` where no mutants were run.
///
/// # Errors
/// [`Error::Document`] if it cannot be rendered.
pub fn mutants_markdown(verification: &Verification) -> Result<Option<String>> {
    let Some(sentence) = answer::mutants(verification) else { return Ok(None) };
    let of = |wanted: Fate| -> Vec<Value> {
        // Graded mutants have a table of their own, with what noticed them.
        let graded = |m: &MutantResult| m.strength.is_some() && matches!(wanted, Fate::Caught | Fate::Undecided);
        let found = verification.fates().filter(|(m, fate)| *fate == wanted && !graded(m));
        found
            .map(|(m, _)| {
                context! { claim => m.claim.as_str(), mutant => m.label(), change => m.change.as_str(), caught_by => m.caught_by.join("; "), verdict => m.verdict.text() }
            })
            .collect()
    };
    let context = context! {
        sentence,
        survivors => of(Fate::Survived),
        mistaken => of(Fate::WronglyCaught),
        undecided => of(Fate::Undecided),
        caught => of(Fate::Caught),
        graded => graded(verification, false),
        moved => graded(verification, true),
        errors => errors(verification),
    };
    fill("mutants.md", MUTANTS, context).map(Some)
}

/// Mutants that make the run fail, with the reason.
fn failed_mutants(verification: &Verification) -> Vec<Value> {
    let failed = verification.fates().filter(|(_, fate)| fate.is_failure());
    let view = |(m, fate): (&MutantResult, Fate)| {
        let how = if fate == Fate::Survived { "did not notice" } else { "does not accept" };
        let fate = fate.text().to_uppercase();
        context! { claim => m.claim.as_str(), mutant => m.label(), change => m.change.as_str(), fate, how }
    };
    failed.map(view).collect()
}

/// Graded mutants, each with its outcome at every strength: those that move predictions alone, or the others.
fn graded(verification: &Verification, of_prediction: bool) -> Vec<Value> {
    let mut rows: Vec<(&MutantResult, Vec<(String, String)>)> = Vec::new();
    for mutant in verification.mutants.iter().filter(|m| m.of_prediction == of_prediction) {
        let Some(strength) = mutant.strength else { continue };
        let fate = if mutant.caught_by.is_empty() { "passes".to_owned() } else { mutant.caught_by.join("; ") };
        let found = (format!("{strength}"), fate);
        match rows.iter_mut().find(|(m, _)| m.claim == mutant.claim && m.mutant == mutant.mutant) {
            Some((_, strengths)) => strengths.push(found),
            None => rows.push((mutant, vec![found])),
        }
    }
    let view = |(mutant, strengths): &(&MutantResult, Vec<(String, String)>)| {
        let at = |strength: &str| {
            let found = strengths.iter().find(|(s, _)| s == strength);
            found.map_or_else(|| "not run".to_owned(), |(_, fate)| fate.clone())
        };
        context! {
            claim => mutant.claim.as_str(), mutant => mutant.mutant.as_str(), change => mutant.change.as_str(),
            half => at("0.5"), one => at("1"), two => at("2"),
        }
    };
    rows.iter().map(view).collect()
}

fn errors(verification: &Verification) -> Vec<Value> {
    let view = |e: &ExperimentError| {
        context! { name => e.name(), claim => e.claim.as_str(), prediction => e.prediction.as_str(), message => e.message.as_str(), mutant => e.mutant.clone() }
    };
    verification.errors.iter().map(view).collect()
}

/// The template's data on one claim.
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
        topic => claim.topic.as_str(),
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

/// The data of `findings.md.j2`.
fn body(findings: &Findings, plots: &[Plot]) -> Value {
    let rows = |checks: &[Check], role: Role| -> Vec<Value> {
        checks.iter().map(|c| Value::from(Serde(CheckRow::of(c, role)))).collect()
    };
    context! {
        settings => Serde(&findings.settings),
        hypotheses => rows(&findings.hypotheses, Role::Hypothesis),
        checks => rows(&findings.checks, Role::Prediction),
        controls => rows(&findings.controls, Role::Control),
        curves => findings.checks.iter().filter_map(curve).collect::<Vec<_>>(),
        strengths => CURVE.map(chosen),
        tables => findings.tables.iter().map(table).collect::<Vec<_>>(),
        images => plots.iter().filter_map(Plot::image).collect::<Vec<_>>(),
        notes => findings.notes.clone(),
    }
}

/// Deviations of a detection curve, in tolerances.
const CURVE: [f64; 5] = [0.5, 1.0, 1.5, 2.0, 3.0];

/// The probability, in percent, that a check of an equality calls a deviation violated.
fn curve(check: &Check) -> Option<Value> {
    let Expectation::Within { target, tolerance } = check.expectation else { return None };
    if check.estimate.method == Method::Exact {
        return None;
    }
    let at = |strength: f64| {
        probability_of_violation(&check.estimate, &check.expectation, target + strength * tolerance)
            .map(|p| format!("{:.0}%", 100.0 * p))
    };
    let cells: Vec<String> = CURVE.iter().filter_map(|s| at(*s)).collect();
    (cells.len() == CURVE.len()).then(|| context! { name => check.name.as_str(), cells })
}

/// A separate document: a title, paragraphs in Markdown, and findings.
pub(super) fn document(title: &str, paragraphs: &[String], findings: &Findings, plots: &[Plot]) -> Result<String> {
    const DOCUMENT: &str = "# {{ title }}{% for paragraph in paragraphs %}\n\n{{ paragraph }}{% endfor %}\
                            {% with level = \"##\" %}{% include \"findings.md\" %}{% endwith %}\n";
    let part = context! { is_claim => false, ..body(findings, plots) };
    fill("report.md", DOCUMENT, context! { title => escape(title), paragraphs => paragraphs.to_vec(), part })
}

/// A table with its cells as Markdown; columns of numbers are right-aligned.
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
    render().map_err(|e| Error::document(name, format!("{e:#}")))
}
