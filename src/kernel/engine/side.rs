//! One side of a worker's products: a panel with the buffers to which a tile's gradients and their signs are written.

use kernelview_loops::instructions::has_avx512;
use kernelview_loops::signs::{NotANumber, Signs};
use kernelview_loops::{Lanes, Real};
use tch::{Device, Kind, Tensor};

use super::arithmetic::Arithmetic;
use super::options::GramOptions;
use super::panel::Panel;
use super::symmetry::mirrored;
use crate::error::{Error, Result};
use crate::jacobian::{Loops, PackedFactors, Param, RowSet, StripFactors, Tile};
use crate::kernel::OVERFLOW;
use crate::products::{Gathered, Packs, Parts, Tokens, multiplies_gradients, multiplies_rounded};

/// A panel with its buffers.
pub(super) struct Side {
    pub panel: Panel,
    /// Gradients of a tile, followed by their signs if a formula needs both.
    buffer: Tensor,
    /// Gradients of a tile, rounded to bf16.
    rounded: Tensor,
    /// Gradients of a tile in the layout of matrix units.
    gathered: Gathered,
    /// Factors of a parameter for matrix units.
    tokens: Tokens,
    pub signs: Signs,
    loops: Loops,
    /// The parts into which units for bf16 split factors, if asked for.
    pub parts: Option<Parts>,
    /// The factors of the last parameter, if units for bf16 write its gradients.
    packed: Option<(Param, Option<Vec<PackedFactors>>)>,
    packs: Packs,
    strips: StripFactors,
    /// The parameter whose factors were packed in strips last, and whether that gained.
    in_strips: Option<(Param, bool)>,
    arithmetic: Arithmetic,
    pretended_memory: Option<i64>,
}

impl Side {
    pub fn new(panel: Panel, options: &GramOptions) -> Self {
        let (kind, device) = (panel.first().kind(), panel.first().outputs().device());
        let arithmetic = options.arithmetic_on(device);
        let loops = if arithmetic == Arithmetic::Cores { Loops::Own } else { Loops::Library };
        Self {
            panel,
            loops,
            parts: options.parts.filter(|_| arithmetic == Arithmetic::Cores),
            packed: None,
            packs: Packs::default(),
            strips: StripFactors::default(),
            in_strips: None,
            buffer: Tensor::empty([0], (buffer_kind(kind, arithmetic), device)),
            rounded: Tensor::empty([0], (Kind::BFloat16, device)),
            gathered: Gathered::default(),
            tokens: Tokens::default(),
            signs: Signs::default(),
            arithmetic,
            pretended_memory: options.pretended_memory,
        }
    }

    pub fn rows(&self) -> i64 {
        self.panel.rows()
    }

    /// Gradients \[rows, entries\] of a tile, followed by as many rows for signs.
    pub fn write(&mut self, p: Param, set: &RowSet, tile: &Tile) -> Tensor {
        let (rows, entries) = (self.rows(), tile.entries());
        let needed = 2 * rows * entries;
        // As libtorch and `tch` report a failed allocation.
        assert!(self.pretended_memory.is_none_or(|most| needed <= most), "out of memory (simulated)");
        if (self.buffer.numel() as i64) < needed {
            self.buffer = Tensor::empty([needed], (self.buffer.kind(), self.buffer.device()));
        }
        let block = self.buffer.narrow(0, 0, needed).view([2 * rows, entries]);
        let gradients = block.narrow(0, 0, rows);
        let (kind, buffer) = (self.panel.first().kind(), self.buffer.kind());
        if let Some(packed) = self.packed(p).filter(|_| buffer == Kind::Float && PackedFactors::reaches(tile)) {
            packed.0.write_packed((packed.1, packed.2), tile, &gradients);
        } else if self.loops == Loops::Own && buffer == Kind::Float && self.packs_strips(p) {
            self.strips.write(tile, &gradients);
        } else if self.parts.is_some() || kind == buffer {
            self.panel.write(self.loops, p, set, tile, &gradients);
        } else {
            // Rounded, as gradients in a buffer of 16 bits are.
            let rounded = Tensor::empty([rows, entries], (kind, self.buffer.device()));
            self.panel.write(self.loops, p, set, tile, &rounded);
            gradients.shallow_clone().copy_(&rounded);
        }
        block
    }

