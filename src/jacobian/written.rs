//! Writes the gradients of a recorded pass from their factors, one tile of a parameter at a time.

use kernelview_loops::instructions::has_avx512;
use kernelview_loops::outer::{self, Strided};
use tch::{Device, Kind, Tensor};

use super::factor::Factor;
use super::parameters::Param;
use super::recorded::Recorded;
use super::tile::{RowSet, Tile};

/// Implementations that write sums of outer products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loops {
    /// This program's own loops, on a CPU with the instructions and in single precision; otherwise libtorch's.
    Own,
    /// libtorch's products everywhere, as on a GPU.
    Library,
}

impl Recorded {
    /// Writes the gradients' entries in one tile of a parameter to `out` \[C·B, entries of the tile\], contiguous, in the order
    /// of [`Recorded::places`]. Factors are converted to its element type, in which they are multiplied and summed.
    pub fn write(&self, p: Param, set: &RowSet, tile: &Tile, out: &Tensor) {
        self.write_by(Loops::Own, p, set, tile, out);
    }

    /// The same with the given loops.
    pub fn write_by(&self, loops: Loops, p: Param, set: &RowSet, tile: &Tile, out: &Tensor) {
        let mut written = false;
        for factor in &self.factors[p.0] {
            match factor {
                Factor::Outer { x, g } => self.write_outer(loops, (x, g), tile, out, written),
                Factor::Vector { g } => {
                    let values = g.narrow(2, tile.rows.start, tile.height()).transpose(0, 1);
                    let mut target = out.view([self.count, self.batch, tile.height()]);
                    if written {
                        let _ = target.g_add_(&values);
                    } else {
                        target.copy_(&values);
                    }
                }
                Factor::Rows { ids, g } => {
                    if !written {
                        let _ = out.shallow_clone().zero_();
                    }
                    self.add_rows(ids, g, set, tile, out);
                }
            }
            written = true;
        }
        if !written {
            let _ = out.shallow_clone().zero_();
        }
    }

    /// `Σ_t g_t x_tᵀ`, one product per example and output, into `out` or added to it.
    fn write_outer(&self, loops: Loops, (x, g): (&Tensor, &Tensor), tile: &Tile, out: &Tensor, add: bool) {
        if loops != Loops::Library && out.device() == Device::Cpu && out.kind() == Kind::Float && has_avx512() {
            if x.kind() == Kind::Float {
                self.write_outer_on_cpu(x, g, tile, out, add);
            } else {
                // Of other numbers, what the tile needs.
                let single = |t: Tensor| t.to_kind(Kind::Float).contiguous();
                let x = single(x.narrow(2, tile.columns.start, tile.width()));
                let g = single(g.narrow(3, tile.rows.start, tile.height()));
                let whole = Tile { rows: 0..tile.height(), columns: 0..tile.width() };
                self.write_outer_on_cpu(&x, &g, &whole, out, add);
            }
            return;
        }
        let x = x.narrow(2, tile.columns.start, tile.width()).to_kind(out.kind());
        for c in 0..self.count {
            let g = g.select(1, c).narrow(2, tile.rows.start, tile.height()).transpose(1, 2).to_kind(out.kind());
            let mut target = out.narrow(0, c * self.batch, self.batch).view([self.batch, tile.height(), tile.width()]);
            let _ = if add { target.baddbmm_(&g, &x) } else { g.bmm_out(&target, &x) };
        }
    }

    /// Calls `write` for every row of the output, with the x and g \[T, …\] of its gradient and its slice of `out`.
    fn for_each_row(
        &self,
        x: &Tensor,
        g: &Tensor,
        tile: &Tile,
        out: &Tensor,
        write: impl Fn(&[f32], &[f32], &mut [f32]),
    ) {
        assert!(x.is_contiguous() && g.is_contiguous() && out.is_contiguous(), "factors are kept contiguous");
        // SAFETY: contiguous CPU tensors of single precision, which outlive the slices; `out` is its caller's own.
        let (inputs, errors, out) = unsafe {
            let slice = |t: &Tensor| std::slice::from_raw_parts(t.data_ptr().cast::<f32>(), t.numel());
            (slice(x), slice(g), std::slice::from_raw_parts_mut(out.data_ptr().cast::<f32>(), out.numel()))
        };
        let (inner, outer) = ((x.size()[1] * x.size()[2]) as usize, (g.size()[2] * g.size()[3]) as usize);
        let (batch, count) = (self.batch as usize, self.count as usize);
        for (row, out) in out.chunks_exact_mut(tile.entries() as usize).enumerate() {
            let (c, b) = (row / batch, row % batch);
            write(&inputs[b * inner..][..inner], &errors[(b * count + c) * outer..][..outer], out);
        }
    }

    fn write_outer_on_cpu(&self, x: &Tensor, g: &Tensor, tile: &Tile, out: &Tensor, add: bool) {
        let (width, height) = (x.size()[2] as usize, g.size()[3] as usize);
        self.for_each_row(x, g, tile, out, |x, g, out| {
            outer::write(
                Strided::new(g, height, tile.rows.start as usize, tile.height() as usize),
                Strided::new(x, width, tile.columns.start as usize, tile.width() as usize),
                add,
                out,
            );
        });
    }

    fn add_rows(&self, ids: &Tensor, g: &Tensor, set: &RowSet, tile: &Tile, out: &Tensor) {
        let range = &tile.rows;
        let (position, present) = match set {
            RowSet::All(_) => (ids.shallow_clone(), ids.ge(range.start).logical_and(&ids.lt(range.end))),
            RowSet::Touched(rows) => {
                let position = ids.contiguous().bucketize(rows, false, false);
                let inside = position.clamp(0, rows.size()[0] - 1);
                let in_range = inside.ge(range.start).logical_and(&inside.lt(range.end));
                let present = rows.take(&inside).eq_tensor(ids).logical_and(&in_range);
                (inside, present)
            }
        };
        // Row (c·B + b)·height + position of the target; rows outside the tile add zeros to its first row.
        let local = (position - range.start) * present.to_kind(Kind::Int64);
        let base = Tensor::arange(self.rows(), (Kind::Int64, ids.device()));
        let base = base.view([self.count, self.batch, 1]).transpose(0, 1) * tile.height();
        let index = (base + local.unsqueeze(1)).reshape([-1]);
        let g = g.narrow(3, tile.columns.start, tile.width()).to_kind(out.kind());
        let kept = &g * present.unsqueeze(1).unsqueeze(-1).to_kind(g.kind());
        let mut target = out.view([self.rows() * tile.height(), tile.width()]);
        let _ = target.index_add_(0, &index, &kept.reshape([-1, tile.width()]));
    }
}
