//! Rows of numbers that are written block by block in the layout in which matrix units multiply them, so that their inner products
//! need no packing: the gradients of a tile, one row for each example.
//!
//! The numbers of a row keep no order: inner products do not depend on it.

use std::arch::x86_64::{
    __m512bh, __m512i, __mmask16, _mm512_cvtne2ps_pbh, _mm512_maskz_loadu_ps, _mm512_setzero_si512, _mm512_store_si512,
};

use super::Parts;
use super::pack::{split, turned};
use super::product::{Block, STRIPS, add_block, room};
use super::tiles::Tiles;
use super::units::{EMPTY, Line, PART, SIDE};

/// Steps whose products are summed in single precision before double precision takes over: those of a whole block.
const STEPS: usize = SIDE;

/// Rows of bf16 parts: a line for each part of a step, the parts of a step side by side.
#[derive(Debug)]
pub struct Gathered {
    parts: Parts,
    rows: usize,
    /// Rows and columns of the tile.
    size: (usize, usize),
    steps: usize,
    /// Lines from one row to the next: an odd number, so that the rows of a tile are not all in the same few sets of a cache.
    pitch: usize,
    lines: Vec<Line>,
}

impl Default for Gathered {
    fn default() -> Self {
        Self { parts: Parts::One, rows: 0, size: (0, 0), steps: 0, pitch: 0, lines: Vec::new() }
    }
}

impl Gathered {
    /// Makes room for so many rows of a tile's numbers, in so many parts; what was gathered before is forgotten.
    pub fn begin(&mut self, parts: Parts, rows: usize, size: (usize, usize)) {
        (self.parts, self.rows, self.size) = (parts, rows, size);
        self.steps = size.0 * size.1.div_ceil(SIDE);
        self.pitch = (self.steps * parts.count()) | 1;
        // Units read whole tiles of rows.
        room(&mut self.lines, rows.next_multiple_of(SIDE) * self.pitch, EMPTY);
    }

    /// Writes the leading numbers of a block, of which there are `size`, as a row's numbers from a step on.
    ///
    /// # Safety
    /// The processor has AVX-512 with bf16.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) fn put<const P: usize>(
        &mut self,
        row: usize,
        step: usize,
        block: &[f32; SIDE * SIDE],
        size: (usize, usize),
    ) {
        const HALF: usize = SIDE / 2;
        let mask = |count: usize| ((1u32 << count.min(HALF)) - 1) as __mmask16;
        let (low, high) = (mask(size.1), mask(size.1.saturating_sub(HALF)));
        let count = size.0.min(SIDE);
        assert!(P == self.parts.count() && row < self.rows && step + count <= self.steps, "a place of a row");
        let lines = self.lines[row * self.pitch + step * P..][..count * P].as_chunks_mut::<P>().0;
        for (numbers, lines) in block.as_chunks::<SIDE>().0.iter().zip(lines) {
            // SAFETY: halves of a row of the block.
            let halves = unsafe {
                (_mm512_maskz_loadu_ps(low, numbers.as_ptr()), _mm512_maskz_loadu_ps(high, numbers.as_ptr().add(HALF)))
            };
            let mut parts = [_mm512_setzero_si512(); P];
            if P == 1 {
                // SAFETY: both types are 32 numbers of 16 bits.
                parts[0] = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(halves.1, halves.0)) };
            } else {
                parts = split::<P>(halves);
            }
            for (line, part) in lines.iter_mut().zip(parts) {
                // SAFETY: a line of 64 bytes, aligned to as many.
                unsafe { _mm512_store_si512((&raw mut *line).cast(), part) };
            }
        }
    }

    /// Adds `<a_i, b_j>` to `sums` \[rows of a, rows of b\] for all rows of both, which must have the same entries; without `other`,
    /// where b is a, for i ≤ j (and some below the diagonal).
    ///
    /// # Panics
    /// If sizes do not fit, or there are no units for bf16.
    pub fn add_products(&self, other: Option<&Self>, sums: &mut [f64]) {
        let columns = other.unwrap_or(self);
        assert_eq!((self.parts, self.size), (columns.parts, columns.size), "rows of one tile");
        assert_eq!(sums.len(), self.rows * columns.rows, "sums of these rows");
        let tiles = Tiles::new();
        // SAFETY: matrix units come with these vectors.
        unsafe { self.add(&tiles, columns, other.is_none(), sums) };
    }

    #[target_feature(enable = "avx512f")]
    fn add(&self, tiles: &Tiles, columns: &Self, same: bool, sums: &mut [f64]) {
        let (parts, count) = (self.parts, self.parts.count());
        STRIPS.with_borrow_mut(|strips| {
            let packed = room(&mut strips.columns, count * STEPS * PART, EMPTY);
            let mut block = Block([0.0; SIDE * SIDE]);
            for start in (0..self.steps).step_by(STEPS) {
                let steps = STEPS.min(self.steps - start);
                let lines = |of: &Self, row: usize| of.lines[row * of.pitch + start * count..].as_ptr();
                for j in (0..columns.rows).step_by(SIDE) {
                    for (k, packed) in packed.chunks_exact_mut(PART).enumerate().take(steps * count) {
                        turned(&columns.lines[j * columns.pitch + start * count + k..], columns.pitch, packed);
                    }
                    let rows = if same { self.rows.min(j + SIDE) } else { self.rows };
                    for i in (0..rows).step_by(SIDE) {
                        let rows = (lines(self, i), self.pitch);
                        // SAFETY: there are whole tiles of rows; columns are as long as the steps.
                        unsafe { tiles.multiply_lines(parts, rows, packed.as_ptr(), steps, &mut block.0) };
                        add_block(&block.0, (i, j), columns.rows, sums);
                    }
                }
            }
        });
    }
}
