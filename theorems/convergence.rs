//! Shared by the claims on tensor programs: networks of growing width against the limits of their program. Not a claim.

use super::context::Context;
use super::scan::Scan;
use crate::error::Result;
use crate::program::{LimitOptions, Program, Scalar};
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
        let distances = |width: f64, number: String, values: &[f64]| -> Result<Vec<f64>> {
            let seed = context.seed(&format!("{}, width {width}, network {number}", self.name));
            let run = self.program.run(width as usize, seed, context.device)?;
            Ok(self.scalars.iter().zip(values).map(|(s, value)| run.scalar(*s) - value).collect())
        };
        let units = context.shared(&format!("{}, pilots", self.name), self.widths[0], 0, || {
            let mut units = vec![0.0; self.scalars.len()];
            for pilot in 0..PILOTS {
                let off = distances(self.widths[0], format!("pilot {pilot}"), &self.values[0].1)?;
                units.iter_mut().zip(off).for_each(|(unit, d)| *unit += d * d / PILOTS as f64);
            }
            Ok(units)
        })?;
        let moving = units.iter().filter(|unit| unit.sqrt() > CONSTANT).count();
        let names: Vec<&'static str> = self.values.iter().map(|(name, _)| *name).collect();
        Scan::over(context, self.name, self.widths, self.seeds, &names, |width, seed| {
            let mut squares = vec![0.0; self.values.len()];
            for k in 0..self.block {
                let own = vec![0.0; self.scalars.len()];
                let run = distances(width, (seed * self.block + k).to_string(), &own)?;
                for (square, (_, values)) in squares.iter_mut().zip(self.values) {
                    let weighed = run.iter().zip(values).zip(&units).filter(|(_, unit)| unit.sqrt() > CONSTANT);
                    *square += weighed.map(|((x, value), unit)| (x - value).powi(2) / unit).sum::<f64>();
                }
            }
            Ok(squares.iter().map(|s| (s / (self.block * moving) as f64).sqrt()).collect())
        })
    }
}
