//! Preconditions common to all solvers, with shapes in the messages. Knows no solver.

use crate::error::{Error, Result};
use nalgebra::{DMatrix, DVector};
use std::borrow::Cow;
use std::ops::Range;

/// Largest relative asymmetry `max|K - Kᵀ| / max|K|` of a symmetric kernel. A Gram matrix accumulated in float32 in another
/// order above than below the diagonal differs by a few 1e-7; a truly asymmetric kernel by about 1.
pub(super) const SYMMETRY_TOLERANCE: f64 = 1e-5;

/// `[rows, columns]` in messages.
pub(super) fn shape(matrix: &DMatrix<f64>) -> [usize; 2] {
    [matrix.nrows(), matrix.ncols()]
}

/// The error for a wrong shape.
pub(super) fn misshapen(what: &str, matrix: &DMatrix<f64>, expected: impl Into<String>) -> Error {
    Error::Shape { what: what.into(), found: shape(matrix).to_vec(), expected: expected.into() }
}

/// A training kernel: square, not empty, finite.
pub(super) fn training_kernel(kernel: &DMatrix<f64>) -> Result<()> {
    if kernel.is_empty() || !kernel.is_square() {
        return Err(misshapen("the training kernel", kernel, "it must be square, [n·C, n·C], and not empty"));
    }
    finite("training kernel", kernel)
}

/// An evaluation kernel: `rows` rows, at least one column, finite.
pub(super) fn evaluation_kernel(name: &str, kernel: &DMatrix<f64>, rows: usize) -> Result<()> {
    if kernel.nrows() != rows {
        let expected = format!("it needs one row per row of the training kernel, [{rows}, m·C]");
        return Err(misshapen(&format!("the {name} kernel"), kernel, expected));
    }
    if kernel.ncols() == 0 {
        return Err(misshapen(&format!("the {name} kernel"), kernel, "it has no examples to predict"));
    }
    finite(&format!("{name} kernel"), kernel)
}

/// Checks that every entry is finite; names the first that is not.
pub(super) fn finite(name: &str, matrix: &DMatrix<f64>) -> Result<()> {
    match matrix.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::NotFinite {
            what: format!("the {name} (shape {:?})", shape(matrix)),
            place: format!("{} at row {}, column {}", matrix[at], at % matrix.nrows(), at / matrix.nrows()),
            advice: String::new(),
        }),
    }
}

/// A vector of the given length with finite entries.
pub(super) fn vector(name: &str, values: &[f64], length: usize) -> Result<()> {
    if values.len() != length {
        return Err(Error::Length { what: name.into(), found: values.len(), expected: length });
    }
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::NotFinite {
            what: name.into(),
            place: format!("entry {at} of {length} is {}", values[at]),
            advice: String::new(),
        }),
    }
}

/// Side of the tiles in which a matrix is compared with its transpose: both fit in a cache.
pub(super) const TILE: usize = 64;

/// The tiles of a lower triangle with the diagonal, as ranges of rows and columns.
pub(super) fn lower_tiles(n: usize, side: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let range = move |tile: usize| tile * side..((tile + 1) * side).min(n);
    let tiles = n.div_ceil(side);
    (0..tiles).flat_map(move |column| (column..tiles).map(move |row| (range(row), range(column))))
}

/// `max|K - Kᵀ|` of a kernel that must be symmetric up to [`SYMMETRY_TOLERANCE`].
pub(super) fn symmetric(kernel: &DMatrix<f64>) -> Result<f64> {
    let scale = kernel.amax();
    let mut gap: f64 = 0.0;
    for (rows, columns) in lower_tiles(kernel.nrows(), TILE) {
        for j in columns {
            for i in rows.clone() {
                gap = gap.max((kernel[(i, j)] - kernel[(j, i)]).abs());
            }
        }
    }
    if gap > SYMMETRY_TOLERANCE * scale {
        return Err(Error::NotSymmetric { shape: shape(kernel), gap, scale });
    }
    Ok(gap)
}

/// The symmetric part of a kernel that must be [`symmetric`]: the kernel itself if it is exactly symmetric.
pub(super) fn symmetric_part(kernel: &DMatrix<f64>) -> Result<Cow<'_, DMatrix<f64>>> {
    if symmetric(kernel)? > 0.0 {
        return Ok(Cow::Owned((kernel + kernel.transpose()) * 0.5));
    }
    Ok(Cow::Borrowed(kernel))
}

/// Targets that are -1 or 1, with both present.
pub(super) fn signs(targets: &DVector<f64>) -> Result<()> {
    if let Some(at) = targets.iter().position(|y| y.abs().total_cmp(&1.0).is_ne()) {
        let (label, expected) = (targets[at], "-1 or 1 for a classifier".into());
        return Err(Error::Label { set: "training targets".into(), index: at, label, expected });
    }
    let positive = targets.iter().filter(|&&y| y > 0.0).count();
    if positive == 0 || positive == targets.len() {
        return Err(Error::OneClass { examples: targets.len(), class: targets[0].to_string() });
    }
    Ok(())
}

/// A finite setting that is at least zero (`strict`: above zero).
pub(super) fn non_negative(name: &str, value: f64, strict: bool) -> Result<()> {
    if value.is_finite() && (value > 0.0 || (value >= 0.0 && !strict)) {
        return Ok(());
    }
    let bound = if strict { "above 0" } else { "at least 0" };
    Err(Error::value(name, value, format!("finite and {bound}")))
}
