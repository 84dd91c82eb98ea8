//! The structured engine: per-example gradients in factored form, multiplied without an N x P matrix. One pass over the
//! gradients gives all formulas.
//!
//! Examples are recorded in panels. For each pair of panels every parameter is either multiplied through its factors (ghost
//! products) or cut into tiles of entries that fit into a cache: both panels' gradients of a tile are written to a buffer,
//! multiplied, their signs packed to bits and counted, and forgotten ([`tiles`]). On the CPU tiles are distributed over
//! threads, each with its own buffers and sums, and so are the passes that record gradients ([`passes`]). A GPU multiplies
//! large tiles as matrices; which of the two is used is a setting ([`Arithmetic`]), independent of the tensors' device.
//!
//! Precision: products within a tile are in the factors' precision, sums over tiles in double precision. Sign products are
//! integers throughout, and therefore exact and independent of the order of summation.

mod arithmetic;
mod batches;
mod estimate;
mod grams;
mod memory;
mod method;
mod options;
mod panel;
mod passes;
mod shortage;
mod side;
mod sums;
mod symmetry;
mod tiles;
mod work;

use std::collections::VecDeque;

pub use arithmetic::Arithmetic;
pub use estimate::{KernelEstimate, LayerEstimate, estimate_gram};
pub use grams::{GramsOf, structured_gram};
pub use memory::MemoryEstimate;
pub use method::Method;
pub use options::GramOptions;

use self::batches::batches;
use self::panel::Panel;
use self::shortage::attempt;
use self::sums::Sums;
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Parameters};
use crate::progress::Monitor;

/// Fraction of the kept factors that belongs to the held panel, past which the others are streamed. Streamed panels are
/// recomputed for every held one, and the held one's tiles for every streamed one; if a pass costs three times as much as
/// writing tiles, the total is smallest at a ratio of √3.
const HELD: f64 = 0.63;

/// Number of units that [`structured_gram`] reports: pairs of examples.
pub fn gram_units(left: usize, right: Option<usize>) -> u64 {
    right.map_or(left * (left + 1) / 2, |m| left * m) as u64
}

/// One computation.
struct Run<'a> {
    parameters: &'a Parameters,
    options: GramOptions,
    monitor: &'a dyn Monitor,
    sums: Sums,
    /// Bytes of one padded token's factors, once known.
    per_token: Option<f64>,
    /// Whether the user was told that memory ran out.
    short: bool,
}

