//! A Gram matrix in blocks of examples and chunks of parameters, each computed independently: the same blocks give the same
//! bits, wherever and in whatever order they are computed. Knows no files.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::engine::{GramOptions, structured_gram};
use super::gram::{Gram, GramMatrix, ParameterShare};
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Parameters, Tap, blocks};
use crate::progress::Monitor;

/// How a Gram matrix is cut: rows and columns into ranges of at most `block` examples, the sum over parameters into `chunks`
/// of similar size. For a symmetric matrix only the blocks on and above the diagonal are computed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockGrid {
    /// Left examples N.
    pub left: usize,
    /// Right examples M; `None` if they are the left ones.
    pub right: Option<usize>,
    /// Maximum number of examples per side of a block.
    pub block: usize,
    /// Number of chunks of the sum over parameters.
    pub chunks: usize,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its row and column among the blocks.
    pub place: (usize, usize),
    /// Its left examples.
    pub rows: Range<usize>,
    /// Its right examples.
    pub columns: Range<usize>,
    /// Its chunk of the parameters.
    pub chunk: usize,
}

impl BlockGrid {
    /// The blocks to compute, row by row, with the chunks of a position adjacent.
    pub fn blocks(&self) -> Vec<Block> {
        let rows: Vec<Range<usize>> = blocks(self.left, self.block).collect();
        let columns: Vec<Range<usize>> = blocks(self.right.unwrap_or(self.left), self.block).collect();
        let mut all = Vec::new();
        for (r, rows) in rows.iter().enumerate() {
            for (c, columns) in columns.iter().enumerate() {
                if self.right.is_some() || r <= c {
                    for chunk in 0..self.chunks {
                        all.push(Block { place: (r, c), rows: rows.clone(), columns: columns.clone(), chunk });
                    }
                }
            }
        }
        all
    }

    fn is_diagonal(&self, block: &Block) -> bool {
        self.right.is_none() && block.place.0 == block.place.1
    }

    /// Which of the included parameters belong to a chunk. All entries are laid in a row and cut into equal chunks; a
    /// parameter belongs to the chunk that contains its middle. A chunk next to a large table may be empty.
    fn chunk(&self, chunk: usize, parameters: &Parameters, include: &[bool]) -> Vec<bool> {
        let entries = |p: usize| parameters.specs()[p].shape.iter().product::<i64>() as usize;
        let total: usize = (0..include.len()).filter(|p| include[*p]).map(entries).sum();
        let mut before = 0;
        let own = |(p, included): (usize, &bool)| {
            let size = if *included { entries(p) } else { 0 };
            let middle = 2 * before + size;
            before += size;
            *included && (middle * self.chunks / (2 * total)).min(self.chunks - 1) == chunk
        };
        include.iter().enumerate().map(own).collect()
    }

    /// Computes one block; blocks on the diagonal of a symmetric matrix are symmetric.
    ///
    /// # Errors
    /// As [`structured_gram`].
    pub fn compute(
        &self,
        block: &Block,
        parameters: &Parameters,
        examples: (&dyn Examples, Option<&dyn Examples>),
        options: &GramOptions,
        monitor: &dyn Monitor,
    ) -> Result<Gram> {
        let left = Chosen { all: examples.0, range: block.rows.clone() };
        let include = self.chunk(block.chunk, parameters, &options.include);
        let options = &GramOptions { include, ..options.clone() };
        if self.is_diagonal(block) {
            return structured_gram(parameters, &left, None, options, monitor);
        }
        let right = Chosen { all: examples.1.unwrap_or(examples.0), range: block.columns.clone() };
        structured_gram(parameters, &left, Some(&right), options, monitor)
    }

