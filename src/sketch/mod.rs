//! Sketches the gradients of many examples to k numbers each, whose inner products give SGD kernels. Knows no language model
//! and no task.
//!
//! The sketch matrix S has one entry ±1 in each of its P columns (`fold.rs`), so `E <S∇f, S∇f'> = <∇f, ∇f'>` and
//!
//! `Var <S∇f, S∇f'> = (|∇f|²|∇f'|² + <∇f,∇f'>² - Σ_r (|∇f_r|²|∇f'_r|² + <∇f_r,∇f'_r>²)) / k`,
//!
//! with the sum over runs r, whose entries do not collide: at most the variance of dense random signs ([`bound`]). The
//! sketches of all parameters are added up, each with its own signs and positions, so that the estimate is for the whole
//! gradient. No gradient is ever whole in memory: factors are recorded as for kernels, and a tile of a parameter is written
//! for a few examples, sketched and discarded.

mod finished;
mod fold;
mod store;

use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

pub use finished::{SketchError, Sketches};
pub use store::{SketchManifest, SketchStore};

use self::fold::{Entry, Fold};
use crate::device::threads;
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Loops, Param, Parameters, Recorded, RowSet, Tile, batches_by_cost, record};
use crate::kernel::OVERFLOW;
use crate::progress::{Monitor, check_cancelled};
use crate::threads::in_threads;

/// Settings of a sketch.
#[derive(Clone, Debug, PartialEq)]
pub struct SketchSettings {
    /// Numbers k per row.
    pub size: usize,
    /// Seed of the sketch matrix.
    pub seed: u64,
    /// Examples per pass.
    pub batch: usize,
    /// Parameters to include.
    pub include: Vec<bool>,
}

/// Sketches of N examples with C outputs.
#[derive(Debug)]
pub struct Sketch {
    /// `S∇f` \[N·C, k\] in single precision, row `i·C + c` for output c of example i.
    pub rows: Tensor,
    /// Outputs f \[N, C\] in double precision.
    pub outputs: Tensor,
}

/// Upper bound on the standard deviation of a sketched kernel's entry: `√((K_ii K_jj + K_ij²)/k)`.
pub fn bound(k_ii: f64, k_jj: f64, k_ij: f64, size: usize) -> f64 {
    ((k_ii * k_jj + k_ij * k_ij) / size as f64).sqrt()
}

/// Number of entries (tile entries times rows) written before they are sketched: they fit in a core's L2 cache.
const TILE: usize = 1 << 18;

/// Sketches examples. `monitor` advances by one for every example. Can be cancelled between tiles.
///
/// # Errors
/// Bad input: a size of zero; `NotFinite` for gradients that are not finite; `Interrupted`.
pub fn sketch(
    parameters: &Parameters,
    examples: &dyn Examples,
    settings: &SketchSettings,
    monitor: &dyn Monitor,
) -> Result<Sketch> {
    if settings.size == 0 {
        return Err(Error::value("the size of a sketch", 0, "1 or more"));
    }
    let (rows, outputs) = (examples.len() * examples.outputs(), examples.outputs());
    let batches = batches_by_cost(examples, settings.batch);
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let work = |own: Parameters| -> Result<Vec<(usize, Batch)>> {
        let mut found = Vec::new();
        loop {
            check_cancelled()?;
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(i) else { return Ok(found) };
            found.push((i, one_batch(&own, examples, batch, settings)?));
            done.fetch_add(batch.len(), Ordering::Relaxed);
        }
    };
    let count = if parameters.device() == Device::Cpu { threads().min(batches.len()).max(1) } else { 1 };
    let shares = (0..count).map(|_| parameters.map(Tensor::shallow_clone)).collect();
    let mut told = 0;
    let mut tell = || {
        let now = done.load(Ordering::Relaxed);
        monitor.advance((now - told) as u64);
        told = now;
    };
    let found = in_threads(shares, (threads() / count).max(1), work, &mut tell);
    tell();
    let mut all = vec![0f32; rows * settings.size];
    let values = Tensor::zeros([examples.len() as i64, outputs as i64], (Kind::Double, Device::Cpu));
    for share in found {
        for (i, batch) in share? {
            for (row, place) in batch.places.iter().enumerate() {
                let to = &mut all[*place as usize * settings.size..][..settings.size];
                to.copy_from_slice(&batch.rows[row * settings.size..][..settings.size]);
            }
            let index: Vec<i64> = batches[i].iter().map(|e| *e as i64).collect();
            let _ = values.shallow_clone().index_copy_(0, &Tensor::from_slice(&index), &batch.outputs);
        }
    }
    if let Some(at) = all.iter().position(|x| !x.is_finite()) {
        let example = at / settings.size / outputs;
        return Err(Error::NotFinite {
            what: "a gradient".into(),
            place: format!("example {example}, counted from 0"),
            advice: OVERFLOW.into(),
        });
    }
    let rows = Tensor::from_slice(&all).view([rows as i64, settings.size as i64]);
    Ok(Sketch { rows, outputs: values })
}

