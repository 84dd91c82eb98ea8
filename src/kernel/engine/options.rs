//! Options of the structured engine.

use tch::{Device, Kind};

use super::{Arithmetic, Method};
use crate::error::{Error, Result};
use crate::jacobian::Parameters;
use crate::kernel::FormulaSet;
use crate::products::{Parts, multiplies_gradients, splits};

/// How to compute a Gram matrix.
#[derive(Clone, Debug)]
pub struct GramOptions {
    /// Formulas to compute.
    pub formulas: FormulaSet,
    /// Whether each parameter is included.
    pub include: Vec<bool>,
    /// Maximum number of examples per forward and backward pass; fewer if they are long.
    pub batch: usize,
    /// How tiles are multiplied; `None` chooses by the device.
    pub arithmetic: Option<Arithmetic>,
    /// Maximum number of parallel passes, each with its share of the threads; always one with [`Arithmetic::Matrices`].
    pub passes: usize,
    /// Size of a thread's buffer for one panel's tile (rows x parameter entries), with [`Arithmetic::Cores`].
    pub block_entries: i64,
    /// The same with [`Arithmetic::Matrices`], which needs large products.
    pub matrix_block_entries: i64,
    /// Buffer size beyond which a shortage of memory is simulated, for tests; `None` otherwise.
    pub pretended_memory: Option<i64>,
    /// Bytes of gradient factors to keep at a time; beyond it, factors are recomputed when needed.
    pub keep_bytes: usize,
    /// Whether to return each parameter's share of the SGD kernel as a matrix (symmetric Gram matrices only).
    pub share_matrices: bool,
    /// How to multiply gradients; `None` chooses by cost for each parameter.
    pub method: Option<Method>,
    /// Element type of the products; `None` takes the network's.
    pub product_kind: Option<Kind>,
    /// Number of bf16 parts into which factors of linear maps and tiles are split, if the processor has units for it; with
    /// `None`, or without such units, they are not split.
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

    /// The number of parts actually used: on the CPU in single precision, with units for bf16.
    pub fn parts_used(&self, parameters: &Parameters) -> Option<Parts> {
        let single = parameters.kind() == Kind::Float && self.factor_kind(parameters) != Kind::Double;
        let cores = parameters.device() == Device::Cpu && self.arithmetic_on(Device::Cpu) == Arithmetic::Cores;
        self.parts.filter(|parts| single && cores && splits(*parts))
    }

    /// Size of one panel's tile buffer.
    pub(super) fn tile_entries(&self, device: Device) -> i64 {
        match self.arithmetic_on(device) {
            Arithmetic::Cores => self.block_entries,
            Arithmetic::Matrices => self.matrix_block_entries,
        }
    }

    /// Halves the tiles; `false` if they are already as small as useful.
    pub(super) fn halve_tiles(&mut self, device: Device) -> bool {
        const LEAST: i64 = 1 << 10;
        let half = self.tile_entries(device) / 2;
        match self.arithmetic_on(device) {
            Arithmetic::Cores => self.block_entries = half,
            Arithmetic::Matrices => self.matrix_block_entries = half,
        }
        half >= LEAST
    }

    /// The bf16 parts in which matrix units multiply factors of this type and gradients, if they do.
    pub(super) fn on_units(&self, kind: Kind, device: Device) -> Option<Parts> {
        let cores = device == Device::Cpu && self.arithmetic_on(device) == Arithmetic::Cores;
        self.parts.filter(|parts| kind != Kind::Double && cores && multiplies_gradients(*parts))
    }

    /// The arithmetic asked for, or the device's default.
    pub(super) fn arithmetic_on(&self, device: Device) -> Arithmetic {
        let usual = if device == Device::Cpu { Arithmetic::Cores } else { Arithmetic::Matrices };
        self.arithmetic.unwrap_or(usual)
    }

    /// Fails if the device does not support the arithmetic.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub(super) fn check_arithmetic(&self, device: Device) -> Result<()> {
        if device == Device::Cpu || self.arithmetic_on(device) == Arithmetic::Matrices {
            return Ok(());
        }
        Err(Error::value("arithmetic", "`cores`", format!("`matrices`: `cores` needs CPU tensors, not {device:?}")))
    }
}
