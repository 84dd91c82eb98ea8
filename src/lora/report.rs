//! The report: coverage of the targets, distances over ranks, and the rank needed for a distance.

use std::path::Path;

use super::fit::{RankFit, fit};
use super::measure::{LoraReport, Sweep};
use crate::error::Result;
use crate::evidence::{Cell, Figure, Findings, KernelDistance, Mark, Series, Table};
use crate::report::{Document, Written, write_document};
use crate::stats::{Estimate, student_mean};
use crate::subspace::{markov_rank, union_rank};

/// Tables and figures.
pub fn lora_findings(found: &LoraReport) -> Findings {
    let s = &found.settings;
    let mut findings = Findings {
        settings: vec![
            ("model".into(), format!("{}, {}", found.model.name, found.model.architecture)),
            ("task".into(), format!("{}, {} training examples", found.task.name, found.task.train)),
            ("targets".into(), targets(found)),
        ],
        ..Findings::default()
    };
    match &found.adapter {
        Some(adapter) => findings.settings.push(("adapter, as it was read".into(), adapter.clone())),
        None => findings.settings.extend([
            (
                "initial distribution of A".into(),
                serde_json::to_string(&s.init).expect("a name").trim_matches('"').replace('_', "-"),
            ),
            ("factor s".into(), format!("{} / {}", s.scaled.alpha, if s.scaled.rslora { "√rank" } else { "rank" })),
        ]),
    }
    if found.adapter.is_none() || found.projections.is_some() {
        findings.settings.push(("draws".into(), s.draws.to_string()));
    }
    findings.settings.push(("seed".into(), s.seed.to_string()));
    findings.tables.push(coverage_table(found));
    for (name, what, sweep) in sweeps(found) {
        findings.tables.push(distance_table(name, what, sweep, s.confidence));
        findings.tables.push(rank_table(name, what, sweep, s.distance, s.confidence));
        findings.figures.push(figure(name, what, sweep, s.distance));
    }
    findings.notes.push(
        "Distances are |K' - K| / |K| of kernel matrices on the training examples (Frobenius norm). An adapter's kernel is \
         divided by the factor s² k Var(A) that its expectation is known to have, weight by weight, as a learning rate would; \
         at initialization the factors B are zero and only their gradients count."
            .into(),
    );
    findings
}

/// The modules asked for, if no adapter says which they are, and how many weights these are.
fn targets(found: &LoraReport) -> String {
    let weights = format!("{} weights", found.targets.len());
    if found.adapter.is_some() { weights } else { format!("{} ({weights})", found.settings.targets.join(", ")) }
}

fn sweeps(found: &LoraReport) -> impl Iterator<Item = (&'static str, &'static str, &Sweep)> {
    let adapters = found.adapters.as_ref().map(|s| ("LoRA", "rank", s));
    let projections = found.projections.as_ref().map(|s| ("Random subspace", "dimension", s));
    adapters.into_iter().chain(projections)
}

/// Frobenius distances by draw and rank.
fn frobenius(rows: &[Vec<KernelDistance>]) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().map(|d| d.frobenius).collect()).collect()
}

fn of_sweep(sweep: &Sweep, distance: f64, confidence: f64) -> RankFit {
    fit(&sweep.ranks, &frobenius(&sweep.distances), distance, confidence)
}

