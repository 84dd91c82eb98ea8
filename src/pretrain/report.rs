//! Results of a family's pre-training as evidence: curves, baselines, checks of the parametrization.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::coordinates::{CoordinateCheck, STEPS};
use super::recipe::Recipe;
use super::run::Curve;
use super::sweep::Sweep;
use crate::error::Result;
use crate::evidence::{Cell, Check, Figure, Findings, Mark, Series, Table};
use crate::lm::Scaling;
use crate::report::{Document, Written, write_document};
use crate::stats::{Estimate, Expectation};

/// Everything in a family's report: `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FamilyReport {
    /// [`crate::evidence::SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// The recipe.
    pub recipe: Recipe,
    /// SHA-256 of the training file and of the held-out file.
    pub corpus_sha256: (String, String),
    /// Tokens of the training text and of the held-out text.
    pub tokens: (usize, usize),
    /// Learning curves of the networks, by width.
    pub curves: Vec<Curve>,
    /// Coordinate checks, if they were run.
    pub coordinates: Vec<CoordinateCheck>,
    /// Sweeps of the learning rate, if they were run.
    pub sweeps: Vec<Sweep>,
}

/// A network must beat the tokens' frequencies by this many nats to count as pre-trained.
const BEATS: f64 = 1.0;

/// Largest acceptable exponent in width of activations' changes in training: finite widths bend slopes by about a tenth.
const FLAT: f64 = 0.15;

/// Confidence of the intervals of the coordinate check.
const CONFIDENCE: f64 = 0.99;

/// The findings of a family.
pub fn family_findings(family: &FamilyReport) -> Result<Findings> {
    let recipe = &family.recipe;
    let (m, t) = (&recipe.model, &recipe.training);
    let list = |widths: &[i64]| widths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut findings = Findings {
        settings: vec![
            ("family".into(), recipe.name.clone()),
            ("widths".into(), format!("{}; base width {}", list(&m.widths), m.base_width)),
            (
                "networks".into(),
                format!("RoBERTa, {} layers, heads of dimension {}, {}", m.layers, m.head_dimension, m.scaling.text()),
            ),
            ("text".into(), text_of(family)),
            (
                "training".into(),
                format!(
                    "{} steps of {} sequences of {} tokens, {} of them masked; Adam, learning rate {:e} at the base width",
                    t.steps, t.batch, m.tokens, t.masked, t.learning_rate
                ),
            ),
            ("seed".into(), recipe.seed.to_string()),
        ],
        ..Findings::default()
    };
    losses(family, &mut findings);
    for check in &family.coordinates {
        coordinates(check, &mut findings)?;
    }
    for sweep in &family.sweeps {
        rates(sweep, &mut findings);
    }
    Ok(findings)
}

/// Source and length of the text.
fn text_of(family: &FamilyReport) -> String {
    let (train, heldout) = family.tokens;
    let vocabulary = family.recipe.vocabulary();
    match &family.recipe.corpus {
        Some(corpus) => format!(
            "{train} tokens of {} ({heldout} of {}), vocabulary {vocabulary}",
            corpus.train.display(),
            corpus.heldout.display(),
        ),
        None => format!("{train} tokens of a language drawn from the seed ({heldout} others), vocabulary {vocabulary}"),
    }
}

fn losses(family: &FamilyReport, findings: &mut Findings) {
    let Some(first) = family.curves.first() else { return };
    for curve in &family.curves {
        let name = format!("width {}: held-out loss below that of the tokens' frequencies, in nats", curve.width);
        let gain = Estimate::exact(curve.unigram_loss - curve.final_loss(), 1);
        findings.checks.push(Check::judged(name, Expectation::AtLeast { bound: BEATS }, gain));
    }
    for pair in family.curves.windows(2) {
        let name =
            format!("width {} is better than width {}: difference of held-out losses", pair[1].width, pair[0].width);
        let gain = Estimate::exact(pair[0].final_loss() - pair[1].final_loss(), 1);
        findings.checks.push(Check::judged(name, Expectation::AtLeast { bound: 0.0 }, gain));
    }
    let mut series: Vec<Series> = family
        .curves
        .iter()
        .map(|curve| Series {
            name: format!("width {}", curve.width),
            marks: curve.points.iter().map(|p| Mark::exact(p.step as f64, p.heldout_loss)).collect(),
            predicted_slope: None,
            control: false,
        })
        .collect();
    let ends = [first.points.first(), first.points.last()];
    series.push(Series {
        name: "frequencies of tokens".into(),
        marks: ends.into_iter().flatten().map(|p| Mark::exact(p.step as f64, first.unigram_loss)).collect(),
        predicted_slope: None,
        control: true,
    });
    findings.figures.push(Figure {
        name: "learning-curves".into(),
        title: "Held-out loss".into(),
        x_label: "step".into(),
        y_label: "cross-entropy of masked tokens in nats".into(),
        series,
    });
    findings.tables.push(Table {
        title: "Networks".into(),
        columns: ["width", "parameters", "training loss", "held-out loss", "frequencies of tokens"]
            .map(Into::into)
            .into(),
        rows: family
            .curves
            .iter()
            .map(|c| {
                let train = c.points.last().map_or(f64::NAN, |p| p.train_loss);
                [c.width as f64, c.parameters as f64, train, c.final_loss(), c.unigram_loss].map(Cell::from).into()
            })
            .collect(),
    });
}