impl Run<'_> {
    /// Returns the panel of all examples, if there is one and others fit beside it.
    fn symmetric(&mut self, examples: &dyn Examples, kept: Option<Panel>) -> Result<Option<Panel>> {
        let mut batches = VecDeque::from(batches(examples, self.options.batch));
        let keep = self.options.keep_bytes as f64;
        if let Some(whole) = kept {
            self.sums.put_outputs(&whole, true);
            self.multiply(&whole, None)?;
            return Ok(Some(whole));
        }
        while !batches.is_empty() {
            let held = self.fill(examples, &mut batches, |all| if all <= keep { keep } else { HELD * keep })?;
            self.sums.put_outputs(&held, true);
            self.multiply(&held, None)?;
            self.pass_by(&held, examples, batches.clone(), (1.0 - HELD) * keep, false)?;
            if held.len() == examples.len() && held.bytes() as f64 <= HELD * keep {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// Returns the panel of all held examples, if there is one.
    fn between(&mut self, held: &dyn Examples, passing: &dyn Examples, kept: Option<Panel>) -> Result<Option<Panel>> {
        let mut held_batches = VecDeque::from(batches(held, self.options.batch));
        let passing_batches = VecDeque::from(batches(passing, self.options.batch));
        let keep = self.options.keep_bytes as f64;
        let mut kept = kept.filter(|panel| panel.bytes() as f64 <= HELD * keep);
        let mut first = true;
        while !held_batches.is_empty() {
            let panel = match kept.take() {
                Some(whole) => whole,
                None => self.fill(held, &mut held_batches, |_| HELD * keep)?,
            };
            self.sums.put_outputs(&panel, true);
            let rest = keep - panel.bytes() as f64;
            self.pass_by(&panel, passing, passing_batches.clone(), rest, first)?;
            first = false;
            if panel.len() == held.len() {
                return Ok(Some(panel));
            }
        }
        Ok(None)
    }

    /// Multiplies the held panel with the given batches, in panels of at most `bytes`.
    fn pass_by(
        &mut self,
        held: &Panel,
        examples: &dyn Examples,
        mut batches: VecDeque<Vec<usize>>,
        bytes: f64,
        keep_outputs: bool,
    ) -> Result<()> {
        while !batches.is_empty() {
            let panel = self.fill(examples, &mut batches, |_| bytes)?;
            if keep_outputs {
                self.sums.put_outputs(&panel, false);
            }
            self.multiply(held, Some(&panel))?;
        }
        Ok(())
    }

    /// Multiplies two panels, or one with itself; if memory runs out, retries with tiles of half the size.
    fn multiply(&mut self, held: &Panel, passing: Option<&Panel>) -> Result<()> {
        loop {
            let products =
                attempt(|| work::products(held, passing, &self.options, &self.sums.structural, self.monitor));
            if let Some(products) = products {
                self.sums.add(products?, held, passing);
                return Ok(());
            }
            if !self.options.halve_tiles(self.parameters.device()) {
                return Err(Error::Torch(
                    "out of memory for the smallest tiles of two panels: use smaller batches, or set a memory limit"
                        .into(),
                ));
            }
            self.monitor.note("out of memory: continuing with tiles of half the size");
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::kernel::FormulaSet;
    use crate::network::{Abc, Activation, Mlp, unit_inputs};

    /// Kernels by parts of bf16 of a small language model against single precision, in the Frobenius norm: what is written of
    /// gradients, in one panel and between two, of many tokens and of few, and what passes compute. Three parts are another order of summation, as two
    /// processors are (`docs/processors.md`); two and one leave out about 2⁻¹⁶ and 2⁻⁸ of every product. Fails for: a tile that is packed
    /// from the wrong columns, tokens of another example, parts that only one side has.
    #[test]
    fn kernels_by_parts_equal_single_precision() {
        use crate::lm::{Architecture, OutputMode};
        check_parts(Architecture::Roberta, OutputMode::Difference, 32);
    }

    /// The same with two outputs, batches of few examples with other numbers of tokens, and weights with several uses; shares of
    /// parameters are symmetric, and their traces those of the matrices.
    #[test]
    fn kernels_by_parts_of_several_outputs_batches_and_uses_equal_single_precision() {
        use crate::lm::{Architecture, OutputMode};
        check_parts(Architecture::Roberta, OutputMode::Logits, 2);
        check_parts(Architecture::Albert, OutputMode::Logits, 2);
    }

    fn check_parts(architecture: crate::lm::Architecture, mode: crate::lm::OutputMode, batch: usize) {
        use crate::kernel::{Formula, Precision};
        use crate::lm::{MaskedLm, ModelConfig, PromptExample, PromptExamples, random};
        use crate::progress::Silent;
        if !crate::products::has_units() {
            eprintln!("skipped: this processor has no units for bf16, or they are switched off");
            return;
        }
        let shape = random::tiny(architecture, 60);
        let model = MaskedLm::new(ModelConfig { hidden_size: 96, heads: 2, intermediate_size: 160, ..shape });
        let parameters = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
        let lengths = |from: i64, tokens: &[i64]| {
            let prompt = |(i, tokens): (i64, &i64)| PromptExample {
                input_ids: (0..*tokens).map(|t| 5 + (7 * i + 11 * t) % 50).collect(),
                segment_ids: vec![0; *tokens as usize],
                mask_position: 3,
            };
            let prompts = (from..).zip(tokens).map(prompt).collect();
            PromptExamples::new(&model, prompts, &[8, 11], mode, Device::Cpu).expect("valid")
        };
        let examples = |from: i64, count: i64, tokens: i64| {
            lengths(from, &(from..from + count).map(|i| tokens + 3 * (i % 3)).collect::<Vec<_>>())
        };
        let kernels = |(left, right): &(PromptExamples<'_>, PromptExamples<'_>),
                       precision: Option<Precision>,
                       formulas,
                       method| {
            let mut options = GramOptions { batch, method, ..GramOptions::new(formulas, parameters.len()) };
            if let Some(precision) = precision {
                precision.apply(&parameters, &mut options).expect("single precision on the CPU");
            }
            [None, Some(right as &dyn Examples)].map(|right| {
                let options = GramOptions { share_matrices: right.is_none(), ..options.clone() };
                structured_gram(&parameters, left, right, &options, &Silent).expect("kernels")
            })
        };
        // In two and three parts units write none of 9 tokens, and so those of one side alone where the other has 64, and none of batches of
        // 5 and 28 tokens together.
        let mixed = || lengths(0, &[28, 28, 5, 5, 5]);
        let panels = [
            (examples(0, 5, 24), examples(5, 3, 24)),
            (examples(0, 5, 9), examples(5, 3, 9)),
            (examples(0, 5, 9), examples(5, 3, 64)),
            (examples(0, 5, 64), examples(5, 3, 9)),
            (mixed(), examples(5, 3, 64)),
        ];
        for (precision, bounds) in
            [(Precision::Bf16x3, [2e-6, 1e-3]), (Precision::Bf16x2, [2e-5, 1e-2]), (Precision::Bf16, [2e-2, 2e-1])]
        {
            // Vectors of bf16 compute one part alone; more are single precision there.
            let is_split = precision.parts().is_some_and(crate::products::splits);
            let tiles = Some(Method::Tiles);
            let ways = [(FormulaSet::ALL, tiles), (FormulaSet::SGD, tiles), (FormulaSet::SGD, Some(Method::Ghost))];
            for (panels, (formulas, method)) in panels.iter().flat_map(|panels| ways.map(|way| (panels, way))) {
                let own = kernels(panels, Some(precision), formulas, method);
                let plain = kernels(panels, None, formulas, method);
                for (own, plain) in own.iter().zip(&plain) {
                    for formula in Formula::ALL {
                        let (Some(a), Some(b)) = (own.matrix(formula), plain.matrix(formula)) else { continue };
                        let error = ((a - b).norm() / b.norm()).double_value(&[]);
                        // A weight's rounding is the same in all of its uses.
                        let uses = if architecture == crate::lm::Architecture::Albert { 2.0 } else { 1.0 };
                        let bound = uses * bounds[usize::from(formula != Formula::Sgd)];
                        assert!(
                            (error > 0.0 || !is_split || formula != Formula::Sgd) && error < bound,
                            "{architecture:?}, {precision:?}, {formula}, {method:?}: {error:e}"
                        );
                    }
                    let all = plain.sgd.as_ref().expect("asked for").norm().double_value(&[]);
                    for (share, plain) in own.shares.iter().zip(&plain.shares) {
                        let (a, b) = (share.sgd.as_ref().expect("asked for"), plain.sgd.as_ref().expect("asked for"));
                        assert!((a - b).norm().double_value(&[]) < bounds[0] * all, "{precision:?}, a share");
                        assert!(a.equal(&a.tr()), "a symmetric share");
                        let trace = a.trace().double_value(&[]);
                        assert!((share.trace_sgd - trace).abs() <= 1e-12 * trace, "{} {trace}", share.trace_sgd);
                    }
                }
            }
        }
    }

    /// Factors in bf16 take half of the memory, but for a few of single tokens: maps with the same input (queries, keys, values) still
    /// share it. With copies of it they would take 65%.
    #[test]
    fn converted_factors_share_inputs() {
        use crate::jacobian::record;
        use crate::lm::{Architecture, MaskedLm, ModelConfig, OutputMode, PromptExample, PromptExamples, random};
        let shape = random::tiny(Architecture::Bert, 60);
        let model = MaskedLm::new(ModelConfig { hidden_size: 96, layers: 4, ..shape });
        let parameters = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
        let prompt = PromptExample { input_ids: (5..29).collect(), segment_ids: vec![0; 24], mask_position: 20 };
        let examples = PromptExamples::new(&model, vec![prompt], &[8, 11], OutputMode::Difference, Device::Cpu);
        let recorded = record(&parameters, &examples.expect("valid"), &[0]);
        let before = recorded.bytes();
        let after = recorded.to_kind(Kind::BFloat16).bytes();
        assert!(100 * after < 55 * before, "{after} of {before} bytes");
    }

    #[test]
    fn a_memory_limit_is_kept_or_refused_with_the_least_that_would_do() {
        let abc = Abc::ntk(2);
        let mlp = Mlp { input: 5, width: 9, depth: 2, outputs: 2, activation: Activation::Tanh, gain: 1.0, abc };
        let parameters = mlp.parameters(1, Kind::Double, Device::Cpu);
        let examples = mlp.examples(unit_inputs(7, 5, 2, Kind::Double, Device::Cpu));
        let mut options = GramOptions::new(FormulaSet::ALL, parameters.len());
        let error = options.fit(&parameters, &examples, None, 1e6).expect_err("too little").to_string();
        let needed = error.split("expected ").nth(1).and_then(|t| t.split(" MB").next());
        let needed: f64 = needed.expect("the least limit").parse().expect("a number");
        options.fit(&parameters, &examples, None, needed * 1e6).expect("what was said to suffice");
        let estimate = estimate_gram(&parameters, &examples, None, &options);
        assert!(estimate.memory.total() <= needed * 1e6, "{estimate:?}");
    }
}
