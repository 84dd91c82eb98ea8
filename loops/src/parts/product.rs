//! Products of matrices by units for bf16: blocks of the result, packed strips of the factors.

use super::Parts;

/// A factor of a product, seen as rows that are summed along: entry k of row i is at `i·stride + k`, or at `k·stride + i`.
#[derive(Clone, Copy)]
pub struct Factor<'a, T = f32> {
    /// Its numbers, and maybe others.
    pub values: &'a [T],
    /// Numbers from one row of memory to the next.
    pub stride: usize,
    /// Whether a row of memory is summed along.
    pub contiguous_along: bool,
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Block, STRIPS, add_block, block, room};
#[cfg(target_arch = "x86_64")]
pub use x86::{Out, Start, multiply};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::cell::RefCell;
    use std::ops::Range;

    use super::{Factor, Parts};
    use crate::parts::pack::{Place, length, strips};
    use crate::parts::units::{EMPTY, Line, Multiplier, SIDE, STEP};

    /// Numbers that are summed before the next ones are packed, if there are more than [`WHOLE`]. Shorter sums would be read and written
    /// again more often, packed rows of longer ones would leave the second cache.
    const ALONG: usize = 768;

    /// Numbers that are summed in one go.
    const WHOLE: usize = 1024;

    /// Numbers of which a panel's rows are kept packed for all columns, where sums are longer.
    const SPAN: usize = 4096;

    /// Rows that are packed at a time.
    const ROWS: usize = 512;

    /// Columns that are packed at a time.
    const COLUMNS: usize = 256;

    /// Sums of a block of the result, until its last products.
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    pub(in crate::parts) struct Block(pub [f32; SIDE * SIDE]);

    /// Packed strips of a thread and its sums, kept from one product to the next.
    #[derive(Default)]
    pub(in crate::parts) struct Strips {
        pub rows: Vec<Line>,
        pub columns: Vec<Line>,
        blocks: Vec<Block>,
    }

    /// At least so many.
    pub(in crate::parts) fn room<T: Clone>(kept: &mut Vec<T>, count: usize, empty: T) -> &mut [T] {
        if kept.len() < count {
            kept.resize(count, empty);
        }
        &mut kept[..count]
    }

    thread_local! {
        pub(in crate::parts) static STRIPS: RefCell<Strips> = RefCell::new(Strips::default());
    }

    /// A place of the result: the numbers of a matrix whose rows are `stride` apart.
    #[derive(Clone, Copy)]
    pub struct Out {
        /// The first.
        pub values: *mut f32,
        /// Numbers from one row to the next.
        pub stride: usize,
    }

    impl Out {
        /// The place from a row and a column on.
        ///
        /// # Safety
        /// They are within the matrix.
        pub(in crate::parts) unsafe fn at(self, row: usize, column: usize) -> Self {
            // SAFETY: the caller's promise.
            Self { values: unsafe { self.values.add(row * self.stride + column) }, ..self }
        }

        /// Writes the numbers of a block of which the matrix has `size` from here on.
        ///
        /// # Safety
        /// It has.
        unsafe fn take(self, block: &[f32; SIDE * SIDE], size: (usize, usize)) {
            for (i, row) in block.as_chunks::<SIDE>().0.iter().enumerate().take(size.0) {
                let row = &row[..size.1.min(SIDE)];
                // SAFETY: numbers of the matrix, which the block is not part of.
                unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), self.values.add(i * self.stride), row.len()) };
            }
        }
    }

    /// A block that begins with those of the numbers that are there, so that its sums have the order of a whole block's; given as for
    /// [`Multiplier::multiply`].
    ///
    /// # Safety
    /// There are `size` numbers.
    unsafe fn begun(before: Option<(*const f32, usize)>, size: (usize, usize)) -> [f32; SIDE * SIDE] {
        let mut block = [0.0; SIDE * SIDE];
        if let Some((first, stride)) = before {
            for (i, row) in block.as_chunks_mut::<SIDE>().0.iter_mut().enumerate().take(size.0) {
                let row = &mut row[..size.1.min(SIDE)];
                // SAFETY: the caller's promise; the block is this function's own.
                unsafe { std::ptr::copy_nonoverlapping(first.add(i * stride), row.as_mut_ptr(), row.len()) };
            }
        }
        block
    }

    /// Adds a block's leading numbers to sums in double precision, whose rows have so many numbers, from a row and a column on.
    #[inline]
    pub(in crate::parts) fn add_block(
        block: &[f32; SIDE * SIDE],
        (row, column): (usize, usize),
        columns: usize,
        sums: &mut [f64],
    ) {
        let width = SIDE.min(columns - column);
        for (sums, block) in sums[row * columns..].chunks_mut(columns).zip(block.as_chunks::<SIDE>().0) {
            for (sum, value) in sums[column..column + width].iter_mut().zip(block) {
                *sum += f64::from(*value);
            }
        }
    }

    /// What sums begin with.
    #[derive(Clone, Copy)]
    pub enum Start {
        /// Zeros.
        Zero,
        /// The numbers that are there.
        Result,
        /// The same row of numbers, from the first column's on, in every row.
        Row(*const f32),
    }

    impl Start {
        /// The same for a block.
        ///
        /// # Safety
        /// The column is one of the result's.
        unsafe fn block(self, out: Out, column: usize) -> Option<(*const f32, usize)> {
            match self {
                Self::Zero => None,
                Self::Result => Some((out.values, out.stride)),
                // SAFETY: the caller's promise.
                Self::Row(first) => Some((unsafe { first.add(column) }, 0)),
            }
        }
    }

    /// Writes `out[i, j] = Σ_k a[i, k] b[j, k]`, with sums that begin with what is asked for, for `size` = (rows of a, rows of b,
    /// numbers of either), in this thread. Without numbers to sum nothing is written.
    ///
    /// # Safety
    /// `out` is a matrix of that size which nobody else reads or writes, and a row to start with has as many numbers as it has columns;
    /// the processor has units for bf16.
    pub unsafe fn multiply(
        parts: Parts,
        factors: (Factor<'_>, Factor<'_>),
        size: (usize, usize, usize),
        out: Out,
        start: Start,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match parts {
                Parts::One => in_parts::<1>(parts, factors, size, out, start),
                Parts::Two => in_parts::<2>(parts, factors, size, out, start),
                Parts::Three => in_parts::<3>(parts, factors, size, out, start),
            }
        }
    }

    /// # Safety
    /// As for [`multiply`].
    unsafe fn in_parts<const P: usize>(
        parts: Parts,
        factors: (Factor<'_>, Factor<'_>),
        (rows, columns, along): (usize, usize, usize),
        out: Out,
        start: Start,
    ) {
        let multiplier = Multiplier::new();
        let cut = |length: usize, first: usize, size: usize| first..length.min(first + size);
        STRIPS.with_borrow_mut(|strips| {
            for i in (0..rows).step_by(ROWS) {
                for k in (0..along).step_by(SPAN) {
                    let start = if k > 0 { Start::Result } else { start };
                    for j in (0..columns).step_by(COLUMNS) {
                        let panel = Panel {
                            rows: cut(rows, i, ROWS),
                            columns: cut(columns, j, COLUMNS),
                            span: cut(along, k, SPAN),
                        };
                        // SAFETY: the caller's promise; a part of the result.
                        unsafe { panel.multiply::<P>((&multiplier, parts), factors, strips, out, start) };
                    }
                }
            }
        });
    }

    /// Rows and columns of the result that are computed together, and the numbers over which they are summed.
    struct Panel {
        rows: Range<usize>,
        columns: Range<usize>,
        span: Range<usize>,
    }

    impl Panel {
        /// Packs the factors, rows only with the first columns, and multiplies them.
        ///
        /// # Safety
        /// As for [`multiply`].
        unsafe fn multiply<const P: usize>(
            &self,
            (multiplier, parts): (&Multiplier, Parts),
            (a, b): (Factor<'_>, Factor<'_>),
            kept: &mut Strips,
            out: Out,
            start: Start,
        ) {
            let (high, wide) = (self.rows.len().div_ceil(SIDE), self.columns.len().div_ceil(SIDE));
            let all_rows = room(&mut kept.rows, high * length(self.span.len(), P), EMPTY);
            let blocks = room(&mut kept.blocks, high * wide, Block([0.0; SIDE * SIDE]));
            let each = if self.span.len() <= WHOLE { WHOLE } else { ALONG };
            for k in self.span.clone().step_by(each) {
                let along = k..self.span.end.min(k + each);
                let (begins, ends) = (k == self.span.start, along.end == self.span.end);
                let (steps, lines) = (along.len().div_ceil(STEP), length(along.len(), P));
                let rows = &mut all_rows[high * length(k - self.span.start, P)..][..high * lines];
                let columns = room(&mut kept.columns, wide * lines, EMPTY);
                // SAFETY: units come with these vectors (`Unit::here`).
                unsafe {
                    if self.columns.start == 0 {
                        strips::<P, f32>(a, self.rows.clone(), along.clone(), Place::Rows, rows);
                    }
                    strips::<P, f32>(b, self.columns.clone(), along.clone(), Place::Columns, columns);
                }
                for (at, sums) in blocks.iter_mut().enumerate() {
                    let (r, c) = (at / wide, at % wide);
                    let (i, j) = (self.rows.start + SIDE * r, self.columns.start + SIDE * c);
                    let size = (self.rows.end - i, self.columns.end - j);
                    let whole = size.0 >= SIDE && size.1 >= SIDE;
                    // SAFETY: within the result.
                    let (out, outside) = unsafe { (out.at(i, j), start.block(out.at(i, j), j)) };
                    if begins && !whole {
                        // SAFETY: what is left of the result, or of the row.
                        sums.0 = unsafe { begun(outside, size) };
                    }
                    let own = Out { values: sums.0.as_mut_ptr(), stride: SIDE };
                    let before = if begins && whole { outside } else { Some((own.values.cast_const(), own.stride)) };
                    let to = if ends && whole { out } else { own };
                    let strips = (rows[r * lines..][..lines].as_ptr(), columns[c * lines..][..lines].as_ptr());
                    // SAFETY: blocks of the result, or this thread's own; strips are as long as the steps.
                    unsafe {
                        multiplier.multiply(parts, strips, steps, before, (to.values, to.stride));
                        if ends && !whole {
                            out.take(&sums.0, size);
                        }
                    }
                }
            }
        }
    }

    /// A block of the result of at most [`SIDE`] rows and columns.
    ///
    /// # Safety
    /// As for [`Multiplier::multiply`], with a block of `size`.
    #[inline]
    pub(in crate::parts) unsafe fn block(
        multiplier: &Multiplier,
        parts: Parts,
        (rows, columns): (&[Line], &[Line]),
        steps: usize,
        (out, size): (Out, (usize, usize)),
        add: bool,
    ) {
        let strips = (rows.as_ptr(), columns.as_ptr());
        let before = add.then_some((out.values.cast_const(), out.stride));
        if size.0 >= SIDE && size.1 >= SIDE {
            // SAFETY: the caller's promise.
            unsafe { multiplier.multiply(parts, strips, steps, before, (out.values, out.stride)) };
            return;
        }
        // SAFETY: a whole block is this function's own; the caller's promise.
        unsafe {
            let mut sums = begun(before, size);
            let own = sums.as_mut_ptr();
            multiplier.multiply(parts, strips, steps, Some((own.cast_const(), SIDE)), (own, SIDE));
            out.take(&sums, size);
        }
    }
}
