//! Margins of test examples: fine-tuned against linearized model.

use super::axis::{Axis, Frame, Swatch, extent, legend};
use super::canvas::{BLACK, GREY, PALETTE, draw};
use crate::error::Result;
use crate::evidence::Movement;
use crate::report::format::shorten;

/// The picture, or `None` if there is nothing to draw.
pub(super) fn scatter(
    movements: &[Movement],
    classes: &[&str],
    title: &str,
    description: &str,
) -> Result<Option<String>> {
    let (Some(across), Some(up)) =
        (extent(movements.iter().map(|m| m.trained)), extent(movements.iter().map(|m| m.linearized)))
    else {
        return Ok(None);
    };
    let (across, up) = shared(across, up);
    let x = Axis::linear("margin of the fine-tuned model", across.0, across.1);
    let y = Axis::linear("margin of the linearized model", up.0, up.1);
    let mut entries: Vec<_> = (0..PALETTE.len().max(classes.len()))
        .filter(|class| movements.iter().any(|m| m.class == *class))
        .map(|class| (mark(class), class_name(classes, class)))
        .collect();
    entries.push((Swatch::Dashes(BLACK), "linearization exact".into()));
    draw((640.0, 640.0), title, description, |canvas| {
        let top = legend(canvas, (84.0, 52.0), 620.0, &entries)?;
        let frame = Frame { x: &x, y: &y, left_top: (84.0, top + 6.0), right_bottom: (618.0, 584.0) };
        frame.draw(canvas)?;
        let ((x0, x1), (y0, y1)) = (x.range(), y.range());
        if x0 < 0.0 && x1 > 0.0 {
            canvas.path(&[frame.at(0.0, y0), frame.at(0.0, y1)], GREY, 1.0)?;
        }
        if y0 < 0.0 && y1 > 0.0 {
            canvas.path(&[frame.at(x0, 0.0), frame.at(x1, 0.0)], GREY, 1.0)?;
        }
        for movement in movements {
            let Swatch::Mark(shape, colour) = mark(movement.class) else { continue };
            canvas.mark(frame.at(movement.trained, movement.linearized), shape, colour)?;
        }
        let (from, to) = (x0.max(y0), x1.min(y1));
        if from < to {
            canvas.dashes(frame.at(from, from), frame.at(to, to), BLACK, 1.5)?;
        }
        Ok(())
    })
    .map(Some)
}

fn mark(class: usize) -> Swatch {
    // Shapes repeat after four and colours after seven: shifted, so that similar colours get other shapes.
    Swatch::Mark(class + class / 4, PALETTE[class % PALETTE.len()])
}

fn class_name(classes: &[&str], class: usize) -> String {
    classes.get(class).map_or_else(|| format!("class {class}"), |name| shorten(name, 16))
}

/// A common range for both axes, unless one of the models barely varies in it.
fn shared(a: (f64, f64), b: (f64, f64)) -> ((f64, f64), (f64, f64)) {
    let both = (a.0.min(b.0), a.1.max(b.1));
    let span = |r: (f64, f64)| r.1 - r.0;
    if span(both) <= 4.0 * span(a) && span(both) <= 4.0 * span(b) { (both, both) } else { (a, b) }
}