fn coordinates(found: &CoordinateCheck, findings: &mut Findings) -> Result<()> {
    let name = found.scaling.text();
    let exponents = found.exponents(CONFIDENCE)?;
    let steepest = exponents.values().max_by(|a, b| a.value.total_cmp(&b.value));
    if let Some(steepest) = steepest {
        let title = format!("{name}: largest exponent in width of an activation's change after {STEPS} steps");
        let row = Check::judged(title, Expectation::AtMost { bound: FLAT }, steepest.clone());
        if found.scaling == Scaling::Mup { &mut findings.checks } else { &mut findings.controls }.push(row);
    }
    findings.tables.push(Table {
        title: format!("Exponents in width of activations' changes after {STEPS} steps: {name}"),
        columns: ["place", "exponent"].map(Into::into).into(),
        rows: exponents.iter().map(|(place, e)| vec![Cell::from(place.as_str()), Cell::from(e.clone())]).collect(),
    });
    let of_step = |(step, sizes): (usize, &Vec<f64>)| Series {
        name: format!("after step {}", step + 1),
        marks: found.widths.iter().zip(sizes).map(|(w, y)| Mark::exact(*w as f64, *y)).collect(),
        predicted_slope: None,
        control: found.scaling == Scaling::Standard,
    };
    findings.figures.push(Figure {
        name: format!("coordinates-{name}"),
        title: format!("Change of the logits in width: {name}"),
        x_label: "width n".into(),
        y_label: "root mean square of the change".into(),
        series: found.logits.iter().enumerate().map(of_step).collect(),
    });
    Ok(())
}

fn rates(sweep: &Sweep, findings: &mut Findings) {
    let name = sweep.scaling.text();
    let series = sweep.losses.iter().map(|(width, losses)| Series {
        name: format!("width {width}"),
        marks: sweep.rates.iter().zip(losses).filter_map(|(r, l)| l.map(|l| Mark::exact(*r, l))).collect(),
        predicted_slope: None,
        control: sweep.scaling == Scaling::Standard,
    });
    findings.figures.push(Figure {
        name: format!("learning-rates-{name}"),
        title: format!("Held-out loss after a short run over learning rates: {name}"),
        x_label: "learning rate at the base width".into(),
        y_label: "cross-entropy of masked tokens in nats".into(),
        series: series.collect(),
    });
    let mut columns = vec!["width".to_owned()];
    columns.extend(sweep.rates.iter().map(|r| format!("{r:e}")));
    columns.push("best".into());
    let rows = sweep.losses.iter().enumerate().map(|(row, (width, losses))| {
        let mut cells = vec![Cell::from(*width as f64)];
        cells.extend(losses.iter().map(|l| l.map_or_else(|| Cell::from("diverged"), Cell::from)));
        cells.push(Cell::from(format!("{:e}", sweep.best(row))));
        cells
    });
    findings.tables.push(Table {
        title: format!("Held-out loss after a short run over learning rates: {name}"),
        columns,
        rows: rows.collect(),
    });
}

/// Writes the family's report.
///
/// # Errors
/// Those of [`write_document`].
pub fn write_family(family: &FamilyReport, directory: &Path) -> Result<Written> {
    let mut paragraphs = vec![
        "Masked language models of one recipe that differ in width alone. Losses are mean cross-entropies of hidden tokens \
         in nats; held-out text comes from other books or documents than the training text."
            .to_owned(),
    ];
    if !family.coordinates.is_empty() {
        paragraphs.push(
            "The coordinate check trains fresh networks for a few steps at the full learning rate. In muP no activation's \
             change may grow with the width; in the standard parametrization with one learning rate it must."
                .to_owned(),
        );
    }
    let title = format!("Pre-training of the family {}", family.recipe.name);
    let document = Document { title, paragraphs, findings: family_findings(family)?, pictures: Vec::new() };
    write_document(&document, family, directory)
}
