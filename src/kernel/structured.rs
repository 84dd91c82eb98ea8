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
use crate::jacobian::{Examples, Parameters, Recorded, batches_by_cost, record, visit_blocks};
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
    /// Defaults for all parameters: batches of 32, blocks of 4M entries, 2 GB of kept factors.
    pub fn new(formulas: FormulaSet, parameters: usize) -> Self {
        Self {
            formulas,
            include: vec![true; parameters],
            batch: 32,
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
    let left_blocks = batches_by_cost(left, options.batch);
    let right_blocks = batches_by_cost(right.unwrap_or(left), options.batch);
    let mut first = 0;
    while first < left_blocks.len() {
        let group = record_group(parameters, left, &left_blocks[first..], options)?;
        let next = first + group.len();
        for (k, a) in group.iter().enumerate() {
            put_rows(&mut sums.left_outputs, &left_blocks[first + k], a.outputs());
            if right.is_none() {
                for (l, b) in group.iter().enumerate().skip(k) {
                    check_stop()?;
                    sums.add_pair(a, b, &left_blocks[first + k], &left_blocks[first + l], k == l);
                    monitor.advance(1);
                }
            }
        }
        let others = if right.is_some() { 0..right_blocks.len() } else { next..left_blocks.len() };
        for j in others {
            check_stop()?;
            let b = record(parameters, right.unwrap_or(left), &right_blocks[j]);
            if right.is_some() && first == 0 {
                put_rows(&mut sums.right_outputs, &right_blocks[j], b.outputs());
            }
            for (k, a) in group.iter().enumerate() {
                check_stop()?;
                sums.add_pair(a, &b, &left_blocks[first + k], &right_blocks[j], false);
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
    batches: &[Vec<usize>],
    options: &GramOptions,
) -> Result<Vec<Recorded>> {
    let mut group: Vec<Recorded> = Vec::new();
    let mut bytes = 0;
    for batch in batches {
        check_stop()?;
        if !group.is_empty() && bytes + group[0].bytes() > options.keep_bytes {
            break;
        }
        let recorded = record(parameters, examples, batch);
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
    left_outputs: Tensor,
    right_outputs: Tensor,
    shares: Vec<ParameterShare>,
}

/// Products of two batches: of one block of parameter entries, or summed over blocks.
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
            left_outputs: Tensor::zeros([n, count], cpu),
            right_outputs: Tensor::zeros([m, count], cpu),
            shares,
        }
    }

    /// Adds the products of two batches of examples; `same` when both are one batch.
    fn add_pair(&mut self, a: &Recorded, b: &Recorded, left: &[usize], right: &[usize], same: bool) {
        let device = a.outputs().device();
        let zeros = |wanted: bool| wanted.then(|| Tensor::zeros([a.rows(), b.rows()], (Kind::Double, device)));
        let f = self.options.formulas;
        let mut pair = Pair {
            sgd: zeros(f.sgd),
            asymmetric: zeros(f.asymmetric),
            reversed: zeros(f.asymmetric),
            signgd: zeros(f.signgd),
        };
        let place = Place {
            rows: jacobian_rows(left, self.count),
            columns: jacobian_rows(right, self.count),
            mirror: self.symmetric && !same,
        };
        let width = (self.options.block_entries / a.rows().max(b.rows())).clamp(1, 1 << 24);
        let (structural, shares) = (&self.structural, &mut self.shares);
        visit_blocks(a, b, &self.options.include, true, width, |p, left, right| {
            let block = Pair::of(left, right, same, structural[p.0], f);
            pair.add(&block);
            if !shares.is_empty() {
                add_share(&mut shares[p.0], &block, left, &place, same.then_some(structural[p.0]));
            }
        });
        let upper = [
            (&mut self.sgd, &pair.sgd, &pair.sgd),
            (&mut self.asymmetric, &pair.asymmetric, &pair.reversed),
            (&mut self.reversed, &pair.reversed, &pair.asymmetric),
            (&mut self.signgd, &pair.signgd, &pair.signgd),
        ];
        for (total, part, mirrored) in upper {
            if let (Some(total), Some(part), Some(mirrored)) = (total, part, mirrored) {
                place.add(total, part, mirrored);
            }
        }
    }

    fn finish(self) -> Gram {
        let right_outputs = if self.symmetric { self.left_outputs.shallow_clone() } else { self.right_outputs };
        Gram {
            left: self.n,
            right: self.m,
            outputs: self.count,
            symmetric: self.symmetric,
            sgd: self.sgd,
            asymmetric: self.asymmetric,
            asymmetric_reversed: self.reversed,
            signgd: self.signgd,
            left_outputs: self.left_outputs,
            right_outputs,
            shares: self.shares,
        }
    }
}

/// Where a pair of batches lies in the whole matrix.
struct Place {
    rows: Tensor,
    columns: Tensor,
    /// Whether the transposed place takes the same products read the other way round.
    mirror: bool,
}

impl Place {
    /// Adds `part` at its place and the transpose of `mirrored` at the mirrored place.
    fn add(&self, total: &mut Tensor, part: &Tensor, mirrored: &Tensor) {
        let put = |total: &mut Tensor, rows: &Tensor, columns: &Tensor, part: &Tensor| {
            let index = [Some(rows.unsqueeze(1)), Some(columns.unsqueeze(0))];
            let _ = total.index_put_(&index, &part.to_device(total.device()), true);
        };
        put(total, &self.rows, &self.columns, part);
        if self.mirror {
            put(total, &self.columns, &self.rows, &mirrored.tr());
        }
    }
}

/// Row numbers of the Jacobian for some examples: `i·C + c`.
fn jacobian_rows(examples: &[usize], count: i64) -> Tensor {
    let rows: Vec<i64> = examples.iter().flat_map(|i| (0..count).map(move |c| *i as i64 * count + c)).collect();
    Tensor::from_slice(&rows)
}

/// Copies a batch's outputs to its examples' rows.
fn put_rows(target: &mut Tensor, examples: &[usize], rows: &Tensor) {
    let index = Tensor::from_slice(&examples.iter().map(|i| *i as i64).collect::<Vec<_>>());
    let _ = target.index_copy_(0, &index, &rows.to_device(target.device()));
}

impl Pair {
    /// Adds the products of one block, in the network's precision, to the double-precision sums.
    fn add(&mut self, block: &Pair) {
        let sums = [&mut self.sgd, &mut self.asymmetric, &mut self.reversed, &mut self.signgd];
        let parts = [&block.sgd, &block.asymmetric, &block.reversed, &block.signgd];
        for (sum, part) in sums.into_iter().zip(parts) {
            if let (Some(sum), Some(part)) = (sum, part) {
                *sum += part;
            }
        }
    }

    /// Products of one block of gradients \[rows, w\]; `same` when left and right are one batch. Sign products are zero
    /// for structurally zero parameters.
    fn of(left: &Tensor, right: &Tensor, same: bool, structural_zero: bool, formulas: FormulaSet) -> Self {
        let sgd = formulas.sgd.then(|| left.matmul(&right.tr()));
        if structural_zero || !(formulas.asymmetric || formulas.signgd) {
            return Self { sgd, asymmetric: None, reversed: None, signgd: None };
        }
        let sign_left = left.sign();
        let sign_right = if same { sign_left.shallow_clone() } else { right.sign() };
        let asymmetric = formulas.asymmetric.then(|| left.matmul(&sign_right.tr()));
        let reversed = asymmetric.as_ref().map(|a| if same { a.tr() } else { sign_left.matmul(&right.tr()) });
        // Exact in f32: a block is shorter than 2²⁴.
        let single = |t: &Tensor| t.to_kind(Kind::Float);
        let signgd = formulas.signgd.then(|| single(&sign_left).matmul(&single(&sign_right).tr()));
        Self { sgd, asymmetric, reversed, signgd }
    }
}

/// Adds one block's part of a parameter to its share. Traces grow with blocks on the diagonal (`same` holds whether the
/// parameter is structurally zero), whichever formulas were asked for.
fn add_share(share: &mut ParameterShare, block: &Pair, left: &Tensor, place: &Place, same: Option<bool>) {
    if let Some(structural_zero) = same {
        let trace = |t: &Tensor| t.diagonal(0, 0, 1).sum(Kind::Double).double_value(&[]);
        share.trace_sgd += match &block.sgd {
            Some(product) => trace(product),
            None => (left * left).sum(Kind::Double).double_value(&[]),
        };
        share.trace_signgd += match &block.signgd {
            _ if structural_zero => 0.0,
            Some(product) => trace(product),
            None => left.not_equal(0.0).sum(Kind::Int64).int64_value(&[]) as f64,
        };
    }
    if let (Some(matrix), Some(product)) = (&mut share.sgd, &block.sgd) {
        let product = product.to_kind(Kind::Double);
        place.add(matrix, &product, &product);
    }
}
