//! The first-order expansion of a network along a line of parameters, from its outputs at a few points of the line.
//!
//! A residual needs the difference of nearly equal outputs, `f(θ_1) - f(θ_0)`, and the slope `<∇f(θ_0), θ_1 - θ_0>`. Both come
//! from forward passes alone, whatever the number of outputs. In double precision one point near the start is enough: with
//! `d(s) = f(θ_0 + s(θ_1 - θ_0)) - f(θ_0)` the parabola through 0, h and 1 has the slope `(d(h)/h - h·d(1))/(1 - h)`, whose
//! error is h times the third-order term. In single precision round-off requires a larger h and two points, ±h, whose
//! difference gives a slope with an error of h² times that term.
//!
//! Single precision costs half as much, and suffices if outputs move far and not linearly. Both precisions are computed and
//! compared on a few examples to find out.

use tch::{Kind, Tensor};

use super::linearization::{norm, relative_residual};
use crate::error::Result;
use crate::evidence::{Arithmetic, Computed};
use crate::jacobian::{Examples, Line, Parameters};

/// Single precision suffices if its error is at most this fraction of the residual.
pub const ENOUGH: f64 = 0.01;

/// Unit round-off of double precision, relative to that of single precision.
pub(super) const DOUBLE: f64 = 1.0 / (1u64 << 29) as f64;

/// Round-off in a network's outputs.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    /// Distance between outputs in single and in double precision, relative to their size.
    pub single: f64,
}

/// Outputs of a network on a few examples in both precisions.
#[derive(Debug)]
pub struct Sample {
    /// In single precision \[N, C\].
    pub single: Tensor,
    /// In double precision \[N, C\].
    pub double: Tensor,
    /// How far they are apart.
    pub rounding: Rounding,
}

impl Sample {
    /// Handles of the same outputs.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let Self { single, double, rounding } = self;
        Self { single: single.shallow_clone(), double: double.shallow_clone(), rounding: *rounding }
    }

    /// Those of a network with these parameters.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn of(parameters: &Parameters, examples: &dyn Examples) -> Result<Self> {
        let here = Line::new(parameters, parameters);
        let in_kind = |kind| here.outputs(0.0, kind, examples);
        let (single, double) = (in_kind(Kind::Float)?, in_kind(Kind::Double)?);
        // At least the unit round-off of single precision.
        let least = f64::from(f32::EPSILON) / 2.0;
        let rounding = Rounding { single: (norm(&(&single - &double)) / norm(&double)).max(least) };
        Ok(Self { single, double, rounding })
    }
}

/// A few examples on which precisions are compared.
#[derive(Clone, Copy)]
pub struct Few<'a> {
    /// The examples.
    pub examples: &'a dyn Examples,
    /// Their outputs at the start.
    pub start: &'a Sample,
    /// Their expansion in double precision, if it is known.
    pub double: Option<&'a Expansion>,
}

/// Known outputs at the ends of a line, in the required precision.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    /// At the start.
    pub start: Option<&'a Tensor>,
    /// At the end.
    pub end: Option<&'a Tensor>,
}

/// A network's outputs along a line, and their first-order expansion at its start.
pub struct Expansion {
    /// f at the start \[N, C\].
    pub start: Tensor,
    /// f at the end \[N, C\].
    pub end: Tensor,
    /// `<∇f, end - start>` at the start \[N, C\].
    pub slope: Tensor,
    /// Precision of the arithmetic, and the estimated error of the residual.
    pub computed: Computed,
}

impl Expansion {
    /// The linearized model's outputs at the line's end.
    pub fn linearized(&self) -> Tensor {
        &self.start + &self.slope
    }

    /// The part of the movement that the slope does not explain, relative to the movement.
    pub fn residual(&self) -> Option<f64> {
        relative_residual(&(&self.end - &self.start), &self.slope)
    }

