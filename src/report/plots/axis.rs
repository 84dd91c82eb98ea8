//! Axes with readable ticks, the frame of a plot, and legends.

use plotters::prelude::RGBColor;

use super::canvas::{At, BLACK, Canvas, Drawn, GREY, LABEL, PALE, Point, TICK, text_width};
use crate::report::format::{chosen, number, percent};

/// A range of values with its ticks.
pub(super) struct Axis {
    label: String,
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

/// Smallest and largest finite values.
pub(super) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let drawable = values.into_iter().filter(|v| v.abs() < 1e30);
    drawable.fold(None, |range: Option<(f64, f64)>, v| Some(range.map_or((v, v), |(a, b)| (a.min(v), b.max(v)))))
}

impl Axis {
    /// From the tick below `low` to the tick above `high`.
    pub(super) fn linear(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = widen(low, high);
        let step = nice_step(high - low);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let count = ((last - first) as usize).min(20);
        let ticks: Vec<_> = (0..=count).map(|i| (first + i as f64) * step).map(|v| (v, tick_text(v, step))).collect();
        Self { label: label.into(), low: first * step, high: last * step, logarithmic: false, ticks }
    }

    /// Ticks only within the range, for quantities with fixed ends such as steps.
    pub(super) fn within(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = widen(low, high);
        let mut axis = Self::linear(label, low, high);
        (axis.low, axis.high) = (low, high);
        axis.ticks.retain(|(v, _)| (low..=high).contains(v));
        axis
    }

    /// Shares as percentages.
    pub(super) fn percent(label: &str, low: f64, high: f64) -> Self {
        let mut axis = Self::linear(label, low, high);
        for (value, text) in &mut axis.ticks {
            *text = percent(*value).replace(".0%", "%");
        }
        axis
    }

    /// Positive values on a logarithmic scale, with some margin at both ends. Ticks at powers of ten; if there are fewer
    /// than two, also at twos and fives.
    pub(super) fn logarithmic(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = (low.log10() - 0.1, high.log10() + 0.1);
        let powers = (high.floor() - low.ceil()).max(0.0);
        let stride = (powers / 8.0).ceil().max(1.0);
        let at = |fractions: &[f64]| {
            let mut ticks = Vec::new();
            let mut power = (low / stride).floor() * stride;
            while power <= high {
                for value in fractions.iter().map(|f| f * 10f64.powf(power)) {
                    if (low..=high).contains(&value.log10()) {
                        ticks.push((value, power_text(value)));
                    }
                }
                power += stride;
            }
            ticks
        };
        let mut ticks = if powers < 1.0 { at(&[1.0, 2.0, 5.0]) } else { at(&[1.0]) };
        if ticks.len() < 2 {
            let halves: Vec<f64> = (2..20).map(|i| f64::from(i) / 2.0).collect();
            ticks = at(&halves);
        }
        Self { label: label.into(), low, high, logarithmic: true, ticks }
    }

    /// Positive values on a logarithmic scale with ticks at the data, as many as fit: for widths, which are powers of two.
    /// `values` are ascending.
    pub(super) fn of_marks(label: &str, values: &[f64]) -> Option<Self> {
        let (first, last) = (*values.first()?, *values.last()?);
        let mut axis = Self::logarithmic(label, first, last);
        let stride = values.len().div_ceil(9);
        // From the right, because limits are read off at the largest value.
        axis.ticks = values.iter().rev().step_by(stride).map(|v| (*v, chosen(*v))).collect();
        let apart = 0.06 * (axis.high - axis.low);
        let mut previous = f64::INFINITY;
        axis.ticks.retain(|(v, _)| {
            let keep = previous - v.log10() > apart;
            if keep {
                previous = v.log10();
            }
            keep
        });
        Some(axis)
    }

    pub(super) fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// The position of a value between two pixels; values outside are clamped.
    pub(super) fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        from + (to - from) * ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

fn widen(low: f64, high: f64) -> (f64, f64) {
    let spread = high - low;
    let size = low.abs().max(high.abs());
    if spread > 1e-9 * size { (low, high) } else { (low - 0.05 * size.max(1e-3), high + 0.05 * size.max(1e-3)) }
}

/// 1, 2 or 5 times a power of ten, so that the span has four to nine steps.
fn nice_step(span: f64) -> f64 {
    let raw = span / 6.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|m| m * power >= 0.75 * raw).unwrap_or(10.0);
    step * power
}

