//! The tokens of a padded batch one behind the other, without the padding: what computes token by token needs no more.

use tch::{Kind, Tensor};

/// Part of a padded batch that is padding from which on packing it pays: below, the copies cost more.
const LEAST: i64 = 16;

/// Where the tokens of a padded batch are.
pub(super) struct Packing {
    /// Place of each token in the padded batch, as if that were flat \[N\].
    tokens: Tensor,
    /// Number among the tokens of every place that holds one \[B, T\].
    numbers: Tensor,
}

impl Packing {
    /// From which places hold tokens \[B, T\], where each text's number of them is `lengths`; `None` where little is padding.
    pub fn of(present: &Tensor, lengths: &[i64]) -> Option<Self> {
        let (all, tokens) = (present.numel() as i64, lengths.iter().sum::<i64>());
        if LEAST * (all - tokens) < all {
            return None;
        }
        let flat = present.reshape([-1]);
        let numbers = (flat.cumsum(0, Kind::Int64) - 1).view_as(present);
        Some(Self { tokens: flat.nonzero().squeeze_dim(1), numbers })
    }

    /// Padded states \[B, T, d\] → those of the tokens \[1, N, d\].
    pub fn pack(&self, x: &Tensor) -> Tensor {
        x.reshape([-1, x.size()[2]]).index_select(0, &self.tokens).unsqueeze(0)
    }

    /// States of the tokens \[1, N, d\] → padded ones \[B, T, d\], zero where there is no token.
    pub fn unpack(&self, x: &Tensor) -> Tensor {
        let (size, width) = (self.numbers.size(), x.size()[2]);
        // Of libtorch's ways to put rows to places the one that goes row by row.
        let mut padded = Tensor::zeros([size[0] * size[1], width], (x.kind(), x.device()));
        padded.index_add_(0, &self.tokens, &x.squeeze_dim(0)).view([size[0], size[1], width])
    }

    /// The states \[B, M, d\] of the tokens \[1, N, d\] at positions \[B, M\] of their texts.
    pub fn at(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let (size, width) = (positions.size(), x.size()[2]);
        let numbers = self.numbers.gather(1, positions, false).reshape([-1]);
        x.squeeze_dim(0).index_select(0, &numbers).view([size[0], size[1], width])
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn tokens_are_packed_and_put_back() {
        let present = Tensor::from_slice(&[true, true, false, true, false, false, true, true, true]).view([3, 3]);
        let packing = Packing::of(&present, &[2, 1, 3]).expect("a third is padding");
        let x = Tensor::arange(18, (Kind::Float, Device::Cpu)).view([3, 3, 2]);
        let packed = packing.pack(&x);
        assert_eq!(packed.size(), [1, 6, 2]);
        assert_eq!(packing.unpack(&packed), &x * present.unsqueeze(2));
        let at = Tensor::from_slice(&[1i64, 0, 2]).view([3, 1]);
        let expected = Tensor::stack(&[x.get(0).get(1), x.get(1).get(0), x.get(2).get(2)], 0).unsqueeze(1);
        assert_eq!(packing.at(&packed, &at), expected);
        let full = Tensor::ones([4, 8], (Kind::Bool, Device::Cpu));
        let _ = full.get(3).narrow(0, 7, 1).fill_(0);
        assert!(Packing::of(&full, &[8, 8, 8, 7]).is_none(), "little is padding");
    }
}
