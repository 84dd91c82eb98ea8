//! Kernel solvers: from a kernel and labels to predictions on unseen examples.
//!
//! Written over `nalgebra`'s matrices and `faer`'s factorizations in float64 alone. It may not know tensors, devices, language models, tasks or files: a
//! kernel is a matrix of numbers whatever it was measured on.
//!
//! **Layout.** A kernel of `N x C x M x C` entries (examples and outputs) arrives flattened row-major to `[N·C, M·C]`: row
//! `i·C + c` is output `c` of training example `i`. Vectors of targets, logits and predictions are flattened the same way.
//!
//! **Which index is which.** The training kernel is `K[i, j] = k(i, j)`; an evaluation kernel is `[train, eval]` with
//! `Ke[i, e] = k(i, e)`, a *flipped* one is `[train, eval]` with `Kf[i, e] = k(e, i)`. For a symmetric kernel the two are one.
//! For the A-SignGD kernel `k(a, b) = <∇f_a, sign ∇f_b>` they are not, and a step along `sign ∇f_i` moves `f_e` by `k(e, i)`:
//! plain kernel regression must then predict with `Kf`.
//!
//! | solver | system | file |
//! |---|---|---|
//! | [`LeastSquares`] | `(K + r·‖K‖₂·I) α = y` | `least_squares.rs` |
//! | [`AsymmetricLeastSquares`] | `[[I/γ, H], [Hᵀ, I/γ]] [α; β] = 1` | `asymmetric.rs` |
//! | [`Logistic`] | `min Σ CE(Kα + f₀) + λ/2 αᵀKα` | `logistic.rs` |
//! | [`Svm`], [`OneVsRest`] | support vector machines by `libsvm-rs` | `svm.rs` |
//!
//! [`select_least_squares`] and [`select_asymmetric`] choose settings on a development set.

mod asymmetric;
mod band;
mod checks;
mod curvature;
mod effort;
mod factor;
mod leading;
mod least_squares;
mod linear;
mod lockstep;
mod logistic;
mod narrow;
mod offset;
mod problem;
mod select;
mod svm;

pub use asymmetric::{AsymmetricLeastSquares, AsymmetricSolution};
pub use effort::{Effort, effort, rank_operations};
pub use least_squares::{LeastSquares, predict};
pub use linear::{effective_rank, operator_norm, relative_cutoff, symmetric_norm};
pub use logistic::{Logistic, LogisticFit, LogisticSettings, LogisticTask};
pub use offset::F0Scaling;
pub use problem::{KernelProblem, Score, classified, score, targets};
pub use select::{AsymmetricGrid, Grid, GridRow, Selection, Setting, select_asymmetric, select_least_squares};
pub use svm::{OneVsRest, Svm, SvmKind, SvmSettings};

#[cfg(test)]
mod tests;
