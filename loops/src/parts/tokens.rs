//! Inner products of gradients `Σ_t g_t x_tᵀ` through their factors on matrix units: `Σ_{t,u} (x_t·x'_u)(g_t·g'_u)`.
//!
//! Both matrices of inner products of tokens are computed block by block, multiplied in the first cache, and never written to
//! memory. Tokens of all examples are packed one behind the other, so that blocks have no gaps; a block is summed by examples.

use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_load_ps, _mm512_setzero_ps, _mm512_store_ps};
use std::ops::Range;

use super::Parts;
use super::outer::Values;
use super::pack::{Place, length, pack, turned};
use super::product::{Block, STRIPS, room};
use super::tiles::Tiles;
use super::units::{EMPTY, Line, SIDE, STEP};

/// Bytes of packed columns that stay in the second cache, while rows pass.
const KEPT: usize = 3 << 18;

/// The factors of gradients of several batches, packed by tokens.
#[derive(Debug)]
pub struct Tokens {
    parts: Parts,
    /// Numbers of x and of g.
    sizes: (usize, usize),
    outputs: usize,
    rows: usize,
    strips: Vec<Strip>,
    lines: Vec<Line>,
    used: usize,
}

/// Examples with the same number of tokens.
#[derive(Clone, Copy, Debug)]
struct Batch {
    examples: usize,
    /// Of an example.
    tokens: usize,
    /// Row of the first example's first output.
    row: usize,
}

/// Adjacent tokens of a batch, at most [`SIDE`].
#[derive(Clone, Copy, Debug)]
struct Strip {
    batch: Batch,
    first: usize,
    /// First line of x.
    x: usize,
    /// First line of the first output's g, and lines from one output to the next.
    g: (usize, usize),
}

impl Default for Tokens {
    fn default() -> Self {
        Self { parts: Parts::One, sizes: (0, 0), outputs: 0, rows: 0, strips: Vec::new(), lines: Vec::new(), used: 0 }
    }
}

impl Tokens {
    /// Forgets what was packed, but keeps its memory: to touch new memory can cost more than to pack.
    pub fn begin(&mut self, parts: Parts, sizes: (usize, usize), outputs: usize) {
        (self.parts, self.sizes, self.outputs, self.rows, self.used) = (parts, sizes, outputs, 0, 0);
        self.strips.clear();
    }

    /// Packs a batch of examples with so many tokens each: x \[examples, tokens, in\], g \[outputs, examples, tokens, out\].
    ///
    /// # Panics
    /// If there are no units for bf16, or sizes do not fit.
    pub fn push(&mut self, x: Values<'_>, g: Values<'_>, tokens: usize) {
        let (width, height) = self.sizes;
        let all = x.len() / width;
        assert_eq!((x.len(), g.len()), (all * width, self.outputs * all * height), "factors of a batch");
        assert!(all.is_multiple_of(tokens), "whole examples");
        let batch = Batch { examples: all / tokens, tokens, row: self.rows };
        self.rows += batch.examples * self.outputs;
        let first = self.pack(x, width, all);
        let errors = self.used;
        for output in 0..self.outputs {
            self.pack(g.part(output * all * height..(output + 1) * all * height), height, all);
        }
        let each = self.each();
        let apart = all.div_ceil(SIDE) * each.1;
        let strip = |s: usize| Strip { batch, first: s * SIDE, x: first + s * each.0, g: (errors + s * each.1, apart) };
        self.strips.extend((0..all.div_ceil(SIDE)).map(strip));
    }

    /// Lines of a strip of x, and of g.
    fn each(&self) -> (usize, usize) {
        let parts = self.parts.count();
        (length(self.sizes.0, parts), length(self.sizes.1, parts))
    }

    /// Packs tokens and returns the first line.
    fn pack(&mut self, values: Values<'_>, columns: usize, tokens: usize) -> usize {
        let first = self.used;
        self.used += tokens.div_ceil(SIDE) * length(columns, self.parts.count());
        let lines = &mut room(&mut self.lines, self.used, EMPTY)[first..];
        pack(self.parts, (values, columns, true), (tokens, columns), Place::Rows, lines);
        first
    }

    /// Adds the inner products of all gradients with another side's, or with one another, to `sums` \[rows, rows of the other\].
    ///
    /// # Panics
    /// If sizes or parts of the sides differ, or sums do not fit.
    pub fn add_products(&self, other: Option<&Self>, sums: &mut [f64]) {
        let columns = other.unwrap_or(self);
        assert_eq!((self.parts, self.sizes), (columns.parts, columns.sizes), "sides of one parameter");
        assert_eq!(sums.len(), self.rows * columns.rows, "sums of these rows");
        let tiles = Tiles::new();
        // SAFETY: matrix units come with these vectors.
        unsafe { self.add(&tiles, columns, other.is_none(), sums) };
    }

