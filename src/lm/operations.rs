//! Operations shared by attention and the network: norms, linear maps and selected positions.

use tch::Tensor;

use super::layout::Map;
use super::parts::{Norm, NormKind};
use super::single;
use crate::jacobian::Tap;

/// A normalization of the last axis of x \[B, T, d\].
pub(super) fn norm(tap: &mut dyn Tap, x: &Tensor, parts: &Norm, map: Map) -> Tensor {
    if single::is_rounded(parts.rounding, x.kind()) {
        let normed = single::over_root_mean_square(x, parts);
        return match parts.kind {
            // The product with the weight is in single precision too.
            NormKind::RmsCentred => tap.scale_by_one_plus(&normed, map.weight).to_kind(x.kind()),
            _ => tap.scale_shift(&normed.to_kind(x.kind()), map.weight, map.bias),
        };
    }
    let normed = match parts.kind {
        NormKind::Layer | NormKind::LayerUnbiased => {
            let none: Option<&Tensor> = None;
            x.layer_norm([x.size()[x.dim() - 1]], none, none, parts.eps, false)
        }
        NormKind::Rms | NormKind::RmsCentred => x * (x.square().mean_dim(-1, true, x.kind()) + parts.eps).rsqrt(),
    };
    let scaled = tap.scale_shift(&normed, map.weight, map.bias);
    if parts.kind == NormKind::RmsCentred { scaled + normed } else { scaled }
}

/// A linear map of the network.
pub(super) fn linear(tap: &mut dyn Tap, x: &Tensor, map: Map) -> Tensor {
    tap.linear(x, map.weight, map.bias)
}

/// The states \[B, M, d\] of x \[B, T, d\] at the positions \[B, M\].
pub(super) fn gather(x: &Tensor, at: &Tensor) -> Tensor {
    let index = at.unsqueeze(-1).expand([-1, -1, x.size()[2]], false);
    x.gather(1, &index, false)
}
