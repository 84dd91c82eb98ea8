//! Per-example gradients of one batch in factored form, materialized a few parameter rows at a time.
//!
//! A linear map's gradient for example i and output c is `Σ_t g_t x_tᵀ` over its tokens t; an embedding's is a few
//! touched rows; a bias' or a scale's is a vector. The factors of a batch cost as much as its activations, never
//! examples x parameters.

use std::collections::BTreeSet;
use std::ops::Range;

use tch::{Kind, Tensor};

use super::parameters::{Param, Parameters};

/// One use of parameters in a forward pass, with what its gradient needs.
pub(super) enum Site {
    Linear { weight: Param, bias: Option<Param>, x: Tensor, output: Tensor },
    Embedding { table: Param, ids: Tensor, output: Tensor },
    ScaleShift { weight: Param, bias: Param, x: Tensor, output: Tensor },
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

/// What the gradient of one parameter is made of, per example b and output c.
enum Factor {
    /// `Σ_t g[b,c,t,:] x[b,t,:]ᵀ`: x \[B,T,in\], g \[B,C,T,out\].
    Outer { x: Tensor, g: Tensor },
    /// The gradient itself: g \[B,C,d\].
    Vector { g: Tensor },
    /// Row `ids[b,t]` receives `g[b,c,t,:]`: ids \[B,T\], g \[B,C,T,d\].
    Rows { ids: Tensor, g: Tensor },
}

/// Rows of a parameter that a product has to visit.
pub enum RowSet {
    /// All rows `0..n`.
    All(i64),
    /// These rows, sorted: the others are zero for every example in question.
    Touched(Tensor),
}

impl RowSet {
    /// Number of rows.
    pub fn len(&self) -> i64 {
        match self {
            Self::All(n) => *n,
            Self::Touched(rows) => rows.size()[0],
        }
    }

