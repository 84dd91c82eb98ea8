//! Fixed features: how far gradients and kernels moved from one parameter vector to another.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::evidence::{GradientDrift, KernelDrift, Summary};
use crate::jacobian::{Examples, Param, Parameters, Recorded, RowSet, Tile, blocks, record};
use crate::progress::check_stop;

/// Gradient entries of a batch that are in memory at a time.
const ENTRIES: i64 = 1 << 20;

/// Distance between the gradients at two parameter vectors, example by example. Gradients are compared directly, block
/// by block, so that small drifts are not lost to cancellation.
pub fn gradient_drift(
    start: &Parameters,
    end: &Parameters,
    examples: &dyn Examples,
    include: &[bool],
    batch: usize,
) -> Result<Option<GradientDrift>> {
    let (mut distances, mut sizes) = (Vec::new(), Vec::new());
    for range in blocks(examples.len(), batch) {
        check_stop()?;
        let indices: Vec<usize> = range.collect();
        let a = record(start, examples, &indices);
        let b = record(end, examples, &indices);
        let zeros = || Tensor::zeros([a.rows()], (Kind::Double, a.outputs().device()));
        let (mut distance, mut size) = (zeros(), zeros());
        for p in (0..include.len()).filter(|p| include[*p]).map(Param) {
            let (set, columns) = (a.touched(p).union(b.touched(p)), a.shape(p).1);
            let dense = |r: &Recorded, set: &RowSet, tile: &Tile| {
                let out = Tensor::empty([r.rows(), tile.entries()], (r.kind(), r.outputs().device()));
                r.write(p, set, tile, &out);
                out
            };
            for tile in Tile::cover(set.len(), columns, (ENTRIES / a.rows()).max(1)) {
                let (x, y) = (dense(&a, &set, &tile), dense(&b, &set, &tile));
                let d = y - &x;
                distance += (&d * &d).sum_dim_intlist(1, false, Kind::Double);
                size += (&x * &x).sum_dim_intlist(1, false, Kind::Double);
            }
        }
        distances.extend(Vec::<f64>::try_from(distance.to_device(tch::Device::Cpu)).expect("a flat f64 tensor"));
        sizes.extend(Vec::<f64>::try_from(size.to_device(tch::Device::Cpu)).expect("a flat f64 tensor"));
    }
    let relative: Vec<f64> = distances.iter().zip(&sizes).map(|(d, s)| (d / s).sqrt()).collect();
    let total = (distances.iter().sum::<f64>() / sizes.iter().sum::<f64>()).sqrt();
    Ok(Summary::of(&relative).map(|relative| GradientDrift { relative, total }))
}

/// Distance between two kernel matrices of one shape. `None` when the first is zero or either is not finite.
pub fn kernel_drift(start: &Tensor, end: &Tensor) -> Option<KernelDrift> {
    let (a, b) = (start.to_kind(Kind::Double), end.to_kind(Kind::Double));
    let norm = |t: &Tensor| t.norm().double_value(&[]);
    let (size, end_size) = (norm(&a), norm(&b));
    let finite = size.is_finite() && end_size.is_finite();
    if !finite || size == 0.0 || end_size == 0.0 {
        return None;
    }
    // Entries that are zero before and after did not move; one that was zero and is not any more has no relative
    // distance and is left out of mean and median (kernels of networks have none in practice).
    let flat = |t: &Tensor| Vec::<f64>::try_from(t.contiguous().view(-1)).expect("a flat f64 tensor");
    let relative: Vec<f64> = flat(&a)
        .into_iter()
        .zip(flat(&b))
        .filter_map(|(x, y)| if x == 0.0 { (y == 0.0).then_some(0.0) } else { Some(((y - x) / x).abs()) })
        .collect();
    let summary = Summary::of(&relative)?;
    Some(KernelDrift {
        frobenius: norm(&(&b - &a)) / size,
        mean_relative: summary.mean,
        median_relative: summary.median,
        alignment: (&a * &b).sum(Kind::Double).double_value(&[]) / (size * end_size),
    })
}
