//! The tap: the four operations through which a network's forward pass reaches its parameters.

use tch::{Kind, Tensor};

use super::parameters::{Param, Parameters};
use super::recorded::{Recorded, Site, joined};
use crate::products::linear;

/// Operations with parameters that a forward pass may use. Everything else (attention, activations, normalization without
/// its affine part) is ordinary tensor code. The first axis is always the batch B, along which per-example gradients are
/// separated; an example with K inputs has K adjacent rows.
pub trait Tap {
    /// `x Wᵀ + b`: x \[B, T, in\] or \[B, in\], W \[out, in\], b \[out\].
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor;

    /// Rows of a table: ids \[B, T\] of integers, table \[V, d\] → \[B, T, d\].
    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor;

    /// `x ∘ w + b` along the last axis (the affine part of a layer norm; a root mean square norm has no b): x \[B, T, d\]
    /// or \[B, d\].
    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor;

    /// `x ∘ (1 + w)` along the last axis, with the weight converted to the element type of x.
    fn scale_by_one_plus(&mut self, x: &Tensor, weight: Param) -> Tensor {
        self.scale_shift(x, weight, None) + x
    }

    /// `h · E[r] + b[r]` for a few rows r of a table: h \[B, d\], E \[V, d\], b \[V\], rows \[R\] → \[B, R\]. The
    /// decoder of a language model restricted to the label words; E may be tied to the token embeddings.
    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor;

    /// A parameter's value as a constant, without gradients.
    fn value(&self, parameter: Param) -> Tensor;

    /// Whether nothing is kept apart by example, so that tokens of several texts may be joined to one row of the batch axis.
    fn joins_texts(&self) -> bool {
        false
    }
}

/// Computes without recording anything. Differentiable in the usual way if the parameters require gradients.
pub struct PlainTap<'a> {
    parameters: &'a Parameters,
}

impl<'a> PlainTap<'a> {
    /// A tap over these values.
    pub fn new(parameters: &'a Parameters) -> Self {
        Self { parameters }
    }

    /// The values.
    pub(crate) fn parameters(&self) -> &'a Parameters {
        self.parameters
    }

    /// `h · w + b[r]` for rows w \[R, d\] that were read from a table at r \[R\]: h \[B, d\], b \[V\] → \[B, R\].
    pub(crate) fn decode(&self, h: &Tensor, read: &Tensor, bias: Option<Param>, rows: &Tensor) -> Tensor {
        let bias = bias.map(|b| self.parameters.get(b).index_select(0, rows));
        h.linear(read, bias.as_ref())
    }
}

impl Tap for PlainTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        linear(x, self.parameters.get(weight), bias.map(|b| self.parameters.get(b)), self.parameters.parts())
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        Tensor::embedding(self.parameters.get(table), ids, -1, false, false)
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let scaled = x * self.parameters.get(weight);
        match bias {
            Some(bias) => scaled + self.parameters.get(bias),
            None => scaled,
        }
    }

    fn scale_by_one_plus(&mut self, x: &Tensor, weight: Param) -> Tensor {
        x * (self.parameters.get(weight).to_kind(x.kind()) + 1.0)
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        self.decode(h, &self.parameters.get(table).index_select(0, rows), bias, rows)
    }

    fn value(&self, parameter: Param) -> Tensor {
        self.parameters.get(parameter).detach()
    }

    fn joins_texts(&self) -> bool {
        true
    }
}

/// Computes and keeps each site's input and output, so that one backward pass per output index gives the gradients of every
/// example in the batch. The parameters are not part of the autograd graph: a site's output is a leaf if nothing before it
/// needs a gradient.
pub struct RecordingTap<'a> {
    plain: PlainTap<'a>,
    sites: Vec<Site>,
}

impl<'a> RecordingTap<'a> {
    /// A tap over these values, which must not require gradients.
    pub fn new(parameters: &'a Parameters) -> Self {
        Self { plain: PlainTap::new(parameters), sites: Vec::new() }
    }

    fn keep(&mut self, output: Tensor, site: impl FnOnce(Tensor) -> Site) -> Tensor {
        let output = if output.requires_grad() { output } else { output.set_requires_grad(true) };
        self.sites.push(site(output.shallow_clone()));
        output
    }

    /// Runs one backward pass per output index and gathers the per-example gradient factors.
    ///
    /// `outputs` \[B, C\] is the result of the forward pass over this tap; `separate` says whether outputs have separate
    /// inputs ([`super::Examples::separate`]).
    pub fn finish(self, outputs: &Tensor, separate: bool) -> Recorded {
        let values = outputs.detach().to_kind(Kind::Double);
        // An output with separate inputs is treated as an example.
        let outputs = if separate { outputs.reshape([-1, 1]) } else { outputs.shallow_clone() };
        let (batch, count) = (outputs.size()[0], outputs.size()[1]);
        let inputs: Vec<&Tensor> = self.sites.iter().map(Site::output).collect();
        let mut gradients: Vec<Vec<Tensor>> = (0..inputs.len()).map(|_| Vec::new()).collect();
        for c in 0..count {
            // Examples do not interact within a batch, so the gradient of the sum contains each example's own gradient.
            let total = outputs.select(1, c).sum(outputs.kind());
            let per_site = Tensor::run_backward(&[total], &inputs, c + 1 < count, false);
            for (all, one) in gradients.iter_mut().zip(per_site) {
                all.push(joined(one, batch));
            }
        }
        let gradients: Vec<Tensor> = gradients.iter().map(|g| stack_outputs(g)).collect();
        Recorded::from_sites((batch, count), values, self.plain.parameters, self.sites, gradients)
    }
}

impl Tap for RecordingTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let y = self.plain.linear(x, weight, bias);
        let x = x.detach();
        self.keep(y, |output| Site::Linear { weight, bias, x, output })
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        let y = self.plain.embedding(table, ids);
        let ids = ids.shallow_clone();
        self.keep(y, |output| Site::Embedding { table, ids, output })
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let y = self.plain.scale_shift(x, weight, bias);
        let x = x.detach();
        self.keep(y, |output| Site::ScaleShift { weight, bias, x, output })
    }

    fn scale_by_one_plus(&mut self, x: &Tensor, weight: Param) -> Tensor {
        let y = self.plain.scale_by_one_plus(x, weight);
        let x = x.detach();
        self.keep(y, |output| Site::ScaleShift { weight, bias: None, x, output })
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        let y = self.plain.select_rows(h, table, bias, rows);
        let (h, rows) = (h.detach(), rows.shallow_clone());
        self.keep(y, |output| Site::SelectRows { table, bias, h, rows, output })
    }

    fn value(&self, parameter: Param) -> Tensor {
        self.plain.value(parameter)
    }
}

/// Joins the gradients of C outputs to \[B, C, …\]; for one output this is a view, not a copy.
fn stack_outputs(gradients: &[Tensor]) -> Tensor {
    if let [one] = gradients { one.unsqueeze(1) } else { Tensor::stack(gradients, 1) }
}
