//! What to compute, and within which bounds.

use tch::{Device, Kind};

use super::{Arithmetic, Method};
use crate::error::{Error, Result};
use crate::jacobian::Parameters;
use crate::kernel::FormulaSet;
use crate::split::{Parts, has_units};

/// How to compute a Gram matrix.
#[derive(Clone, Debug)]
pub struct GramOptions {
    /// Which formulas.
    pub formulas: FormulaSet,
    /// Which parameters take part, in order.
    pub include: Vec<bool>,
    /// Most examples per forward and backward pass; fewer where they are long.
    pub batch: usize,
    /// With what tiles are multiplied; `None` takes what suits the device.
    pub arithmetic: Option<Arithmetic>,
    /// Most passes at a time, each with its share of the threads; one with [`Arithmetic::Matrices`].
    pub passes: usize,
    /// Entries of the buffer that a thread writes one panel's tile to (rows x parameter entries), with [`Arithmetic::Cores`].
    pub block_entries: i64,
    /// The same with [`Arithmetic::Matrices`], which wants large products.
    pub matrix_block_entries: i64,
    /// Entries of a tile's buffer beyond which memory counts as run out, so that what follows then can be tried out; `None`
    /// waits for libtorch to say so.
    pub pretended_memory: Option<i64>,
    /// Bytes of gradient factors to keep at a time; beyond it, factors are computed again when needed.
    pub keep_bytes: usize,
    /// Whether to keep each parameter's share of the SGD kernel as a matrix (symmetric Gram matrices only).
    pub share_matrices: bool,
    /// How to multiply gradients; `None` chooses for each parameter by its cost.
    pub method: Option<Method>,
    /// Element type of the products; `None` takes the network's.
    pub product_kind: Option<Kind>,
    /// In how many parts of bf16 the factors of the network's linear maps and of tiles are split, where the processor has matrix
    /// units for them; `None`, and every other processor, multiplies them as they are.
    pub parts: Option<Parts>,
}

impl GramOptions {
    /// Defaults for all parameters: passes of at most 32 examples, tiles that fit into a core's cache, 2.7 GB of
    /// kept factors.
    pub fn new(formulas: FormulaSet, parameters: usize) -> Self {
        Self {
            formulas,
            include: vec![true; parameters],
            batch: 32,
            arithmetic: None,
            passes: 4,
            block_entries: 1 << 19,
            matrix_block_entries: 1 << 26,
            pretended_memory: None,
            keep_bytes: 5 << 29,
            share_matrices: false,
            method: None,
            product_kind: None,
            parts: None,
        }
    }

    /// Element type of the gradient factors.
    pub(super) fn factor_kind(&self, parameters: &Parameters) -> Kind {
        self.product_kind.unwrap_or_else(|| parameters.kind())
    }

    /// The parts that products are of, where there are units for them: on the CPU in single precision.
    pub fn parts_used(&self, parameters: &Parameters) -> Option<Parts> {
        let single = parameters.kind() == Kind::Float && self.factor_kind(parameters) != Kind::Double;
        let cores = parameters.device() == Device::Cpu && self.arithmetic_on(Device::Cpu) == Arithmetic::Cores;
        self.parts.filter(|_| single && cores && has_units())
    }

    /// Entries of one panel's tile buffer.
    pub(super) fn tile_entries(&self, device: Device) -> i64 {
        match self.arithmetic_on(device) {
            Arithmetic::Cores => self.block_entries,
            Arithmetic::Matrices => self.matrix_block_entries,
        }
    }

    /// Halves the tiles; `false` where they are as small as makes sense.
    pub(super) fn halve_tiles(&mut self, device: Device) -> bool {
        const LEAST: i64 = 1 << 10;
        let half = self.tile_entries(device) / 2;
        match self.arithmetic_on(device) {
            Arithmetic::Cores => self.block_entries = half,
            Arithmetic::Matrices => self.matrix_block_entries = half,
        }
        half >= LEAST
    }

    /// The arithmetic that was asked for, or else the one that suits a device.
    pub(super) fn arithmetic_on(&self, device: Device) -> Arithmetic {
        let usual = if device == Device::Cpu { Arithmetic::Cores } else { Arithmetic::Matrices };
        self.arithmetic.unwrap_or(usual)
    }

    /// Fails where a device does not have the arithmetic that was asked for.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub(super) fn check_arithmetic(&self, device: Device) -> Result<()> {
        if device == Device::Cpu || self.arithmetic_on(device) == Arithmetic::Matrices {
            return Ok(());
        }
        Err(Error::value(
            "arithmetic",
            "`cores`",
            format!("`matrices`: `cores` is for tensors of the CPU, not of {device:?}"),
        ))
    }
}
