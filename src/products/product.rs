//! A product of matrices, as the functions of libtorch's tensors ask for it.

use std::ffi::{c_int, c_void};

/// A factor of a [`Product`]: entry k of row i is at `i·stride + k` if `along`, else at `k·stride + i`.
#[repr(C)]
pub(super) struct Operand {
    pub values: *const c_void,
    pub stride: i64,
    pub along: bool,
}

/// `out[i, j] = Σ_k a[i, k] b[j, k]`, or `+=`, plus a bias for each j, as requested by `linear.cpp`.
#[repr(C)]
pub(super) struct Product {
    /// The number of bf16 parts, or 0 for whole factors.
    pub parts: c_int,
    /// Whether numbers are in double precision, or in single.
    pub is_double: bool,
    pub a: Operand,
    pub b: Operand,
    pub rows: i64,
    pub columns: i64,
    pub length: i64,
    pub out: *mut c_void,
    pub out_stride: i64,
    /// The row that is added to every row of the result, or null.
    pub bias: *const c_void,
    /// Whether the result has numbers to which the products are added: those of the bias, where there are no parts or nothing to sum.
    pub add: bool,
}
