//! The two ways to multiply a parameter's gradients, and which is cheaper.

use super::batches::most_tokens;
use crate::jacobian::PackedFactors;
use crate::kernel::FormulaSet;
use crate::products::Parts;

/// A way to multiply the gradients of one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Through their factors: `Σ (x_t·x'_u)(g_t·g'_u)` over pairs of tokens. No gradient is written; the cost grows with the
    /// square of the number of tokens. Signs of sums do not factor, so sign kernels need a single token per side.
    Ghost,
    /// By tiles: gradients are written to a buffer and multiplied, and their signs packed to bits.
    Tiles,
}

impl Method {
    /// Name in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ghost => "ghost",
            Self::Tiles => "tiles",
        }
    }
}

/// A linear map's weight and two panels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pairing {
    /// Tokens of all examples of each panel, including padding.
    pub tokens: (i64, i64),
    /// Tokens of the longest example on either side.
    pub longest: i64,
    /// Outputs C.
    pub outputs: i64,
    /// Jacobian rows of each panel.
    pub rows: (i64, i64),
    /// The weight's rows (outputs of the map) and columns (its inputs).
    pub shape: (i64, i64),
    /// Whether both panels are the same.
    pub same: bool,
    /// The bf16 parts in which matrix units multiply factors and gradients, if they do.
    pub units: Option<Parts>,
}

/// Time per element of the token-by-token matrices of ghost products, which are written, multiplied and summed, relative to
/// a multiply-add in a matrix product.
const ELEMENT: f64 = 40.0;

/// The same per entry of a materialized gradient, which is written to and read from a core's cache.
const ENTRY: f64 = 20.0;

/// The same for taking and packing the sign of an entry.
const SIGN: f64 = 20.0;

/// The same for a pair of 64 packed signs.
const PACKED: f64 = 1.0 / 40.0;

/// On matrix units, relative to a multiply-add of a ghost product: per element of the token-by-token matrices, which stay in a cache.
const UNIT_ELEMENT: f64 = 100.0;

/// The same per entry of a materialized gradient, which is written and packed.
const UNIT_ENTRY: f64 = 120.0;

/// The same per entry and token.
const UNIT_TOKEN: f64 = 0.25;

/// The same per entry and pair of gradients, whose products are summed in double precision.
const UNIT_PAIR: f64 = 1.3;

/// The same for a multiply-add in single precision, which writes gradients of few tokens.
const SINGLE: f64 = 5.0;

impl Pairing {
    /// Whether ghost products can compute these formulas.
    pub fn allows_ghost(&self, formulas: FormulaSet) -> bool {
        self.longest == 1 || !(formulas.asymmetric || formulas.signgd)
    }

    /// Whether costs are those of matrix units, which multiply gradients themselves but not their signs.
    pub fn uses_units(&self, formulas: FormulaSet) -> bool {
        self.units.is_some() && !(formulas.asymmetric || formulas.signgd)
    }

    /// Whether matrix units write the gradients of both panels, too, judged by their mean numbers of tokens.
    fn units_write(&self) -> bool {
        let panels = [(self.rows.0, self.tokens.0), (self.rows.1, self.tokens.1)];
        let mean = |(rows, tokens): (i64, i64)| (rows, tokens * self.outputs / rows.max(1));
        self.units.is_some_and(|parts| panels.into_iter().all(|panel| PackedFactors::gain(parts, [mean(panel)])))
    }

    /// Cost of a method in multiply-adds of a matrix product; of one on matrix units, if these multiply.
    pub fn cost(&self, method: Method, formulas: FormulaSet) -> f64 {
        let (height, width) = (self.shape.0 as f64, self.shape.1 as f64);
        let (left, right) = (self.tokens.0 as f64, self.tokens.1 as f64);
        let (rows, columns) = (self.rows.0 as f64, self.rows.1 as f64);
        let outputs = self.outputs as f64;
        let signed = formulas.asymmetric || formulas.signgd;
        let half = if self.same { 0.5 } else { 1.0 };
        let written = outputs * (left + if self.same { 0.0 } else { right });
        let rows_written = rows + if self.same { 0.0 } else { columns };
        match method {
            Method::Ghost if self.uses_units(formulas) => {
                half * left * right * (width + outputs * outputs * (height + UNIT_ELEMENT))
            }
            Method::Tiles if self.uses_units(formulas) && self.units_write() => {
                let products = half * rows * columns * UNIT_PAIR;
                height * width * (written * UNIT_TOKEN + rows_written * UNIT_ENTRY + products)
            }
            Method::Ghost => {
                let symmetric = f64::from(u8::from(formulas.sgd) + u8::from(formulas.signgd));
                let asymmetric = if formulas.asymmetric { 1.0 } else { 0.0 };
                let kinds =
                    if self.same { symmetric * self.batch_pairs() + asymmetric } else { symmetric + 2.0 * asymmetric };
                let elements = left * right * outputs * outputs;
                kinds * (left * right * width + elements * height + elements * ELEMENT)
            }
            Method::Tiles => {
                let entries = height * width;
                let pairs = rows * columns;
                let products = f64::from(u8::from(formulas.sgd)) * pairs
                    + if formulas.asymmetric { if self.same { pairs } else { 2.0 * pairs } } else { 0.0 }
                    + if formulas.signgd { half * pairs * PACKED } else { 0.0 };
                let scale = if self.uses_units(formulas) { SINGLE } else { 1.0 };
                scale * entries * (written + rows_written * (ENTRY + if signed { SIGN } else { 0.0 }) + products)
            }
        }
    }

    /// Share of the pairs of a panel's batches that a symmetric product needs, for batches as full as they get.
    fn batch_pairs(&self) -> f64 {
        let batches = (self.tokens.0 as f64 / most_tokens(self.longest as usize) as f64).max(1.0);
        0.5 + 0.5 / batches
    }

    /// The cheaper method for these formulas.
    pub fn choose(&self, formulas: FormulaSet) -> Method {
        let ghost =
            self.allows_ghost(formulas) && self.cost(Method::Ghost, formulas) < self.cost(Method::Tiles, formulas);
        if ghost { Method::Ghost } else { Method::Tiles }
    }
}
