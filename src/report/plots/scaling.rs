//! Scaling of statistics with width (or rank, or learning rate) on logarithmic axes, with the predicted slopes.

use plotters::prelude::RGBColor;

use super::axis::{Axis, Frame, Swatch, extent, legend};
use super::canvas::{Canvas, Drawn, GREY, PALETTE, draw};
use crate::error::Result;
use crate::evidence::{Figure, Mark, Series};
use crate::report::format::{fraction, shorten};

const LEFT: f64 = 84.0;
const RIGHT: f64 = 736.0;
const BOTTOM: f64 = 426.0;
/// Minimum height of the frame, and height of a legend line.
const FRAME: f64 = 250.0;
const LINE: f64 = 19.0;

/// The picture, or `None` if there is nothing to draw.
pub(in crate::report) fn scaling(figure: &Figure, description: &str) -> Result<Option<String>> {
    let series: Vec<Drawable> = figure.series.iter().enumerate().filter_map(|(i, s)| Drawable::of(i, s)).collect();
    let marks = || series.iter().flat_map(|s| &s.marks);
    let mut places: Vec<f64> = marks().map(|m| m.x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let Some(x) = Axis::of_marks(&figure.x_label, &places) else { return Ok(None) };
    let Some((low, high)) = extent(marks().flat_map(|m| [m.low, m.y, m.high])) else { return Ok(None) };
    let y = Axis::logarithmic(&figure.y_label, low, high);
    let entries = entries(&series);
    // Long names may take a line each.
    let bottom = BOTTOM.max(52.0 + LINE * entries.len() as f64 + FRAME);
    draw((760.0, bottom + 54.0), &figure.title, description, |canvas| {
        let top = legend(canvas, (LEFT, 52.0), RIGHT, &entries)? + 6.0;
        let frame = Frame { x: &x, y: &y, left_top: (LEFT, top), right_bottom: (RIGHT, bottom) };
        frame.draw(canvas)?;
        for series in &series {
            prediction(canvas, &frame, series)?;
        }
        for series in &series {
            measured(canvas, &frame, series)?;
        }
        Ok(())
    })
    .map(Some)
}

/// A series without values that logarithmic axes cannot show.
struct Drawable<'a> {
    name: &'a str,
    marks: Vec<Mark>,
    slope: Option<f64>,
    control: bool,
    shape: usize,
    colour: RGBColor,
}

impl<'a> Drawable<'a> {
    fn of(index: usize, series: &'a Series) -> Option<Self> {
        let positive = |v: f64| v.is_finite() && v > 1e-300;
        let drawable = series.marks.iter().filter(|m| positive(m.x) && positive(m.y));
        let bounded = drawable.map(|m| Mark {
            low: if positive(m.low) { m.low } else { m.y },
            high: if positive(m.high) { m.high } else { m.y },
            ..*m
        });
        let marks: Vec<Mark> = bounded.collect();
        // Shapes repeat after four and colours after seven: together they distinguish 28 series.
        (!marks.is_empty()).then(|| Self {
            name: &series.name,
            marks,
            slope: series.predicted_slope.filter(|s| s.is_finite()),
            control: series.control,
            shape: index,
            colour: PALETTE[index % PALETTE.len()],
        })
    }
}

/// Every series, and every predicted slope once, in the colour of its series if it has only one.
fn entries(series: &[Drawable]) -> Vec<(Swatch, String)> {
    let of_series = series.iter().map(|s| {
        let control = if s.control { " (control)" } else { "" };
        (Swatch::Points(s.shape, s.colour, s.control), format!("{}{control}", shorten(s.name, 60)))
    });
    let mut entries: Vec<_> = of_series.collect();
    let mut slopes: Vec<f64> = series.iter().filter_map(|s| s.slope).collect();
    slopes.sort_by(f64::total_cmp);
    slopes.dedup();
    for slope in slopes {
        let mut of_slope = series.iter().filter(|s| s.slope == Some(slope));
        let colour = of_slope.next().map_or(GREY, |s| s.colour);
        let colour = if of_slope.next().is_some() { GREY } else { colour };
        entries.push((Swatch::Dashes(colour), format!("slope {} (predicted)", fraction(slope))));
    }
    entries
}

/// The line of the predicted slope through the last mark, across the frame.
fn prediction(canvas: &Canvas, frame: &Frame, series: &Drawable) -> Drawn {
    let (Some(slope), Some(last)) = (series.slope, series.marks.last()) else { return Ok(()) };
    let ((x_low, x_high), (y_low, y_high)) = (frame.x.range(), frame.y.range());
    let (x0, y0) = (last.x.log10(), last.y.log10());
    // Intersections of the line with the frame's lower and upper edges, in logarithms.
    let (mut from, mut to) = (x_low, x_high);
    if slope != 0.0 {
        let (a, b) = (x0 + (y_low - y0) / slope, x0 + (y_high - y0) / slope);
        (from, to) = (from.max(a.min(b)), to.min(a.max(b)));
    }
    let at = |x: f64| frame.at(10f64.powf(x), 10f64.powf(y0 + slope * (x - x0)));
    if from < to { canvas.dashes(at(from), at(to), series.colour, 1.0) } else { Ok(()) }
}

/// Marks, the line through them, and their intervals.
fn measured(canvas: &Canvas, frame: &Frame, series: &Drawable) -> Drawn {
    let points: Vec<_> = series.marks.iter().map(|m| frame.at(m.x, m.y)).collect();
    if series.control {
        for pair in points.windows(2) {
            canvas.dots(pair[0], pair[1], series.colour, 1.5)?;
        }
    } else {
        canvas.path(&points, series.colour, 2.0)?;
    }
    for (mark, point) in series.marks.iter().zip(points) {
        let (low, high) = (frame.at(mark.x, mark.low), frame.at(mark.x, mark.high));
        // Shorter bars hide behind their marks.
        if low.1 - high.1 > 2.0 {
            canvas.path(&[low, high], series.colour, 1.0)?;
            for (x, y) in [low, high] {
                canvas.path(&[(x - 3.5, y), (x + 3.5, y)], series.colour, 1.0)?;
            }
        }
        canvas.mark(point, series.shape, series.colour)?;
    }
    Ok(())
}
