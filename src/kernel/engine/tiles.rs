//! One worker's products of tiles: multiplies gradients and their signs of both sides, in either [`Arithmetic`].

use kernelview_loops::Lanes;
use kernelview_loops::dots::{self, SignedSums};
use kernelview_loops::instructions::has_avx512;
use tch::{Device, Kind, Tensor};

use super::arithmetic::Arithmetic;
use super::options::GramOptions;
use super::panel::Panel;
use super::side::Side;
use super::sums::Products;
use super::symmetry::mirrored;
use crate::error::Result;
use crate::jacobian::{Param, RowSet, Tile};
use crate::kernel::FormulaSet;
use crate::products::Parts;

/// A worker with its panels, buffers and sums.
pub(super) struct Tiler {
    held: Side,
    passing: Option<Side>,
    sets: Vec<(Param, RowSet)>,
    share_matrices: bool,
    on_units: bool,
    arithmetic: Arithmetic,
    lanes: Lanes,
    products: Products,
    /// Sums of products of packed signs, exact.
    counts: Vec<i64>,
}

impl Tiler {
    pub fn new(held: Panel, passing: Option<Panel>, sets: Vec<(Param, RowSet)>, options: &GramOptions) -> Self {
        let rows = (held.rows(), passing.as_ref().map_or(held.rows(), Panel::rows));
        let device = held.first().outputs().device();
        let same = passing.is_none();
        let on_units = options.on_units(held.first().kind(), device).is_some();
        let products = Products::zeros(rows, options.formulas, same, options.include.len(), device);
        let arithmetic = options.arithmetic_on(device);
        let packed = options.formulas.signgd && arithmetic == Arithmetic::Cores;
        Self {
            held: Side::new(held, options),
            passing: passing.map(|panel| Side::new(panel, options)),
            sets,
            share_matrices: options.share_matrices,
            on_units,
            arithmetic,
            lanes: Lanes::best(),
            products,
            counts: vec![0; if packed { (rows.0 * rows.1) as usize } else { 0 }],
        }
    }

    /// Multiplies one parameter's gradients through their factors.
    pub fn ghost(&mut self, p: Param, formulas: FormulaSet) {
        let signed = formulas.asymmetric || formulas.signgd;
        let units = (self.on_units && !signed && (formulas.sgd || self.passing.is_none()))
            .then(|| self.held.ghost_on_units(p, self.passing.as_mut()));
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
        let sgd = units.or_else(|| product(formulas.sgd || same, (false, false)));
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
        let mut passing = self.passing.as_mut();
        let alone = formulas.sgd && !signed;
        if alone && self.held.gathers(p, tile) && passing.as_mut().is_none_or(|side| side.gathers(p, tile)) {
            self.held.gather(p, tile);
            if let Some(side) = passing {
                side.gather(p, tile);
            }
            let product = self.held.gathered_products(self.passing.as_ref());
            self.take_sgd(p, &product);
            return Ok(());
        }
        if alone && self.held.writes_rounded(p, tile) && passing.is_none_or(|side| side.writes_rounded(p, tile)) {
            let block = self.held.write_rounded(p, tile);
            let other = self.passing.as_mut().map(|side| side.write_rounded(p, tile));
            let same = other.is_none();
            let product = self.multiply(&block, other.as_ref().unwrap_or(&block), same);
            self.take_sgd(p, &product);
            return Ok(());
        }
        // Both sides have one type of numbers and the same options.
        let dense = formulas.asymmetric && !self.held.signs_chunks();
        let block = self.held.write(p, &set, tile);
        if signed {
            self.held.take_signs(&block, dense, self.lanes)?;
        }
        let Some(side) = &mut self.passing else {
            self.own(p, &block, formulas);
            return Ok(());
        };
        let other = side.write(p, &set, tile);
        if signed {
            side.take_signs(&other, dense, self.lanes)?;
        }
        self.across(p, &block, &other, formulas);
        Ok(())
    }

