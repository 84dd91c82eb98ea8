//! The factors of one parameter's gradients, packed for a processor's bf16 units once, for all tiles of the parameter.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::factor::Factor;
use super::parameters::Param;
use super::recorded::Recorded;
use super::tile::Tile;
use crate::products::{
    ALIGNMENT, Bf16, Columns, Gathered, Packs, Parts, Rows, STEP, Tokens, Values, multiplies_gradients, splits,
};

/// Packed factors of the gradients of one batch, in [`Packs`] of their owner's.
#[derive(Debug)]
pub struct PackedFactors {
    /// For every row its factors, g and x.
    rows: Vec<Vec<(Rows, Columns)>>,
}

impl PackedFactors {
    /// Tokens that units sum at a time; packed factors have whole steps of them.
    pub const STEP: i64 = STEP as i64;

    /// Whether such units write gradients faster than vector instructions: so many, each a sum over so many tokens.
    pub fn gain(parts: Parts, gradients: impl IntoIterator<Item = (i64, i64)>) -> bool {
        // The tokens that vectors sum meanwhile, measured. With one part, factors are in bf16, too, which vectors of single precision
        // would convert for every tile: on matrix units this never gains, on vectors of bf16 not from 16 tokens on.
        let least = match parts {
            Parts::One if multiplies_gradients(parts) => 1,
            Parts::One => Self::STEP / 2,
            Parts::Two => 18,
            Parts::Three => 26,
        };
        let sum = |sum: (i64, i64), (count, tokens): (i64, i64)| {
            (sum.0 + count * tokens, sum.1 + count * (tokens as u64).div_ceil(Self::STEP as u64) as i64)
        };
        let (tokens, steps) = gradients.into_iter().fold((0, 0), sum);
        tokens >= least * steps
    }

    /// The factors of a parameter, or `None` if these units cannot write its gradients.
    pub fn new(recorded: &Recorded, p: Param, parts: Parts, packs: &mut Packs) -> Option<Self> {
        if !recorded.is_outer_by_units(p, parts) {
            return None;
        }
        let batch = recorded.batch as usize;
        let mut rows = vec![Vec::new(); recorded.rows() as usize];
        for factor in &recorded.factors[p.0] {
            let Factor::Outer { x, g } = factor else { unreachable!("outer products alone") };
            // In the order of the rows, output by output.
            let errors = g.transpose(0, 1);
            let (width, height) = (x.size()[2] as usize, g.size()[3] as usize);
            let inputs = each(x, width, |values| packs.columns(parts, values, width));
            let errors = each(&errors, height, |values| packs.rows(parts, values, height));
            for (at, (row, g)) in rows.iter_mut().zip(errors).enumerate() {
                row.push((g, inputs[at % batch]));
            }
        }
        Some(Self { rows })
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
        self.rows.iter().all(|factors| factors.len() == 1)
    }

    /// Writes the gradients' entries in a tile in the layout of matrix units, as rows from `first` on.
    pub(crate) fn gather(&self, packs: &Packs, tile: &Tile, first: usize, out: &mut Gathered) {
        let (rows, columns) = ranges(tile);
        packs.gather(&self.rows, (&rows, &columns), first, out);
    }

    /// Calls `write` for every row of `out`, whose numbers are of type T, and every factor, with the factor's number, its packed g and
    /// x with the ranges of their columns that the tile has, and the row.
    fn each_row<T>(
        &self,
        tile: &Tile,
        out: &Tensor,
        write: impl Fn(usize, (Rows, Range<usize>), (Columns, Range<usize>), &mut [T]),
    ) {
        // SAFETY: a contiguous CPU tensor of this type (`Self::write`), which is its caller's own.
        let out = unsafe { std::slice::from_raw_parts_mut(out.data_ptr().cast::<T>(), out.numel()) };
        let (rows, columns) = ranges(tile);
        for (factors, out) in self.rows.iter().zip(out.chunks_exact_mut(tile.entries() as usize)) {
            for (at, (g, x)) in factors.iter().enumerate() {
                write(at, (*g, rows.clone()), (*x, columns.clone()), out);
            }
        }
    }
}

