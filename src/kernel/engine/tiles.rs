//! One worker's products: writes a tile's gradients to a buffer, multiplies them, and takes and multiplies their signs, in
//! either [`Arithmetic`].

use kernelview_loops::dots;
use kernelview_loops::instructions::has_avx512;
use kernelview_loops::signs::{NotANumber, Signs};
use kernelview_loops::{Lanes, Real};
use tch::{Device, Kind, Tensor};

use super::arithmetic::Arithmetic;
use super::options::GramOptions;
use super::panel::Panel;
use super::sums::Products;
use super::symmetry::mirrored;
use crate::error::{Error, Result};
use crate::jacobian::{Loops, PackedFactors, Param, RowSet, Tile};
use crate::kernel::{FormulaSet, OVERFLOW};
use crate::products::{self, Packs, Parts, multiplies_rounded};

/// A worker with its panels, buffers and sums.
pub(super) struct Tiler {
    held: Side,
    passing: Option<Side>,
    sets: Vec<(Param, RowSet)>,
    share_matrices: bool,
    arithmetic: Arithmetic,
    lanes: Lanes,
    products: Products,
    /// Sums of products of packed signs, exact.
    counts: Vec<i64>,
}

/// A panel with its buffers.
struct Side {
    panel: Panel,
    /// Gradients of a tile, followed by their signs if a formula needs both.
    buffer: Tensor,
    /// Gradients of a tile, rounded to bf16.
    rounded: Tensor,
    signs: Signs,
    loops: Loops,
    /// The parts into which units for bf16 split factors, if asked for.
    parts: Option<Parts>,
    /// The factors of the last parameter, if units for bf16 write its gradients.
    packed: Option<(Param, Option<Vec<PackedFactors>>)>,
    packs: Packs,
    arithmetic: Arithmetic,
    pretended_memory: Option<i64>,
}

impl Side {
    fn new(panel: Panel, options: &GramOptions) -> Self {
        let (kind, device) = (panel.first().kind(), panel.first().outputs().device());
        let arithmetic = options.arithmetic_on(device);
        let loops = if arithmetic == Arithmetic::Cores { Loops::Own } else { Loops::Library };
        Self {
            panel,
            loops,
            parts: options.parts.filter(|_| arithmetic == Arithmetic::Cores),
            packed: None,
            packs: Packs::default(),
            buffer: Tensor::empty([0], (buffer_kind(kind, arithmetic), device)),
            rounded: Tensor::empty([0], (Kind::BFloat16, device)),
            signs: Signs::default(),
            arithmetic,
            pretended_memory: options.pretended_memory,
        }
    }

    fn rows(&self) -> i64 {
        self.panel.rows()
    }

