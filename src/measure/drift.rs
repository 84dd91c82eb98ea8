//! Fixed features: how far gradients and kernels moved between two parameter vectors.

use tch::{Device, Kind, Tensor};

use super::expansion::{DOUBLE, ENOUGH, finite};
use crate::error::Result;
use crate::evidence::{Arithmetic, Computed, GradientDrift, KernelDrift, Summary};
use crate::jacobian::{Examples, Param, Parameters, Recorded, RowSet, Tile, blocks, outer_distances, record};
use crate::progress::check_cancelled;
use crate::stats::pair_mean_error;

/// Gradient entries of a batch in memory at once.
const ENTRIES: i64 = 1 << 20;

/// Distance between the gradients at two parameter vectors, example by example, in the precision of the parameters. Gradients
/// are compared directly, factor by factor or block by block, so that small drifts are not lost to cancellation.
pub fn gradient_drift(
    start: &Parameters,
    end: &Parameters,
    examples: &dyn Examples,
    include: &[bool],
    batch: usize,
) -> Result<Option<GradientDrift>> {
    let (mut distances, mut sizes) = (Vec::new(), Vec::new());
    for range in blocks(examples.len(), batch) {
        check_cancelled()?;
        let indices: Vec<usize> = range.collect();
        let before = record(start, examples, &indices);
        check_cancelled()?;
        let after = record(end, examples, &indices);
        let (distance, size) = squares(&before, &after, include);
        distances.extend(Vec::<f64>::try_from(distance.to_device(Device::Cpu)).expect("a flat f64 tensor"));
        sizes.extend(Vec::<f64>::try_from(size.to_device(Device::Cpu)).expect("a flat f64 tensor"));
    }
    let relative: Vec<f64> = distances.iter().zip(&sizes).map(|(d, s)| (d / s).sqrt()).collect();
    let total = (distances.iter().sum::<f64>() / sizes.iter().sum::<f64>()).sqrt();
    Ok(Summary::of(&relative).map(|relative| GradientDrift { relative, total, computed: None }))
}

/// [`gradient_drift`] in sufficient precision: single if round-off, measured on the example `probe`, is at most [`ENOUGH`] of
/// the drift.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn sufficient_gradient_drift(
    (start, end): (&Parameters, &Parameters),
    examples: &dyn Examples,
    probe: usize,
    include: &[bool],
    batch: usize,
) -> Result<Option<GradientDrift>> {
    let of_kind = |parameters: &Parameters, kind| parameters.map(|v| v.detach().to_kind(kind));
    let single = record(&of_kind(start, Kind::Float), examples, &[probe]).to_kind(Kind::Double);
    check_cancelled()?;
    let double = record(&of_kind(start, Kind::Double), examples, &[probe]);
    let (distance, size) = squares(&double, &single, include);
    // Both ends have round-off errors, which add up in the worst case.
    let round_off = 2.0 * (distance.sum(Kind::Double) / size.sum(Kind::Double)).sqrt().double_value(&[]);
    let with = |drift: GradientDrift, arithmetic, error| GradientDrift {
        computed: Some(Computed { arithmetic, error: finite(error) }),
        ..drift
    };
    if start.kind() == Kind::Float {
        let drift = gradient_drift(start, end, examples, include, batch)?;
        match drift {
            Some(drift) if round_off > ENOUGH * drift.total => {}
            _ => return Ok(drift.map(|drift| with(drift, Arithmetic::Single, round_off))),
        }
    }
    let (start, end) = (of_kind(start, Kind::Double), of_kind(end, Kind::Double));
    let drift = gradient_drift(&start, &end, examples, include, batch)?;
    Ok(drift.map(|drift| with(drift, Arithmetic::Double, DOUBLE * round_off)))
}

/// Squared distances between the gradients of one batch at two parameter vectors, and the squared sizes of the first, \[C·B\]
/// each, over the parameters that `include` marks.
fn squares(before: &Recorded, after: &Recorded, include: &[bool]) -> (Tensor, Tensor) {
    let zeros = || Tensor::zeros([before.rows()], (Kind::Double, before.outputs().device()));
    let (mut distance, mut size) = (zeros(), zeros());
    for p in (0..include.len()).filter(|p| include[*p]).map(Param) {
        if let Some((moved, of)) = outer_distances(before, after, p) {
            distance += moved;
            size += of;
            continue;
        }
        let (set, columns) = (before.touched(p).union(after.touched(p)), before.shape(p).1);
        let dense = |r: &Recorded, set: &RowSet, tile: &Tile| {
            let out = Tensor::empty([r.rows(), tile.entries()], (r.kind(), r.outputs().device()));
            r.write(p, set, tile, &out);
            out
        };
        for tile in Tile::cover(set.len(), columns, (ENTRIES / before.rows()).max(1)) {
            let (x, y) = (dense(before, &set, &tile), dense(after, &set, &tile));
            let d = y - &x;
            distance += (&d * &d).sum_dim_intlist(1, false, Kind::Double);
            size += (&x * &x).sum_dim_intlist(1, false, Kind::Double);
        }
    }
    (distance, size)
}

/// Distance between two kernel matrices \[N·C, N·C\] of N examples with C `outputs`. `None` if the first is zero or either is
/// not finite.
pub fn kernel_drift(start: &Tensor, end: &Tensor, outputs: i64) -> Option<KernelDrift> {
    let (a, b) = (start.to_kind(Kind::Double), end.to_kind(Kind::Double));
    let norm = |t: &Tensor| t.norm().double_value(&[]);
    let (size, end_size) = (norm(&a), norm(&b));
    let finite = size.is_finite() && end_size.is_finite();
    if !finite || size == 0.0 || end_size == 0.0 {
        return None;
    }
    // Entries that are zero before and after did not move. An entry that is zero only before has no relative distance and is
    // left out of mean and median (kernels of networks have none in practice).
    let flat = |t: &Tensor| Vec::<f64>::try_from(t.contiguous().view(-1)).expect("a flat f64 tensor");
    let (columns, outputs) = (a.size()[1] as usize, outputs as usize);
    let entries: Vec<(usize, usize, f64)> = flat(&a)
        .into_iter()
        .zip(flat(&b))
        .enumerate()
        .filter_map(|(at, (x, y))| {
            let relative = if x == 0.0 { (y == 0.0).then_some(0.0) } else { Some(((y - x) / x).abs()) };
            relative.map(|r| (at / columns / outputs, at % columns / outputs, r))
        })
        .collect();
    let relative: Vec<f64> = entries.iter().map(|e| e.2).collect();
    let summary = Summary::of(&relative)?;
    let examples = columns / outputs;
    Some(KernelDrift {
        frobenius: norm(&(&b - &a)) / size,
        mean_relative: summary.mean,
        mean_relative_error: pair_mean_error(&entries, examples),
        examples,
        median_relative: summary.median,
        alignment: (&a * &b).sum(Kind::Double).double_value(&[]) / (size * end_size),
    })
}
