//! Kernels of some examples with themselves and with others.

use super::batches::{batches, padded};
use super::memory::token_bytes;
use super::options::GramOptions;
use super::panel::Panel;
use super::sums::Sums;
use super::{HELD, Run};
use crate::error::Result;
use crate::jacobian::{Examples, Parameters};
use crate::kernel::gram::{Gram, no_examples};
use crate::progress::Monitor;

/// Kernels between `left` and itself (`right` absent) or `right`.
///
/// `monitor` advances by one for every pair of examples, see [`gram_units`](super::gram_units). Can be cancelled between tiles.
pub fn structured_gram(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    options: &GramOptions,
    monitor: &dyn Monitor,
) -> Result<Gram> {
    GramsOf { parameters, left, keeps: false, kept: None }.with(right, options, monitor)
}

/// Kernels of the same left examples with several right ones: the left ones' gradients are computed once, if they fit.
pub struct GramsOf<'a> {
    parameters: &'a Parameters,
    left: &'a dyn Examples,
    keeps: bool,
    kept: Option<Panel>,
}

impl<'a> GramsOf<'a> {
    /// Kernels of these examples.
    pub fn new(parameters: &'a Parameters, left: &'a dyn Examples) -> Self {
        Self { parameters, left, keeps: true, kept: None }
    }

    /// Where they are taken.
    pub fn parameters(&self) -> &'a Parameters {
        self.parameters
    }

    /// [`structured_gram`] with these right examples. The formulas, memory and tiles of the options may differ from call to call;
    /// what gradients depend on may not.
    ///
    /// # Errors
    /// Those of [`structured_gram`].
    pub fn with(&mut self, right: Option<&dyn Examples>, options: &GramOptions, monitor: &dyn Monitor) -> Result<Gram> {
        let (parameters, left) = (self.parameters, self.left);
        if left.is_empty() || right.is_some_and(Examples::is_empty) {
            return Err(no_examples());
        }
        options.check_arithmetic(parameters.device())?;
        // The smaller set is held, the larger one streamed; but kept gradients are not recomputed.
        let exchange = right.is_some_and(|r| r.len() < left.len()) && !(self.keeps && self.fits(options));
        let options = GramOptions { parts: options.parts_used(parameters), ..options.clone() };
        let parameters = &parameters.in_parts(options.parts);
        let sums = Sums::new(parameters, left, right, &options, exchange);
        let kept = if exchange { None } else { self.kept.take() };
        let mut run = Run { parameters, options, monitor, sums, per_token: None, short: false };
        let whole = match right {
            None => run.symmetric(left, kept)?,
            Some(right) if exchange => run.between(right, left, None)?,
            Some(right) => run.between(left, right, kept)?,
        };
        self.kept = whole.filter(|_| self.keeps && !exchange);
        let gram = run.sums.finish();
        gram.check_finite()?;
        Ok(gram)
    }

    /// Whether all left gradients fit beside others, from their shapes alone.
    fn fits(&self, options: &GramOptions) -> bool {
        let tokens: usize = batches(self.left, options.batch).iter().map(|batch| padded(self.left, batch)).sum();
        tokens as f64 * token_bytes(self.parameters, self.left, options) <= HELD * options.keep_bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::jacobian::Tap;
    use crate::kernel::FormulaSet;
    use crate::network::{Abc, Activation, Mlp, unit_inputs};
    use crate::progress::Silent;

    /// Examples that are counted when a pass computes them.
    struct Counted<'a>(&'a dyn Examples, AtomicUsize);

    impl Examples for Counted<'_> {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn outputs(&self) -> usize {
            self.0.outputs()
        }
        fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
            self.1.fetch_add(indices.len(), Ordering::Relaxed);
            self.0.forward(tap, indices)
        }
    }

    /// Kernels of examples whose gradients stay in memory, with themselves, with more and with fewer others: those of separate
    /// computations, bit for bit where the same side is held. Fails for: gradients that are computed again though they have room,
    /// or kept though they have none; a kept panel on the wrong side.
    #[test]
    fn gradients_that_stay_give_the_same_kernels() {
        let abc = Abc::ntk(2);
        let mlp = Mlp { input: 5, width: 9, depth: 2, outputs: 2, activation: Activation::Tanh, gain: 1.0, abc };
        let parameters = mlp.parameters(1, Kind::Double, Device::Cpu);
        let inputs = |n, seed| mlp.examples(unit_inputs(n, 5, seed, Kind::Double, Device::Cpu));
        let (left, more, fewer) = (inputs(6, 2), inputs(9, 3), inputs(4, 4));
        let passes = |keep_bytes| {
            let options = GramOptions { batch: 2, keep_bytes, ..GramOptions::new(FormulaSet::ALL, parameters.len()) };
            let counted = Counted(&left, 0.into());
            let mut grams = GramsOf::new(&parameters, &counted);
            for right in [None, Some(&more as &dyn Examples), Some(&fewer), None] {
                let kept = grams.with(right, &options, &Silent).expect("kernels");
                let apart = structured_gram(&parameters, &left, right, &options, &Silent).expect("kernels");
                assert_eq!((&kept.signgd, &kept.left_outputs), (&apart.signgd, &apart.left_outputs));
                assert_eq!(kept.right_outputs, apart.right_outputs);
                let pairs = [(&kept.sgd, &apart.sgd), (&kept.asymmetric, &apart.asymmetric)];
                for (a, b) in pairs.map(|(a, b)| (a.as_ref().expect("asked for"), b.as_ref().expect("asked for"))) {
                    let off = ((a - b).abs().max() / b.abs().max()).double_value(&[]);
                    let held = right.is_none_or(|r| r.len() >= left.len());
                    assert!(off <= if held { 0.0 } else { 1e-14 }, "{off:e}");
                }
            }
            counted.1.into_inner()
        };
        // And one of them for the shapes that say whether all have room.
        assert_eq!(passes(1 << 30), 7, "each example once");
        assert!(passes(0) > 4 * 6, "no room");
    }
}