    /// Gradients \[rows, entries\] of a tile, followed by as many rows for signs.
    fn write(&mut self, p: Param, set: &RowSet, tile: &Tile) -> Tensor {
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

    /// Whether a tile's gradients are written in bf16: in one part, by vectors that multiply them as they lie.
    fn writes_rounded(&mut self, p: Param, tile: &Tile) -> bool {
        self.parts == Some(Parts::One)
            && multiplies_rounded()
            && PackedFactors::reaches(tile)
            && self.packed(p).is_some_and(|(_, packed, _)| packed.iter().all(PackedFactors::can_be_rounded))
    }

    /// Gradients \[rows, entries\] of a tile in bf16.
    fn write_rounded(&mut self, p: Param, tile: &Tile) -> Tensor {
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

    /// Takes the signs of a written block: packed, and if `dense` also as numbers after the gradients; if they are
    /// multiplied as matrices, always as numbers.
    fn take_signs(&mut self, block: &Tensor, dense: bool, lanes: Lanes) -> Result<()> {
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

impl Tiler {
    pub fn new(held: Panel, passing: Option<Panel>, sets: Vec<(Param, RowSet)>, options: &GramOptions) -> Self {
        let rows = (held.rows(), passing.as_ref().map_or(held.rows(), Panel::rows));
        let device = held.first().outputs().device();
        let same = passing.is_none();
        let products = Products::zeros(rows, options.formulas, same, options.include.len(), device);
        let arithmetic = options.arithmetic_on(device);
        let packed = options.formulas.signgd && arithmetic == Arithmetic::Cores;
        Self {
            held: Side::new(held, options),
            passing: passing.map(|panel| Side::new(panel, options)),
            sets,
            share_matrices: options.share_matrices,
            arithmetic,
            lanes: Lanes::best(),
            products,
            counts: vec![0; if packed { (rows.0 * rows.1) as usize } else { 0 }],
        }
    }

    /// Multiplies one parameter's gradients through their factors.
    pub fn ghost(&mut self, p: Param, formulas: FormulaSet) {
        let held = &self.held.panel;
        let other = self.passing.as_ref().map(|s| &s.panel);
        let parts = self.held.parts;
        let product = |wanted: bool, signs: (bool, bool)| {
            wanted.then(|| match other {
                None if signs.0 == signs.1 => held.ghost_of_itself(p, signs.0, parts),
                other => held.ghost(other.unwrap_or(held), p, signs, parts),
            })
        };
        let same = other.is_none();
        let sgd = product(formulas.sgd || same, (false, false));
        let signgd = product(formulas.signgd, (true, true));
        let asymmetric = product(formulas.asymmetric, (false, true));
        let reversed = product(formulas.asymmetric && !same, (true, false));
        if same {
            let trace = |t: &Option<Tensor>| t.as_ref().map_or(0.0, diagonal_sum);
            self.add_traces(p, trace(&sgd), trace(&signgd));
        }
        let sums = &mut self.products;
        let parts = [
            (&mut sums.sgd, &sgd),
            (&mut sums.asymmetric, &asymmetric),
            (&mut sums.reversed, &reversed),
            (&mut sums.signgd, &signgd),
        ];
        for (sum, part) in parts {
            if let (Some(sum), Some(part)) = (sum, part) {
                *sum += part;
            }
        }
        if let Some(sgd) = sgd.filter(|_| formulas.sgd && self.share_matrices) {
            self.products.add_share(p.0, &sgd);
        }
    }

    /// Multiplies one tile of one parameter's gradients.
    pub fn tile(&mut self, set: usize, tile: &Tile, formulas: FormulaSet) -> Result<()> {
        let (p, set) = (self.sets[set].0, self.sets[set].1.shallow_clone());
        let signed = formulas.asymmetric || formulas.signgd;
        let passing = self.passing.as_mut();
        if !signed && self.held.writes_rounded(p, tile) && passing.is_none_or(|side| side.writes_rounded(p, tile)) {
            let block = self.held.write_rounded(p, tile);
            let other = self.passing.as_mut().map(|side| side.write_rounded(p, tile));
            let same = other.is_none();
            let product = self.multiply(&block, other.as_ref().unwrap_or(&block), same);
            self.take_sgd(p, &product);
            return Ok(());
        }
        let block = self.held.write(p, &set, tile);
        if signed {
            self.held.take_signs(&block, formulas.asymmetric, self.lanes)?;
        }
        let Some(side) = &mut self.passing else {
            self.own(p, &block, formulas);
            return Ok(());
        };
        let other = side.write(p, &set, tile);
        if signed {
            side.take_signs(&other, formulas.asymmetric, self.lanes)?;
        }
        self.across(p, &block, &other, formulas);
        Ok(())
    }

    /// Multiplies a panel with itself; `block` holds its gradients, followed by their signs.
    fn own(&mut self, p: Param, block: &Tensor, formulas: FormulaSet) {
        let rows = self.held.rows();
        let (gradients, signs) = (block.narrow(0, 0, rows), block.narrow(0, rows, rows));
        if formulas.sgd {
            let product = self.multiply(&gradients, &gradients, true);
            self.take_sgd(p, &product);
        } else {
            let flat = wide(&gradients).view(-1);
            self.add_traces(p, flat.dot(&flat).double_value(&[]), 0.0);
        }
        if formulas.asymmetric {
            let product = self.multiply(&gradients, &signs, false);
            add(&mut self.products.asymmetric, &product);
        }
        if formulas.signgd || formulas.asymmetric {
            self.add_traces(p, 0.0, self.count_nonzero(block));
        }
        if formulas.signgd {
            self.multiply_signs(block, None);
        }
    }

    /// Adds inner products of gradients of a tile; of a panel with itself those on and above the diagonal.
    fn take_sgd(&mut self, p: Param, product: &Tensor) {
        let same = self.passing.is_none();
        if self.share_matrices {
            self.products.add_share(p.0, &if same { mirrored(product) } else { product.shallow_clone() });
        }
        add(&mut self.products.sgd, product);
        if same {
            self.add_traces(p, diagonal_sum(product), 0.0);
        }
    }

    /// Multiplies two panels.
    fn across(&mut self, p: Param, block: &Tensor, other: &Tensor, formulas: FormulaSet) {
        let halves = |t: &Tensor| {
            let rows = t.size()[0] / 2;
            (t.narrow(0, 0, rows), t.narrow(0, rows, rows))
        };
        let ((gradients, signs), (others, other_signs)) = (halves(block), halves(other));
        if formulas.sgd {
            let product = self.multiply(&gradients, &others, false);
            self.take_sgd(p, &product);
        }
        if formulas.asymmetric {
            let (product, reversed) =
                (self.multiply(&gradients, &other_signs, false), self.multiply(&signs, &others, false));
            add(&mut self.products.asymmetric, &product);
            add(&mut self.products.reversed, &reversed);
        }
        if formulas.signgd {
            self.multiply_signs(block, Some(other));
        }
    }

    /// Inner products of the rows of two matrices in double precision; if `upper`, at least those on and above the diagonal.
    fn multiply(&self, a: &Tensor, b: &Tensor, upper: bool) -> Tensor {
        match self.arithmetic {
            Arithmetic::Cores => on_cores(self.held.parts, a, b, upper),
            Arithmetic::Matrices => as_matrices(a, b),
        }
    }

    /// Adds `<sign, sign'>` of the tile: population counts of packed signs, or 8-bit matrix products with 32-bit sums.
    fn multiply_signs(&mut self, block: &Tensor, other: Option<&Tensor>) {
        if self.arithmetic == Arithmetic::Cores {
            let right = self.passing.as_ref().map_or(&self.held.signs, |s| &s.signs);
            self.held.signs.add_products(right, other.is_none(), &mut self.counts, self.lanes);
        } else if let Some(sum) = &mut self.products.signgd {
            let signs = |t: &Tensor| t.narrow(0, t.size()[0] / 2, t.size()[0] / 2);
            *sum += int8_products(&signs(block), &signs(other.unwrap_or(block)));
        }
    }

    fn count_nonzero(&self, block: &Tensor) -> f64 {
        let rows = block.size()[0] / 2;
        if self.arithmetic == Arithmetic::Cores {
            (0..rows as usize).map(|r| self.held.signs.count(r)).sum::<u64>() as f64
        } else {
            block.narrow(0, rows, rows).abs().sum(Kind::Double).double_value(&[])
        }
    }

    fn add_traces(&mut self, p: Param, sgd: f64, signgd: f64) {
        let sum = &mut self.products.traces[p.0];
        *sum = (sum.0 + sgd, sum.1 + signgd);
    }

    /// The sums, completed by symmetry.
    pub fn finish(mut self) -> Products {
        let same = self.passing.is_none();
        if let Some(sgd) = self.products.sgd.take() {
            // Tiles fill only some of the lower triangle.
            self.products.sgd = Some(if same { mirrored(&sgd) } else { sgd });
        }
        if self.arithmetic == Arithmetic::Cores
            && let Some(signgd) = self.products.signgd.take()
        {
            let counts = Tensor::from_slice(&self.counts).view_as(&signgd);
            let counts = if same { mirrored(&counts) } else { counts };
            self.products.signgd = Some(signgd + counts);
        }
        self.products
    }
}

/// Products \[M, N\] of matrices \[M, K\], \[N, K\]. A product of 16-bit matrices is rounded to 16 bits unless single
/// precision is requested, which libtorch supports only on GPUs; on the CPU the factors are converted.
fn as_matrices(a: &Tensor, b: &Tensor) -> Tensor {
    let product = match (a.kind(), a.device()) {
        (Kind::BFloat16, Device::Cuda(_)) => a.mm_dtype(&b.tr(), Kind::Float),
        _ => wide(a).mm(&wide(b).tr()),
    };
    product.to_kind(Kind::Double)
}

/// Sums of 16-bit numbers need more digits than these have.
fn wide(t: &Tensor) -> Tensor {
    if t.kind() == Kind::BFloat16 { t.to_kind(Kind::Float) } else { t.shallow_clone() }
}

/// The same on the CPU with this program's own loops, in so many bf16 parts where units multiply these faster; if `upper`, at
/// least the entries on and above the diagonal.
fn on_cores(parts: Option<Parts>, a: &Tensor, b: &Tensor, upper: bool) -> Tensor {
    /// The numbers of a contiguous CPU tensor.
    ///
    /// # Safety
    /// They are of this type, and are not written meanwhile.
    unsafe fn numbers<T>(t: &Tensor) -> &[T] {
        assert!(t.is_contiguous(), "rows of a tile's block");
        // SAFETY: the caller's promise; the tensor outlives the slice.
        unsafe { std::slice::from_raw_parts(t.data_ptr().cast::<T>(), t.numel()) }
    }
    let (rows, columns) = (a.size()[0], b.size()[0]);
    let mut sums = vec![0.0; (rows * columns) as usize];
    let entries = a.size()[1] as usize;
    match a.kind() {
        Kind::BFloat16 => {
            // SAFETY: this type.
            let (a, b) = unsafe { (numbers(a), numbers(b)) };
            products::add_rounded_products(a, b, entries, upper, &mut sums);
        }
        Kind::Float if has_avx512() => {
            // SAFETY: this type.
            let (a, b) = unsafe { (numbers(a), numbers(b)) };
            match parts.filter(|parts| products::splits_rows(*parts, rows as usize, columns as usize)) {
                Some(parts) => products::add_products(parts, a, b, entries, upper, &mut sums),
                None => dots::add_products(a, b, entries, upper, &mut sums),
            }
        }
        _ => return a.mm(&b.tr()).to_kind(Kind::Double),
    }
    Tensor::from_slice(&sums).view([rows, columns])
}

fn add(sum: &mut Option<Tensor>, part: &Tensor) {
    if let Some(sum) = sum {
        *sum += part;
    }
}

/// Sum of the diagonal of the leading square, in double precision.
fn diagonal_sum(t: &Tensor) -> f64 {
    t.diagonal(0, 0, 1).sum(Kind::Double).double_value(&[])
}

/// Products \[M, N\] of matrices \[M, K\], \[N, K\] of -1, 0 and 1 in 8-bit integers with 32-bit sums, exact for K < 2³¹.
/// Matrix units need multiples of 32 rows and of 8 entries, so zeros are appended.
fn int8_products(a: &Tensor, b: &Tensor) -> Tensor {
    let (m, n) = (a.size()[0], b.size()[0]);
    let padded = |t: &Tensor| {
        let (rows, entries) = (t.size()[0], t.size()[1]);
        let rest = |length: i64, multiple: i64| (multiple - length % multiple) % multiple;
        t.to_kind(Kind::Int8).constant_pad_nd([0, rest(entries, 8), 0, rest(rows, 32)])
    };
    padded(a).internal_int_mm(&padded(b).tr()).narrow(0, 0, m).narrow(1, 0, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_products_are_those_of_signs() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 100), (33, 64, 1000)] {
            let signs = |rows: i64, seed: i64| {
                tch::manual_seed(seed);
                Tensor::randint_low(-1, 2, [rows, k], (Kind::Float, Device::Cpu))
            };
            let (a, b) = (signs(m, 1), signs(n, 2));
            assert_eq!(int8_products(&a, &b).to_kind(Kind::Float), a.mm(&b.tr()));
        }
    }
}
