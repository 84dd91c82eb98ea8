//! Shared by the claims on tensor programs: networks of growing width against the limits of their program. Not a claim.

use super::context::Context;
use super::scan::Scan;
use crate::error::Result;
use crate::program::{LimitOptions, LimitRun, Program, Scalar};
use crate::stats::Expectation;

/// Number of networks at the narrowest width that determine how much each scalar fluctuates there.
const PILOTS: usize = 48;

/// A scalar that fluctuates by less is constant up to rounding.
const CONSTANT: f64 = 1e-9;

/// The expected exponent of a distance from the limit.
pub(super) fn converges(context: &Context<'_>) -> Expectation {
    context.expected(-0.5, 0.1)
}

/// Options of a limit, whose draws are named `name`.
pub(super) fn sampled(context: &Context<'_>, name: &str, samples: usize) -> LimitOptions {
    LimitOptions { device: context.device, ..LimitOptions::new(samples, context.seed(name)) }
}

/// A program's limit. Programs with the same text share it, whichever mutant made them.
pub(super) fn limit<'a>(context: &Context<'_>, program: &'a Program, options: &LimitOptions) -> Result<LimitRun<'a>> {
    let stage = format!("{options:?}\n{program}");
    Ok(program.limit_of(context.independent(&stage, 0.0, 0, |_| Ok(program.limit(options)?.values().to_vec()))?))
}

/// Compares networks' scalars with candidates for their limits.
pub(super) struct Comparison<'a> {
    /// Name of the program, and of the networks' draws.
    pub name: &'a str,
    /// The program of the networks.
    pub program: &'a Program,
    /// The compared scalars.
    pub scalars: &'a [Scalar],
    /// Candidates by statistic; distances from the first, at the narrowest width, are the scalars' units.
    pub values: &'a [(&'static str, Vec<f64>)],
    /// Widths.
    pub widths: &'a [f64],
    /// Samples.
    pub seeds: usize,
    /// Networks per sample: the logarithm of a single network's distance has a long tail.
    pub block: usize,
}

impl Comparison<'_> {
    /// Root mean square, over a block of networks and all scalars, of the distance from every list of values. Each scalar's
    /// distance is in units of its own at the narrowest width, so that all have equal weight; one that does not converge soon
    /// dominates.
    pub fn scan(&self, context: &Context<'_>) -> Result<Scan> {
        let text = self.program.to_string();
        let pilots: Vec<String> = (0..PILOTS).map(|pilot| format!("pilot {pilot}")).collect();
        let mut units = vec![0.0; self.scalars.len()];
        for pilot in self.networks(context, &text, ("pilots", self.widths[0], 0), &pilots)?.chunks(units.len()) {
            let off = pilot.iter().zip(&self.values[0].1).map(|(x, value)| x - value);
            units.iter_mut().zip(off).for_each(|(unit, d)| *unit += d * d / PILOTS as f64);
        }
        let moving = units.iter().filter(|unit| unit.sqrt() > CONSTANT).count();
        let names: Vec<&'static str> = self.values.iter().map(|(name, _)| *name).collect();
        Scan::watched(context, self.name, self.widths, self.seeds, &names, |width, seed| {
            let mut squares = vec![0.0; self.values.len()];
            for run in self.sample(context, &text, width, seed)?.chunks(units.len()) {
                for (square, (_, values)) in squares.iter_mut().zip(self.values) {
                    let weighed = run.iter().zip(values).zip(&units).filter(|(_, unit)| unit.sqrt() > CONSTANT);
                    *square += weighed.map(|((x, value), unit)| (x - value).powi(2) / unit).sum::<f64>();
                }
            }
            Ok(squares.iter().map(|s| (s / (self.block * moving) as f64).sqrt()).collect())
        })
    }

    /// For each sample, the scalars' means over its networks at the largest width as a multiple of the first candidate: their
    /// inner product with it over its square.
    pub fn constants(&self, context: &Context<'_>) -> Result<Vec<f64>> {
        let text = self.program.to_string();
        let widest = *self.widths.last().expect("several widths");
        let candidate = &self.values[0].1;
        let square: f64 = candidate.iter().map(|value| value * value).sum();
        let ratio = |sample: Vec<f64>| {
            let product: f64 = sample.iter().zip(candidate.iter().cycle()).map(|(x, value)| x * value).sum();
            product / (self.block as f64 * square)
        };
        (0..self.seeds).map(|seed| Ok(ratio(self.sample(context, &text, widest, seed)?))).collect()
    }

    /// The scalars of the networks of a sample, network by network.
    fn sample(&self, context: &Context<'_>, text: &str, width: f64, seed: usize) -> Result<Vec<f64>> {
        let numbers: Vec<String> = (0..self.block).map(|k| (seed * self.block + k).to_string()).collect();
        self.networks(context, text, ("samples", width, seed), &numbers)
    }

    /// The scalars of networks of the program with this text. Mutants change the candidates: they share the networks.
    fn networks(
        &self,
        context: &Context<'_>,
        text: &str,
        (stage, width, seed): (&str, f64, usize),
        numbers: &[String],
    ) -> Result<Vec<f64>> {
        context.independent(&format!("{stage}, {}\n{text}", self.name), width, seed, |own| {
            let mut scalars = Vec::with_capacity(numbers.len() * self.scalars.len());
            for number in numbers {
                let draws = own.seed(&format!("{}, width {width}, network {number}", self.name));
                let run = self.program.run(width as usize, draws, own.device)?;
                scalars.extend(self.scalars.iter().map(|s| run.scalar(*s)));
            }
            Ok(scalars)
        })
    }
}