    #[target_feature(enable = "avx512f")]
    fn add(&self, tiles: &Tiles, columns: &Self, same: bool, sums: &mut [f64]) {
        let each = self.each();
        // Packed columns: x, then the g of every output.
        let lines = each.0 + columns.outputs * each.1;
        let at_once = (KEPT / (lines * size_of::<Line>())).max(1);
        STRIPS.with_borrow_mut(|kept| {
            for (start, chunk) in (0..).step_by(at_once).zip(columns.strips.chunks(at_once)) {
                let packed = room(&mut kept.columns, chunk.len() * lines, EMPTY);
                for (strip, packed) in chunk.iter().zip(packed.chunks_exact_mut(lines)) {
                    columns.turn(strip, packed);
                }
                for (r, row) in self.strips.iter().enumerate() {
                    let pairs = (start..).zip(chunk.iter().zip(packed.chunks_exact(lines)));
                    // Blocks below the diagonal are those above it, turned.
                    for (c, (column, packed)) in pairs.filter(|(c, _)| !same || *c >= r) {
                        self.multiply(tiles, row, (column, packed), |a, b, sum| {
                            sums[a * columns.rows + b] += sum;
                            if same && c > r {
                                sums[b * columns.rows + a] += sum;
                            }
                        });
                    }
                }
            }
        });
    }

    /// Packs a strip as columns: x, then the g of every output.
    #[target_feature(enable = "avx512f")]
    fn turn(&self, strip: &Strip, out: &mut [Line]) {
        let each = self.each();
        let (x, g) = out.split_at_mut(each.0);
        turned(&self.lines[strip.x..][..each.0], 1, x);
        for (output, g) in g.chunks_exact_mut(each.1).enumerate() {
            turned(&self.lines[strip.g.0 + output * strip.g.1..][..each.1], 1, g);
        }
    }

    /// Products of a strip of rows with one of columns, of which `packed` are the packed columns, handed to `add` with their rows.
    #[target_feature(enable = "avx512f")]
    fn multiply(
        &self,
        tiles: &Tiles,
        row: &Strip,
        (column, packed): (&Strip, &[Line]),
        mut add: impl FnMut(usize, usize, f64),
    ) {
        let each = self.each();
        let (mut inputs, mut errors) = (Block([0.0; SIDE * SIDE]), Block([0.0; SIDE * SIDE]));
        let product = |rows: usize, length: usize, columns: &[Line], steps: usize, out: &mut Block| {
            let strips = (self.lines[rows..][..length].as_ptr(), columns[..length].as_ptr());
            // SAFETY: a block of this function's own; strips are as long as the steps.
            unsafe { tiles.multiply(self.parts, strips, steps, None, (out.0.as_mut_ptr(), SIDE)) };
        };
        let (x, g) = packed.split_at(each.0);
        product(row.x, each.0, x, self.sizes.0.div_ceil(STEP), &mut inputs);
        for i in 0..self.outputs {
            for (j, g) in g.chunks_exact(each.1).enumerate() {
                product(row.g.0 + i * row.g.1, each.1, g, self.sizes.1.div_ceil(STEP), &mut errors);
                let first = (row.batch.row + i * row.batch.examples, column.batch.row + j * column.batch.examples);
                by_example(&inputs, &errors, (row, column), |a, b, sum| add(first.0 + a, first.1 + b, sum));
            }
        }
    }
}

impl Strip {
    /// Its tokens of the same examples one after the other, from the strip's first on: the example, and its tokens in the strip.
    fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let Batch { examples, tokens, .. } = self.batch;
        let (first, end) = (self.first, (examples * tokens).min(self.first + SIDE));
        (first / tokens..=(end - 1) / tokens).map(move |example| {
            let start = first.max(example * tokens);
            (example, start - first..end.min((example + 1) * tokens) - first)
        })
    }
}

/// Sums of a block's columns.
#[repr(C, align(64))]
struct Sums([f32; SIDE]);

/// Sums of the products of two blocks' numbers, for each pair of the strips' examples.
#[inline]
#[target_feature(enable = "avx512f")]
fn by_example(inputs: &Block, errors: &Block, (row, column): (&Strip, &Strip), mut add: impl FnMut(usize, usize, f64)) {
    const WIDTH: usize = 16;
    let mut sums = Sums([0.0; SIDE]);
    for (i, rows) in row.runs() {
        let mut halves = [_mm512_setzero_ps(); SIDE / WIDTH];
        for r in rows {
            for (h, half) in halves.iter_mut().enumerate() {
                let place = r * SIDE + h * WIDTH;
                // SAFETY: within the blocks, which are aligned to 64 bytes.
                let (x, g) =
                    unsafe { (_mm512_load_ps(&raw const inputs.0[place]), _mm512_load_ps(&raw const errors.0[place])) };
                *half = _mm512_fmadd_ps(x, g, *half);
            }
        }
        for (h, half) in halves.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_store_ps(&raw mut sums.0[h * WIDTH], half) };
        }
        for (j, columns) in column.runs() {
            add(i, j, sums.0[columns].iter().map(|x| f64::from(*x)).sum());
        }
    }
}
