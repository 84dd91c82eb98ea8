//! Signs of gradient blocks, packed to bits, and their exact inner products.
//!
//! A row of a block becomes two bit strings: whether an entry is negative, and whether it is different from zero. Then
//! `<sign a, sign b> = |m| - 2 |(s_a ⊕ s_b) ∧ m|` with `m = m_a ∧ m_b`: three bit operations and two population counts for 64
//! entries (512 with AVX-512), in integers, so that no order of summation matters. Rows without zeros skip the masks.
//! The instruction set is chosen at run time; all variants give the same integers.

use crate::lanes::{Lanes, Real, ones};

/// Packed signs of the rows of a block, in a buffer reused for the next block.
#[derive(Debug, Default)]
pub struct Signs {
    /// Entries per row.
    entries: usize,
    /// 64-bit words per row, a multiple of eight.
    words: usize,
    /// Bit set: the entry is negative. `rows x words`; clear beyond the last entry.
    negative: Vec<u64>,
    /// Bit set: the entry is not zero. `rows x words`; clear beyond the last entry.
    nonzero: Vec<u64>,
    /// Non-zero entries per row.
    counts: Vec<u64>,
}

/// The error for NaN, which has no sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANumber {
    /// Which row.
    pub row: usize,
}

impl Signs {
    /// Packs the rows of a `rows x entries` block; `signs`, if given, receives -1, 0 or 1 for every entry.
    ///
    /// # Errors
    /// [`NotANumber`] for the first row that holds one.
    pub fn pack<T: Real>(
        &mut self,
        block: &[T],
        entries: usize,
        mut signs: Option<&mut [T]>,
        lanes: Lanes,
    ) -> Result<(), NotANumber> {
        let rows = block.len() / entries.max(1);
        (self.entries, self.words) = (entries, entries.div_ceil(512) * 8);
        self.negative.resize(rows * self.words, 0);
        self.nonzero.resize(rows * self.words, 0);
        self.counts.clear();
        for (row, values) in block.chunks_exact(entries).enumerate() {
            let place = row * self.words..(row + 1) * self.words;
            let (negative, nonzero) = (&mut self.negative[place.clone()], &mut self.nonzero[place]);
            if T::pack(values, negative, nonzero, lanes) {
                return Err(NotANumber { row });
            }
            if let Some(signs) = signs.as_deref_mut() {
                T::signs(values, &mut signs[row * entries..(row + 1) * entries], lanes);
            }
            self.counts.push(ones(nonzero));
        }
        Ok(())
    }

    /// Number of non-zero entries of a row.
    pub fn count(&self, row: usize) -> u64 {
        self.counts[row]
    }

