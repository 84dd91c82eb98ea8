//! Panels: recorded examples that are multiplied together, in batches of similar length.

use tch::{Kind, Tensor};

use crate::jacobian::{Examples, Ghost, Loops, PackedFactors, Param, Recorded, RowSet, Tile};
use crate::split::{Packs, Parts};

/// Padded tokens of a batch up to which examples of any length join it: below, a separate pass would cost more than padding.
const SMALL: usize = 256;

/// Maximum padded tokens of a batch: a pass over more is no faster and takes more memory.
const LARGE: usize = 512;

/// Batches of at most `size` examples, each for one pass, cheapest first; equal costs keep their order. At most an eighth of
/// a batch of more than [`SMALL`] tokens is padding.
pub(super) fn batches(examples: &dyn Examples, size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|i| examples.cost(*i));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for i in order {
        let cost = examples.cost(i);
        let joins = batches.last().is_some_and(|batch| {
            let padded = (batch.len() + 1) * cost;
            let fits = padded <= LARGE && 8 * (padded - tokens - cost) <= padded;
            batch.len() < size.max(1) && (padded <= SMALL || fits)
        });
        if let Some(batch) = batches.last_mut().filter(|_| joins) {
            batch.push(i);
            tokens += cost;
        } else {
            batches.push(vec![i]);
            tokens = cost;
        }
    }
    batches
}

/// Tokens of a batch, including padding.
pub(super) fn padded(examples: &dyn Examples, batch: &[usize]) -> usize {
    batch.len() * batch.iter().map(|i| examples.cost(*i)).max().unwrap_or(1)
}

/// Maximum padded tokens of a batch whose longest example has this many.
pub(super) fn most_tokens(longest: usize) -> usize {
    LARGE.max(longest)
}

/// Gradients of some examples in factored form. Rows are ordered by batch, and within a batch as in [`Recorded::places`].
pub(super) struct Panel {
    batches: Vec<Recorded>,
    /// Row numbers `i·C + c` in the whole matrix.
    places: Vec<i64>,
    /// Examples, by batch.
    examples: Vec<usize>,
}

impl Panel {
    /// A panel of one batch.
    pub fn of(recorded: Recorded, examples: &[usize]) -> Self {
        let mut panel = Self { batches: Vec::new(), places: Vec::new(), examples: Vec::new() };
        panel.push(recorded, examples);
        panel
    }

    /// Adds a batch.
    pub fn push(&mut self, recorded: Recorded, examples: &[usize]) {
        self.places.extend(recorded.places(examples));
        self.examples.extend(examples);
        self.batches.push(recorded);
    }

    pub fn shallow_clone(&self) -> Self {
        Self {
            batches: self.batches.iter().map(Recorded::shallow_clone).collect(),
            places: self.places.clone(),
            examples: self.examples.clone(),
        }
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.batches.len()
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
        self.batches.iter().map(Recorded::bytes).sum()
    }

    /// Row numbers in the whole matrix.
    pub fn places(&self) -> Tensor {
        Tensor::from_slice(&self.places)
    }

    /// The example of a row.
    pub fn example(&self, row: usize) -> i64 {
        self.places[row] / self.batches[0].outputs().size()[1]
    }

    /// Some batch, for what all have in common.
    pub fn first(&self) -> &Recorded {
        &self.batches[0]
    }

    /// Copies the outputs to the examples' rows of `target` \[N, C\].
    pub fn put_outputs(&self, target: &mut Tensor) {
        let outputs: Vec<&Tensor> = self.batches.iter().map(Recorded::outputs).collect();
        let index = Tensor::from_slice(&self.examples.iter().map(|i| *i as i64).collect::<Vec<_>>());
        let _ = target.index_copy_(0, &index, &Tensor::cat(&outputs, 0).to_device(target.device()));
    }

    /// Whether any example has a gradient for a parameter.
    pub fn reaches(&self, p: Param) -> bool {
        self.batches.iter().any(|r| r.reaches(p))
    }

    /// Rows that any example touches.
    pub fn touched(&self, p: Param) -> RowSet {
        let first = self.first().touched(p).shallow_clone();
        self.batches[1..].iter().fold(first, |set, batch| set.union(batch.touched(p)))
    }

    /// Tokens of all examples together, including padding, and of the longest, if a parameter's gradients are single sums of
    /// outer products.
    pub fn outer_tokens(&self, p: Param) -> Option<(i64, i64)> {
        self.batches.iter().try_fold((0, 0), |(all, longest), r| {
            let tokens = r.outer_tokens(p)?;
            Some((all + tokens * r.batch(), longest.max(tokens)))
        })
    }

    /// The factors of a parameter, packed for units for bf16; `None` if these do not write its gradients in all batches.
    pub fn packed(&self, p: Param, parts: Parts, packs: &mut Packs) -> Option<Vec<PackedFactors>> {
        if !self.batches.iter().all(|batch| batch.is_outer_by_units(p, parts)) {
            return None;
        }
        self.batches.iter().map(|batch| PackedFactors::new(batch, p, parts, packs)).collect()
    }

    /// Writes the gradients' entries in a tile from packed factors.
    pub fn write_packed(&self, (packed, packs): (&[PackedFactors], &Packs), tile: &Tile, out: &Tensor) {
        let mut at = 0;
        for (batch, packed) in self.batches.iter().zip(packed) {
            packed.write(packs, tile, &out.narrow(0, at, batch.rows()));
            at += batch.rows();
        }
    }

    /// Writes the gradients' entries in a tile to `out` \[rows, entries\].
    pub fn write(&self, loops: Loops, p: Param, set: &RowSet, tile: &Tile, out: &Tensor) {
        let mut at = 0;
        for batch in &self.batches {
            batch.write_by(loops, p, set, tile, &out.narrow(0, at, batch.rows()));
            at += batch.rows();
        }
    }

    /// Inner products \[rows, rows\] in double precision without materialized gradients, or with their signs on either side; see
    /// [`Ghost::products`].
    pub fn ghost(&self, other: &Self, p: Param, signs: (bool, bool), parts: Option<Parts>) -> Tensor {
        let own: Vec<Ghost> = self.batches.iter().map(|batch| Ghost::new(batch, p, signs.0)).collect();
        let columns = other.batches.iter().map(|batch| {
            let other = Ghost::new(batch, p, signs.1);
            let blocks = own.iter().map(|own| own.products(&other, parts).to_kind(Kind::Double));
            Tensor::cat(&blocks.collect::<Vec<_>>(), 0)
        });
        Tensor::cat(&columns.collect::<Vec<_>>(), 1)
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
        fn batches_hold_every_example_once_with_little_padding(
            costs in proptest::collection::vec(1usize..1500, 1..80), size in 1usize..40,
        ) {
            let batches = batches(&Costs(costs.clone()), size);
            let mut all: Vec<usize> = batches.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..costs.len()).collect::<Vec<_>>());
            for batch in batches {
                let tokens: usize = batch.iter().map(|i| costs[*i]).sum();
                let padded = batch.len() * batch.iter().map(|i| costs[*i]).max().unwrap();
                prop_assert!(batch.len() <= size);
                prop_assert!(padded <= SMALL || 8 * (padded - tokens) <= padded);
                prop_assert!(padded <= LARGE || batch.len() == 1);
            }
        }
    }
}