    /// In sufficient precision: single if, on a few examples, its residual differs from that in double precision by at most
    /// [`ENOUGH`] of it. `double_start` is f of all examples at the start in double precision, computed once it is needed;
    /// `single_start`, the same in single precision.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn sufficient(
        line: Line<'_>,
        examples: &dyn Examples,
        few: &Few<'_>,
        single_start: Option<&Tensor>,
        double_start: &mut Option<Tensor>,
    ) -> Result<Self> {
        let Sample { single, double, rounding } = few.start;
        let rounding = *rounding;
        let from = |start| Known { start: Some(start), end: None };
        let single = Self::single(line, few.examples, rounding, from(single))?;
        let computed;
        let double = if let Some(known) = few.double {
            known
        } else {
            computed = Self::double(line, few.examples, rounding, from(double))?;
            &computed
        };
        let error = norm(&(double.missed() - single.missed())) / norm(&(&double.end - &double.start));
        if double.residual().is_some_and(|residual| error <= ENOUGH * residual) {
            let known = Known { start: single_start, end: None };
            let all = Self::single(line, examples, rounding, known)?;
            let computed = Computed { error: finite(error), ..all.computed };
            return Ok(Self { computed, ..all });
        }
        let known = Known { start: double_start.as_ref(), end: None };
        let all = Self::double(line, examples, rounding, known)?;
        *double_start = Some(all.start.shallow_clone());
        Ok(all)
    }

    /// In double precision.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn double(line: Line<'_>, examples: &dyn Examples, rounding: Rounding, known: Known<'_>) -> Result<Self> {
        let at = |share: f64| line.outputs(share, Kind::Double, examples);
        let (start, end) = ends(known, at)?;
        let (noise, moved) = (DOUBLE * rounding.single * norm(&start), norm(&(&end - &start)));
        let share = double_share(noise / moved, moved / norm(&start));
        let near = at(share)?;
        let slope = ((near - &start) / share - (&end - &start) * share) / (1.0 - share);
        let mut all = Self { start, end, slope, computed: Computed { arithmetic: Arithmetic::Double, error: None } };
        // Errors: round-off of both differences, and the third-order term, estimated as if it were to the second-order term as
        // that is to the first, with a margin for orders that cancel in the residual.
        let curved = all.residual().unwrap_or(0.0);
        all.computed.error = finite(2.0 * noise / (share * moved) + share * curved * (8.0 * curved).min(2.0));
        Ok(all)
    }

    /// In single precision, without an estimate of the error.
    fn single(line: Line<'_>, examples: &dyn Examples, rounding: Rounding, known: Known<'_>) -> Result<Self> {
        let at = |share: f64| line.outputs(share, Kind::Float, examples);
        let (start, end) = ends(known, at)?;
        let share = single_share(rounding.single * norm(&start) / norm(&(&end - &start)));
        let slope = (at(share)? - at(-share)?) / (2.0 * share);
        Ok(Self { start, end, slope, computed: Computed { arithmetic: Arithmetic::Single, error: None } })
    }

    /// The part of the movement that the slope does not explain \[N, C\].
    fn missed(&self) -> Tensor {
        &self.end - self.linearized()
    }
}

fn ends(known: Known<'_>, at: impl Fn(f64) -> Result<Tensor>) -> Result<(Tensor, Tensor)> {
    let or_at = |known: Option<&Tensor>, share: f64| known.map_or_else(|| at(share), |f| Ok(f.shallow_clone()));
    Ok((or_at(known.start, 0.0)?, or_at(known.end, 1.0)?))
}

/// The error, if it is finite.
pub(super) fn finite(error: f64) -> Option<f64> {
    Some(error).filter(|e| e.is_finite())
}

/// The share h of a line for the slope in double precision. It balances round-off, `noise/h` of the movement, against h times
/// the third-order term, which is smaller the less the outputs move relative to their size.
fn double_share(noise: f64, moved: f64) -> f64 {
    let share = noise.sqrt() / (32.0 * moved).min(1.0);
    if share.is_nan() { LARGEST_DOUBLE } else { share.clamp(SMALLEST_DOUBLE, LARGEST_DOUBLE) }
}

const SMALLEST_DOUBLE: f64 = 1.0 / (1u64 << 26) as f64;
const LARGEST_DOUBLE: f64 = 1.0 / 16.0;

/// The same for single precision, where the third-order term has the factor h².
fn single_share(noise: f64) -> f64 {
    let share = (3.0 * noise).cbrt();
    if share.is_nan() { LARGEST_SINGLE } else { share.clamp(SMALLEST_SINGLE, LARGEST_SINGLE) }
}