fn tick_text(value: f64, step: f64) -> String {
    if value.abs() < 1e-9 * step {
        return "0".into();
    }
    if value.abs() >= 1e5 || step < 1e-3 {
        return number(value);
    }
    let decimals = (-(step * 1.000_001).log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

fn power_text(value: f64) -> String {
    if !(1e-3..1e5).contains(&value) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The rectangle of a plot's data, with its axes.
pub(super) struct Frame<'a> {
    pub x: &'a Axis,
    pub y: &'a Axis,
    pub left_top: Point,
    pub right_bottom: Point,
}

impl Frame<'_> {
    /// The position of a pair of values.
    pub(super) fn at(&self, x: f64, y: f64) -> Point {
        let ((left, top), (right, bottom)) = (self.left_top, self.right_bottom);
        (self.x.place(x, left, right), self.y.place(y, bottom, top))
    }

    /// Grid, outline, ticks and axis labels.
    pub(super) fn draw(&self, canvas: &Canvas) -> Drawn {
        let ((left, top), (right, bottom)) = (self.left_top, self.right_bottom);
        for (value, text) in &self.x.ticks {
            let x = self.x.place(*value, left, right);
            canvas.path(&[(x, top), (x, bottom)], PALE, 1.0)?;
            canvas.write((x, bottom + 15.0), text, TICK, At::Middle, BLACK)?;
        }
        for (value, text) in &self.y.ticks {
            let y = self.y.place(*value, bottom, top);
            canvas.path(&[(left, y), (right, y)], PALE, 1.0)?;
            canvas.write((left - 8.0, y), text, TICK, At::End, BLACK)?;
        }
        canvas.outline(self.left_top, self.right_bottom, GREY)?;
        canvas.write((f64::midpoint(left, right), bottom + 37.0), &self.x.label, LABEL, At::Middle, BLACK)?;
        canvas.write_upwards((left - 58.0, f64::midpoint(top, bottom)), &self.y.label, LABEL, BLACK)
    }
}

/// How a series is drawn, for its legend.
#[derive(Clone, Copy)]
pub(super) enum Swatch {
    Line(RGBColor),
    Dashes(RGBColor),
    /// A line through marks of this shape; dotted for controls.
    Points(usize, RGBColor, bool),
    Mark(usize, RGBColor),
    Box(RGBColor),
}

/// Entries side by side, wrapped to several lines; returns the y coordinate below them.
pub(super) fn legend(canvas: &Canvas, from: Point, right: f64, entries: &[(Swatch, String)]) -> Drawn<f64> {
    let (mut x, mut y) = from;
    for (swatch, text) in entries {
        let width = 42.0 + text_width(text, TICK);
        if x > from.0 && x + width - 16.0 > right {
            (x, y) = (from.0, y + 19.0);
        }
        match *swatch {
            Swatch::Line(colour) => canvas.path(&[(x, y), (x + 20.0, y)], colour, 2.0)?,
            Swatch::Dashes(colour) => canvas.dashes((x, y), (x + 20.0, y), colour, 1.5)?,
            Swatch::Points(shape, colour, dotted) => {
                if dotted {
                    canvas.dots((x - 2.0, y), (x + 22.0, y), colour, 1.5)?;
                } else {
                    canvas.path(&[(x - 2.0, y), (x + 22.0, y)], colour, 2.0)?;
                }
                canvas.mark((x + 10.0, y), shape, colour)?;
            }
            Swatch::Mark(shape, colour) => canvas.mark((x + 12.0, y), shape, colour)?,
            Swatch::Box(colour) => canvas.fill((x + 5.0, y - 6.0), (x + 17.0, y + 6.0), colour)?,
        }
        canvas.write((x + 26.0, y), text, TICK, At::Start, BLACK)?;
        x += width;
    }
    Ok(y + 12.0)
}
