//! The factors of one parameter's gradients, packed for a processor's bf16 units once, for all tiles of the parameter.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::factor::Factor;
use super::parameters::Param;
use super::recorded::Recorded;
use super::tile::Tile;
use crate::products::{ALIGNMENT, Bf16, Columns, Packs, Parts, Rows, Values, splits};

/// Number of tokens from which such units, which sum 32 products at a time, are faster than vector instructions.
const LONG: i64 = 20;

/// Packed factors of the gradients of one batch, in [`Packs`] of their owner's.
#[derive(Debug)]
pub struct PackedFactors {
    /// For every factor of the parameter: x by example, and g by row.
    factors: Vec<(Vec<Columns>, Vec<Rows>)>,
    batch: usize,
}

impl PackedFactors {
    /// The factors of a parameter, or `None` if these units do not write its gradients.
    pub fn new(recorded: &Recorded, p: Param, parts: Parts, packs: &mut Packs) -> Option<Self> {
        if !recorded.is_outer_by_units(p, parts) {
            return None;
        }
        let batch = recorded.batch as usize;
        let factors = recorded.factors[p.0].iter().map(|factor| {
            let Factor::Outer { x, g } = factor else { unreachable!("outer products alone") };
            // In the order of the rows, output by output.
            let errors = g.transpose(0, 1);
            let (width, height) = (x.size()[2] as usize, g.size()[3] as usize);
            let inputs = each(x, width, |values| packs.columns(parts, values, width));
            (inputs, each(&errors, height, |values| packs.rows(parts, values, height)))
        });
        Some(Self { factors: factors.collect(), batch })
    }

    /// Whether a tile's corner is one from which packed factors are read.
    pub fn reaches(tile: &Tile) -> bool {
        [tile.rows.start, tile.columns.start].iter().all(|start| (*start as usize).is_multiple_of(ALIGNMENT))
    }

    /// Writes the gradients' entries in a tile to `out` \[rows, entries\], contiguous, in single precision or in bf16.
    ///
    /// # Panics
    /// In bf16 if they cannot be rounded ([`Self::can_be_rounded`]).
    pub fn write(&self, packs: &Packs, tile: &Tile, out: &Tensor) {
        assert!(out.is_contiguous() && out.device() == Device::Cpu, "a tile's block");
        match out.kind() {
            Kind::Float => self.each_row(tile, out, |at, g, x, out: &mut [f32]| packs.add_outer(g, x, at > 0, out)),
            Kind::BFloat16 => {
                assert!(self.can_be_rounded(), "a single factor");
                self.each_row(tile, out, |_, g, x, out: &mut [Bf16]| packs.write_rounded(g, x, out));
            }
            other => unreachable!("a tile's block of {other:?}"),
        }
    }

    /// Whether gradients can be written rounded: a sum of several factors would be rounded each time that one is added.
    pub fn can_be_rounded(&self) -> bool {
        self.factors.len() == 1
    }

    /// Calls `write` for every factor and row of `out`, whose numbers are of type T, with the factor's number, its packed g and x with
    /// the ranges of their columns that the tile has, and the row.
    fn each_row<T>(
        &self,
        tile: &Tile,
        out: &Tensor,
        write: impl Fn(usize, (Rows, Range<usize>), (Columns, Range<usize>), &mut [T]),
    ) {
        // SAFETY: a contiguous CPU tensor of this type (`Self::write`), which is its caller's own.
        let out = unsafe { std::slice::from_raw_parts_mut(out.data_ptr().cast::<T>(), out.numel()) };
        let range = |range: &Range<i64>| range.start as usize..range.end as usize;
        for (at, (inputs, errors)) in self.factors.iter().enumerate() {
            for (row, out) in out.chunks_exact_mut(tile.entries() as usize).enumerate() {
                write(at, (errors[row], range(&tile.rows)), (inputs[row % self.batch], range(&tile.columns)), out);
            }
        }
    }
}

/// Packs each of the matrices \[tokens, columns\] along all axes but the last two.
fn each<T>(matrices: &Tensor, columns: usize, mut pack: impl FnMut(Values<'_>) -> T) -> Vec<T> {
    let kind = if matrices.kind() == Kind::BFloat16 { Kind::BFloat16 } else { Kind::Float };
    let matrices = matrices.to_kind(kind).contiguous();
    let size = matrices.size();
    let entries = size[size.len() - 2] as usize * columns;
    if kind == Kind::BFloat16 {
        // SAFETY: a contiguous CPU tensor of bf16, which outlives the slice.
        let values = unsafe { std::slice::from_raw_parts(matrices.data_ptr().cast::<Bf16>(), matrices.numel()) };
        return values.chunks_exact(entries).map(|values| pack(Values::Bf16(values))).collect();
    }
    // SAFETY: a contiguous CPU tensor of single precision, which outlives the slice.
    let values = unsafe { std::slice::from_raw_parts(matrices.data_ptr().cast::<f32>(), matrices.numel()) };
    values.chunks_exact(entries).map(|values| pack(Values::Single(values))).collect()
}

impl Recorded {
    /// Whether units for bf16 write the gradients of a parameter: there are such units, and the gradients are sums of outer
    /// products over many tokens.
    pub fn is_outer_by_units(&self, p: Param, parts: Parts) -> bool {
        let long = |factor: &Factor| {
            matches!(factor, Factor::Outer { x, .. }
                if x.size()[1] >= LONG && x.device() == Device::Cpu && x.kind() != Kind::Double)
        };
        splits(parts) && !self.factors[p.0].is_empty() && self.factors[p.0].iter().all(long)
    }
}