    /// Multiplies a panel with itself; `block` holds its gradients, followed by their signs.
    fn own(&mut self, p: Param, block: &Tensor, formulas: FormulaSet) {
        let products = self.signed_products(block, None, formulas);
        if let Some(product) = products.sgd {
            self.take_sgd(p, &product);
        } else {
            let flat = wide(&block.narrow(0, 0, self.held.rows())).view(-1);
            self.add_traces(p, flat.dot(&flat).double_value(&[]), 0.0);
        }
        if let Some(product) = products.asymmetric {
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
        let products = self.signed_products(block, Some(other), formulas);
        if let Some(product) = products.sgd {
            self.take_sgd(p, &product);
        }
        if let (Some(product), Some(reversed)) = (products.asymmetric, products.reversed) {
            add(&mut self.products.asymmetric, &product);
            add(&mut self.products.reversed, &reversed);
        }
        if formulas.signgd {
            self.multiply_signs(block, Some(other));
        }
    }

    /// The products with gradients of two blocks, or of one with itself; of these the plain ones on and above the diagonal.
    fn signed_products(&self, block: &Tensor, other: Option<&Tensor>, formulas: FormulaSet) -> TileProducts {
        let halves = |t: &Tensor| {
            let rows = t.size()[0] / 2;
            (t.narrow(0, 0, rows), t.narrow(0, rows, rows))
        };
        let (gradients, signs) = halves(block);
        let crossed = formulas.asymmetric && other.is_some();
        if formulas.asymmetric && self.held.signs_chunks() {
            let others = other.map(|t| halves(t).0);
            return with_signs(self.row_parts(), &gradients, others.as_ref(), (formulas.sgd, crossed), self.lanes);
        }
        let (others, other_signs) = halves(other.unwrap_or(block));
        TileProducts {
            sgd: formulas.sgd.then(|| self.multiply(&gradients, &others, other.is_none())),
            asymmetric: formulas.asymmetric.then(|| self.multiply(&gradients, &other_signs, false)),
            reversed: crossed.then(|| self.multiply(&signs, &others, false)),
        }
    }

    /// The parts that suffice for inner products of gradients: all three, which are the number, if none are asked for.
    fn row_parts(&self) -> Parts {
        self.held.parts.unwrap_or(Parts::Three)
    }

    /// Inner products of the rows of two matrices in double precision; if `upper`, at least those on and above the diagonal.
    fn multiply(&self, a: &Tensor, b: &Tensor, upper: bool) -> Tensor {
        match self.arithmetic {
            Arithmetic::Cores => on_cores(self.row_parts(), a, b, upper),
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

/// Products of a tile's gradients and their signs that are no integers.
struct TileProducts {
    sgd: Option<Tensor>,
    asymmetric: Option<Tensor>,
    reversed: Option<Tensor>,
}

/// Those of gradients of two sides, or of one with itself, by loops that take the signs as they go: `<g, sign g'>`, and `<g, g'>` and
/// `<sign g, g'>` if wanted.
fn with_signs(
    parts: Parts,
    a: &Tensor,
    b: Option<&Tensor>,
    (sgd, reversed): (bool, bool),
    lanes: Lanes,
) -> TileProducts {
    let size = [a.size()[0], b.unwrap_or(a).size()[0]];
    let zeros = || vec![0.0; (size[0] * size[1]) as usize];
    let (mut plain, mut right, mut left) = (sgd.then(zeros), zeros(), reversed.then(zeros));
    let sums =
        SignedSums { plain: plain.as_deref_mut(), right_signs: Some(&mut right), left_signs: left.as_deref_mut() };
    assert!(a.kind() == Kind::Float && b.is_none_or(|b| b.kind() == Kind::Float), "gradients in single precision");
    // SAFETY: this type.
    let (rows, others) = unsafe { (numbers(a), b.map(|b| numbers(b))) };
    dots::add_signed_products(parts, rows, others, a.size()[1] as usize, sums, lanes);
    let matrix = |sums: Vec<f64>| Tensor::from_slice(&sums).view(size);
    TileProducts { sgd: plain.map(matrix), asymmetric: Some(matrix(right)), reversed: left.map(matrix) }
}

/// The numbers of a contiguous CPU tensor.
///
/// # Safety
/// They are of this type, and are not written meanwhile.
unsafe fn numbers<T>(t: &Tensor) -> &[T] {
    assert!(t.is_contiguous(), "rows of a tile's block");
    // SAFETY: the caller's promise; the tensor outlives the slice.
    unsafe { std::slice::from_raw_parts(t.data_ptr().cast::<T>(), t.numel()) }
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
fn on_cores(parts: Parts, a: &Tensor, b: &Tensor, upper: bool) -> Tensor {
    let (rows, columns) = (a.size()[0], b.size()[0]);
    let mut sums = vec![0.0; (rows * columns) as usize];
    let entries = a.size()[1] as usize;
    match a.kind() {
        Kind::BFloat16 => {
            // SAFETY: this type.
            let (a, b) = unsafe { (numbers(a), numbers(b)) };
            dots::add_rounded_products(a, b, entries, upper, &mut sums);
        }
        Kind::Float if has_avx512() => {
            // SAFETY: this type.
            let (a, b) = unsafe { (numbers(a), numbers(b)) };
            dots::add_products(parts, a, b, entries, upper, &mut sums);
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
