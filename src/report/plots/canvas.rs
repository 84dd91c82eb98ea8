//! The canvas: an SVG of fixed size on white, drawn with plotters' primitives.
//!
//! Lengths are in displayed pixels. plotters writes only whole pixels, so everything is drawn at twice its size and scaled
//! down. Texts are placed by anchors and never measured with a font, so the bytes are the same on every machine.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::report::format::plain;

/// Drawn pixels per displayed pixel.
const FINE: f64 = 2.0;

pub(super) const BLACK: RGBColor = RGBColor(34, 34, 34);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
pub(super) const PALE: RGBColor = RGBColor(221, 221, 221);
pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const ORANGE: RGBColor = RGBColor(213, 94, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);

/// Okabe and Ito's palette, which colour-blind readers can tell apart; yellow, hard to see on white, comes last.
pub(super) const PALETTE: [RGBColor; 7] = [
    BLUE,
    ORANGE,
    GREEN,
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(240, 228, 66),
];

/// Text sizes.
pub(super) const TITLE: f64 = 16.0;
pub(super) const LABEL: f64 = 13.0;
pub(super) const TICK: f64 = 12.0;

/// A point in displayed pixels.
pub(super) type Point = (f64, f64);

/// The result of a drawing step, which does not fail in memory.
pub(super) type Drawn<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The anchor of a text: middle, start or end.
#[derive(Clone, Copy)]
pub(super) enum At {
    Start,
    Middle,
    End,
}

/// A white page.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
}

/// Draws a figure with a title in its upper left corner; `description` is the alternative text.
pub(super) fn draw(
    (width, height): (f64, f64),
    title: &str,
    description: &str,
    paint: impl FnOnce(&Canvas) -> Drawn,
) -> Result<String> {
    let mut svg = String::new();
    let fine = (fine(width) as u32, fine(height) as u32);
    let painted = || -> Drawn {
        let canvas = Canvas { area: SVGBackend::with_string(&mut svg, fine).into_drawing_area() };
        canvas.area.fill(&WHITE)?;
        canvas.write((16.0, 24.0), title, TITLE, At::Start, BLACK)?;
        paint(&canvas)?;
        canvas.area.present()?;
        Ok(())
    };
    painted().map_err(|e| Error::document(format!("the plot `{title}`"), e))?;
    let drawn = format!(r#"<svg width="{}" height="{}""#, fine.0, fine.1);
    let shown = format!(r#"<svg role="img" width="{width}" height="{height}""#);
    let words = format!("<title>{}</title>\n<desc>{}</desc>\n", xml(title), xml(description));
    let svg = svg.replacen(&drawn, &shown, 1);
    Ok(svg.replacen(">\n", &format!(">\n{words}"), 1))
}

/// Inserts elements that plotters cannot write compactly before the closing tag.
pub(super) fn append(svg: &mut String, elements: &str) {
    if let Some(end) = svg.rfind("</svg>") {
        svg.insert_str(end, elements);
    }
}

/// A length in the file.
pub(super) fn fine(length: f64) -> i32 {
    (length * FINE).round() as i32
}

/// A generous estimate of a text's width in most sans-serif fonts, used only to space legends.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    0.55 * size * text.chars().count() as f64
}

fn xml(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn pixel((x, y): Point) -> (i32, i32) {
    (fine(x), fine(y))
}

impl Canvas<'_> {
    pub(super) fn path(&self, points: &[Point], colour: RGBColor, width: f64) -> Drawn {
        if points.len() > 1 {
            let points: Vec<_> = points.iter().copied().map(pixel).collect();
            self.area.draw(&PathElement::new(points, colour.stroke_width(fine(width) as u32)))?;
        }
        Ok(())
    }

    pub(super) fn dashes(&self, from: Point, to: Point, colour: RGBColor, width: f64) -> Drawn {
        self.broken((from, to), (5.0, 4.0), colour, width)
    }

    pub(super) fn dots(&self, from: Point, to: Point, colour: RGBColor, width: f64) -> Drawn {
        self.broken((from, to), (2.0, 2.5), colour, width)
    }

    /// A dashed line, alternately drawn for `on` pixels and skipped for `off`.
    fn broken(&self, (from, to): (Point, Point), (on, off): (f64, f64), colour: RGBColor, width: f64) -> Drawn {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy).max(1e-9);
        let along = |d: f64| (from.0 + dx * d / length, from.1 + dy * d / length);
        let mut start = 0.0;
        while start < length {
            self.path(&[along(start), along((start + on).min(length))], colour, width)?;
            start += on + off;
        }
        Ok(())
    }

    pub(super) fn fill(&self, from: Point, to: Point, colour: RGBColor) -> Drawn {
        self.area.draw(&Rectangle::new([pixel(from), pixel(to)], colour.filled()))?;
        Ok(())
    }

    pub(super) fn outline(&self, from: Point, to: Point, colour: RGBColor) -> Drawn {
        self.path(&[from, (to.0, from.1), to, (from.0, to.1), from], colour, 1.0)
    }

    /// A mark of one of four shapes, slightly transparent so that overlaps are visible.
    pub(super) fn mark(&self, (x, y): Point, shape: usize, colour: RGBColor) -> Drawn {
        let style = colour.mix(0.65).filled();
        let polygon = |corners: &[Point]| -> Drawn {
            let corners: Vec<_> = corners.iter().map(|(dx, dy)| pixel((x + dx, y + dy))).collect();
            self.area.draw(&Polygon::new(corners, style))?;
            Ok(())
        };
        match shape % 4 {
            0 => self.area.draw(&Circle::new(pixel((x, y)), fine(3.5), style))?,
            1 => polygon(&[(0.0, -4.5), (4.5, 3.5), (-4.5, 3.5)])?,
            2 => polygon(&[(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)])?,
            _ => polygon(&[(0.0, -5.0), (4.0, 0.0), (0.0, 5.0), (-4.0, 0.0)])?,
        }
        Ok(())
    }

    /// A text vertically centred at the point.
    pub(super) fn write(&self, point: Point, text: &str, size: f64, at: At, colour: RGBColor) -> Drawn {
        self.text(point, text, size, at, colour, FontTransform::None)
    }

    /// The same, rotated to read upwards.
    pub(super) fn write_upwards(&self, point: Point, text: &str, size: f64, colour: RGBColor) -> Drawn {
        self.text(point, text, size, At::Middle, colour, FontTransform::Rotate270)
    }

    fn text(&self, point: Point, text: &str, size: f64, at: At, colour: RGBColor, turn: FontTransform) -> Drawn {
        let horizontal = match at {
            At::Start => HPos::Left,
            At::Middle => HPos::Center,
            At::End => HPos::Right,
        };
        // plotters divides font sizes by 1.24.
        let font = ("sans-serif", (1.24 * FINE * size).round()).into_font().transform(turn);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, VPos::Center));
        self.area.draw(&Text::new(plain(text), pixel(point), style))?;
        Ok(())
    }
}