const SMALLEST_SINGLE: f64 = 1.0 / 256.0;
const LARGEST_SINGLE: f64 = 0.25;

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::jacobian::outputs;
    use crate::lm::{Architecture, MaskedLm, OutputMode, PromptExample, PromptExamples, random};
    use crate::measure::taylor;

    /// Movements of all sizes, from the last bits of single precision to far beyond the linear range, against the expansion by
    /// gradients in double precision, which subtracts no nearly equal numbers. Fails for: an error above the stated one (times
    /// four, because an estimate is not a bound), single precision where it does not suffice, a slope of another order.
    #[test]
    fn residuals_are_those_of_gradients_within_the_stated_error() {
        let model = MaskedLm::new(random::tiny(Architecture::Roberta, 40));
        let start = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
        let other = random::parameters(&model, 4, 1.0, Kind::Float, Device::Cpu);
        let prompts = (0..12).map(|i| PromptExample {
            input_ids: vec![0, 7 + i, 9, 4, 12 + i, 2],
            segment_ids: vec![0; 6],
            mask_position: 3,
        });
        let examples =
            PromptExamples::new(&model, prompts.collect(), &[8, 11], OutputMode::Logits, Device::Cpu).expect("valid");
        let few = examples.select(&[0, 3, 6, 9]);
        let include = vec![true; start.len()];
        let sample = Sample::of(&start, &few).expect("outputs");
        let few = Few { examples: &few, start: &sample, double: None };
        let mut seen = Vec::new();
        for share in [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5] {
            let mut ends = other.values().iter();
            let end = start.map(|v| v + (ends.next().expect("an end") - v) * share);
            let double = |p: &Parameters| p.map(|v| v.to_kind(Kind::Double));
            let (a, b) = (double(&start), double(&end));
            let exact = taylor(&a, &b.minus(&a), &examples, &include, 4).expect("an expansion");
            let moved = outputs(&b, &examples, 4) - &exact.value;
            let expected = relative_residual(&moved, &exact.slope).expect("outputs that move");
            let line = Line::new(&start, &end);
            let found = Expansion::sufficient(line, &examples, &few, None, &mut None).expect("an expansion");
            let (residual, stated) = (found.residual().expect("a residual"), found.computed.error.expect("an error"));
            let start = Known { start: Some(&sample.double), end: None };
            let known = Expansion::double(line, few.examples, sample.rounding, start).expect("an expansion");
            let with = Few { double: Some(&known), ..few };
            let again = Expansion::sufficient(line, &examples, &with, None, &mut None).expect("an expansion");
            assert_eq!((again.residual(), again.computed), (found.residual(), found.computed), "{share}");
            let other = Expansion { end: &known.end * 2.0, ..known };
            let with = Few { double: Some(&other), ..few };
            let again = Expansion::sufficient(line, &examples, &with, None, &mut None).expect("an expansion");
            let single = found.computed.arithmetic == Arithmetic::Single;
            assert!(!single || again.computed != found.computed, "{share}: what is known was not used");
            let off = (residual - expected).abs();
            assert!(off <= 4.0 * stated, "{share}: {residual} for {expected}, stated {stated:.1e}");
            assert!(stated <= 2.0 * ENOUGH * expected, "{share}: {stated:.1e} of {expected}");
            let slope = norm(&(&found.slope - &exact.slope)) / norm(&moved);
            assert!(slope <= 4.0 * stated, "{share}: slope off by {slope:.1e}, stated {stated:.1e}");
            seen.push(found.computed.arithmetic);
        }
        assert_eq!(seen.first(), Some(&Arithmetic::Double), "the smallest movement");
        assert!(seen.contains(&Arithmetic::Single), "none of the movements is large enough for single precision");
    }

    #[test]
    fn nothing_moves_along_a_point() {
        let model = MaskedLm::new(random::tiny(Architecture::Roberta, 40));
        let start = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
        let prompt = PromptExample { input_ids: vec![0, 7, 9, 2], segment_ids: vec![0; 4], mask_position: 2 };
        let examples =
            PromptExamples::new(&model, vec![prompt], &[8, 11], OutputMode::Logits, Device::Cpu).expect("valid");
        let sample = Sample::of(&start, &examples).expect("outputs");
        let here = Line::new(&start, &start);
        let few = Few { examples: &examples, start: &sample, double: None };
        let found = Expansion::sufficient(here, &examples, &few, None, &mut None).expect("one");
        assert_eq!((found.residual(), found.computed.error), (None, None));
        assert_eq!(norm(&found.slope), 0.0);
    }
}
