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
pub use x86::{Out, multiply};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{STRIPS, Strips, block};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::cell::RefCell;

    use super::{Factor, Parts};
    use crate::parts::pack::{Place, length, strip, strips};
    use crate::parts::units::{Line, Multiplier, SIDE, STEP};

    /// Numbers that are summed before the next ones are packed, by parts: the more, the more seldom the result is read and written
    /// again, as long as packed rows stay in the second cache.
    const ALONG: [usize; 3] = [1024, 1024, 512];

    /// Rows that are packed at a time.
    const ROWS: usize = 512;

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

    /// Writes `out[i, j] = Σ_k a[i, k] b[j, k]`, or adds it, for `size` = (rows of a, rows of b, numbers of either), in this thread.
    ///
    /// # Safety
    /// `out` is a matrix of that size which nobody else reads or writes; the processor has units for bf16.
    pub unsafe fn multiply(
        parts: Parts,
        factors: (Factor<'_>, Factor<'_>),
        size: (usize, usize, usize),
        out: Out,
        add: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match parts {
                Parts::One => in_parts::<1>(parts, factors, size, out, add),
                Parts::Two => in_parts::<2>(parts, factors, size, out, add),
                Parts::Three => in_parts::<3>(parts, factors, size, out, add),
            }
        }
    }

    /// # Safety
    /// As for [`multiply`].
    unsafe fn in_parts<const P: usize>(
        parts: Parts,
        (a, b): (Factor<'_>, Factor<'_>),
        (rows, columns, along): (usize, usize, usize),
        out: Out,
        add: bool,
    ) {
        let multiplier = Multiplier::new();
        STRIPS.with_borrow_mut(|packed| {
            for i in (0..rows).step_by(ROWS) {
                let rows = i..rows.min(i + ROWS);
                for k in (0..along).step_by(ALONG[P - 1]) {
                    let along = k..along.min(k + ALONG[P - 1]);
                    let steps = along.len().div_ceil(STEP);
                    let lines = length(along.len(), P);
                    let packed_rows = Strips::room(&mut packed.rows, rows.len().div_ceil(SIDE) * lines);
                    // SAFETY: units come with these vectors (`Unit::here`).
                    unsafe { strips::<P, f32>(a, rows.clone(), along.clone(), Place::Rows, packed_rows) };
                    let column = Strips::room(&mut packed.columns, lines);
                    for j in (0..columns).step_by(SIDE) {
                        let columns = j..columns.min(j + SIDE);
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
