//! Selects the rows of a k-shot split: by LM-BFF's rule on shuffled rows, or from a split with more shots.
//!
//! Knows no files.

use crate::data::numpy::Legacy;
use crate::data::rows::Row;

/// Maximum number of test rows.
pub const TEST_ROWS: usize = 1000;

/// Seed for the choice of test rows, the same in every split.
const TEST_SEED: u32 = 42;

/// Rows of a training and a development split.
pub struct Shots<'a> {
    /// Up to k per label.
    pub train: Vec<&'a Row>,
    /// Up to k more per label.
    pub dev: Vec<&'a Row>,
}

/// The k-shot split of a seed: shuffles all rows, then takes the first k and the next k of each label. Labels come in the
/// order of their first occurrence among the shuffled rows.
pub fn draw(rows: &[Row], labels: usize, k: usize, seed: u32) -> Shots<'_> {
    let mut shuffled: Vec<&Row> = rows.iter().collect();
    Legacy::seed(seed).shuffle(&mut shuffled);
    first_of_each(&shuffled, labels, k)
}

/// The k-shot split taken from the training rows of one with at least 2k shots, in their order: what [`draw`] gives for the
/// same seed.
pub fn derive(train: &[Row], labels: usize, k: usize) -> Shots<'_> {
    first_of_each(&train.iter().collect::<Vec<_>>(), labels, k)
}

fn first_of_each<'a>(rows: &[&'a Row], labels: usize, k: usize) -> Shots<'a> {
    let mut groups: Vec<Vec<&Row>> = vec![Vec::new(); labels];
    let mut order = Vec::new();
    for row in rows {
        if groups[row.label].is_empty() {
            order.push(row.label);
        }
        groups[row.label].push(row);
    }
    let part = |skip: usize| order.iter().flat_map(|label| groups[*label].iter().copied().skip(skip).take(k)).collect();
    Shots { train: part(0), dev: part(k) }
}

/// The test rows: all, or [`TEST_ROWS`] if there are more. TSV rows are shuffled, CSV rows sampled as a data frame; both
/// take the first of a permutation.
pub fn test(rows: &[Row]) -> Vec<&Row> {
    if rows.len() <= TEST_ROWS {
        return rows.iter().collect();
    }
    Legacy::seed(TEST_SEED).choose(rows.len(), TEST_ROWS).into_iter().map(|at| &rows[at]).collect()
}

/// Labels with fewer than `needed` rows, and how many they have.
pub fn short(rows: &[Row], labels: usize, needed: usize) -> Vec<(usize, usize)> {
    let mut counts = vec![0; labels];
    for row in rows {
        counts[row.label] += 1;
    }
    counts.into_iter().enumerate().filter(|(_, count)| *count < needed).collect()
}
