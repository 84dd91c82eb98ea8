//! Random effects: components of variance of crossed samples.

use super::distribution::{student_quantile, tail};
use super::{Estimate, Method};

/// A mean over rows and columns with its components of variance, for samples that cross: the same tasks for every seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossed {
    /// The mean, with an interval for other rows and other columns alike. Its number of samples is one more than the degrees of
    /// freedom of its variance.
    pub mean: Estimate,
    /// Variance of the rows' effects.
    pub rows: f64,
    /// Variance of the columns' effects.
    pub columns: f64,
    /// Variance of what neither explains.
    pub rest: f64,
}

/// Mean and components of variance of a full table `table[row][column]`, rows and columns both drawn at random: two-way
/// analysis of variance without replication. The mean's variance is `(MS_rows + MS_columns - MS_rest) / (rows · columns)`, with
/// neither of the first two taken smaller than the last, and Satterthwaite's degrees of freedom, rounded down. With two rows a
/// nominal 95% may cover 92%.
///
/// # Panics
/// If there are no two rows and two columns, or rows of different sizes.
pub fn crossed(table: &[Vec<f64>], confidence: f64) -> Crossed {
    let (r, c) = (table.len(), table[0].len());
    assert!(r >= 2 && c >= 2, "variance of rows and columns");
    assert!(table.iter().all(|row| row.len() == c), "rows of one size");
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
    let of_rows: Vec<f64> = table.iter().map(|row| mean(&mut row.iter().copied(), c)).collect();
    let of_columns: Vec<f64> = (0..c).map(|j| mean(&mut table.iter().map(|row| row[j]), r)).collect();
    let value = mean(&mut of_rows.iter().copied(), r);
    let squares = |means: &[f64]| means.iter().map(|m| (m - value).powi(2)).sum::<f64>();
    let (row_freedom, column_freedom) = ((r - 1) as f64, (c - 1) as f64);
    let rest_freedom = row_freedom * column_freedom;
    let left = |i: usize, j: usize| table[i][j] - of_rows[i] - of_columns[j] + value;
    let rest = (0..r).flat_map(|i| (0..c).map(move |j| (i, j))).map(|(i, j)| left(i, j).powi(2)).sum::<f64>();
    let (between_rows, between_columns) =
        (squares(&of_rows) * c as f64 / row_freedom, squares(&of_columns) * r as f64 / column_freedom);
    let rest = rest / rest_freedom;
    let (wide_rows, wide_columns) = (between_rows.max(rest), between_columns.max(rest));
    let variance = wide_rows + wide_columns - rest;
    let spread = wide_rows.powi(2) / row_freedom + wide_columns.powi(2) / column_freedom + rest.powi(2) / rest_freedom;
    let freedom = if variance > 0.0 { variance.powi(2) / spread } else { rest_freedom };
    let freedom = freedom.floor().max(1.0);
    let error = (variance / (r * c) as f64).sqrt();
    let margin = error * student_quantile(tail(confidence), freedom);
    let mean = Estimate {
        value,
        low: value - margin,
        high: value + margin,
        confidence,
        standard_error: Some(error),
        samples: freedom as usize + 1,
        method: Method::Student,
    };
    let component = |square: f64, count: usize| ((square - rest) / count as f64).max(0.0);
    Crossed { mean, rows: component(between_rows, c), columns: component(between_columns, r), rest }
}
