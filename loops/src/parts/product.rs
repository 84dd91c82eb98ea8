//! Products of matrices by units for bf16: blocks of the result, packed strips of the factors, threads.

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
pub use x86::{Out, multiply};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{STRIPS, Strips, block};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::cell::RefCell;
    use std::ops::Range;
    use std::thread;

    use super::{Factor, Parts};
    use crate::parts::pack::{Place, length, strip, strips};
    use crate::parts::units::{Line, Multiplier, SIDE, STEP};

    /// Numbers that are summed before the next ones are packed, by parts: the more, the more seldom the result is read and written
    /// again, as long as packed rows stay in the second cache.
    const ALONG: [usize; 3] = [1024, 1024, 512];

    /// Rows that are packed at a time.
    const ROWS: usize = 512;

    /// Products below which threads are not worth starting.
    const PARALLEL: usize = 1 << 25;

    /// Packed strips of a thread, kept from one product to the next.
    #[derive(Default)]
    pub(in crate::parts) struct Strips {
        pub rows: Vec<Line>,
        pub columns: Vec<Line>,
    }

    impl Strips {
        /// At least so many lines.
        pub fn room(lines: &mut Vec<Line>, count: usize) -> &mut [Line] {
            if lines.len() < count {
                lines.resize(count, Line([0; STEP]));
            }
            &mut lines[..count]
        }
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

    // SAFETY: threads write to blocks of their own.
    unsafe impl Send for Out {}

    impl Out {
        /// The place from a row and a column on.
        ///
        /// # Safety
        /// They are within the matrix.
        pub(in crate::parts) unsafe fn at(self, row: usize, column: usize) -> Self {
            // SAFETY: the caller's promise.
            Self { values: unsafe { self.values.add(row * self.stride + column) }, ..self }
        }
    }

    /// Writes `out[i, j] = Σ_k a[i, k] b[j, k]`, or adds it, for `size` = (rows of a, rows of b, numbers of either), in at
    /// most so many threads.
    ///
    /// # Safety
    /// `out` is a matrix of that size which nobody else reads or writes; the processor has units for bf16.
    pub unsafe fn multiply(
        parts: Parts,
        most: usize,
        (a, b): (Factor<'_>, Factor<'_>),
        size: (usize, usize, usize),
        out: Out,
        add: bool,
    ) {
        let (rows, columns, along) = size;
        let count = if rows * columns * along < PARALLEL { 1 } else { most.max(1) };
        // Each thread packs all of the other factor: it is the smaller one.
        let length = rows.max(columns);
        let share = length.div_ceil(count).next_multiple_of(SIDE);
        let part = |range: Range<usize>| {
            let (i, j) = if rows > columns { (range, 0..columns) } else { (0..rows, range) };
            // SAFETY: the caller's promise; parts do not overlap.
            unsafe { alone(parts, (a, b), (i, j, along), out, add) };
        };
        let ranges: Vec<Range<usize>> = (0..length).step_by(share).map(|k| k..length.min(k + share)).collect();
        let Some((last, others)) = ranges.split_last() else { return };
        thread::scope(|scope| {
            for range in others {
                let part = SendPart(&part);
                scope.spawn(move || part.call(range.clone()));
            }
            part(last.clone());
        });
    }

    /// Lets a thread have the work on its part.
    struct SendPart<'a, F: Fn(Range<usize>)>(&'a F);

    // SAFETY: the work reads shared numbers and writes to a block that no other thread has.
    unsafe impl<F: Fn(Range<usize>)> Send for SendPart<'_, F> {}

    impl<F: Fn(Range<usize>)> SendPart<'_, F> {
        fn call(self, range: Range<usize>) {
            (self.0)(range);
        }
    }

    /// A block of the result in this thread.
    ///
    /// # Safety
    /// As for [`multiply`].
    unsafe fn alone(
        parts: Parts,
        factors: (Factor<'_>, Factor<'_>),
        block: (Range<usize>, Range<usize>, usize),
        out: Out,
        add: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match parts {
                Parts::One => in_parts::<1>(parts, factors, block, out, add),
                Parts::Two => in_parts::<2>(parts, factors, block, out, add),
                Parts::Three => in_parts::<3>(parts, factors, block, out, add),
            }
        }
    }

    /// # Safety
    /// As for [`multiply`].
    unsafe fn in_parts<const P: usize>(
        parts: Parts,
        (a, b): (Factor<'_>, Factor<'_>),
        (rows, columns, along): (Range<usize>, Range<usize>, usize),
        out: Out,
        add: bool,
    ) {
        let multiplier = Multiplier::new();
        STRIPS.with_borrow_mut(|packed| {
            for i in rows.clone().step_by(ROWS) {
                let rows = i..rows.end.min(i + ROWS);
                for k in (0..along).step_by(ALONG[P - 1]) {
                    let along = k..along.min(k + ALONG[P - 1]);
                    let steps = along.len().div_ceil(STEP);
                    let lines = length(along.len(), P);
                    let packed_rows = Strips::room(&mut packed.rows, rows.len().div_ceil(SIDE) * lines);
                    // SAFETY: units come with these vectors (`Unit::here`).
                    unsafe { strips::<P, f32>(a, rows.clone(), along.clone(), Place::Rows, packed_rows) };
                    let column = Strips::room(&mut packed.columns, lines);
                    for j in columns.clone().step_by(SIDE) {
                        let columns = j..columns.end.min(j + SIDE);
                        // SAFETY: as above.
                        unsafe { strip::<P, f32>(b, columns.clone(), along.clone(), Place::Columns, column) };
                        for (s, strip) in packed_rows.chunks_exact(lines).enumerate() {
                            let first = rows.start + SIDE * s;
                            let size = (rows.len() - SIDE * s, columns.len());
                            // SAFETY: the block is within the result; strips are as long as the steps.
                            unsafe {
                                let out = out.at(first, j);
                                block(&multiplier, parts, (strip, column), steps, (out, size), add || k > 0);
                            }
                        }
                    }
                }
            }
        });
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
        if size.0 >= SIDE && size.1 >= SIDE {
            // SAFETY: the caller's promise.
            unsafe { multiplier.multiply(parts, strips, steps, (out.values, out.stride), add) };
            return;
        }
        let mut whole = [0f32; SIDE * SIDE];
        // SAFETY: a whole block is this function's own.
        unsafe { multiplier.multiply(parts, strips, steps, (whole.as_mut_ptr(), SIDE), false) };
        for (i, row) in whole.chunks_exact(SIDE).enumerate().take(size.0) {
            // SAFETY: a row of the block.
            let out = unsafe { std::slice::from_raw_parts_mut(out.values.add(i * out.stride), size.1.min(SIDE)) };
            for (out, value) in out.iter_mut().zip(row) {
                *out = *value + if add { *out } else { 0.0 };
            }
        }
    }
}