    /// Adds `<sign row i, sign row j>` to `sums` (`rows x other.rows`, row-major) for every i and j, or, with
    /// `symmetric`, for i ≤ j only.
    ///
    /// # Panics
    /// If rows of the two have different lengths.
    pub fn add_products(&self, other: &Self, symmetric: bool, sums: &mut [i64], lanes: Lanes) {
        assert_eq!(self.entries, other.entries, "rows of one block");
        let columns = other.counts.len();
        for (i, sums) in sums.chunks_exact_mut(columns).enumerate() {
            let left = i * self.words..(i + 1) * self.words;
            let full = self.counts[i] == self.entries as u64;
            let (negative, nonzero) = (&self.negative[left.clone()], &self.nonzero[left]);
            for (j, sum) in sums.iter_mut().enumerate().skip(if symmetric { i } else { 0 }) {
                let right = j * other.words..(j + 1) * other.words;
                *sum += if full && other.counts[j] == other.entries as u64 {
                    self.entries as i64 - 2 * lanes.differing(negative, &other.negative[right]) as i64
                } else {
                    lanes.masked(negative, &other.negative[right.clone()], nonzero, &other.nonzero[right])
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sign(x: f64) -> i64 {
        if x > 0.0 {
            1
        } else if x < 0.0 {
            -1
        } else {
            0
        }
    }

    /// Products of signs in every available instruction set, against the definition.
    fn check<T: Real>(left: &[f64], right: &[f64], entries: usize, of: impl Fn(f64) -> T, to: impl Fn(T) -> f64) {
        let (rows, columns) = (left.len() / entries, right.len() / entries);
        let expected: Vec<i64> = (0..rows * columns)
            .map(|k| {
                let (i, j) = (k / columns * entries, k % columns * entries);
                (0..entries).map(|e| sign(left[i + e]) * sign(right[j + e])).sum()
            })
            .collect();
        for lanes in Lanes::available() {
            let pack = |values: &[f64]| {
                let block: Vec<T> = values.iter().map(|v| of(*v)).collect();
                let (mut signs, mut dense) = (Signs::default(), vec![of(7.0); block.len()]);
                signs.pack(&block, entries, Some(&mut dense), lanes).expect("numbers");
                for (value, dense) in values.iter().zip(dense) {
                    assert_eq!(to(dense), sign(*value) as f64, "{lanes:?}");
                }
                signs
            };
            let (a, b) = (pack(left), pack(right));
            let mut sums = vec![0; rows * columns];
            a.add_products(&b, false, &mut sums, lanes);
            assert_eq!(sums, expected, "{lanes:?}");
            let mut upper = vec![0; rows * rows];
            a.add_products(&a, true, &mut upper, lanes);
            for i in 0..rows {
                let nonzero = left[i * entries..(i + 1) * entries].iter().filter(|v| **v != 0.0).count();
                assert_eq!((upper[i * rows + i], a.count(i)), (nonzero as i64, nonzero as u64), "{lanes:?}");
                assert!(upper[i * rows..i * rows + i].iter().all(|v| *v == 0), "the lower triangle is left alone");
            }
        }
    }

    fn entry() -> impl Strategy<Value = f64> {
        // The smallest subnormal of single precision has a sign, and so has the least double.
        prop_oneof![Just(0.0), Just(-0.0), Just(1e-45), Just(-1e-45), Just(f64::INFINITY), -1.0..1.0f64,]
    }

    proptest! {
        #[test]
        fn products_equal_their_definition(
            entries in 1usize..1200,
            left in proptest::collection::vec(entry(), 3600),
            right in proptest::collection::vec(entry(), 2400),
            dense in any::<bool>(),
        ) {
            let prepare = |values: &[f64], rows: usize| -> Vec<f64> {
                values[..rows * entries].iter().map(|v| if dense && *v == 0.0 { -1.0 } else { *v }).collect()
            };
            let (left, right) = (prepare(&left, 3), prepare(&right, 2));
            check(&left, &right, entries, |v| v as f32, f64::from);
            check(&left, &right, entries, |v| v, |v| v);
        }
    }

    #[test]
    fn the_least_double_has_a_sign() {
        check(&[5e-324, -5e-324, 0.0], &[1.0, 1.0, 1.0], 3, |v| v, |v| v);
    }

    #[test]
    fn a_nan_is_found_wherever_it_is() {
        for lanes in Lanes::available() {
            for at in [0, 7, 15, 16, 510, 511, 512, 600] {
                let mut block = vec![1.0f32; 2 * 601];
                block[601 + at] = f32::NAN;
                let mut signs = Signs::default();
                assert_eq!(signs.pack(&block, 601, None, lanes), Err(NotANumber { row: 1 }), "{lanes:?}, {at}");
            }
        }
    }

    #[test]
    fn a_used_buffer_forgets_the_block_before() {
        for lanes in Lanes::available() {
            let mut signs = Signs::default();
            signs.pack(&[-1.0f32; 2048], 1024, None, lanes).expect("numbers");
            signs.pack(&[-1.0f32, 1.0, 0.0], 3, None, lanes).expect("numbers");
            let mut sums = vec![0];
            signs.add_products(&signs, true, &mut sums, lanes);
            assert_eq!(sums, [2], "{lanes:?}");
        }
    }
}
