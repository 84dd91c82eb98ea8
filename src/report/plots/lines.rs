//! What changes from step to step: learning curves and residuals of the linearization.

use super::axis::{Axis, Frame, Swatch, extent, legend};
use super::canvas::{BLUE, Canvas, Drawn, GREEN, GREY, ORANGE, Point, draw};
use crate::error::Result;
use crate::evidence::{Evaluation, StepResidual};
use plotters::prelude::RGBColor;

const LEFT: f64 = 84.0;
const RIGHT: f64 = 736.0;
/// Maximum number of distinguishable points on a line.
const POINTS: usize = 600;

/// Dev accuracy above, losses below; `None` without evaluations.
pub(super) fn learning(
    history: &[Evaluation],
    selected: usize,
    title: &str,
    description: &str,
) -> Result<Option<String>> {
    let steps = extent(history.iter().map(|e| e.step as f64));
    let losses = extent(history.iter().flat_map(|e| [e.train_loss, e.dev_loss]));
    let accuracies = extent(history.iter().map(|e| e.dev_accuracy));
    let (Some(steps), Some(losses), Some(accuracies)) = (steps, losses, accuracies) else { return Ok(None) };
    let x = Axis::within("step", 0.0, steps.1.max(selected as f64).max(1.0));
    let accuracy = Axis::percent("dev accuracy", accuracies.0, accuracies.1);
    let loss = Axis::linear("cross-entropy", losses.0.min(0.0), losses.1);
    let series = |of: fn(&Evaluation) -> f64| history.iter().map(|e| (e.step as f64, of(e))).collect::<Vec<_>>();
    let entries = [
        (Swatch::Line(BLUE), "accuracy on dev".to_owned()),
        (Swatch::Line(ORANGE), "loss on dev".to_owned()),
        (Swatch::Line(GREEN), "loss on the mini-batches".to_owned()),
        (Swatch::Dashes(GREY), format!("selected step {selected}")),
    ];
    draw((760.0, 600.0), title, description, |canvas| {
        let top = legend(canvas, (LEFT, 52.0), RIGHT, &entries)? + 6.0;
        let frames = [
            Frame { x: &x, y: &accuracy, left_top: (LEFT, top), right_bottom: (RIGHT, 286.0) },
            Frame { x: &x, y: &loss, left_top: (LEFT, 344.0), right_bottom: (RIGHT, 546.0) },
        ];
        for frame in &frames {
            frame.draw(canvas)?;
            let (low, high) = frame.y.range();
            let at = selected as f64;
            canvas.dashes(frame.at(at, low), frame.at(at, high), GREY, 1.5)?;
        }
        line(canvas, &frames[0], &series(|e| e.dev_accuracy), BLUE, 2.0, true)?;
        line(canvas, &frames[1], &series(|e| e.train_loss), GREEN, 2.0, true)?;
        line(canvas, &frames[1], &series(|e| e.dev_loss), ORANGE, 2.0, true)
    })
    .map(Some)
}

/// Residuals over single steps and over the run so far, on a logarithmic scale; `None` without a positive one.
pub(super) fn residuals(steps: &[StepResidual], title: &str, description: &str) -> Result<Option<String>> {
    let series = |of: fn(&StepResidual) -> Option<f64>| -> Vec<Point> {
        let drawable = |s: &StepResidual| Some((s.step as f64, of(s).filter(|v| *v > 1e-30)?));
        steps.iter().filter_map(drawable).collect()
    };
    let (single, cumulative) = (series(|s| s.residual), series(|s| s.cumulative));
    let all = || single.iter().chain(&cumulative);
    let (Some((low, high)), Some((_, last))) = (extent(all().map(|p| p.1)), extent(all().map(|p| p.0))) else {
        return Ok(None);
    };
    let x = Axis::within("step", 0.0, last.max(1.0));
    let y = Axis::logarithmic("relative residual", low, high.max(1.0));
    let entries = [
        (Swatch::Line(ORANGE), "this step".to_owned()),
        (Swatch::Line(BLUE), "from the start to this step".to_owned()),
        (Swatch::Dashes(GREY), "1: no better than predicting no movement".to_owned()),
    ];
    draw((760.0, 440.0), title, description, |canvas| {
        let top = legend(canvas, (LEFT, 52.0), RIGHT, &entries)? + 6.0;
        let frame = Frame { x: &x, y: &y, left_top: (LEFT, top), right_bottom: (RIGHT, 386.0) };
        frame.draw(canvas)?;
        let (from, to) = x.range();
        canvas.dashes(frame.at(from, 1.0), frame.at(to, 1.0), GREY, 1.5)?;
        line(canvas, &frame, &single, ORANGE, 1.0, false)?;
        line(canvas, &frame, &cumulative, BLUE, 2.5, false)
    })
    .map(Some)
}

/// A series; if there are few points they are marked, and a single one is only a mark.
fn line(canvas: &Canvas, frame: &Frame, series: &[Point], colour: RGBColor, width: f64, marks: bool) -> Drawn {
    let stride = series.len().div_ceil(POINTS).max(1);
    let points: Vec<Point> = series.iter().step_by(stride).map(|(x, y)| frame.at(*x, *y)).collect();
    canvas.path(&points, colour, width)?;
    if (marks && points.len() <= 40) || points.len() == 1 {
        for point in points {
            canvas.mark(point, 0, colour)?;
        }
    }
    Ok(())
}
