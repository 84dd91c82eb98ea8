//! Batches of examples of similar length, each for one pass.

use crate::jacobian::Examples;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Tensor;

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
