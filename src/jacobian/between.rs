//! A network at a point between two parameter vectors, in any precision: the point is computed weight by weight as the
//! forward pass reaches it, never as a whole.

use tch::{Device, Kind, Tensor};

use super::parameters::{Param, Parameters};
use super::tap::Tap;
use super::{Examples, FORWARD_BATCH, outputs_through};
use crate::entries::{are, each};
use crate::error::Result;
use crate::products::linear;

/// The line through two parameter vectors of a network.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    from: &'a Parameters,
    to: &'a Parameters,
}

impl<'a> Line<'a> {
    /// From one point to another.
    pub fn new(from: &'a Parameters, to: &'a Parameters) -> Self {
        Self { from, to }
    }

    /// Outputs \[N, C\], in double precision on the CPU, at `from + share·(to - from)`; parameters and activations are of `kind`.
    /// Every batch computes all weights at the point, so that batches are as large as those of a network without gradients.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn outputs(&self, share: f64, kind: Kind, examples: &dyn Examples) -> Result<Tensor> {
        // In as much memory as in single precision.
        let batch = if kind == Kind::Double { FORWARD_BATCH / 2 } else { FORWARD_BATCH };
        outputs_through(&mut Point { line: *self, share, kind }, examples, batch)
    }
}

/// Computes at a point of a line, without gradients.
struct Point<'a> {
    line: Line<'a>,
    share: f64,
    kind: Kind,
}

impl Point<'_> {
    /// A parameter at the point, or what `part` selects of it.
    fn part(&self, parameter: Param, part: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let at = |end: &Parameters| part(end.get(parameter)).to_kind(self.kind);
        let (from, to) = (self.line.from.get(parameter), self.line.to.get(parameter));
        if self.share == 0.0 || from.data_ptr() == to.data_ptr() {
            return at(self.line.from);
        }
        if self.share == 1.0 {
            return at(self.line.to);
        }
        let (from, to) = (part(from), part(to));
        if self.kind == Kind::Double && are::<f32>(&from) && are::<f32>(&to) {
            return wide_point(&from, &to, self.share);
        }
        from.to_kind(self.kind).lerp(&to.to_kind(self.kind), self.share)
    }

    fn whole(&self, parameter: Param) -> Tensor {
        self.part(parameter, Tensor::shallow_clone)
    }
}

/// `from + share·(to - from)` in double precision for numbers in single precision, in one pass: copies of both in double precision
/// would take longer than a product with a few examples' states.
fn wide_point(from: &Tensor, to: &Tensor, share: f64) -> Tensor {
    let point = Tensor::empty(from.size(), (Kind::Double, Device::Cpu));
    each([&point], [from, to], &|[point]: [&mut [f64]; 1], [from, to]: [&[f32]; 2]| {
        for ((point, from), to) in point.iter_mut().zip(from).zip(to) {
            let from = f64::from(*from);
            *point = from + share * (f64::from(*to) - from);
        }
    });
    point
}

impl Tap for Point<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        linear(x, &self.whole(weight), bias.map(|b| self.whole(b)).as_ref(), None)
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        // Only the rows that are read, not the whole table.
        self.part(table, |table| Tensor::embedding(table, ids, -1, false, false))
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let scaled = x * self.whole(weight);
        match bias {
            Some(bias) => scaled + self.whole(bias),
            None => scaled,
        }
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        let chosen = |p: Param| self.part(p, |values| values.index_select(0, rows));
        h.linear(&chosen(table), bias.map(chosen).as_ref())
    }

    fn value(&self, parameter: Param) -> Tensor {
        self.whole(parameter).detach()
    }

    fn joins_texts(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jacobian::outputs;
    use crate::lm::{Architecture, MaskedLm, OutputMode, PromptExample, PromptExamples, random};

    /// At a point of a line the outputs are those of a network with the point's parameters. Fails for: a share taken from the
    /// other end, a parameter that is left where it was, a precision that is not the one asked for.
    #[test]
    fn outputs_on_a_line_are_those_of_a_network_there() {
        let model = MaskedLm::new(random::tiny(Architecture::Roberta, 40));
        let at = |seed| random::parameters(&model, seed, 1.0, Kind::Float, Device::Cpu);
        let (from, to) = (at(3), at(4));
        let prompts = (0..3).map(|i| PromptExample {
            input_ids: vec![0, 7 + i, 9, 4, 12 + i, 2],
            segment_ids: vec![0; 6],
            mask_position: 3,
        });
        let examples =
            PromptExamples::new(&model, prompts.collect(), &[8, 11], OutputMode::Logits, Device::Cpu).expect("valid");
        let line = Line::new(&from, &to);
        for share in [0.0, 1.0, 0.25, -0.5] {
            let mut ends = to.values().iter();
            let point = from.map(|start| {
                let (start, end) = (start.to_kind(Kind::Double), ends.next().expect("an end").to_kind(Kind::Double));
                &start + (end - &start) * share
            });
            let expected = outputs(&point, &examples, 2);
            let off = |kind| {
                let found = line.outputs(share, kind, &examples).expect("outputs");
                ((found - &expected).norm() / expected.norm()).double_value(&[])
            };
            let (double, single) = (off(Kind::Double), off(Kind::Float));
            assert!(double < 1e-14, "{share}: {double:.1e}");
            assert!((1e-9..1e-5).contains(&single), "{share}: {single:.1e}");
        }
    }
}