/// The result of one pass.
struct Batch {
    /// Sketches, `[rows, k]`.
    rows: Vec<f32>,
    /// Row numbers in the whole sketch.
    places: Vec<i64>,
    /// \[B, C\]
    outputs: Tensor,
}

fn one_batch(
    parameters: &Parameters,
    examples: &dyn Examples,
    batch: &[usize],
    settings: &SketchSettings,
) -> Result<Batch> {
    let recorded = record(parameters, examples, batch);
    let rows = if recorded.kind() == Kind::Double {
        folded::<f64>(parameters, &recorded, settings)?.into_iter().map(|x| x as f32).collect()
    } else {
        folded::<f32>(parameters, &recorded, settings)?
    };
    Ok(Batch { rows, places: recorded.places(batch), outputs: recorded.outputs().to_device(Device::Cpu) })
}

/// `S∇f` of all rows of a pass, `[rows, k]`.
fn folded<T: Entry>(parameters: &Parameters, recorded: &Recorded, settings: &SketchSettings) -> Result<Vec<T>> {
    let (rows, size) = (recorded.rows() as usize, settings.size);
    let kind = if size_of::<T>() == 8 { Kind::Double } else { Kind::Float };
    let mut all = vec![T::default(); rows * size];
    let (mut signs, mut runs) = (Vec::new(), Vec::new());
    for (i, spec) in parameters.specs().iter().enumerate() {
        let p = Param(i);
        if !settings.include[i] || !recorded.reaches(p) {
            continue;
        }
        let fold = Fold::new(size, settings.seed, &spec.name);
        let set = recorded.touched(p);
        let (_, width) = recorded.shape(p);
        let numbers = match set {
            RowSet::All(_) => None,
            RowSet::Touched(found) => Some(Vec::<i64>::try_from(found.to_device(Device::Cpu)).expect("rows are int64")),
        };
        for tile in Tile::cover(set.len(), width, (TILE / rows).max(64) as i64) {
            check_cancelled()?;
            let (entries, columns) = (tile.entries() as usize, tile.width() as usize);
            let out = Tensor::empty([rows as i64, tile.entries()], (recorded.kind(), parameters.device()));
            recorded.write_by(Loops::Own, p, set, &tile, &out);
            let out = out.to_device(Device::Cpu).to_kind(kind).contiguous();
            // SAFETY: a contiguous CPU tensor of the element type, which outlives the slice and which nothing else holds.
            let values = unsafe { std::slice::from_raw_parts(out.data_ptr().cast::<T>(), out.numel()) };
            signs.clear();
            signs.resize(entries, 0u32);
            runs.clear();
            for (at, position) in tile.rows.clone().enumerate() {
                let row = numbers.as_ref().map_or(position, |numbers| numbers[position as usize]);
                let mut own = Vec::new();
                fold.runs(row as u64, tile.columns.start as usize, &mut signs[at * columns..][..columns], &mut own);
                runs.push(own);
            }
            for (values, sketch) in values.chunks_exact(entries).zip(all.chunks_exact_mut(size)) {
                let parts = values.chunks_exact(columns).zip(signs.chunks_exact(columns)).zip(&runs);
                for ((values, signs), runs) in parts {
                    Fold::add(sketch, values, signs, runs);
                }
            }
        }
    }
    Ok(all)
}
