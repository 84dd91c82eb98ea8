//! Per-example gradients of a network's outputs with respect to its parameters.
//!
//! A network's forward pass is written once over [`Tap`]; a [`PlainTap`] just computes, a [`RecordingTap`] keeps the factors
//! of per-example gradients. Knows networks only as [`Examples`]: no language model, no kernel, no claim.

mod between;
mod difference;
mod factor;
mod frozen;
mod ghost;
mod packed;
mod parameters;
mod recorded;
mod shapes;
mod strips;
mod tap;
mod tile;
mod written;

pub use between::Line;
pub use difference::outer_distances;
pub use frozen::Frozen;
pub(crate) use ghost::Ghost;
pub use packed::PackedFactors;
pub use parameters::{Param, ParameterSpec, Parameters, Role, Subset};
pub use recorded::Recorded;
pub use shapes::{SiteShape, shapes};
pub(crate) use strips::StripFactors;
pub use tap::{PlainTap, RecordingTap, Tap};
pub use tile::{RowSet, Tile};
pub use written::Loops;

use std::ops::Range;

use tch::Tensor;

use crate::error::Result;
use crate::progress::check_cancelled;

/// A network applied to N examples with C outputs each, the subject of Jacobians and kernels. Engines run several passes in
/// parallel threads; tensors that a forward pass reads are [`Frozen`].
pub trait Examples: Sync {
    /// Number of examples N.
    fn len(&self) -> usize;

    /// Whether there are no examples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of outputs C per example.
    fn outputs(&self) -> usize;

    /// Relative cost of an example, e.g. its number of tokens. Engines batch examples of similar cost to limit padding.
    fn cost(&self, _index: usize) -> usize {
        1
    }

    /// Whether each output of an example is computed from separate inputs. The batch axis of the tap's operations then has
    /// B·C rows, or a multiple, with an example's outputs adjacent. One backward pass gives the gradients of all outputs,
    /// and no output keeps factors of inputs that it does not read.
    fn separate(&self) -> bool {
        false
    }

    /// Outputs \[B, C\] of the examples at `indices`, with every parameter accessed through `tap`. An example's outputs must
    /// not depend on the other examples in its batch. The batch axis of the tap's operations may be a multiple of B if an
    /// example has several inputs, which must be adjacent.
    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor;
}

/// Outputs \[N, C\] in double precision, computed in batches without gradients.
pub fn outputs(parameters: &Parameters, examples: &dyn Examples, batch: usize) -> Tensor {
    let always = || Ok(());
    outputs_while(&always, parameters, examples, batch).expect("nothing stops it")
}

/// [`outputs`] of many examples; can be cancelled between batches.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn all_outputs(parameters: &Parameters, examples: &dyn Examples, batch: usize) -> Result<Tensor> {
    outputs_while(&check_cancelled, parameters, examples, batch)
}

fn outputs_while(
    go_on: &dyn Fn() -> Result<()>,
    parameters: &Parameters,
    examples: &dyn Examples,
    batch: usize,
) -> Result<Tensor> {
    outputs_by(go_on, &mut PlainTap::new(parameters), examples, batch)
}

/// Outputs \[N, C\] in double precision on the CPU through any tap that keeps nothing; can be cancelled between batches.
fn outputs_through(tap: &mut dyn Tap, examples: &dyn Examples, batch: usize) -> Result<Tensor> {
    outputs_by(&check_cancelled, tap, examples, batch)
}

fn outputs_by(
    go_on: &dyn Fn() -> Result<()>,
    tap: &mut dyn Tap,
    examples: &dyn Examples,
    batch: usize,
) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let batches = batches_by_cost(examples, batch);
    let mut parts = Vec::with_capacity(batches.len());
    for indices in &batches {
        go_on()?;
        parts.push(examples.forward(tap, indices).to_kind(tch::Kind::Double).to_device(tch::Device::Cpu));
    }
    Ok(in_order(&Tensor::cat(&parts, 0), &batches))
}

/// Rows in the order of batches, rearranged to the examples' order.
pub fn in_order(rows: &Tensor, batches: &[Vec<usize>]) -> Tensor {
    let at: Vec<i64> = batches.iter().flatten().map(|i| *i as i64).collect();
    rows.index_select(0, &Tensor::from_slice(&at).argsort(0, false))
}

/// Gradients of the examples at `indices`, in factored form: one forward pass and C backward passes, or one if outputs are
/// [separate](Examples::separate).
pub fn record(parameters: &Parameters, examples: &dyn Examples, indices: &[usize]) -> Recorded {
    let mut tap = RecordingTap::new(parameters);
    let outputs = examples.forward(&mut tap, indices);
    tap.finish(&outputs, examples.separate())
}

/// Examples of a batch without gradients, which keeps nothing: what a pass does once for each weight should be shared by many.
pub(crate) const FORWARD_BATCH: usize = 64;

/// Maximum cost of a batch without gradients, including padding: 128 prompts of 512 tokens.
const MOST: usize = 1 << 16;

/// Batches of at most `size` examples of similar cost, cheapest first; equal costs keep their order. Batches of very
/// expensive examples are smaller, to limit memory.
pub fn batches_by_cost(examples: &dyn Examples, size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|i| examples.cost(*i));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for i in order {
        // The most expensive example of a batch comes last.
        let joins = |batch: &&mut Vec<usize>| {
            batch.len() < size.max(1) && (batch.len() + 1).saturating_mul(examples.cost(i)) <= MOST
        };
        match batches.last_mut().filter(joins) {
            Some(batch) => batch.push(i),
            None => batches.push(vec![i]),
        }
    }
    batches
}

/// Splits `0..len` into ranges of at most `size`.
pub fn blocks(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let size = size.max(1);
    (0..len.div_ceil(size)).map(move |i| i * size..((i + 1) * size).min(len))
}
