//! The structured engine: per-example gradients in factored form, materialized a block of parameter entries at a time
//! and multiplied at once. All formulas come from one pass over the gradients; no N x P matrix ever exists.
//!
//! Precision: within a block products run in the network's precision (a block is at most [`GramOptions::block_entries`]
//! long); across blocks sums are double precision. Sign products are integers below 2²⁴ per block, exact in f32, and
//! integers in double precision across blocks, so they are exact and independent of any order of summation.

use tch::{Kind, Tensor};

use super::formula::FormulaSet;
use super::gram::{Gram, ParameterShare};
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Param, Parameters, Recorded, blocks, record, visit_blocks};
use crate::progress::{Monitor, check_stop};

/// How to compute a Gram matrix.
#[derive(Clone, Debug)]
pub struct GramOptions {
    /// Which formulas.
    pub formulas: FormulaSet,
    /// Which parameters take part, in order.
    pub include: Vec<bool>,
    /// Examples per forward and backward pass.
    pub batch: usize,
    /// Entries of the materialized block of one batch (rows x parameter entries); bounds the working memory.
    pub block_entries: i64,
    /// Bytes of gradient factors to keep at a time; beyond it, factors are computed again when needed.
    pub keep_bytes: usize,
    /// Whether to keep each parameter's share of the SGD kernel as a matrix (symmetric Gram matrices only).
    pub share_matrices: bool,
}

impl GramOptions {
    /// Defaults for all parameters: batches of 16, blocks of 4M entries, 2 GB of kept factors.
    pub fn new(formulas: FormulaSet, parameters: usize) -> Self {
        Self {
            formulas,
            include: vec![true; parameters],
            batch: 16,
            block_entries: 1 << 22,
            keep_bytes: 2 << 30,
            share_matrices: false,
        }
    }
}

/// Kernels between `left` and itself (`right` absent) or `right`.
///
/// `monitor` advances by one for every pair of batches; a stop request ends the computation between two pairs.
pub fn structured_gram(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    options: &GramOptions,
    monitor: &dyn Monitor,
) -> Result<Gram> {
    if left.is_empty() || right.is_some_and(Examples::is_empty) {
        return Err(Error::Settings("a kernel needs at least one example on each side".into()));
    }
    let mut sums = Sums::new(parameters, left, right, options);
    let left_blocks: Vec<_> = blocks(left.len(), options.batch).collect();
    let right_blocks: Vec<_> = blocks(right.unwrap_or(left).len(), options.batch).collect();
    let mut first = 0;
    while first < left_blocks.len() {
        let group = record_group(parameters, left, &left_blocks[first..], options)?;
        let next = first + group.len();
        for (k, a) in group.iter().enumerate() {
            sums.left_outputs.push(a.outputs().to_device(tch::Device::Cpu));
            if right.is_none() {
                for (l, b) in group.iter().enumerate().skip(k) {
                    check_stop()?;
                    sums.add_pair(a, b, left_blocks[first + k].start, left_blocks[first + l].start);
                    monitor.advance(1);
                }
            }
        }
        let others = if right.is_some() { 0..right_blocks.len() } else { next..left_blocks.len() };
        for j in others {
            check_stop()?;
            let b = record(parameters, right.unwrap_or(left), right_blocks[j].clone());
            if right.is_some() && first == 0 {
                sums.right_outputs.push(b.outputs().to_device(tch::Device::Cpu));
            }
            for (k, a) in group.iter().enumerate() {
                check_stop()?;
                sums.add_pair(a, &b, left_blocks[first + k].start, right_blocks[j].start);
                monitor.advance(1);
            }
        }
        first = next;
    }
    let gram = sums.finish();
    gram.check_finite()?;
    Ok(gram)
}

/// Number of units that [`structured_gram`] reports.
pub fn gram_units(left: usize, right: Option<usize>, batch: usize) -> u64 {
    let n = left.div_ceil(batch.max(1)) as u64;
    right.map_or(n * (n + 1) / 2, |m| n * m.div_ceil(batch.max(1)) as u64)
}

/// Records batches until the memory for factors is used (at least one).
fn record_group(
    parameters: &Parameters,
    examples: &dyn Examples,
    ranges: &[std::ops::Range<usize>],
    options: &GramOptions,
) -> Result<Vec<Recorded>> {
    let mut group: Vec<Recorded> = Vec::new();
    let mut bytes = 0;
    for range in ranges {
        check_stop()?;
        if !group.is_empty() && bytes + group[0].bytes() > options.keep_bytes {
            break;
        }
        let recorded = record(parameters, examples, range.clone());
        bytes += recorded.bytes();
        group.push(recorded);
    }
    Ok(group)
}

/// The running sums of a Gram matrix.
struct Sums<'a> {
    options: &'a GramOptions,
    structural: Vec<bool>,
    symmetric: bool,
    n: i64,
    m: i64,
    count: i64,
    sgd: Option<Tensor>,
    asymmetric: Option<Tensor>,
    reversed: Option<Tensor>,
    signgd: Option<Tensor>,
    left_outputs: Vec<Tensor>,
    right_outputs: Vec<Tensor>,
    shares: Vec<ParameterShare>,
}

/// One block's products, added into a pair's matrices.
struct Pair {
    sgd: Option<Tensor>,
    asymmetric: Option<Tensor>,
    reversed: Option<Tensor>,
    signgd: Option<Tensor>,
}

