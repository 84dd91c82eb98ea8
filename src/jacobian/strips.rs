//! The factors of one parameter's gradients, packed in single precision once for all tiles of the parameter.

use kernelview_loops::outer::{HEIGHT, WIDTH};
use kernelview_loops::strips::{Columns, Rows, Strips, gain};
use tch::{Device, Kind, Tensor};

use super::factor::Factor;
use super::parameters::Param;
use super::recorded::Recorded;
use super::tile::Tile;

/// Packed factors of the gradients of some batches.
#[derive(Debug, Default)]
pub struct StripFactors {
    strips: Strips,
    /// For every row of the gradients its factors, g and x.
    rows: Vec<Vec<(Rows, Columns)>>,
}

impl StripFactors {
    /// Number of tokens from which packing was seen to gain: nothing with 8, a tenth with 12, a third with 32.
    pub const LEAST_TOKENS: i64 = 8;

    /// Forgets all factors, but keeps their memory.
    pub fn clear(&mut self) {
        self.strips.clear();
        self.rows.clear();
    }

    /// Packs the factors of a batch's gradients behind those of other batches.
    ///
    /// # Panics
    /// If [`Recorded::is_outer_in_strips`] does not hold.
    pub fn push(&mut self, recorded: &Recorded, p: Param) {
        let (first, batch) = (self.rows.len(), recorded.batch as usize);
        self.rows.resize_with(first + recorded.rows() as usize, Vec::new);
        for factor in &recorded.factors[p.0] {
            let Factor::Outer { x, g } = factor else { unreachable!("outer products alone") };
            let inputs = each(x, |values, columns| self.strips.columns(values, columns));
            // In the order of the rows, output by output.
            let errors = each(&g.transpose(0, 1), |values, columns| self.strips.rows(values, columns));
            for (at, (row, g)) in self.rows[first..].iter_mut().zip(errors).enumerate() {
                row.push((g, inputs[at % batch]));
            }
        }
    }

    /// Whether a tile's corner is one from which packed factors are read.
    pub fn reach(tile: &Tile) -> bool {
        (tile.rows.start as usize).is_multiple_of(HEIGHT) && (tile.columns.start as usize).is_multiple_of(WIDTH)
    }

    /// Writes the gradients' entries in a tile to `out` \[rows, entries\], contiguous, in single precision.
    ///
    /// # Panics
    /// If the tile is not [reached](Self::reach), or `out` has another form.
    pub fn write(&self, tile: &Tile, out: &Tensor) {
        let rows = [self.rows.len() as i64, tile.entries()];
        assert!(out.is_contiguous() && out.device() == Device::Cpu && out.kind() == Kind::Float && out.size() == rows);
        // SAFETY: a contiguous CPU tensor of this type, which is its caller's own.
        let out = unsafe { std::slice::from_raw_parts_mut(out.data_ptr().cast::<f32>(), out.numel()) };
        let range = |range: &std::ops::Range<i64>| range.start as usize..range.end as usize;
        for (factors, out) in self.rows.iter().zip(out.chunks_exact_mut(tile.entries() as usize)) {
            for (at, (g, x)) in factors.iter().enumerate() {
                self.strips.write_outer((*g, range(&tile.rows)), (*x, range(&tile.columns)), at > 0, out);
            }
        }
    }
}

/// Packs each of the matrices \[tokens, columns\] along all axes but the last two.
fn each<T>(matrices: &Tensor, mut pack: impl FnMut(&[f32], usize) -> T) -> Vec<T> {
    let matrices = matrices.contiguous();
    let [.., tokens, columns] = matrices.size()[..] else { unreachable!("matrices") };
    assert!(matrices.kind() == Kind::Float && matrices.device() == Device::Cpu, "factors in single precision");
    // SAFETY: a contiguous CPU tensor of this type, which outlives the slice.
    let values = unsafe { std::slice::from_raw_parts(matrices.data_ptr().cast::<f32>(), matrices.numel()) };
    values.chunks_exact((tokens * columns) as usize).map(|values| pack(values, columns as usize)).collect()
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
