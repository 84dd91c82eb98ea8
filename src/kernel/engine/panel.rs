//! Panels: recorded examples that take part in products together, in parts of like length.

use tch::{Kind, Tensor};

use crate::jacobian::{Examples, Loops, Param, Recorded, RowSet, Tile};

/// Padded tokens of a part up to which examples of any length join it: below, passes cost more than padding.
const SMALL: usize = 256;

/// Padded tokens of a part beyond which no example joins it: a pass over more is no faster, and takes more memory.
const LARGE: usize = 512;

/// Examples in parts of at most `batch` that one pass computes, the cheapest first; equal costs keep their order. In
/// parts of more than a few hundred tokens at most an eighth is padding.
pub(super) fn parts(examples: &dyn Examples, batch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|i| examples.cost(*i));
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for i in order {
        let cost = examples.cost(i);
        let joins = parts.last().is_some_and(|part| {
            let padded = (part.len() + 1) * cost;
            let fits = padded <= LARGE && 8 * (padded - tokens - cost) <= padded;
            part.len() < batch.max(1) && (padded <= SMALL || fits)
        });
        if let Some(part) = parts.last_mut().filter(|_| joins) {
            part.push(i);
            tokens += cost;
        } else {
            parts.push(vec![i]);
            tokens = cost;
        }
    }
    parts
}

/// Tokens of a part, padding included.
pub(super) fn padded(examples: &dyn Examples, part: &[usize]) -> usize {
    part.len() * part.iter().map(|i| examples.cost(*i)).max().unwrap_or(1)
}

/// Most padded tokens of a part whose longest example has so many.
pub(super) fn most_tokens(longest: usize) -> usize {
    LARGE.max(longest)
}

/// Gradients of some examples in factored form. Its rows are those of its parts in turn, in the order of
/// [`Recorded::places`] within a part.
pub(super) struct Panel {
    parts: Vec<Recorded>,
    /// Row numbers `i·C + c` in the whole matrix.
    places: Vec<i64>,
    /// Examples, part by part.
    examples: Vec<usize>,
}

impl Panel {
    /// A panel of one part.
    pub fn of(recorded: Recorded, examples: &[usize]) -> Self {
        let mut panel = Self { parts: Vec::new(), places: Vec::new(), examples: Vec::new() };
        panel.push(recorded, examples);
        panel
    }

    /// Adds a part.
    pub fn push(&mut self, recorded: Recorded, examples: &[usize]) {
        self.places.extend(recorded.places(examples));
        self.examples.extend(examples);
        self.parts.push(recorded);
    }

    pub fn shallow_clone(&self) -> Self {
        Self {
            parts: self.parts.iter().map(Recorded::shallow_clone).collect(),
            places: self.places.clone(),
            examples: self.examples.clone(),
        }
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Number of rows.
    pub fn rows(&self) -> i64 {
        self.places.len() as i64
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Bytes of the factors.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Recorded::bytes).sum()
    }

    /// Row numbers in the whole matrix.
    pub fn places(&self) -> Tensor {
        Tensor::from_slice(&self.places)
    }

    /// The example of a row.
    pub fn example(&self, row: usize) -> i64 {
        self.places[row] / self.parts[0].outputs().size()[1]
    }

    /// Any part, for what all have in common.
    pub fn first(&self) -> &Recorded {
        &self.parts[0]
    }

    /// Copies the outputs to the examples' rows of `target` \[N, C\].
    pub fn put_outputs(&self, target: &mut Tensor) {
        let outputs: Vec<&Tensor> = self.parts.iter().map(Recorded::outputs).collect();
        let index = Tensor::from_slice(&self.examples.iter().map(|i| *i as i64).collect::<Vec<_>>());
        let _ = target.index_copy_(0, &index, &Tensor::cat(&outputs, 0).to_device(target.device()));
    }

    /// Whether any example has a gradient for a parameter.
    pub fn reaches(&self, p: Param) -> bool {
        self.parts.iter().any(|r| r.reaches(p))
    }

    /// Rows that any example touches.
    pub fn touched(&self, p: Param) -> RowSet {
        let first = self.first().touched(p).shallow_clone();
        self.parts[1..].iter().fold(first, |set, part| set.union(part.touched(p)))
    }

    /// Tokens of all examples together, padding included, and of the longest, where a parameter's gradients are single
    /// sums of outer products.
    pub fn outer_tokens(&self, p: Param) -> Option<(i64, i64)> {
        self.parts.iter().try_fold((0, 0), |(all, longest), r| {
            let tokens = r.outer_tokens(p)?;
            Some((all + tokens * r.batch(), longest.max(tokens)))
        })
    }

    /// Whether matrix units write all parts' gradients of a parameter, whose factors are sums of outer products.
    pub fn is_outer_by_units(&self, p: Param) -> bool {
        self.parts.iter().all(|part| part.is_outer_by_units(p))
    }

    /// Writes the gradients' entries in a tile to `out` \[rows, entries\].
    pub fn write(&self, loops: Loops, p: Param, set: &RowSet, tile: &Tile, out: &Tensor) {
        let mut at = 0;
        for part in &self.parts {
            part.write_by(loops, p, set, tile, &out.narrow(0, at, part.rows()));
            at += part.rows();
        }
    }

    /// Inner products \[rows, rows\] in double precision without materialized gradients; see [`Recorded::ghost`].
    pub fn ghost(&self, other: &Self, p: Param, signs: (bool, bool)) -> Tensor {
        let row = |a: &Recorded| {
            let blocks: Vec<Tensor> = other.parts.iter().map(|b| a.ghost(b, p, signs).to_kind(Kind::Double)).collect();
            Tensor::cat(&blocks, 1)
        };
        Tensor::cat(&self.parts.iter().map(row).collect::<Vec<_>>(), 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jacobian::Tap;

    struct Costs(Vec<usize>);

    impl Examples for Costs {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn outputs(&self) -> usize {
            1
        }
        fn cost(&self, index: usize) -> usize {
            self.0[index]
        }
        fn forward(&self, _tap: &mut dyn Tap, _indices: &[usize]) -> Tensor {
            unreachable!("only costs are asked for")
        }
    }

    proptest! {
        #[test]
        fn parts_hold_every_example_once_with_little_padding(
            costs in proptest::collection::vec(1usize..1500, 1..80), batch in 1usize..40,
        ) {
            let parts = parts(&Costs(costs.clone()), batch);
            let mut all: Vec<usize> = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..costs.len()).collect::<Vec<_>>());
            for part in parts {
                let tokens: usize = part.iter().map(|i| costs[*i]).sum();
                let padded = part.len() * part.iter().map(|i| costs[*i]).max().unwrap();
                prop_assert!(part.len() <= batch);
                prop_assert!(padded <= SMALL || 8 * (padded - tokens) <= padded);
                prop_assert!(padded <= LARGE || part.len() == 1);
            }
        }
    }
}
