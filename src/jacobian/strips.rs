//! The factors of one parameter's gradients, packed in single precision once for all tiles of the parameter.

use kernelview_loops::strips::{Columns, Rows, gain, write_outer};
use tch::{Device, Kind, Tensor};

use super::factor::Factor;
use super::packed::{each, ranges};
use super::parameters::Param;
use super::recorded::Recorded;
use super::tile::Tile;
use crate::products::Values;

/// Packed factors of the gradients of some batches.
#[derive(Debug)]
pub struct StripFactors {
    /// A tensor, so that a shortage of memory is reported as of any other; kept for the next parameter, because to touch new memory can
    /// cost more than to pack.
    numbers: Tensor,
    used: usize,
    /// For every row of the gradients its factors, g and x.
    rows: Vec<Vec<(Rows, Columns)>>,
}

impl Default for StripFactors {
    fn default() -> Self {
        Self { numbers: Tensor::empty([0], (Kind::Float, Device::Cpu)), used: 0, rows: Vec::new() }
    }
}

impl StripFactors {
    /// Number of tokens from which packing was not seen to lose: with 12 it gains a tenth, with 32 a third.
    pub const LEAST_TOKENS: i64 = 8;

    /// Forgets all factors, and makes room for those of a parameter of these batches.
    ///
    /// # Panics
    /// As libtorch does, if there is no memory for them.
    pub fn begin<'a>(&mut self, batches: impl Iterator<Item = &'a Recorded>, p: Param) {
        let factors = batches.flat_map(|recorded| &recorded.factors[p.0]);
        let needed: usize = factors.filter_map(room).sum();
        (self.used, self.rows) = (0, Vec::new());
        if self.numbers.numel() < needed {
            // First what is there is given back.
            self.numbers = Tensor::empty([0], (Kind::Float, Device::Cpu));
            self.numbers = Tensor::empty([needed as i64], (Kind::Float, Device::Cpu));
        }
    }

    /// Packs the factors of a batch's gradients behind those of other batches.
    ///
    /// # Panics
    /// If [`Recorded::is_outer_in_strips`] does not hold, or there is no room for them ([`Self::begin`]).
    pub fn push(&mut self, recorded: &Recorded, p: Param) {
        let (at, batch, count) = (self.rows.len(), recorded.batch as usize, recorded.count as usize);
        self.rows.resize_with(at + batch * count, Vec::new);
        // SAFETY: a contiguous CPU tensor of this type, which is this struct's own.
        let numbers =
            unsafe { std::slice::from_raw_parts_mut(self.numbers.data_ptr().cast::<f32>(), self.numbers.numel()) };
        for factor in &recorded.factors[p.0] {
            let Factor::Outer { x, g } = factor else { unreachable!("outer products alone") };
            let (tokens, width, height) = (x.size()[1] as usize, x.size()[2] as usize, g.size()[3] as usize);
            let first = &mut self.used;
            let inputs = each(x, width, |values| {
                let packed = Columns::pack(single(values), width, *first, numbers);
                *first += Columns::room(tokens, width);
                packed
            });
            // [B, C], where rows are output by output.
            let errors = each(g, height, |values| {
                let packed = Rows::pack(single(values), height, *first, numbers);
                *first += Rows::room(tokens, height);
                packed
            });
            for (place, row) in self.rows[at..].iter_mut().enumerate() {
                let (c, b) = (place / batch, place % batch);
                row.push((errors[b * count + c], inputs[b]));
            }
        }
    }

    /// Writes the gradients' entries in a tile to `out` \[rows, entries\], contiguous, in single precision.
    ///
    /// # Panics
    /// If `out` has another form.
    pub fn write(&self, tile: &Tile, out: &Tensor) {
        let rows = [self.rows.len() as i64, tile.entries()];
        assert!(out.is_contiguous() && out.device() == Device::Cpu && out.kind() == Kind::Float && out.size() == rows);
        // SAFETY: contiguous CPU tensors of this type, this struct's own and its caller's.
        let (numbers, out) = unsafe {
            (
                std::slice::from_raw_parts(self.numbers.data_ptr().cast::<f32>(), self.used),
                std::slice::from_raw_parts_mut(out.data_ptr().cast::<f32>(), out.numel()),
            )
        };
        let (heights, widths) = ranges(tile);
        for (factors, out) in self.rows.iter().zip(out.chunks_exact_mut(tile.entries() as usize)) {
            for (at, (g, x)) in factors.iter().enumerate() {
                write_outer(numbers, (*g, heights.clone()), (*x, widths.clone()), at > 0, out);
            }
        }
    }
}

/// Numbers that a factor takes.
fn room(factor: &Factor) -> Option<usize> {
    let Factor::Outer { x, g } = factor else { return None };
    let of = |t: &Tensor, room: fn(usize, usize) -> usize| {
        let [.., tokens, columns] = t.size()[..] else { unreachable!("matrices") };
        t.numel() / (tokens * columns) as usize * room(tokens as usize, columns as usize)
    };
    Some(of(x, Columns::room) + of(g, Rows::room))
}

/// The numbers of a factor that is packed ([`Recorded::is_outer_in_strips`]).
fn single(values: Values<'_>) -> &[f32] {
    let Values::Single(values) = values else { unreachable!("factors in single precision") };
    values
}

impl Recorded {
    /// Whether packing a parameter's factors in strips gains: its gradients are sums of outer products over many tokens, in single
    /// precision on a processor where it does.
    pub(crate) fn is_outer_in_strips(&self, p: Param) -> bool {
        let long = |factor: &Factor| {
            matches!(factor, Factor::Outer { x, g } if x.size()[1] >= StripFactors::LEAST_TOKENS
                && x.device() == Device::Cpu && x.kind() == Kind::Float && g.kind() == Kind::Float)
        };
        gain() && !self.factors[p.0].is_empty() && self.factors[p.0].iter().all(long)
    }
}
