//! Horizontal bars: accuracies with their standard errors, and the layers' shares.

use plotters::prelude::RGBColor;

use super::axis::{Axis, Swatch, legend};
use super::canvas::{At, BLACK, BLUE, Canvas, Drawn, GREEN, GREY, LABEL, ORANGE, PALE, TICK, draw};
use crate::error::Result;
use crate::evidence::{LayerShare, accuracy_error};
use crate::report::format::{percent, shorten};
use crate::report::rows::{AccuracyRow, Kind};

const LEFT: f64 = 150.0;
const RIGHT: f64 = 690.0;

/// A bar, optionally with an error.
struct Bar {
    value: f64,
    error: Option<f64>,
    colour: RGBColor,
}

/// A named group of bars.
struct Group {
    name: String,
    bars: Vec<Bar>,
}

/// Test accuracies of all ways of solving the task, and that of always answering one class.
pub(super) fn accuracies(
    rows: &[AccuracyRow],
    majority: f64,
    test: usize,
    title: &str,
    description: &str,
) -> Result<String> {
    let colour = |kind| match kind {
        Kind::ZeroShot => GREY,
        Kind::FineTuned => ORANGE,
        Kind::Kernel => BLUE,
    };
    let groups: Vec<Group> = rows
        .iter()
        .map(|row| {
            let error = accuracy_error(row.test, test).map(|e| 2.0 * e);
            Group { name: row.name.clone(), bars: vec![Bar { value: row.test, error, colour: colour(row.kind) }] }
        })
        .collect();
    let entries = [
        (Swatch::Box(GREY), "not trained".to_owned()),
        (Swatch::Box(ORANGE), "fine-tuned".to_owned()),
        (Swatch::Box(BLUE), "kernel regression".to_owned()),
        (Swatch::Line(BLACK), "± two standard errors".to_owned()),
        (Swatch::Dashes(BLACK), "most frequent class".to_owned()),
    ];
    chart(&groups, &Axis::percent("accuracy on test", 0.0, 1.0), &entries, Some(majority), title, description)
}

/// Shares of the layers in the parameters and in the traces of two kernels.
pub(super) fn layers(layers: &[LayerShare], title: &str, description: &str) -> Result<String> {
    let total: f64 = layers.iter().map(|l| l.parameters as f64).sum();
    let bar = |value, colour| Bar { value, error: None, colour };
    let groups: Vec<Group> = layers
        .iter()
        .map(|l| {
            let part = if total > 0.0 { l.parameters as f64 / total } else { 0.0 };
            let mut bars = vec![bar(part, GREY), bar(l.sgd, BLUE)];
            bars.extend(l.signgd.map(|share| bar(share, GREEN)));
            Group { name: l.layer.clone(), bars }
        })
        .collect();
    let values = groups.iter().flat_map(|g| &g.bars).map(|b| b.value);
    let largest = super::axis::extent(values).map_or(1.0, |(_, high)| high.clamp(0.05, 1.0));
    let mut entries = vec![
        (Swatch::Box(GREY), "share of the parameters".to_owned()),
        (Swatch::Box(BLUE), "share of the trace of K(SGD)".to_owned()),
    ];
    if layers.iter().any(|l| l.signgd.is_some()) {
        entries.push((Swatch::Box(GREEN), "share of the trace of K(SignGD)".to_owned()));
    }
    chart(&groups, &Axis::percent("share", 0.0, largest), &entries, None, title, description)
}

fn chart(
    groups: &[Group],
    axis: &Axis,
    entries: &[(Swatch, String)],
    reference: Option<f64>,
    title: &str,
    description: &str,
) -> Result<String> {
    let thick = if groups.iter().any(|g| g.bars.len() > 1) { 13.0 } else { 20.0 };
    let gap = 12.0;
    let bars: usize = groups.iter().map(|g| g.bars.len()).sum();
    let inner = thick * bars as f64 + gap * (groups.len() + 1) as f64;
    let top = 76.0;
    draw((760.0, top + inner + 56.0), title, description, |canvas| {
        legend(canvas, (16.0, 54.0), 752.0, entries)?;
        let bottom = top + inner;
        scale(canvas, axis, top, bottom)?;
        let mut y = top + gap;
        for group in groups {
            let middle = y + thick * group.bars.len() as f64 / 2.0;
            canvas.write((LEFT - 8.0, middle), &shorten(&group.name, 19), TICK, At::End, BLACK)?;
            for bar in &group.bars {
                draw_bar(canvas, axis, bar, y, thick)?;
                y += thick;
            }
            y += gap;
        }
        if let Some(value) = reference {
            let x = axis.place(value, LEFT, RIGHT);
            canvas.dashes((x, top), (x, bottom), BLACK, 1.5)?;
        }
        Ok(())
    })
}

fn scale(canvas: &Canvas, axis: &Axis, top: f64, bottom: f64) -> Drawn {
    for (value, text) in axis.ticks() {
        let x = axis.place(*value, LEFT, RIGHT);
        canvas.path(&[(x, top), (x, bottom)], PALE, 1.0)?;
        canvas.write((x, bottom + 14.0), text, TICK, At::Middle, BLACK)?;
    }
    canvas.path(&[(LEFT, top), (LEFT, bottom)], GREY, 1.0)?;
    canvas.write((f64::midpoint(LEFT, RIGHT), bottom + 36.0), axis.label(), LABEL, At::Middle, BLACK)
}

/// A bar followed by its value. With an error, a whisker spans it in both directions and the value is in a column on the
/// right, clear of other lines.
fn draw_bar(canvas: &Canvas, axis: &Axis, bar: &Bar, top: f64, thick: f64) -> Drawn {
    let end = axis.place(bar.value, LEFT, RIGHT);
    canvas.fill((LEFT, top + 0.5), (end, top + thick - 0.5), bar.colour)?;
    let mut text_at = end;
    if let Some(error) = bar.error {
        let (from, to) = (axis.place(bar.value - error, LEFT, RIGHT), axis.place(bar.value + error, LEFT, RIGHT));
        let middle = top + thick / 2.0;
        canvas.path(&[(from, middle), (to, middle)], BLACK, 1.5)?;
        for x in [from, to] {
            canvas.path(&[(x, middle - 4.0), (x, middle + 4.0)], BLACK, 1.5)?;
        }
        text_at = RIGHT;
    }
    canvas.write((text_at + 6.0, top + thick / 2.0), &percent(bar.value), TICK - 1.0, At::Start, BLACK)
}
