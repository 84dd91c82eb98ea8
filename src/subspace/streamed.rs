//! Projected gradients `J Π` of a network without the whole Jacobian or Π: both exist only for one tile of parameters at a
//! time. The cost is that of drawing Π (parameters times dimensions normal numbers), and as many multiplications per row of
//! the Jacobian.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::projection::Projection;
use crate::error::Result;
use crate::jacobian::{Examples, Param, Parameters, Recorded, RowSet, Tile, batches_by_cost, record};
use crate::progress::{Monitor, check_cancelled};

/// Options of [`projected_gradients`].
#[derive(Clone, Debug)]
pub struct Streaming {
    /// Whether each parameter is included.
    pub include: Vec<bool>,
    /// Examples per forward and backward pass.
    pub batch: usize,
    /// Bytes of gradient factors to keep at a time. If they do not suffice for all examples, Π is drawn again for each group
    /// of examples that fits.
    pub keep_bytes: usize,
}

/// `J Π` \[N·C, k\] in double precision, on the CPU; row `i·C + c` belongs to output c of example i. Row p of Π belongs to
/// the p-th entry of all parameters in order, whether included or not. `monitor` advances by one for every parameter tensor
/// and group of examples.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn projected_gradients(
    projection: &Projection,
    parameters: &Parameters,
    examples: &dyn Examples,
    streaming: &Streaming,
    monitor: &dyn Monitor,
) -> Result<Tensor> {
    let device = parameters.device();
    let rows = examples.len() * examples.outputs();
    let sums = Tensor::zeros([rows as i64, projection.rank()], (Kind::Double, device));
    let mut parts = batches_by_cost(examples, streaming.batch).into_iter().peekable();
    while parts.peek().is_some() {
        let mut panel: Vec<(Recorded, Vec<usize>)> = Vec::new();
        let mut bytes = 0;
        while let Some(part) = parts.next_if(|_| panel.is_empty() || bytes < streaming.keep_bytes) {
            check_cancelled()?;
            let recorded = record(parameters, examples, &part);
            bytes += recorded.bytes();
            panel.push((recorded, part));
        }
        // The positions of a batch's rows among all.
        let places =
            |(recorded, part): &(Recorded, Vec<usize>)| Tensor::from_slice(&recorded.places(part)).to_device(device);
        let places: Vec<Tensor> = panel.iter().map(places).collect();
        let mut start = 0;
        for (i, spec) in parameters.specs().iter().enumerate() {
            if streaming.include[i] && panel.iter().any(|(r, _)| r.reaches(Param(i))) {
                add(projection, Param(i), start, &panel, &places, &sums)?;
            }
            start += spec.numel();
            monitor.advance(1);
        }
    }
    Ok(sums.to_device(Device::Cpu))
}

/// Adds the products of one parameter's gradients and its rows of Π, which begin at `start`.
fn add(
    projection: &Projection,
    p: Param,
    start: i64,
    panel: &[(Recorded, Vec<usize>)],
    places: &[Tensor],
    sums: &Tensor,
) -> Result<()> {
    let set = panel[1..].iter().fold(panel[0].0.touched(p).shallow_clone(), |all, (r, _)| all.union(r.touched(p)));
    let width = panel[0].0.shape(p).1;
    let height = (projection.rows_per_chunk() / width).max(1);
    let device = sums.device();
    for first in (0..set.len()).step_by(height as usize) {
        check_cancelled()?;
        let tile = Tile { rows: first..(first + height).min(set.len()), columns: 0..width };
        let drawn: Vec<Tensor> = runs(&set, &tile)
            .into_iter()
            .map(|run| projection.rows(start + run.start * width..start + run.end * width, device))
            .collect();
        let directions = Tensor::cat(&drawn, 0);
        for ((recorded, _), places) in panel.iter().zip(places) {
            let gradients = Tensor::empty([recorded.rows(), tile.entries()], (recorded.kind(), device));
            recorded.write(p, &set, &tile, &gradients);
            let product = gradients.to_kind(Kind::Double).matmul(&directions);
            let _ = sums.shallow_clone().index_add_(0, places, &product);
        }
    }
    Ok(())
}

/// The parameter's rows covered by a tile, in contiguous ranges.
fn runs(set: &RowSet, tile: &Tile) -> Vec<Range<i64>> {
    let RowSet::Touched(rows) = set else { return vec![tile.rows.clone()] };
    let rows = rows.narrow(0, tile.rows.start, tile.height()).to_device(Device::Cpu);
    let mut runs: Vec<Range<i64>> = Vec::new();
    for row in Vec::<i64>::try_from(&rows).expect("rows are int64") {
        match runs.last_mut() {
            Some(run) if run.end == row => run.end += 1,
            _ => runs.push(row..row + 1),
        }
    }
    runs
}