    /// Assembles the matrix from its blocks, in the order of [`Self::blocks`]; the lower triangle of a symmetric matrix is
    /// the transposed upper one.
    ///
    /// # Errors
    /// [`Error::Length`] if blocks are missing, [`Error::Shape`] if one does not fit.
    pub fn assemble(&self, grams: &[Gram]) -> Result<Gram> {
        let blocks = self.blocks();
        let Some(first) = grams.first().filter(|_| grams.len() == blocks.len()) else {
            return Err(Error::Length { what: "blocks".into(), found: grams.len(), expected: blocks.len() });
        };
        let outputs = first.outputs;
        let (left, right) = (self.left as i64, self.right.unwrap_or(self.left) as i64);
        let fits = |(b, g): (&Block, &Gram)| {
            (g.left, g.right, g.outputs) == (b.rows.len() as i64, b.columns.len() as i64, outputs)
                && g.symmetric == self.is_diagonal(b)
        };
        if let Some((wrong, gram)) = blocks.iter().zip(grams).find(|pair| !fits(*pair)) {
            return Err(Error::Shape {
                what: format!("block {:?}", wrong.place),
                found: vec![gram.left as usize, gram.right as usize, gram.outputs as usize],
                expected: format!("it must be [{}, {}, {outputs}]", wrong.rows.len(), wrong.columns.len()),
            });
        }
        let shares = shares(grams);
        let grams: Vec<Gram> = grams.chunks(self.chunks).map(sum).collect();
        let blocks: Vec<Block> = blocks.into_iter().filter(|b| b.chunk == 0).collect();
        let whole = |which: GramMatrix| {
            first.get(which)?;
            let matrix = Tensor::zeros([left * outputs, right * outputs], (Kind::Double, tch::Device::Cpu));
            for (block, gram) in blocks.iter().zip(&grams) {
                let (r, c) = (block.rows.start as i64 * outputs, block.columns.start as i64 * outputs);
                put(&matrix, (r, c), gram.get(which)?);
                // The lower triangle is the transposed upper one: <∇f_j, sign ∇f_i> is the reversed matrix's entry (i, j).
                if self.right.is_none() && !gram.symmetric {
                    put(&matrix, (c, r), &gram.get(which.exchanged())?.tr());
                }
            }
            Some(matrix)
        };
        let side = |of: fn(&Gram) -> &Tensor, keep: &dyn Fn(&Block) -> bool| {
            let kept: Vec<&Tensor> = blocks.iter().zip(&grams).filter(|(b, _)| keep(b)).map(|(_, g)| of(g)).collect();
            Tensor::cat(&kept, 0)
        };
        let columns = side(|g| &g.right_outputs, &|b| b.place.0 == 0);
        let (left_outputs, right_outputs) = match self.right {
            None => (columns, None),
            Some(_) => (side(|g| &g.left_outputs, &|b| b.place.1 == 0), Some(columns)),
        };
        Ok(Gram::new(left_outputs, right_outputs, whole, shares))
    }
}

fn put(matrix: &Tensor, (row, column): (i64, i64), block: &Tensor) {
    let (height, width) = block.size2().expect("a block is a matrix");
    matrix.narrow(0, row, height).narrow(1, column, width).copy_(block);
}

/// The Gram matrix of one position: the sum of its chunks, in order.
fn sum(chunks: &[Gram]) -> Gram {
    let total = |which: GramMatrix| {
        let mut sum = chunks[0].get(which)?.copy();
        for chunk in &chunks[1..] {
            sum += chunk.get(which)?;
        }
        Some(sum)
    };
    let [left, right] = [&chunks[0].left_outputs, &chunks[0].right_outputs].map(Tensor::shallow_clone);
    Gram::new(left, (!chunks[0].symmetric).then_some(right), total, Vec::new())
}

