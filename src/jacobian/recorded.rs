//! Per-example gradients of a batch in factored form. `written.rs` materializes them, one tile of a parameter at a time.
//!
//! A linear map's gradient for example i and output c is `Σ_t g_t x_tᵀ` over its tokens t; an embedding's is a few touched
//! rows; that of a bias or scale is a vector. The factors of a batch take as much memory as its activations, never examples
//! x parameters.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::factor::{Factor, touched};
use super::parameters::{Param, Parameters};
use super::tile::{RowSet, Tile};
use crate::products::linear;

/// One use of parameters in a forward pass, with the data for its gradient.
pub(super) enum Site {
    Linear { weight: Param, bias: Option<Param>, x: Tensor, output: Tensor },
    Embedding { table: Param, ids: Tensor, output: Tensor },
    ScaleShift { weight: Param, bias: Option<Param>, x: Tensor, output: Tensor },
    SelectRows { table: Param, bias: Option<Param>, h: Tensor, rows: Tensor, output: Tensor },
}

impl Site {
    pub(super) fn output(&self) -> &Tensor {
        match self {
            Self::Linear { output, .. }
            | Self::Embedding { output, .. }
            | Self::ScaleShift { output, .. }
            | Self::SelectRows { output, .. } => output,
        }
    }
}

/// The gradients of C outputs for B examples with respect to every parameter, in factored form.
pub struct Recorded {
    /// B, or B·C if outputs have separate inputs and count as examples.
    pub(super) batch: i64,
    /// C, or 1.
    pub(super) count: i64,
    outputs: Tensor,
    kind: Kind,
    shapes: Vec<(i64, i64)>,
    pub(super) factors: Vec<Vec<Factor>>,
    touched: Vec<RowSet>,
}

/// Adds a token axis T = 1 if there is none: \[B, …, d\] → \[B, …, 1, d\].
fn with_tokens(t: Tensor, rank: usize) -> Tensor {
    if t.dim() < rank { t.unsqueeze(-2) } else { t }
}

/// Joins the rows and tokens of an example's K inputs into the tokens of one example, over which its gradients are sums:
/// \[B·K, …, d\] → \[B, K·…, d\]. The identity for one input.
pub(super) fn joined(t: Tensor, batch: i64) -> Tensor {
    let size = t.size();
    if size[0] == batch { t } else { t.reshape([batch, -1, size[size.len() - 1]]) }
}

impl Recorded {
    pub(super) fn from_sites(
        (batch, count): (i64, i64),
        outputs: Tensor,
        parameters: &Parameters,
        sites: Vec<Site>,
        gradients: Vec<Tensor>,
    ) -> Self {
        let mut factors: Vec<Vec<Factor>> = (0..parameters.len()).map(|_| Vec::new()).collect();
        let mut push = |p: Param, factor: Factor| factors[p.0].push(factor);
        for (site, g) in sites.into_iter().zip(gradients) {
            match site {
                Site::Linear { weight, bias, x, .. } => {
                    let (x, g) = (with_tokens(joined(x, batch), 3), with_tokens(g, 4));
                    if let Some(b) = bias {
                        push(b, Factor::Vector { g: without(sum_tokens(&g), parameters, b) });
                    }
                    push(weight, Factor::Outer { x: x.contiguous(), g: g.contiguous() });
                }
                Site::Embedding { table, ids, .. } => {
                    let ids = if ids.size()[0] == batch { ids } else { ids.reshape([batch, -1]) };
                    push(table, Factor::Rows { ids, g });
                }
                Site::ScaleShift { weight, bias, x, .. } => {
                    let (x, g) = (with_tokens(joined(x, batch), 3), with_tokens(g, 4));
                    // First in the site's own element type, in which its gradient is defined.
                    let products = sum_tokens(&(&g * x.unsqueeze(1)));
                    push(weight, Factor::Vector { g: products.to_kind(parameters.kind()) });
                    if let Some(b) = bias {
                        push(b, Factor::Vector { g: sum_tokens(&g) });
                    }
                }
                Site::SelectRows { table, bias, h, rows, .. } => {
                    // g [B,C,R] or [B,C,K,R]: row r of the table receives g[b,c,k,r] h[b,k].
                    let width = h.size()[1];
                    let h = h.reshape([batch, -1, width]);
                    let inputs = h.size()[1];
                    let ids = rows.expand([batch, inputs, -1], false).reshape([batch, -1]);
                    let g = g.reshape([batch, count, inputs, -1, 1]);
                    let products = &g * h.unsqueeze(1).unsqueeze(3);
                    if let Some(b) = bias {
                        push(b, Factor::Rows { ids: ids.shallow_clone(), g: g.reshape([batch, count, -1, 1]) });
                    }
                    push(table, Factor::Rows { ids, g: products.reshape([batch, count, -1, width]) });
                }
            }
        }
        let shapes: Vec<(i64, i64)> =
            parameters.specs().iter().map(|s| (s.shape[0], s.shape[1..].iter().product())).collect();
        let touched = factors.iter().zip(&shapes).map(|(f, (rows, _))| touched(f, *rows)).collect();
        Self { batch, count, kind: parameters.kind(), outputs, shapes, factors, touched }
    }

    /// Number of examples B, or of outputs B·C if they have separate inputs and count as examples.
    pub fn batch(&self) -> i64 {
        self.batch
    }

    /// Number of outputs with the same inputs: C, or 1.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// Row numbers `i·C + c` in the Jacobian of all examples for this batch's rows in order: output by output, or example by
    /// example if outputs have separate inputs. `examples` are the indices of this batch's examples.
    pub fn places(&self, examples: &[usize]) -> Vec<i64> {
        let outputs = self.outputs.size()[1];
        let place = |i: &usize, c: i64| *i as i64 * outputs + c;
        if self.count == outputs {
            return (0..outputs).flat_map(|c| examples.iter().map(move |i| place(i, c))).collect();
        }
        examples.iter().flat_map(|i| (0..outputs).map(move |c| place(i, c))).collect()
    }