/// A tile's rows and columns.
pub(super) fn ranges(tile: &Tile) -> (Range<usize>, Range<usize>) {
    let range = |range: &Range<i64>| range.start as usize..range.end as usize;
    (range(&tile.rows), range(&tile.columns))
}

/// Packs each of the matrices \[tokens, columns\] along all axes but the last two.
pub(super) fn each<T>(matrices: &Tensor, columns: usize, mut pack: impl FnMut(Values<'_>) -> T) -> Vec<T> {
    let matrices = packable(matrices);
    let size = matrices.size();
    let (values, entries) = (values(&matrices), size[size.len() - 2] as usize * columns);
    (0..values.len()).step_by(entries.max(1)).map(|first| pack(values.part(first..first + entries))).collect()
}

/// In bf16 or in single precision, without gaps.
fn packable(t: &Tensor) -> Tensor {
    let kind = if t.kind() == Kind::BFloat16 { Kind::BFloat16 } else { Kind::Float };
    t.to_kind(kind).contiguous()
}

/// The numbers of a tensor that is [`packable`].
fn values(t: &Tensor) -> Values<'_> {
    assert!(t.is_contiguous() && t.device() == Device::Cpu, "numbers in memory");
    match t.kind() {
        // SAFETY: a contiguous CPU tensor of this type, which outlives the slice.
        Kind::BFloat16 => Values::Bf16(unsafe { std::slice::from_raw_parts(t.data_ptr().cast::<Bf16>(), t.numel()) }),
        // SAFETY: as above.
        Kind::Float => Values::Single(unsafe { std::slice::from_raw_parts(t.data_ptr().cast::<f32>(), t.numel()) }),
        other => unreachable!("a factor of {other:?}"),
    }
}

impl Recorded {
    /// Packs the factors of a parameter by tokens, behind those of other batches.
    ///
    /// # Panics
    /// If the gradients are not a single factor ([`Self::outer_tokens`]).
    pub(crate) fn push_tokens(&self, p: Param, out: &mut Tokens) {
        let (x, g) = self.outer_factors(p).expect("a single outer factor");
        let (x, g) = (packable(x), packable(&g.transpose(0, 1)));
        out.push(values(&x), values(&g), x.size()[1] as usize);
    }

    /// Whether units for bf16 can write the gradients of a parameter: there are such units, and the gradients are sums of outer
    /// products.
    pub fn is_outer_by_units(&self, p: Param, parts: Parts) -> bool {
        let outer = |factor: &Factor| matches!(factor, Factor::Outer { x, .. } if x.device() == Device::Cpu && x.kind() != Kind::Double);
        splits(parts) && !self.factors[p.0].is_empty() && self.factors[p.0].iter().all(outer)
    }

    /// Of every sum of outer products that a parameter's gradients have: how many gradients, and over how many tokens.
    pub fn outer_sums(&self, p: Param) -> impl Iterator<Item = (i64, i64)> {
        self.factors[p.0].iter().filter_map(|factor| match factor {
            Factor::Outer { x, .. } => Some((self.rows(), x.size()[1])),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails for: the shortest or the longest gradients in place of their mean, tokens of a step that is not full counted as if it were.
    #[test]
    fn the_mean_number_of_tokens_decides_who_writes_gradients() {
        let gain = |parts, gradients: &[(i64, i64)]| PackedFactors::gain(parts, gradients.iter().copied());
        for (gradients, two, three) in [
            (&[(32, 8)][..], false, false),
            (&[(32, 20)], true, false),
            (&[(32, 32)], true, true),
            (&[(32, 40)], true, false),
            (&[(32, 34)], false, false),
            (&[(32, 64)], true, true),
            (&[(1, 8), (31, 32)], true, true),
            (&[(31, 8), (1, 32)], false, false),
        ] {
            assert_eq!((gain(Parts::Two, gradients), gain(Parts::Three, gradients)), (two, three), "{gradients:?}");
        }
        assert_eq!(gain(Parts::One, &[(32, 8)]), multiplies_gradients(Parts::One));
        assert!((16..200).all(|tokens| gain(Parts::One, &[(32, tokens)])));
    }
}