    /// Whether a tile's gradients are written in the layout of matrix units, which then multiply them without packing.
    pub fn gathers(&mut self, p: Param, tile: &Tile) -> bool {
        self.parts.is_some_and(multiplies_gradients) && PackedFactors::reaches(tile) && self.packed(p).is_some()
    }

    /// Writes a tile's gradients in that layout.
    pub fn gather(&mut self, p: Param, tile: &Tile) {
        let (rows, entries) = (self.rows(), tile.entries());
        assert!(self.pretended_memory.is_none_or(|most| rows * entries <= most), "out of memory (simulated)");
        let parts = self.parts.expect("packed factors");
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.begin(parts, rows as usize, (tile.height() as usize, tile.width() as usize));
        let (panel, packed, packs) = self.packed(p).expect("packed factors");
        panel.gather((packed, packs), tile, &mut gathered);
        self.gathered = gathered;
    }

    /// Inner products \[rows, rows of the other side\] of gathered gradients, or of these with one another on and above the diagonal.
    pub fn gathered_products(&self, other: Option<&Self>) -> Tensor {
        self.products_with(other, |sums| self.gathered.add_products(other.map(|side| &side.gathered), sums))
    }

    /// Inner products \[rows, rows of the other side\] of a parameter's gradients, through their factors on matrix units, or of these
    /// with one another.
    pub fn ghost_on_units(&mut self, p: Param, other: Option<&mut Self>) -> Tensor {
        let parts = self.parts.expect("parts");
        self.panel.pack_tokens(p, parts, &mut self.tokens);
        let other = other.map(|side| {
            side.panel.pack_tokens(p, parts, &mut side.tokens);
            &*side
        });
        let products = self.products_with(other, |sums| self.tokens.add_products(other.map(|side| &side.tokens), sums));
        // The halves of a block on the diagonal are summed in other orders.
        if other.is_none() { mirrored(&products) } else { products }
    }

    /// What is added to zeros \[rows, rows of the other side\].
    fn products_with(&self, other: Option<&Self>, add: impl FnOnce(&mut [f64])) -> Tensor {
        let size = [self.rows(), other.unwrap_or(self).rows()];
        let mut sums = vec![0.0; (size[0] * size[1]) as usize];
        add(&mut sums);
        Tensor::from_slice(&sums).view(size)
    }

    /// Whether a tile's gradients are written in bf16: in one part, by vectors that multiply them as they lie.
    pub fn writes_rounded(&mut self, p: Param, tile: &Tile) -> bool {
        self.parts == Some(Parts::One)
            && multiplies_rounded()
            && PackedFactors::reaches(tile)
            && self.packed(p).is_some_and(|(_, packed, _)| packed.iter().all(PackedFactors::can_be_rounded))
    }

    /// Gradients \[rows, entries\] of a tile in bf16.
    pub fn write_rounded(&mut self, p: Param, tile: &Tile) -> Tensor {
        let (rows, entries) = (self.rows(), tile.entries());
        assert!(self.pretended_memory.is_none_or(|most| rows * entries <= most), "out of memory (simulated)");
        if (self.rounded.numel() as i64) < rows * entries {
            self.rounded = Tensor::empty([rows * entries], (Kind::BFloat16, Device::Cpu));
        }
        let block = self.rounded.narrow(0, 0, rows * entries).view([rows, entries]);
        let (panel, packed, packs) = self.packed(p).expect("packed factors");
        panel.write_packed((packed, packs), tile, &block);
        block
    }