fn coverage_table(found: &LoraReport) -> Table {
    let percent = |x: f64| Cell::Text(format!("{:.1}%", 100.0 * x));
    let mut rows: Vec<Vec<Cell>> = found
        .coverage
        .iter()
        .map(|l| {
            let of_layer = if l.share > 0.0 { l.adapted / l.share } else { 0.0 };
            vec![Cell::from(l.layer.as_str()), percent(l.share), percent(l.adapted), percent(of_layer)]
        })
        .collect();
    let sum = |f: fn(&super::LayerCoverage) -> f64| found.coverage.iter().map(f).sum::<f64>();
    let adapted = sum(|l| l.adapted);
    rows.push(vec![Cell::from("all"), percent(sum(|l| l.share)), percent(adapted), percent(adapted)]);
    Table {
        title: "What the targets cover of the full kernel's trace".into(),
        columns: ["layer", "share of the full kernel", "of it the adapted weights'", "covered of the layer"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    }
}

/// Samples of one column.
fn column(rows: &[Vec<KernelDistance>], rank: usize, of: fn(&KernelDistance) -> f64) -> Vec<f64> {
    rows.iter().map(|row| of(&row[rank])).collect()
}

/// A mean of a quantity between two bounds, with an interval that does not leave them.
fn mean(samples: &[f64], (least, most): (f64, f64), confidence: f64) -> Cell {
    let Estimate { value, low, high, .. } = student_mean(samples, confidence);
    let (bounded_low, bounded_high) = (low.max(least), high.min(most));
    if low.is_finite() && high.is_finite() {
        Cell::Interval { value, low: bounded_low, high: bounded_high }
    } else {
        Cell::Number(value)
    }
}

fn distance_table(name: &str, what: &str, sweep: &Sweep, confidence: f64) -> Table {
    let row = |(i, rank): (usize, &i64)| {
        let distance = |of: &[Vec<KernelDistance>], what| mean(&column(of, i, what), (0.0, f64::INFINITY), confidence);
        vec![
            Cell::Text(rank.to_string()),
            distance(&sweep.distances, |d| d.frobenius),
            distance(&sweep.distances, |d| d.operator),
            mean(&column(&sweep.distances, i, |d| d.alignment), (-1.0, 1.0), confidence),
            distance(&sweep.to_full, |d| d.frobenius),
            distance(&sweep.to_full, KernelDistance::at_best_rate),
        ]
    };
    let columns = [
        what.to_owned(),
        "distance to the kernel it compresses".into(),
        "the same, operator norm".into(),
        "cosine".into(),
        "distance to the full kernel".into(),
        "the same at the best learning rate".into(),
    ];
    let confidence = 100.0 * confidence;
    Table {
        title: format!("{name}: distances by {what}, means over draws with {confidence}% intervals"),
        columns: columns.to_vec(),
        rows: sweep.ranks.iter().enumerate().map(row).collect(),
    }
}

fn rank_table(name: &str, what: &str, sweep: &Sweep, distance: f64, confidence: f64) -> Table {
    let found = of_sweep(sweep, distance, confidence);
    let whole = |x: f64| if x.is_finite() { Cell::Text(format!("{:.0}", x.ceil())) } else { Cell::from("n/a") };
    let mut rows = vec![vec![
        Cell::from("measured: the root mean square distance over draws is the asked one"),
        whole(found.rank.value),
    ]];
    if found.rank.high.is_finite() {
        rows.push(vec![Cell::from("measured: upper end of its interval over draws"), whole(found.rank.high)]);
    }
    if let Some(rank) = found.rank_for_a_draw {
        rows.push(vec![Cell::from("measured: a single draw is as near, with the asked probability"), whole(rank)]);
    }
    rows.push(vec![
        Cell::from("proved: Frobenius distance below the asked one (Markov's inequality)"),
        whole(markov_rank(sweep.trace_over_norm, 1.0, distance, confidence)),
    ]);
    rows.push(vec![
        Cell::from(
            "proved: every entry within the asked distance of the largest diagonal entry (Johnson-Lindenstrauss)",
        ),
        whole(union_rank(sweep.rows, distance, confidence)),
    ]);
    if let Some(exponent) = found.exponent {
        rows.push(vec![Cell::from("exponent of the distance (the law says -1/2)"), Cell::from(exponent.slope)]);
    }
    let probability = 100.0 * confidence;
    Table {
        title: format!("{name}: the {what} for a distance of {distance} with probability {probability}%"),
        columns: vec!["how".into(), what.to_owned()],
        rows,
    }
}

fn figure(name: &str, what: &str, sweep: &Sweep, asked: f64) -> Figure {
    let marks = |rows: &[Vec<KernelDistance>]| -> Vec<Mark> {
        let at = |(i, rank): (usize, &i64)| Mark::mean(*rank as f64, &column(rows, i, |d| d.frobenius));
        sweep.ranks.iter().enumerate().map(at).collect()
    };
    let series =
        |name: &str, marks, predicted_slope| Series { name: name.into(), marks, predicted_slope, control: false };
    let mut all = vec![series("to the kernel that is compressed", marks(&sweep.distances), Some(-0.5))];
    if sweep.distances != sweep.to_full {
        all.push(series("to the full kernel", marks(&sweep.to_full), None));
    }
    let line = sweep.ranks.iter().map(|k| Mark::exact(*k as f64, asked));
    all.push(series("asked", line.collect(), None));
    Figure {
        name: format!("{}-distance", name.to_lowercase().replace(' ', "-")),
        title: format!("{name}: distance of kernels"),
        x_label: what.into(),
        y_label: "relative Frobenius distance".into(),
        series: all,
    }
}

/// The answer in words.
pub fn lora_summary(found: &LoraReport) -> Vec<String> {
    let s = &found.settings;
    let covered: f64 = found.coverage.iter().map(|l| l.adapted).sum();
    let mut lines = vec![format!(
        "The adapted weights have {:.1}% of the trace of the full kernel{}.",
        100.0 * covered,
        found.share_to_full.map_or_else(String::new, |d| format!(
            "; whatever the rank, their kernel stays {:.2} away from it ({:.2} at the best learning rate)",
            d.frobenius,
            d.at_best_rate()
        ))
    )];
    for (name, what, sweep) in sweeps(found) {
        let found = of_sweep(sweep, s.distance, s.confidence);
        let single = found.rank_for_a_draw.map_or_else(String::new, |k| {
            format!(", {k:.0} for a single draw with probability {}%", 100.0 * s.confidence)
        });
        lines.push(format!(
            "{name}: a {what} of about {:.0} brings the kernel within {} of the one it compresses, as a root mean square over \
             draws{single}.",
            found.rank.value.ceil(),
            s.distance
        ));
    }
    if let Some([share, full]) = found.trained {
        lines.push(format!(
            "The adapter's kernel is at a cosine of {:.3} to that of the weights it adapts, {:.3} to the full one.",
            share.alignment, full.alignment
        ));
    }
    lines
}

/// Writes the report.
///
/// # Errors
/// As [`write_document`].
pub fn write_lora(found: &LoraReport, directory: &Path) -> Result<Written> {
    let title = format!("What LoRA keeps of the kernel of {} on {}", found.model.name, found.task.name);
    let document =
        Document { title, paragraphs: lora_summary(found), findings: lora_findings(found), pictures: Vec::new() };
    write_document(&document, found, directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_stay_within_bounds() {
        let of = |samples: &[f64]| match mean(samples, (-1.0, 1.0), 0.95) {
            Cell::Interval { low, high, .. } => (low, high),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&[0.2, 0.9]), (-1.0, 1.0));
        let (low, high) = of(&[0.2, 0.21, 0.2]);
        assert!(low > -1.0 && low < 0.21 && high > 0.2 && high < 1.0);
    }
}
