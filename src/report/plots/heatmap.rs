//! A kernel matrix as colours, examples ordered by class, with a colour bar.

use std::fmt::Write;

use plotters::prelude::RGBColor;

use super::axis::{Axis, extent};
use super::canvas::{At, BLACK, Canvas, Drawn, GREY, LABEL, TICK, append, draw, fine};
use crate::error::Result;
use crate::evidence::MatrixPicture;
use crate::report::format::{number, shorten};

/// Viridis, from low to high: perceptually uniform, also in grey.
const VIRIDIS: [(u8, u8, u8); 9] = [
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
];

/// Number of distinct colours.
const LEVELS: usize = 64;

const LEFT: f64 = 110.0;
const TOP: f64 = 50.0;
const SIDE: f64 = 432.0;
const BAR: (f64, f64) = (LEFT + SIDE + 36.0, LEFT + SIDE + 56.0);
const BOTTOM: f64 = TOP + SIDE;

/// The picture, or `None` if there is nothing to draw.
pub(super) fn heatmap(picture: &MatrixPicture, title: &str, description: &str) -> Result<Option<String>> {
    let size = picture.size;
    if size == 0 || size > 96 || picture.cells.len() != size * size {
        return Ok(None);
    }
    let Some(range) = colour_range(picture) else { return Ok(None) };
    let scale = Axis::within("", range.0, range.1);
    let mut svg = draw((720.0, BOTTOM + 62.0), title, description, |canvas| {
        classes(canvas, picture)?;
        colour_bar(canvas, picture, &scale)
    })?;
    append(&mut svg, &cells(picture, &scale));
    append(&mut svg, &class_borders(picture));
    Ok(Some(svg))
}

/// The range of the off-diagonal entries between their first and last percentiles: the diagonal alone would leave one colour
/// for everything else.
fn colour_range(picture: &MatrixPicture) -> Option<(f64, f64)> {
    let off = picture.cells.iter().enumerate().filter(|(i, _)| i / picture.size != i % picture.size);
    let mut values: Vec<f64> = off.map(|(_, v)| *v).filter(|v| v.abs() < 1e30).collect();
    values.sort_by(f64::total_cmp);
    if values.len() < 2 {
        return extent(picture.cells.iter().copied());
    }
    let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
    let (low, high) = (at(0.01), at(0.99));
    if high > low { Some((low, high)) } else { extent(picture.cells.iter().copied()) }
}

fn level(share: f64) -> usize {
    ((share * LEVELS as f64) as usize).min(LEVELS - 1)
}