/// Traces are sums over the diagonal blocks.
fn shares(grams: &[Gram]) -> Vec<ParameterShare> {
    let mut sums: Vec<ParameterShare> = Vec::new();
    for share in grams.iter().flat_map(|g| &g.shares) {
        match sums.iter_mut().find(|s| s.parameter == share.parameter) {
            Some(sum) => {
                sum.trace_sgd += share.trace_sgd;
                sum.trace_signgd = sum.trace_signgd.zip(share.trace_signgd).map(|(a, b)| a + b);
            }
            None => sums.push(ParameterShare { sgd: None, ..*share }),
        }
    }
    sums
}

/// A range of examples.
struct Chosen<'a> {
    all: &'a dyn Examples,
    range: Range<usize>,
}

impl Examples for Chosen<'_> {
    fn len(&self) -> usize {
        self.range.len()
    }

    fn outputs(&self) -> usize {
        self.all.outputs()
    }

    fn cost(&self, index: usize) -> usize {
        self.all.cost(self.range.start + index)
    }

    fn separate(&self) -> bool {
        self.all.separate()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let own: Vec<usize> = indices.iter().map(|i| self.range.start + i).collect();
        self.all.forward(tap, &own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::FormulaSet;
    use crate::network::{Abc, Activation, Mlp, normal_tensor};
    use crate::progress::Silent;
    use proptest::prelude::*;
    use tch::Device;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Breaks when a block lands at a wrong place, is turned wrongly, or is left out, or a parameter is in no chunk or two.
        #[test]
        fn blocks_make_the_whole(
            left in 1usize..8, right in 0usize..6, block in 1usize..5, chunks in 1usize..4, outputs in 1i64..3,
        ) {
            let mlp = Mlp {
                input: 3, width: 6, depth: 2, outputs, activation: Activation::Tanh, gain: 1.0, abc: Abc::ntk(2),
            };
            let parameters = mlp.parameters(1, Kind::Double, Device::Cpu);
            let inputs = |n: usize, stream| normal_tensor(&[n as i64, 3], 1.0, 2, stream, Kind::Double, Device::Cpu);
            let a = mlp.examples(inputs(left, 0));
            let b = (right > 0).then(|| mlp.examples(inputs(right, 1)));
            let b = b.as_ref().map(|e| e as &dyn Examples);
            let formulas = FormulaSet { sgd: true, asymmetric: true, signgd: true };
            let options = GramOptions::new(formulas, parameters.len());
            let grid = BlockGrid { left, right: (right > 0).then_some(right), block, chunks };
            let grams: Vec<Gram> = grid
                .blocks()
                .iter()
                .map(|x| grid.compute(x, &parameters, (&a, b), &options, &Silent).expect("a block"))
                .collect();
            let whole = grid.assemble(&grams).expect("all blocks");
            let wanted = structured_gram(&parameters, &a, b, &options, &Silent).expect("a kernel");
            let same = |x: &Option<Tensor>, y: &Option<Tensor>| {
                let (x, y) = (x.as_ref().expect("there"), y.as_ref().expect("there"));
                (x - y).abs().max().double_value(&[]) <= 1e-12 * y.abs().max().double_value(&[])
            };
            prop_assert!(same(&whole.sgd, &wanted.sgd) && same(&whole.asymmetric, &wanted.asymmetric));
            prop_assert!(same(&whole.asymmetric_reversed, &wanted.asymmetric_reversed));
            prop_assert!(whole.signgd.as_ref().expect("there").equal(wanted.signgd.as_ref().expect("there")));
            prop_assert_eq!(whole.symmetric, wanted.symmetric);
            prop_assert!((&whole.left_outputs - &wanted.left_outputs).abs().max().double_value(&[]) < 1e-14);
            prop_assert!((&whole.right_outputs - &wanted.right_outputs).abs().max().double_value(&[]) < 1e-14);
            for (x, y) in whole.shares.iter().zip(&wanted.shares) {
                prop_assert!((x.trace_sgd - y.trace_sgd).abs() <= 1e-12 * y.trace_sgd && x.trace_signgd == y.trace_signgd);
            }
            prop_assert!(grid.assemble(&grams[1..]).is_err());
        }
    }
}