    /// Whether there is no row to visit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The gradients of C outputs for B examples with respect to every parameter, in factored form.
pub struct Recorded {
    batch: i64,
    count: i64,
    outputs: Tensor,
    shapes: Vec<(i64, i64)>,
    factors: Vec<Vec<Factor>>,
}

/// Adds the token axis T = 1 where a network has none: \[B, …, d\] → \[B, …, 1, d\].
fn with_tokens(t: Tensor, rank: usize) -> Tensor {
    if t.dim() < rank { t.unsqueeze(-2) } else { t }
}

impl Recorded {
    pub(super) fn from_sites(
        batch: i64,
        count: i64,
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
                    let (x, g) = (with_tokens(x, 3), with_tokens(g, 4));
                    if let Some(b) = bias {
                        push(b, Factor::Vector { g: sum_tokens(&g) });
                    }
                    push(weight, Factor::Outer { x, g });
                }
                Site::Embedding { table, ids, .. } => push(table, Factor::Rows { ids, g }),
                Site::ScaleShift { weight, bias, x, .. } => {
                    let (x, g) = (with_tokens(x, 3), with_tokens(g, 4));
                    push(weight, Factor::Vector { g: sum_tokens(&(&g * x.unsqueeze(1))) });
                    push(bias, Factor::Vector { g: sum_tokens(&g) });
                }
                Site::SelectRows { table, bias, h, rows, .. } => {
                    // g [B,C,R]: row r of the table receives g[b,c,r] h[b].
                    let ids = rows.unsqueeze(0).expand([batch, -1], false);
                    if let Some(b) = bias {
                        push(b, Factor::Rows { ids: ids.shallow_clone(), g: g.unsqueeze(-1) });
                    }
                    push(table, Factor::Rows { ids, g: g.unsqueeze(-1) * h.unsqueeze(1).unsqueeze(1) });
                }
            }
        }
        let shapes = parameters.specs().iter().map(|s| (s.shape[0], s.shape[1..].iter().product())).collect();
        Self { batch, count, outputs, shapes, factors }
    }

    /// Number of examples B.
    pub fn batch(&self) -> i64 {
        self.batch
    }

    /// Number of Jacobian rows B·C; row `b·C + c` belongs to output c of example b.
    pub fn rows(&self) -> i64 {
        self.batch * self.count
    }

    /// Outputs \[B, C\] in double precision.
    pub fn outputs(&self) -> &Tensor {
        &self.outputs
    }

    /// Bytes held by the factors.
    pub fn bytes(&self) -> usize {
        let size = |t: &Tensor| t.numel() * t.kind().elt_size_in_bytes();
        let of = |f: &Factor| match f {
            Factor::Outer { x, g } => size(x) + size(g),
            Factor::Vector { g } => size(g),
            Factor::Rows { ids, g } => size(ids) + size(g),
        };
        self.factors.iter().flatten().map(of).sum()
    }

    /// Whether any example has a gradient for this parameter.
    pub fn reaches(&self, p: Param) -> bool {
        !self.factors[p.0].is_empty()
    }

    /// Number of columns of a parameter seen as a matrix rows x columns (1 for vectors).
    pub fn columns(&self, p: Param) -> i64 {
        self.shapes[p.0].1
    }

    /// Rows in which the gradient of this parameter can differ from zero for some example of the batch.
    pub fn touched(&self, p: Param) -> RowSet {
        let factors = &self.factors[p.0];
        if factors.iter().any(|f| !matches!(f, Factor::Rows { .. })) {
            return RowSet::All(self.shapes[p.0].0);
        }
        let mut rows = BTreeSet::new();
        let mut device = tch::Device::Cpu;
        for factor in factors {
            if let Factor::Rows { ids, g } = factor {
                device = g.device();
                let flat = ids.to_device(tch::Device::Cpu).contiguous().view(-1);
                rows.extend(Vec::<i64>::try_from(&flat).expect("ids are int64"));
            }
        }
        RowSet::Touched(Tensor::from_slice(&rows.into_iter().collect::<Vec<_>>()).to_device(device))
    }

    /// Dense gradients \[B·C, |range|·columns\] for the rows `set[range]` of a parameter.
    pub fn materialize(&self, p: Param, set: &RowSet, range: &Range<i64>) -> Tensor {
        let columns = self.columns(p);
        let width = range.end - range.start;
        let mut sum: Option<Tensor> = None;
        for factor in &self.factors[p.0] {
            let part = match factor {
                Factor::Outer { x, g } => {
                    let g = g.narrow(3, range.start, width).transpose(2, 3);
                    let tokens = g.size()[3];
                    g.reshape([self.batch, self.count * width, tokens]).bmm(x).view([self.rows(), width * columns])
                }
                Factor::Vector { g } => g.narrow(2, range.start, width).reshape([self.rows(), width]),
                Factor::Rows { ids, g } => self.scatter(ids, g, set, range, columns),
            };
            sum = Some(match sum {
                None => part,
                Some(s) => s + part,
            });
        }
        sum.unwrap_or_else(|| {
            Tensor::zeros([self.rows(), width * columns], (self.outputs.kind(), self.outputs.device()))
        })
    }

    fn scatter(&self, ids: &Tensor, g: &Tensor, set: &RowSet, range: &Range<i64>, columns: i64) -> Tensor {
        let width = range.end - range.start;
        let (position, present) = match set {
            RowSet::All(_) => (ids.shallow_clone(), ids.ge(range.start).logical_and(&ids.lt(range.end))),
            RowSet::Touched(rows) => {
                let position = ids.contiguous().bucketize(rows, false, false);
                let inside = position.clamp(0, rows.size()[0] - 1);
                let in_range = inside.ge(range.start).logical_and(&inside.lt(range.end));
                let present = rows.take(&inside).eq_tensor(ids).logical_and(&in_range);
                (inside, present)
            }
        };
        // Row (b·C + c)·width + position of the target; absent rows add zeros to the range's first row.
        let local = (position - range.start) * present.to_kind(Kind::Int64);
        let base = Tensor::arange(self.rows(), (Kind::Int64, ids.device())).view([self.batch, self.count, 1]) * width;
        let index = (base + local.unsqueeze(1)).reshape([-1]);
        let kept = g * present.unsqueeze(1).unsqueeze(-1).to_kind(g.kind());
        let mut target = Tensor::zeros([self.rows() * width, columns], (g.kind(), g.device()));
        let _ = target.index_add_(0, &index, &kept.reshape([-1, columns]));
        target.view([self.rows(), width * columns])
    }

    /// Directional derivatives `<∇f_bc, direction>` \[B, C\] in double precision, over the parameters that `include`
    /// marks. No gradient is materialized.
    pub fn dot(&self, direction: &Parameters, include: &[bool]) -> Tensor {
        let mut sum = Tensor::zeros([self.batch, self.count], (Kind::Double, self.outputs.device()));
        for (i, factors) in self.factors.iter().enumerate().filter(|(i, _)| include[*i]) {
            let delta = &direction.values()[i];
            for factor in factors {
                let (product, axes): (Tensor, &[i64]) = match factor {
                    Factor::Outer { x, g } => (g * x.linear(delta, None::<Tensor>).unsqueeze(1), &[2, 3]),
                    Factor::Vector { g } => (g * delta.view(-1), &[2]),
                    Factor::Rows { ids, g } => {
                        let rows = delta.reshape([delta.size()[0], -1]).index_select(0, &ids.reshape([-1]));
                        (g * rows.view([self.batch, 1, ids.size()[1], -1]), &[2, 3])
                    }
                };
                sum += product.sum_dim_intlist(axes, false, Kind::Double);
            }
        }
        sum
    }

    /// The whole Jacobian \[B·C, P\], parameters in order. For tests and tiny networks: this is what the factors avoid.
    pub fn dense(&self) -> Tensor {
        let parts: Vec<Tensor> = (0..self.shapes.len())
            .map(|i| {
                let rows = self.shapes[i].0;
                self.materialize(Param(i), &RowSet::All(rows), &(0..rows)).to_kind(Kind::Double)
            })
            .collect();
        Tensor::cat(&parts, 1)
    }
}