impl<'a> Sums<'a> {
    fn new(
        parameters: &Parameters,
        left: &dyn Examples,
        right: Option<&dyn Examples>,
        options: &'a GramOptions,
    ) -> Self {
        let count = left.outputs() as i64;
        let (n, m) = (left.len() as i64, right.map_or(left.len(), Examples::len) as i64);
        let cpu = (Kind::Double, tch::Device::Cpu);
        let matrix = |wanted: bool| wanted.then(|| Tensor::zeros([n * count, m * count], cpu));
        let shares = (0..parameters.len())
            .filter(|_| right.is_none())
            .map(|i| ParameterShare {
                parameter: i,
                trace_sgd: 0.0,
                trace_signgd: 0.0,
                sgd: options.share_matrices.then(|| Tensor::zeros([n * count, n * count], cpu)),
            })
            .collect();
        let f = options.formulas;
        Self {
            options,
            structural: parameters.specs().iter().map(|s| s.structural_zero).collect(),
            symmetric: right.is_none(),
            n,
            m,
            count,
            sgd: matrix(f.sgd),
            asymmetric: matrix(f.asymmetric),
            reversed: matrix(f.asymmetric),
            signgd: matrix(f.signgd),
            left_outputs: Vec::new(),
            right_outputs: Vec::new(),
            shares,
        }
    }

    /// Adds the products of two batches whose first examples are `i` (left) and `j` (right).
    fn add_pair(&mut self, a: &Recorded, b: &Recorded, i: usize, j: usize) {
        let device = a.outputs().device();
        let zeros = |wanted: bool| wanted.then(|| Tensor::zeros([a.rows(), b.rows()], (Kind::Double, device)));
        let f = self.options.formulas;
        let mut pair = Pair {
            sgd: zeros(f.sgd),
            asymmetric: zeros(f.asymmetric),
            reversed: zeros(f.asymmetric),
            signgd: zeros(f.signgd),
        };
        let (row, column) = (i as i64 * self.count, j as i64 * self.count);
        let diagonal_block = self.symmetric && i == j;
        let width = (self.options.block_entries / a.rows().max(b.rows())).clamp(1, 1 << 24);
        let (structural, shares) = (&self.structural, &mut self.shares);
        visit_blocks(a, b, &self.options.include, true, width, |p, left, right| {
            pair.add(left, right, structural[p.0], f);
            if !shares.is_empty() {
                add_share(&mut shares[p.0], p, left, right, (row, column), diagonal_block, structural[p.0]);
            }
        });
        for (total, part) in [
            (&self.sgd, &pair.sgd),
            (&self.asymmetric, &pair.asymmetric),
            (&self.reversed, &pair.reversed),
            (&self.signgd, &pair.signgd),
        ] {
            if let (Some(total), Some(part)) = (total, part) {
                total.narrow(0, row, a.rows()).narrow(1, column, b.rows()).copy_(part);
            }
        }
        if self.symmetric && i != j {
            // The lower triangle: the same products, read the other way round.
            for (total, part) in [
                (&self.sgd, &pair.sgd),
                (&self.asymmetric, &pair.reversed),
                (&self.reversed, &pair.asymmetric),
                (&self.signgd, &pair.signgd),
            ] {
                if let (Some(total), Some(part)) = (total, part) {
                    total.narrow(0, column, b.rows()).narrow(1, row, a.rows()).copy_(&part.tr());
                }
            }
        }
    }

    fn finish(self) -> Gram {
        let left_outputs = Tensor::cat(&self.left_outputs, 0);
        let right_outputs =
            if self.symmetric { left_outputs.shallow_clone() } else { Tensor::cat(&self.right_outputs, 0) };
        Gram {
            left: self.n,
            right: self.m,
            outputs: self.count,
            symmetric: self.symmetric,
            sgd: self.sgd,
            asymmetric: self.asymmetric,
            asymmetric_reversed: self.reversed,
            signgd: self.signgd,
            left_outputs,
            right_outputs,
            shares: self.shares,
        }
    }
}

impl Pair {
    fn add(&mut self, left: &Tensor, right: &Tensor, structural_zero: bool, formulas: FormulaSet) {
        if let Some(sum) = &mut self.sgd {
            *sum += left.matmul(&right.tr());
        }
        if structural_zero || !(formulas.asymmetric || formulas.signgd) {
            return;
        }
        let (sign_left, sign_right) = (left.sign(), right.sign());
        if let Some(sum) = &mut self.asymmetric {
            *sum += left.matmul(&sign_right.tr());
        }
        if let Some(sum) = &mut self.reversed {
            *sum += sign_left.matmul(&right.tr());
        }
        if let Some(sum) = &mut self.signgd {
            *sum += sign_left.to_kind(Kind::Float).matmul(&sign_right.to_kind(Kind::Float).tr());
        }
    }
}

fn add_share(
    share: &mut ParameterShare,
    p: Param,
    left: &Tensor,
    right: &Tensor,
    (row, column): (i64, i64),
    diagonal_block: bool,
    structural_zero: bool,
) {
    debug_assert_eq!(share.parameter, p.0);
    if diagonal_block {
        share.trace_sgd += (left * left).sum(Kind::Double).double_value(&[]);
        if !structural_zero {
            share.trace_signgd += left.not_equal(0.0).sum(Kind::Int64).int64_value(&[]) as f64;
        }
    }
    if let Some(matrix) = &share.sgd {
        let product = left.matmul(&right.tr()).to_kind(Kind::Double).to_device(tch::Device::Cpu);
        let mut upper = matrix.narrow(0, row, product.size()[0]).narrow(1, column, product.size()[1]);
        let _ = upper.g_add_(&product);
        if !diagonal_block {
            let mut lower = matrix.narrow(0, column, product.size()[1]).narrow(1, row, product.size()[0]);
            let _ = lower.g_add_(&product.tr());
        }
    }
}
