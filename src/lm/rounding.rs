//! Which parts of a double-precision network transformers computes in single precision.

use serde::Serialize;

/// How transformers computes a part of a double-precision network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Rounding {
    /// In double precision.
    None,
    /// In single precision.
    Single,
}