    /// Number of Jacobian rows B·C.
    pub fn rows(&self) -> i64 {
        self.batch * self.count
    }

    /// Outputs \[B, C\] in double precision.
    pub fn outputs(&self) -> &Tensor {
        &self.outputs
    }

    /// Bytes held by the factors. Sites with the same input share it.
    pub fn bytes(&self) -> usize {
        let tensors: BTreeMap<_, _> =
            self.factors.iter().flatten().flat_map(Factor::tensors).map(|t| (t.data_ptr() as usize, t)).collect();
        tensors.values().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum()
    }

    /// Whether any example has a gradient for this parameter.
    pub fn reaches(&self, p: Param) -> bool {
        !self.factors[p.0].is_empty()
    }

    /// A parameter's shape seen as a matrix rows x columns (one column for vectors).
    pub fn shape(&self, p: Param) -> (i64, i64) {
        self.shapes[p.0]
    }

    /// Rows in which this parameter's gradient can be nonzero for some example of the batch.
    pub fn touched(&self, p: Param) -> &RowSet {
        &self.touched[p.0]
    }

    /// The number of tokens T if this parameter's gradients are a single factor `Σ_t g_t x_tᵀ`, else `None`.
    pub fn outer_tokens(&self, p: Param) -> Option<i64> {
        self.outer_factors(p).map(|(x, _)| x.size()[1])
    }

    /// The factors x \[B, T, in\] and g \[B, C, T, out\] of a parameter's gradients, if they are a single factor `Σ_t g_t
    /// x_tᵀ`.
    pub(super) fn outer_factors(&self, p: Param) -> Option<(&Tensor, &Tensor)> {
        match self.factors[p.0].as_slice() {
            [Factor::Outer { x, g }] => Some((x, g)),
            _ => None,
        }
    }

    /// Directional derivatives `<∇f_bc, direction>` \[B, C\] in double precision, over the parameters that `include`
    /// marks. No gradient is materialized.
    pub fn dot(&self, direction: &Parameters, include: &[bool]) -> Tensor {
        let mut sum = Tensor::zeros([self.batch, self.count], (Kind::Double, self.outputs.device()));
        for (i, factors) in self.factors.iter().enumerate().filter(|(i, _)| include[*i]) {
            let delta = &direction.values()[i];
            for factor in factors {
                let (product, axes): (Tensor, &[i64]) = match factor {
                    Factor::Outer { x, g } => (g * linear(x, delta, None, None).unsqueeze(1), &[2, 3]),
                    Factor::Vector { g } => (g * delta.view(-1), &[2]),
                    Factor::Rows { ids, g } => {
                        let rows = delta.reshape([delta.size()[0], -1]).index_select(0, &ids.reshape([-1]));
                        (g * rows.view([self.batch, 1, ids.size()[1], -1]), &[2, 3])
                    }
                };
                sum += product.sum_dim_intlist(axes, false, Kind::Double);
            }
        }
        sum.view_as(&self.outputs)
    }

    /// The whole Jacobian \[B·C, P\] in double precision, row `b·C + c` for output c of example b, parameters in order. For
    /// tests and tiny networks only: the factors exist to avoid it.
    pub fn dense(&self) -> Tensor {
        let options = (self.kind(), self.outputs.device());
        let parts: Vec<Tensor> = (0..self.shapes.len())
            .map(|i| {
                let (height, width) = self.shapes[i];
                let out = Tensor::empty([self.rows(), height * width], options);
                self.write(Param(i), &RowSet::All(height), &Tile { rows: 0..height, columns: 0..width }, &out);
                out.to_kind(Kind::Double)
            })
            .collect();
        let rows = Tensor::cat(&parts, 1).view([self.count, self.batch, -1]).transpose(0, 1);
        rows.reshape([self.rows(), -1])
    }

    /// A second handle on the same factors, for another thread.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let factors = self.factors.iter().map(|all| all.iter().map(Factor::shallow_clone).collect()).collect();
        Self {
            batch: self.batch,
            count: self.count,
            kind: self.kind,
            outputs: self.outputs.shallow_clone(),
            shapes: self.shapes.clone(),
            factors,
            touched: self.touched.iter().map(RowSet::shallow_clone).collect(),
        }
    }

    /// The same gradients with factors of another element type.
    #[must_use]
    pub fn to_kind(mut self, kind: Kind) -> Self {
        // Maps with the same input share it.
        let mut inputs = BTreeMap::new();
        for factor in self.factors.iter_mut().flatten() {
            factor.convert(kind, &mut inputs);
        }
        self.kind = kind;
        self
    }

    /// Element type of the factors.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// Gradients \[B,C,d\] of a bias, with zeros for the entries that are zero in exact arithmetic, whose round-off has signs.
fn without(g: Tensor, parameters: &Parameters, bias: Param) -> Tensor {
    let zeros = &parameters.specs()[bias.0].structural_zeros;
    if zeros.is_empty() {
        return g;
    }
    // With one token the sum is a view of the weight's factor.
    let g = g.copy();
    for rows in zeros {
        let _ = g.narrow(2, rows.start, rows.end - rows.start).zero_();
    }
    g
}

/// Sums \[B,C,T,d\] over tokens.
fn sum_tokens(g: &Tensor) -> Tensor {
    if g.size()[2] == 1 { g.squeeze_dim(2) } else { g.sum_dim_intlist(2, false, g.kind()) }
}