fn colour(level: usize) -> RGBColor {
    let position = level as f64 / (LEVELS - 1) as f64 * (VIRIDIS.len() - 1) as f64;
    let low = (position as usize).min(VIRIDIS.len() - 2);
    let part = position - low as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    let (a, b) = (VIRIDIS[low], VIRIDIS[low + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// All cells of one colour as one path: a tenth of the size of one element per cell, and no seams.
fn cells(picture: &MatrixPicture, scale: &Axis) -> String {
    let mut by_level = vec![String::new(); LEVELS];
    let edge = |i: usize, start: f64| fine(start + SIDE * i as f64 / picture.size as f64);
    for (i, value) in picture.cells.iter().enumerate() {
        let (row, column) = (i / picture.size, i % picture.size);
        let (x, y) = (edge(column, LEFT), edge(row, TOP));
        let (width, height) = (edge(column + 1, LEFT) - x, edge(row + 1, TOP) - y);
        let path = &mut by_level[level(scale.place(*value, 0.0, 1.0))];
        write!(path, "M{x} {y}h{width}v{height}h-{width}z").expect("a String takes everything");
    }
    let mut group = String::from("<g shape-rendering=\"crispEdges\">\n");
    for (i, path) in by_level.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let RGBColor(r, g, b) = colour(i);
        writeln!(group, "<path fill=\"#{r:02X}{g:02X}{b:02X}\" d=\"{path}\"/>").expect("a String takes everything");
    }
    group + "</g>\n"
}

/// First and last cell of every non-empty class, with its index.
fn spans(picture: &MatrixPicture) -> Vec<(usize, usize, usize)> {
    let starts = &picture.class_starts;
    let end = |i: usize| starts.get(i + 1).copied().unwrap_or(picture.size).min(picture.size);
    (0..starts.len()).filter(|i| starts[*i] < end(*i)).map(|i| (i, starts[i], end(i))).collect()
}

/// White lines between the classes.
fn class_borders(picture: &MatrixPicture) -> String {
    let mut path = String::new();
    for (_, start, _) in spans(picture).into_iter().filter(|(_, start, _)| *start > 0) {
        let offset = SIDE * start as f64 / picture.size as f64;
        let (x, y, side) = (fine(LEFT + offset), fine(TOP + offset), fine(SIDE));
        write!(path, "M{x} {}v{side}M{} {y}h{side}", fine(TOP), fine(LEFT)).expect("a String takes everything");
    }
    if path.is_empty() {
        path
    } else {
        format!("<path fill=\"none\" stroke=\"#FFFFFF\" stroke-width=\"3\" d=\"{path}\"/>\n")
    }
}

/// Names of the classes below and next to their cells.
fn classes(canvas: &Canvas, picture: &MatrixPicture) -> Drawn {
    canvas.outline((LEFT - 1.0, TOP - 1.0), (LEFT + SIDE + 1.0, BOTTOM + 1.0), GREY)?;
    for (class, start, end) in spans(picture) {
        let middle = SIDE * (start + end) as f64 / 2.0 / picture.size as f64;
        let room = SIDE * (end - start) as f64 / picture.size as f64;
        let name = picture.class_names.get(class).map_or("", String::as_str);
        if room > 13.0 {
            canvas.write((LEFT - 8.0, TOP + middle), &shorten(name, 13), TICK, At::End, BLACK)?;
        }
        let letters = (room / 7.5) as usize;
        if letters > 2 {
            canvas.write((LEFT + middle, BOTTOM + 15.0), &shorten(name, letters), TICK, At::Middle, BLACK)?;
        }
    }
    let text = "training examples, ordered by class (label word)";
    canvas.write((LEFT + SIDE / 2.0, BOTTOM + 40.0), text, LABEL, At::Middle, BLACK)
}

/// The colour bar with its values; the ends are marked if values lie beyond them.
fn colour_bar(canvas: &Canvas, picture: &MatrixPicture, scale: &Axis) -> Drawn {
    let step = SIDE / LEVELS as f64;
    for i in (0..LEVELS).rev() {
        // Each extends to the bottom, below the next one, to avoid seams.
        canvas.fill((BAR.0, BOTTOM - step * (i + 1) as f64), (BAR.1, BOTTOM), colour(i))?;
    }
    canvas.outline((BAR.0, TOP), (BAR.1, BOTTOM), GREY)?;
    let (low, high) = scale.range();
    let values = extent(picture.cells.iter().copied()).unwrap_or((low, high));
    for (value, text) in scale.ticks() {
        let y = scale.place(*value, BOTTOM, TOP);
        if y > TOP + 16.0 && y < BOTTOM - 16.0 {
            canvas.path(&[(BAR.1, y), (BAR.1 + 5.0, y)], GREY, 1.0)?;
            canvas.write((BAR.1 + 10.0, y), text, TICK, At::Start, BLACK)?;
        }
    }
    for (end, beyond, y, sign) in [(high, values.1 > high, TOP, "≥ "), (low, values.0 < low, BOTTOM, "≤ ")] {
        let text = format!("{}{}", if beyond { sign } else { "" }, number(end));
        canvas.write((BAR.1 + 10.0, y), &text, TICK, At::Start, BLACK)?;
    }
    canvas.write_upwards((BAR.1 + 74.0, TOP + SIDE / 2.0), "mean kernel value of the cell", LABEL, BLACK)
}
