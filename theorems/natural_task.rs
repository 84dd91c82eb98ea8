//! Over pre-trained networks that differ only in width, |χ| falls on prompted downstream examples, before any update.
//!
//! **Statement.** A downstream task is natural in a pre-training scheme if the output derivative χ of its prompt vanishes as the
//! width grows (the paper, Definition 5.3). The paper's cheap test: over pre-trained models of one scheme that differ only in width,
//! `|χ| = 1 - p(y)` falls on the downstream examples, no update made. (Necessary for the kernel regime of prompt-based fine-tuning,
//! not sufficient.)
//!
//! **Hypotheses.** The networks are pre-trained: the smallest already chooses the right word more often than chance.
//!
//! **Derivation.** A prompt turns the task into the pre-training task. If a network of infinite width trained by the scheme has loss zero
//! on it, χ, the derivative of that loss in the logits, is zero there, and networks of finite width approach it. Real text has
//! irreducible loss, so that what can be seen at finite width is the fall, not the zero.
//!
//! **Experiment.** A family of masked language models of English prose, pre-trained in muP with one recipe
//! (`fixtures/family/recipe.toml`), on eight cloze tasks of sentences written for this project: two words of one kind, one of which the
//! sentence's author wrote. Exponent of the mean |χ| in width, with an interval over examples. The interval says nothing about other
//! seeds of pre-training.
//!
//! **Control.** The same sentences with labels in random order, with unrelated words of the vocabulary as label words, and without a
//! prompt (a random head on the first token, scaled as muP has it): there |χ| must not fall.
//!
//! **Meaning.** How natural a task is can be read off models of growing width before anything is fine-tuned.

use super::context::Context;
use super::family::{Family, tasks, tasks_setting};
use super::{Claim, Mutant, Topic, check};
use crate::error::Result;
use crate::evidence::{Cell, Figure, Findings, Mark, Series, Table};
use crate::natural::{FALLS, Measured, Variant, measure, slope};
use crate::progress::check_cancelled;
use crate::stats::{Expectation, student_mean};

pub(super) const CLAIM: Claim = Claim {
    id: "natural-task",
    topic: Topic::Prompt,
    title: "|χ| falls with the width of the pre-trained network on prompted examples",
    source: "the paper, Definition 5.3 and the test of its Section 6",
    prediction: "exponent of the mean |χ| in width below 0",
    text: include_str!("natural_task.rs"),
    mutants: &[
        Mutant { name: "reversed-widths", change: "the networks in the wrong order" },
        Mutant { name: "other-word", change: "χ of the other label word" },
    ],
    graded: &[],
    experiment,
};

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let mut family = Family::whole()?;
    let (widths, setting) = (family.widths(), family.setting());
    if context.is("reversed-widths") {
        family.members.reverse();
    }
    context.monitor.begin("output derivative", (widths.len() * tasks().len()) as u64);
    // measured[task][width][variant]
    let mut measured: Vec<Vec<Vec<Measured>>> = Vec::new();
    for task in tasks() {
        let mut row = Vec::new();
        for member in 0..widths.len() {
            check_cancelled()?;
            let study = family.study(member, task, 1, context.device)?;
            let mut found = measure(&study, context.seed(task.name))?;
            if context.is("other-word") {
                found[0].chi.iter_mut().for_each(|chi| *chi = 1.0 - *chi);
            }
            row.push(found);
            context.monitor.advance(1);
        }
        measured.push(row);
    }
    context.monitor.end();

    let confidence = context.family_confidence(Variant::ALL.len() + 1);
    let pooled = |variant: usize, width: usize| -> Vec<f64> {
        measured.iter().flat_map(|task| task[width][variant].chi.iter().copied()).collect()
    };
    let exponent = |variant: usize, confidence: f64| {
        let chi: Vec<Vec<f64>> = (0..widths.len()).map(|w| pooled(variant, w)).collect();
        slope(&widths, &chi.iter().map(Vec::as_slice).collect::<Vec<_>>(), confidence)
    };
    let examples = pooled(0, 0).len();
    let mut findings = Findings {
        settings: vec![setting, tasks_setting(), ("examples".into(), examples.to_string())],
        ..Findings::default()
    };
    // χ of an example is above a half where the wrong word is the likelier one.
    let chosen: Vec<f64> = pooled(0, 0).iter().map(|chi| f64::from(u8::from(*chi < 0.5))).collect();
    let chance = Expectation::AtLeast { bound: 0.5 };
    let title = "pre-trained: share of examples on which the smallest network prefers the right word";
    findings.hypotheses.push(check(title, chance, student_mean(&chosen, confidence)));
    let falls = Expectation::AtMost { bound: FALLS };
    for (v, variant) in Variant::ALL.into_iter().enumerate() {
        let title = format!("{}: exponent of the mean |χ| in width", variant.text());
        let row = check(title, falls, exponent(v, confidence));
        if variant == Variant::Task { &mut findings.checks } else { &mut findings.controls }.push(row);
    }
    findings.tables.push(by_task(&widths, &measured));
    let series = |(v, variant): (usize, Variant)| Series {
        name: variant.text().into(),
        marks: widths.iter().enumerate().map(|(w, x)| Mark::mean(*x, &pooled(v, w))).collect(),
        predicted_slope: None,
        control: variant != Variant::Task,
    };
    findings.figures.push(Figure {
        name: "output-derivative".into(),
        title: "Output derivative over widths, all tasks".into(),
        x_label: "width n".into(),
        y_label: "mean |χ|".into(),
        series: Variant::ALL.into_iter().enumerate().map(series).collect(),
    });
    Ok(findings)
}

/// Mean |χ| of every task by width, its exponent, and the share of examples on which it falls.
fn by_task(widths: &[f64], measured: &[Vec<Vec<Measured>>]) -> Table {
    let mut columns = vec!["task".to_owned()];
    columns.extend(widths.iter().map(|w| format!("mean |χ| at {w}")));
    columns.extend(
        ["exponent", "share of examples on which |χ| falls", "accuracy at the largest width"].map(str::to_owned),
    );
    let row = |(task, found): (&crate::task::cloze::BuiltinCloze, &Vec<Vec<Measured>>)| {
        let chi: Vec<&[f64]> = found.iter().map(|m| m[0].chi.as_slice()).collect();
        let (first, last) = (chi[0], chi[chi.len() - 1]);
        let falling = first.iter().zip(last).filter(|(a, b)| b < a).count();
        let mut cells = vec![Cell::from(task.name)];
        cells.extend(chi.iter().map(|c| Cell::from(c.iter().sum::<f64>() / c.len() as f64)));
        cells.push(Cell::from(slope(widths, &chi, 0.95)));
        cells.push(Cell::from(falling as f64 / first.len() as f64));
        cells.push(Cell::from(found[found.len() - 1][0].accuracy));
        cells
    };
    Table { title: "By task".into(), columns, rows: tasks().iter().zip(measured).map(row).collect() }
}
