//! The cost of a grid of solvers, from shapes. Knows no numbers of a solver.

/// Time and memory of the solvers on one kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Operations in double precision, as equivalents in matrix products.
    pub operations: f64,
    /// Peak bytes, including the kernels.
    pub bytes: f64,
    /// Bytes of the kernels alone.
    pub kernels: f64,
}

/// Maximum number of rows for which solvers use a spectrum; beyond, factorizations.
const FEW: usize = 256;

/// The paper's grids on a training kernel of `rows` rows and evaluation kernels of `columns` columns in total.
///
/// Factors of n³ are measured at 1000 to 4000 rows: memory-bound work counts as the products that would take the same time.
pub fn effort(rows: usize, columns: usize, outputs: usize, symmetric: bool) -> Effort {
    let (n, m) = (rows as f64, columns as f64);
    let sides = if symmetric { 1.0 } else { 2.0 };
    let kernels = 8.0 * n * (n + sides * m);
    let (cubes, squares, matrices) = match (symmetric, rows <= FEW) {
        // A spectrum, and Newton's steps of logistic regression.
        (true, true) => (40.0, 0.0, 8.0),
        // Five factorizations; norms, checks and conjugate gradients read the kernel some hundred times. A singular kernel is
        // there a third time.
        (true, false) => (2.0, 2e4, 3.0),
        // Five eliminations; for one output as many reductions to a band, of few rows singular value decompositions.
        (false, true) if outputs == 1 => (120.0, 2e3, 9.0),
        (false, false) if outputs == 1 => (20.0, 2e3, 4.0),
        (false, _) => (4.0, 2e3, 4.0),
    };
    let operations = cubes * n.powi(3) + squares * n.powi(2) + 100.0 * n * m;
    Effort { operations, bytes: kernels + 8.0 * matrices * n * n, kernels }
}

/// Operations for the effective rank of a kernel, which takes all its singular values.
pub fn rank_operations(rows: usize, symmetric: bool) -> f64 {
    (if symmetric { 8.0 } else { 25.0 }) * (rows as f64).powi(3)
}
