//! Rectangles of a parameter seen as a matrix, and sets of rows that gradients can touch.

use std::collections::BTreeSet;
use std::ops::Range;

use kernelview_loops::outer;
use tch::Tensor;

/// Rows that the loops of single precision write at a time.
const WRITTEN: i64 = outer::HEIGHT as i64;

/// A rectangle of a parameter seen as a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Positions in a [`RowSet`].
    pub rows: Range<i64>,
    /// Columns.
    pub columns: Range<i64>,
}

impl Tile {
    /// Number of rows.
    pub fn height(&self) -> i64 {
        self.rows.end - self.rows.start
    }

    /// Number of columns.
    pub fn width(&self) -> i64 {
        self.columns.end - self.columns.start
    }

    /// Number of parameter entries.
    pub fn entries(&self) -> i64 {
        self.height() * self.width()
    }

    /// Tiles of at most `entries` entries (but at least one) that cover `rows x columns`. Wide rows are cut, to a multiple
    /// of the width of the outer-product loops: a nearly square tile reads the fewest factors per entry. Small tiles are
    /// narrower, so that whole rows use most of their entries.
    pub fn cover(rows: i64, columns: i64, entries: i64) -> impl Iterator<Item = Self> {
        Self::cover_by(1, rows, columns, entries)
    }

    /// The same with tiles that begin at multiples of `step` rows, if they have as many.
    pub fn cover_by(step: i64, rows: i64, columns: i64, entries: i64) -> impl Iterator<Item = Self> {
        const HEIGHT: i64 = 120;
        const LEAST: i64 = 8;
        // Columns of a tile of this many rows.
        let per = |height: i64| entries / height.min(rows.max(1));
        let width = match (per(HEIGHT) / 64, per(LEAST)) {
            (0, 64..) => 64,
            (0, narrow @ 16..) => narrow - narrow % 16,
            (0, narrow) => narrow.max(1),
            (blocks, _) => 64 * blocks,
        };
        let width = columns.min(width);
        let height = (entries / width).max(1);
        // The loops write so many rows at a time. A power of two, which a tile has otherwise, would also put all rows of its
        // buffer into the same few sets of a cache. Where tiles are low, what is lost by rounding is more.
        let rounded = step == 1 && (10 * WRITTEN..rows).contains(&height);
        let step = if rounded { WRITTEN } else { step };
        let height = if height > step { height - height % step } else { height };
        let ranges = |length: i64, step: i64| {
            (0..(length + step - 1) / step).map(move |k| k * step..((k + 1) * step).min(length))
        };
        ranges(rows, height)
            .flat_map(move |r| ranges(columns, width).map(move |columns| Self { rows: r.clone(), columns }))
    }
}

/// The rows of a parameter that a product visits.
#[derive(Debug)]
pub enum RowSet {
    /// All rows `0..n`.
    All(i64),
    /// These rows, sorted; gradients are zero in all others.
    Touched(Tensor),
}

impl RowSet {
    /// Number of rows.
    pub fn len(&self) -> i64 {
        match self {
            Self::All(n) => *n,
            Self::Touched(rows) => rows.size()[0],
        }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These rows, which must be sorted and distinct.
    pub fn of(rows: &[i64], device: tch::Device) -> Self {
        Self::Touched(Tensor::from_slice(rows).to_device(device))
    }

    /// A second handle on the same rows.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        match self {
            Self::All(n) => Self::All(*n),
            Self::Touched(rows) => Self::Touched(rows.shallow_clone()),
        }
    }

    /// Rows in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a.intersection(b).copied().collect())
    }

    /// Rows in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a.union(b).copied().collect())
    }

    fn combine(&self, other: &Self, rule: impl FnOnce(&BTreeSet<i64>, &BTreeSet<i64>) -> Vec<i64>) -> Self {
        match (self, other) {
            (Self::Touched(a), Self::Touched(b)) => {
                let set = |t: &Tensor| -> BTreeSet<i64> {
                    Vec::<i64>::try_from(&t.to_device(tch::Device::Cpu)).expect("rows are int64").into_iter().collect()
                };
                Self::of(&rule(&set(a), &set(b)), a.device())
            }
            (Self::All(n), _) | (_, Self::All(n)) => Self::All(*n),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tiles_cover_every_entry_once_within_their_size(rows in 1i64..300, columns in 1i64..900, entries in 1i64..20_000) {
            let mut seen = vec![0u8; (rows * columns) as usize];
            let (mut count, mut full) = (0, 0);
            for tile in Tile::cover(rows, columns, entries) {
                prop_assert!(tile.entries() <= entries);
                for row in tile.rows.clone() {
                    tile.columns.clone().for_each(|column| seen[(row * columns + column) as usize] += 1);
                }
                count += 1;
                full = full.max(tile.entries());
            }
            prop_assert!(seen.into_iter().all(|times| times == 1));
            // A tile that could not take more of the matrix uses at least half of its room.
            prop_assert!(count == 1 || 2 * full > entries || full >= rows.min(8) * columns);
        }
    }
}
