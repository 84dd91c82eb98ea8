//! How a tile's gradients and signs are multiplied. Independent of the device, so that a GPU's way can be tested on CPU
//! tensors.

/// A way to write and multiply the gradients of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// This program's own loops if the processor has the instructions, signs packed to bits, and tiles that fit into a
    /// core's cache and are distributed over threads. CPU tensors only.
    Cores,
    /// libtorch's matrix products of large tiles, one tile and one pass at a time; signs are multiplied as 8-bit integers
    /// with 32-bit sums. Suits GPUs.
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
