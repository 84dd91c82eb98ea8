//! What to compute, and within which bounds.

use tch::{Device, Kind};

use super::Method;
use crate::jacobian::Parameters;
use crate::kernel::FormulaSet;

/// How to compute a Gram matrix.
#[derive(Clone, Debug)]
pub struct GramOptions {
    /// Which formulas.
    pub formulas: FormulaSet,
    /// Which parameters take part, in order.
    pub include: Vec<bool>,
    /// Most examples per forward and backward pass; fewer where they are long.
    pub batch: usize,
    /// Most passes at a time, each with its share of the threads. A GPU takes one.
    pub passes: usize,
    /// Entries of the buffer that a thread writes one panel's tile to (rows x parameter entries).
    pub block_entries: i64,
    /// The same on a GPU, which wants large products.
    pub gpu_block_entries: i64,
    /// Bytes of gradient factors to keep at a time; beyond it, factors are computed again when needed.
    pub keep_bytes: usize,
    /// Whether to keep each parameter's share of the SGD kernel as a matrix (symmetric Gram matrices only).
    pub share_matrices: bool,
    /// How to multiply gradients; `None` chooses for each parameter by its cost.
    pub method: Option<Method>,
    /// Element type of the products; `None` takes the network's.
    pub products: Option<Kind>,
}

impl GramOptions {
    /// Defaults for all parameters: passes of at most 32 examples, tiles that fit into a core's cache, 2.7 GB of
    /// kept factors.
    pub fn new(formulas: FormulaSet, parameters: usize) -> Self {
        Self {
            formulas,
            include: vec![true; parameters],
            batch: 32,
            passes: 4,
            block_entries: 1 << 19,
            gpu_block_entries: 1 << 26,
            keep_bytes: 5 << 29,
            share_matrices: false,
            method: None,
            products: None,
        }
    }

    /// Element type of the gradient factors.
    pub(super) fn factor_kind(&self, parameters: &Parameters) -> Kind {
        self.products.unwrap_or_else(|| parameters.kind())
    }

    /// Entries of one panel's tile buffer.
    pub(super) fn tile_entries(&self, device: Device) -> i64 {
        if device.is_cuda() { self.gpu_block_entries } else { self.block_entries }
    }

    /// Halves the tiles; `false` where they are as small as makes sense.
    pub(super) fn halve_tiles(&mut self) -> bool {
        const LEAST: i64 = 1 << 12;
        self.block_entries = (self.block_entries / 2).max(1);
        self.gpu_block_entries = (self.gpu_block_entries / 2).max(1);
        self.gpu_block_entries >= LEAST
    }
}
