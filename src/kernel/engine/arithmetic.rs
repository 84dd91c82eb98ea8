//! With what a tile's gradients and signs are multiplied: a choice of its own, so that what a GPU does can be tested on CPU
//! tensors too.

use tch::Device;

use super::options::GramOptions;
use crate::error::{Error, Result};

/// A way to write and multiply the gradients of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Loops of this program's own where the processor has the instructions, signs packed to bits, tiles that fit into a core's
    /// cache and are shared among threads. CPU tensors only.
    Cores,
    /// libtorch's matrix products of large tiles, one tile and one pass after the other; signs as numbers, multiplied as 8-bit
    /// integers with 32-bit sums. What a GPU is good at.
    Matrices,
}

impl Arithmetic {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cores, Self::Matrices];

    /// Name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Matrices => "matrices",
        }
    }
}

impl GramOptions {
    /// The arithmetic that was asked for, or else the one that suits a device.
    pub(super) fn arithmetic_on(&self, device: Device) -> Arithmetic {
        let usual = if device == Device::Cpu { Arithmetic::Cores } else { Arithmetic::Matrices };
        self.arithmetic.unwrap_or(usual)
    }

    /// Fails where a device does not have the arithmetic that was asked for.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub(super) fn check_arithmetic(&self, device: Device) -> Result<()> {
        if device == Device::Cpu || self.arithmetic_on(device) == Arithmetic::Matrices {
            return Ok(());
        }
        Err(Error::Settings(format!(
            "arithmetic: `cores` is for tensors of the CPU, not of {device:?}; use `matrices`"
        )))
    }
}
