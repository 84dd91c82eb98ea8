//! With what a tile's gradients and signs are multiplied: a choice of its own, so that what a GPU does can be tested on CPU
//! tensors too.

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