/// Sums \[B,C,T,d\] over tokens.
fn sum_tokens(g: &Tensor) -> Tensor {
    if g.size()[2] == 1 { g.squeeze_dim(2) } else { g.sum_dim_intlist(2, false, g.kind()) }
}

/// Visits two batches' gradients block by block: `visit(p, left, right)` with both \[rows, w\] over the same parameter
/// entries, at most `max_entries` columns wide (but at least one parameter row). With `common` only rows that both
/// batches touch are visited (all that an inner product needs), otherwise rows that either touches.
pub(crate) fn visit_blocks(
    left: &Recorded,
    right: &Recorded,
    include: &[bool],
    common: bool,
    max_entries: i64,
    mut visit: impl FnMut(Param, &Tensor, &Tensor),
) {
    let same = std::ptr::eq(left, right);
    for p in (0..left.shapes.len()).filter(|i| include[*i]).map(Param) {
        if !left.reaches(p) || !right.reaches(p) {
            continue;
        }
        let set = if same { left.touched(p) } else { combine(left.touched(p), right.touched(p), common) };
        let step = (max_entries / left.columns(p)).clamp(1, set.len().max(1));
        let mut start = 0;
        while start < set.len() {
            let range = start..(start + step).min(set.len());
            let a = left.materialize(p, &set, &range);
            if same {
                visit(p, &a, &a);
            } else {
                visit(p, &a, &right.materialize(p, &set, &range));
            }
            start = range.end;
        }
    }
}

/// Intersection (`common`) or union of two row sets.
fn combine(a: RowSet, b: RowSet, common: bool) -> RowSet {
    match (a, b) {
        (RowSet::Touched(a), RowSet::Touched(b)) => {
            let device = a.device();
            let set = |t: &Tensor| -> BTreeSet<i64> {
                Vec::<i64>::try_from(&t.to_device(tch::Device::Cpu)).expect("rows are int64").into_iter().collect()
            };
            let (a, b) = (set(&a), set(&b));
            let rows: Vec<i64> =
                if common { a.intersection(&b).copied().collect() } else { a.union(&b).copied().collect() };
            RowSet::Touched(Tensor::from_slice(&rows).to_device(device))
        }
        (RowSet::All(n), _) | (_, RowSet::All(n)) => RowSet::All(n),
    }
}
