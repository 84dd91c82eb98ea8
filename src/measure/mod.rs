//! Measures of kernel behaviour (the paper's Definitions 3.1 and 3.2): output derivative, linearization, fixed features, kernel
//! drift, shares of layers.
//!
//! Knows networks only as [`Examples`](crate::jacobian::Examples) and kernels as matrices; draws no conclusion.

mod chi;
mod distance;
mod drift;
mod expansion;
mod linearization;
mod shares;

pub use chi::{output_derivative_norms, output_derivative_sizes};
pub use distance::kernel_distance;
pub use drift::{gradient_drift, kernel_drift, sufficient_gradient_drift};
pub use expansion::{ENOUGH, Expansion, Few, Known, Rounding, Sample};
pub use linearization::{Taylor, relative_residual, taylor};
pub use shares::layer_shares;
