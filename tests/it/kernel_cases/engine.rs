//! Configurations of the structured engine.

use std::fmt;

use kernelview::jacobian::{Examples, Parameters};
use kernelview::kernel::{Arithmetic, FormulaSet, Gram, GramOptions, Method, structured_gram};
use kernelview::progress::Silent;
use tch::Kind;

/// A configuration of the structured engine.
#[derive(Clone, Copy)]
pub struct Engine {
    pub method: Option<Method>,
    pub arithmetic: Arithmetic,
    pub formulas: FormulaSet,
    pub block_entries: i64,
    pub batch: usize,
    pub keep_bytes: usize,
    pub product_kind: Option<Kind>,
    pub threads: i32,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.map_or("planner", Method::name);
        let formulas = if self.formulas == FormulaSet::ALL { "all formulas" } else { "SGD alone" };
        let products = self.product_kind.map_or(String::new(), |k| format!(", products in {k:?}"));
        let Self { block_entries, batch, keep_bytes, threads, .. } = self;
        write!(
            f,
            "{}, {method}, {formulas}, tiles of {block_entries}, batch {batch}, keep {keep_bytes}{products}, {threads} \
             threads",
            self.arithmetic.name()
        )
    }
}

impl Engine {
    pub fn new(method: Option<Method>, formulas: FormulaSet, sizes: (i64, usize, usize)) -> Self {
        let (block_entries, batch, keep_bytes) = sizes;
        let arithmetic = Arithmetic::Cores;
        Self { method, arithmetic, formulas, block_entries, batch, keep_bytes, product_kind: None, threads: 1 }
    }

    /// The same, as computed on a GPU.
    pub fn as_matrices(self) -> Self {
        Self { arithmetic: Arithmetic::Matrices, ..self }
    }

    /// A GPU's methods, with large and tiny tiles, and with streamed panels. `rows` is the larger of both sides' numbers of
    /// Jacobian rows, `bytes` the size of all factors.
    pub fn all_as_matrices(rows: i64, bytes: usize) -> Vec<Self> {
        let (tiles, few) = (Some(Method::Tiles), bytes / 5 * 4);
        [
            Self::new(tiles, FormulaSet::ALL, (LARGE, 32, MUCH)),
            Self::new(None, FormulaSet::ALL, (LARGE, 1, few)),
            Self::new(tiles, FormulaSet::ALL, (8 * rows, 2, few)),
            Self::new(tiles, FormulaSet::SGD, (64 * rows, 32, MUCH)),
        ]
        .map(Self::as_matrices)
        .to_vec()
    }

    /// Every method, with all formulas and with SGD alone.
    pub fn every_method(sizes: (i64, usize, usize)) -> Vec<Self> {
        let all = [None, Some(Method::Ghost), Some(Method::Tiles)].into_iter();
        all.flat_map(|method| [FormulaSet::ALL, FormulaSet::SGD].map(|f| Self::new(method, f, sizes))).collect()
    }

    /// Every method on all examples at once; also with tiny tiles, with every batch a separate panel, and with a few batches
    /// per panel. `rows` is the larger of both sides' numbers of Jacobian rows, `bytes` the size of all factors.
    pub fn all(rows: i64, bytes: usize) -> Vec<Self> {
        let (ghost, tiles) = (Some(Method::Ghost), Some(Method::Tiles));
        // Too little for all: about half of the batches are held while the others are streamed, a third at a time.
        let (tiny, few) = (8 * rows, bytes / 5 * 4);
        let mut engines = Self::every_method((LARGE, 32, MUCH));
        engines.extend([
            Self::new(tiles, FormulaSet::ALL, (tiny, 32, MUCH)),
            Self::new(None, FormulaSet::ALL, (LARGE, 1, few)),
            Self::new(tiles, FormulaSet::ALL, (64 * rows, 2, 0)),
            Self::new(None, FormulaSet::SGD, (tiny, 1, MUCH)),
            Self::new(tiles, FormulaSet::SGD, (tiny, 2, few)),
            Self::new(ghost, FormulaSet::SGD, (LARGE, 2, 0)),
            Self::new(ghost, FormulaSet::ALL, (tiny, 2, few)),
        ]);
        engines
    }

    pub fn gram(&self, parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>) -> Gram {
        tch::set_num_threads(self.threads);
        let mut options = GramOptions::new(self.formulas, parameters.len());
        (options.method, options.product_kind) = (self.method, self.product_kind);
        options.arithmetic = Some(self.arithmetic);
        (options.block_entries, options.matrix_block_entries) = (self.block_entries, self.block_entries);
        (options.batch, options.keep_bytes) = (self.batch, self.keep_bytes);
        options.share_matrices = right.is_none();
        structured_gram(parameters, left, right, &options, &Silent).unwrap_or_else(|e| panic!("{self}: {e}"))
    }
}

/// Entries of a tile's buffer that has room for any parameter of the corpus.
pub const LARGE: i64 = 1 << 19;

/// Bytes for the factors of any case.
pub const MUCH: usize = 4 << 30;
