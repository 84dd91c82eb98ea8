//! The factors of a parameter's per-example gradients.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Kind, Tensor};

use super::tile::RowSet;

/// A factored gradient of one parameter, per example b and output c.
pub(super) enum Factor {
    /// `Σ_t g[b,c,t,:] x[b,t,:]ᵀ`: x \[B,T,in\], g \[B,C,T,out\].
    Outer { x: Tensor, g: Tensor },
    /// The gradient itself: g \[B,C,d\].
    Vector { g: Tensor },
    /// Row `ids[b,t]` receives `g[b,c,t,:]`: ids \[B,T\], g \[B,C,T,d\].
    Rows { ids: Tensor, g: Tensor },
}

impl Factor {
    pub fn shallow_clone(&self) -> Self {
        match self {
            Self::Outer { x, g } => Self::Outer { x: x.shallow_clone(), g: g.shallow_clone() },
            Self::Vector { g } => Self::Vector { g: g.shallow_clone() },
            Self::Rows { ids, g } => Self::Rows { ids: ids.shallow_clone(), g: g.shallow_clone() },
        }
    }

    /// Converts its numbers; `inputs` are the x that have been converted, by the place and size of what they were, which must still
    /// be there.
    pub fn convert(&mut self, kind: Kind, inputs: &mut BTreeMap<(usize, Vec<i64>), (Tensor, Tensor)>) {
        match self {
            Self::Outer { x, g } => {
                let key = (x.data_ptr() as usize, x.size());
                let (_, converted) = inputs.entry(key).or_insert_with(|| (x.shallow_clone(), x.to_kind(kind)));
                (*x, *g) = (converted.shallow_clone(), g.to_kind(kind));
            }
            Self::Vector { g } | Self::Rows { g, .. } => *g = g.to_kind(kind),
        }
    }

    /// The tensors held.
    pub fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Outer { x, g } => vec![x, g],
            Self::Vector { g } => vec![g],
            Self::Rows { ids, g } => vec![ids, g],
        }
    }
}

/// Rows that the factors can touch.
pub(super) fn touched(factors: &[Factor], all: i64) -> RowSet {
    let mut rows = BTreeSet::new();
    let mut device = tch::Device::Cpu;
    for factor in factors {
        let Factor::Rows { ids, g } = factor else { return RowSet::All(all) };
        device = g.device();
        let flat = ids.to_device(tch::Device::Cpu).contiguous().view(-1);
        rows.extend(Vec::<i64>::try_from(&flat).expect("ids are int64"));
    }
    RowSet::of(&rows.into_iter().collect::<Vec<_>>(), device)
}
