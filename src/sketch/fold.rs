//! The map from parameter entries to entries and signs of a sketch. Knows no network.
//!
//! A row of a parameter is cut into runs of at most k entries. A run is added to consecutive entries of the sketch, starting
//! at a random one and wrapping around, each with a random sign: the sketch of a gradient is `S·∇f` with one entry ±1 in
//! each column of S, and entries of a run do not collide. Signs and starts are hashes (SplitMix64) of a counter and the
//! parameter's seed, so that they do not depend on tiles or threads.

use crate::files::named_seed;

/// An entry of a gradient.
pub(super) trait Entry: Copy + Default + std::ops::AddAssign {
    /// The number, negated if the mask's highest bit is set.
    fn signed(self, mask: u32) -> Self;
}

impl Entry for f32 {
    fn signed(self, mask: u32) -> Self {
        Self::from_bits(self.to_bits() ^ mask)
    }
}

impl Entry for f64 {
    fn signed(self, mask: u32) -> Self {
        Self::from_bits(self.to_bits() ^ (u64::from(mask) << 32))
    }
}

/// The map of one parameter.
#[derive(Clone, Copy)]
pub(super) struct Fold {
    size: usize,
    seed: u64,
}

/// A part of a run within a tile's row: columns starting at `at` are added to entries of the sketch starting at `start`.
pub(super) struct Run {
    at: usize,
    length: usize,
    start: usize,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Fold {
    /// The map of the parameter of this name into a sketch of `size` entries.
    pub fn new(size: usize, seed: u64, parameter: &str) -> Self {
        Self { size, seed: named_seed(seed, &format!("sketch {parameter}")) }
    }

    /// The runs in columns `from..from + signs.len()` of a row; writes their signs as masks.
    pub fn runs(&self, row: u64, from: usize, signs: &mut [u32], runs: &mut Vec<Run>) {
        let mut at = 0;
        while at < signs.len() {
            let (run, inside) = ((from + at) / self.size, (from + at) % self.size);
            let length = (self.size - inside).min(signs.len() - at);
            let key = mix(self.seed ^ mix(row.wrapping_mul(GOLDEN).wrapping_add(run as u64 + 1)));
            let first = ((u128::from(mix(key)) * self.size as u128) >> 64) as usize;
            let mut word = 0;
            for (i, sign) in signs[at..at + length].iter_mut().enumerate() {
                let place = inside + i;
                if i == 0 || place.is_multiple_of(64) {
                    word = mix(key.wrapping_add(GOLDEN.wrapping_mul(place as u64 / 64 + 1)));
                }
                *sign = u32::from((word >> (place % 64)) & 1 == 1) << 31;
            }
            runs.push(Run { at, length, start: (first + inside) % self.size });
            at += length;
        }
    }

    /// Adds a row's entries to a sketch.
    pub fn add<T: Entry>(sketch: &mut [T], values: &[T], signs: &[u32], runs: &[Run]) {
        for run in runs {
            let (values, signs) = (&values[run.at..run.at + run.length], &signs[run.at..run.at + run.length]);
            let before = run.length.min(sketch.len() - run.start);
            add(&mut sketch[run.start..run.start + before], &values[..before], &signs[..before]);
            add(&mut sketch[..run.length - before], &values[before..], &signs[before..]);
        }
    }
}

fn add<T: Entry>(sketch: &mut [T], values: &[T], signs: &[u32]) {
    for ((to, value), sign) in sketch.iter_mut().zip(values).zip(signs) {
        *to += value.signed(*sign);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row by row, the dense S of a parameter of so many rows and columns, `[size, rows * columns]`, by tiles of a width.
    fn dense(fold: Fold, size: usize, rows: usize, columns: usize, width: usize) -> Vec<f64> {
        let mut all = vec![0.0; size * rows * columns];
        for row in 0..rows {
            for from in (0..columns).step_by(width) {
                let length = width.min(columns - from);
                let (mut signs, mut runs) = (vec![0; length], Vec::new());
                fold.runs(row as u64, from, &mut signs, &mut runs);
                for e in 0..length {
                    let mut one = vec![0.0; length];
                    one[e] = 1.0;
                    let mut sketch = vec![0.0; size];
                    Fold::add(&mut sketch, &one, &signs, &runs);
                    for (i, value) in sketch.into_iter().enumerate() {
                        all[i * rows * columns + row * columns + from + e] = value;
                    }
                }
            }
        }
        all
    }

    /// One entry ±1 a column of S, whatever the tiles; entries of a run never meet. Fails for: a sign or a start that depends
    /// on the tile, a run that does not go round the end.
    #[test]
    fn every_entry_has_one_place_whatever_the_tiles() {
        let (size, rows, columns) = (100, 3, 230);
        let fold = Fold::new(size, 7, "w");
        let whole = dense(fold, size, rows, columns, columns);
        for width in [1, 64, 100, 129] {
            assert_eq!(dense(fold, size, rows, columns, width), whole);
        }
        for e in 0..rows * columns {
            let column: Vec<f64> = (0..size).map(|i| whole[i * rows * columns + e]).collect();
            assert_eq!(column.iter().map(|x| x.abs()).sum::<f64>(), 1.0);
        }
        for row in 0..rows {
            let counts = (0..size).map(|i| (0..size).filter(|c| whole[(i * rows + row) * columns + c] != 0.0).count());
            assert!(counts.into_iter().all(|count| count == 1));
        }
    }

    /// Signs balance, and starts spread over the whole sketch: 20,000 draws, five standard deviations.
    #[test]
    fn signs_and_starts_are_uniform() {
        let size = 16;
        let fold = Fold::new(size, 1, "w");
        let (mut counts, mut negative) = (vec![0.0; size], 0.0);
        let draws = 20_000;
        for row in 0..draws {
            let (mut signs, mut runs) = ([0; 1], Vec::new());
            fold.runs(row, 0, &mut signs, &mut runs);
            counts[runs[0].start] += 1.0;
            negative += f64::from(signs[0] >> 31);
        }
        let n = draws as f64;
        assert!((negative - 0.5 * n).abs() < 5.0 * (0.25 * n).sqrt());
        let share = 1.0 / size as f64;
        assert!(counts.iter().all(|c| (c - share * n).abs() < 5.0 * (n * share * (1.0 - share)).sqrt()), "{counts:?}");
    }
}