    /// The panel and a parameter's packed factors with their memory, kept for its other tiles; `None` if units for bf16 do not write
    /// its gradients.
    fn packed(&mut self, p: Param) -> Option<(&Panel, &[PackedFactors], &Packs)> {
        let parts = self.parts?;
        if self.packed.as_ref().is_none_or(|(of, _)| *of != p) {
            self.packs.clear();
            self.packed = Some((p, self.panel.packed(p, parts, &mut self.packs)));
        }
        let packed = self.packed.as_ref()?.1.as_deref()?;
        Some((&self.panel, packed, &self.packs))
    }

    /// Whether a parameter's factors are packed in strips, which are kept for its other tiles.
    fn packs_strips(&mut self, p: Param) -> bool {
        if self.in_strips.is_none_or(|(of, _)| of != p) {
            self.in_strips = Some((p, self.panel.pack_strips(p, &mut self.strips)));
        }
        self.in_strips.is_some_and(|(_, gains)| gains)
    }

    /// Whether products with signs take them from gradients chunk by chunk, so that they are not written: this program's loops in single
    /// precision.
    pub fn signs_chunks(&self) -> bool {
        self.loops == Loops::Own && self.buffer.kind() == Kind::Float && has_avx512()
    }

    /// Takes the signs of a written block: packed, and if `dense` also as numbers after the gradients; if they are
    /// multiplied as matrices, always as numbers.
    pub fn take_signs(&mut self, block: &Tensor, dense: bool, lanes: Lanes) -> Result<()> {
        let rows = self.rows();
        let entries = block.size()[1];
        let result = match (self.arithmetic, block.kind()) {
            (Arithmetic::Cores, Kind::Double) => pack::<f64>(&mut self.signs, block, rows, entries, dense, lanes),
            (Arithmetic::Cores, _) => pack::<f32>(&mut self.signs, block, rows, entries, dense, lanes),
            (Arithmetic::Matrices, _) => dense_signs(block, rows),
        };
        result.map_err(|NotANumber { row }| Error::NotFinite {
            what: "a gradient".into(),
            place: format!("example {}, counted from 0", self.panel.example(row)),
            advice: OVERFLOW.into(),
        })
    }
}

/// Element type of a tile's buffer. The program's own loops have no 16-bit types: values rounded to those are multiplied in
/// single precision.
fn buffer_kind(kind: Kind, arithmetic: Arithmetic) -> Kind {
    if arithmetic == Arithmetic::Cores && kind != Kind::Double { Kind::Float } else { kind }
}

/// Writes the signs of a block's gradients after the gradients.
fn dense_signs(block: &Tensor, rows: i64) -> Result<(), NotANumber> {
    let gradients = block.narrow(0, 0, rows);
    // The sign of NaN would be zero.
    let bad = gradients.isnan().any_dim(1, false);
    if bad.any().int64_value(&[]) != 0 {
        return Err(NotANumber { row: bad.to_kind(Kind::Int64).argmax(0, false).int64_value(&[]) as usize });
    }
    block.narrow(0, rows, rows).copy_(&gradients.sign());
    Ok(())
}

fn pack<T: Real>(
    signs: &mut Signs,
    block: &Tensor,
    rows: i64,
    entries: i64,
    dense: bool,
    lanes: Lanes,
) -> Result<(), NotANumber> {
    let half = (rows * entries) as usize;
    assert!(block.is_contiguous() && block.numel() == 2 * half, "gradients with room for their signs");
    // SAFETY: the block is a contiguous CPU tensor (`GramOptions::check_arithmetic`) of 2·half elements of type T (its kind was
    // matched by the caller, and `buffer_kind` knows no third one). It outlives the slices, and nobody else reads or writes it meanwhile: the buffer is this worker's own.
    let values = unsafe { std::slice::from_raw_parts_mut(block.data_ptr().cast::<T>(), 2 * half) };
    let (gradients, after) = values.split_at_mut(half);
    signs.pack(gradients, entries as usize, dense.then_some(after), lanes)
}
