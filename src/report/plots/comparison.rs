//! Scores of kernel regression against those of fine-tuning, with the lines of equality and of 90%.

use super::axis::{Axis, Frame, Swatch, extent, legend};
use super::canvas::{BLACK, GREY, PALETTE, draw};
use crate::error::Result;

/// The picture, or `None` without points. Points are (fine-tuning, kernel) by series.
pub(in crate::report) fn comparison(
    series: &[(String, Vec<(f64, f64)>)],
    title: &str,
    description: &str,
) -> Result<Option<String>> {
    let points = || series.iter().flat_map(|(_, points)| points);
    let Some((low, high)) = extent(points().flat_map(|(x, y)| [*x, *y])) else { return Ok(None) };
    let x = Axis::percent("fine-tuning, test score", low, high);
    let y = Axis::percent("kernel regression, test score", low, high);
    let drawn = || series.iter().enumerate().filter(|(_, (_, points))| !points.is_empty());
    let mut entries: Vec<_> =
        drawn().map(|(i, (name, _))| (Swatch::Mark(i, PALETTE[i % PALETTE.len()]), name.clone())).collect();
    entries.push((Swatch::Dashes(BLACK), "equal".into()));
    entries.push((Swatch::Dashes(GREY), "90% of fine-tuning: the kernel solves the task above it".into()));
    draw((640.0, 660.0), title, description, |canvas| {
        let top = legend(canvas, (84.0, 52.0), 620.0, &entries)?;
        let frame = Frame { x: &x, y: &y, left_top: (84.0, top + 6.0), right_bottom: (618.0, 604.0) };
        frame.draw(canvas)?;
        let ((x0, x1), (y0, y1)) = (x.range(), y.range());
        for (share, colour) in [(1.0, BLACK), (0.9, GREY)] {
            let (from, to) = (x0.max(y0 / share), x1.min(y1 / share));
            if from < to {
                canvas.dashes(frame.at(from, share * from), frame.at(to, share * to), colour, 1.5)?;
            }
        }
        for (i, (_, points)) in drawn() {
            for (across, up) in points {
                canvas.mark(frame.at(*across, *up), i, PALETTE[i % PALETTE.len()])?;
            }
        }
        Ok(())
    })
    .map(Some)
}
