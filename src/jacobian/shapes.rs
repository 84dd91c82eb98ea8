//! The shapes of all uses of parameters in a forward pass, from which a kernel computation is planned.

use tch::{Kind, Tensor};

use super::Examples;
use super::parameters::{Param, Parameters};
use super::tap::{PlainTap, Tap};

/// One use of a parameter in the forward pass of one example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteShape {
    /// A linear map over T tokens: the gradient of its weight is a sum of T outer products.
    Linear {
        /// The weight.
        weight: Param,
        /// T.
        tokens: i64,
        /// Whether the previous site has the same input, which is then held once.
        shared_input: bool,
    },
    /// A bias, or the scale or shift of a layer norm: its gradient is a vector.
    Vector {
        /// The parameter.
        parameter: Param,
    },
    /// A table of which some rows are read.
    Rows {
        /// The table, or a bias of a decoder.
        table: Param,
        /// Rows read by one example.
        rows: i64,
    },
}

impl SiteShape {
    /// The parameter.
    pub fn parameter(&self) -> Param {
        match *self {
            Self::Linear { weight, .. } => weight,
            Self::Vector { parameter } => parameter,
            Self::Rows { table, .. } => table,
        }
    }

    /// Number of tokens over which a linear map's weight gradient is a sum; 1 for other parameters.
    pub fn tokens(&self) -> i64 {
        match *self {
            Self::Linear { tokens, .. } => tokens,
            Self::Vector { .. } | Self::Rows { .. } => 1,
        }
    }
}

/// The sites of one example's forward pass, in order, with the tokens and rows of all its inputs together, or of one
/// output's if outputs have separate inputs.
pub fn shapes(parameters: &Parameters, examples: &dyn Examples, index: usize) -> Vec<SiteShape> {
    let _guard = tch::no_grad_guard();
    let shares = if examples.separate() { examples.outputs() as i64 } else { 1 };
    let mut tap = ShapeTap { plain: PlainTap::new(parameters), sites: Vec::new(), last_input: None, shares };
    let _ = examples.forward(&mut tap, &[index]).to_kind(Kind::Double);
    tap.sites
}

/// A tap that computes and records shapes.
struct ShapeTap<'a> {
    plain: PlainTap<'a>,
    sites: Vec<SiteShape>,
    last_input: Option<Tensor>,
    /// Number of outputs with separate inputs; 1 if they share them.
    shares: i64,
}

impl ShapeTap<'_> {
    /// Tokens of \[K, T, d\] or \[K, d\].
    fn tokens(&self, x: &Tensor) -> i64 {
        let size = x.size();
        size[..size.len() - 1].iter().product::<i64>() / self.shares
    }

    fn vector(&mut self, parameter: Param) {
        self.sites.push(SiteShape::Vector { parameter });
    }
}

impl Tap for ShapeTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let shared_input = self.last_input.as_ref().is_some_and(|last| last.data_ptr() == x.data_ptr());
        self.last_input = Some(x.shallow_clone());
        let tokens = self.tokens(x);
        self.sites.push(SiteShape::Linear { weight, tokens, shared_input });
        if let Some(bias) = bias {
            self.vector(bias);
        }
        self.plain.linear(x, weight, bias)
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        self.sites.push(SiteShape::Rows { table, rows: ids.numel() as i64 / self.shares });
        self.plain.embedding(table, ids)
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        self.vector(weight);
        if let Some(bias) = bias {
            self.vector(bias);
        }
        self.plain.scale_shift(x, weight, bias)
    }

    fn scale_by_one_plus(&mut self, x: &Tensor, weight: Param) -> Tensor {
        self.vector(weight);
        self.plain.scale_by_one_plus(x, weight)
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        let read = h.size()[0] * rows.size()[0] / self.shares;
        self.sites.push(SiteShape::Rows { table, rows: read });
        if let Some(bias) = bias {
            self.sites.push(SiteShape::Rows { table: bias, rows: read });
        }
        self.plain.select_rows(h, table, bias, rows)
    }

    fn value(&self, parameter: Param) -> Tensor {
        self.plain.value(parameter)
    }
}
