//! The structured engine: per-example gradients in factored form, multiplied without any N x P matrix. All formulas come
//! from one pass over the gradients.
//!
//! Examples are recorded in panels. For each pair of panels every parameter is either multiplied through its factors
//! (ghost products) or cut into tiles of entries that fit into a cache: both panels' gradients of a tile are written to a
//! buffer, multiplied, their signs packed to bits and counted, and forgotten ([`tiles`]). On the CPU the tiles are shared
//! among threads, each with its own buffers and sums.
//!
//! Precision: within a tile products run in the factors' precision; across tiles sums are in double precision. Sign
//! products are integers throughout, so they are exact and independent of any order of summation.

mod dots;
mod estimate;
mod lanes;
mod method;
mod options;
mod panel;
mod signs;
mod sums;
mod tiles;
mod work;

pub use estimate::{KernelPlan, LayerPlan, MemoryPlan, plan_gram};
pub use method::Method;
pub use options::GramOptions;

use self::panel::{Panel, padded, parts};
use self::sums::Sums;
use super::gram::Gram;
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Parameters, record};
use crate::progress::{Monitor, check_stop};

/// Part of the kept factors that belongs to the panel which is held while others pass by. Passing panels are computed
/// again for every held one, and tiles of the held one again for every passing one; where a pass costs three times as
/// much as writing tiles, the sum is smallest at a ratio of √3.
const HELD: f64 = 0.63;

/// Kernels between `left` and itself (`right` absent) or `right`.
///
/// `monitor` advances by one for every pair of examples, see [`gram_units`]; a stop request ends the computation between
/// two tiles.
pub fn structured_gram(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    options: &GramOptions,
    monitor: &dyn Monitor,
) -> Result<Gram> {
    if left.is_empty() || right.is_some_and(Examples::is_empty) {
        return Err(Error::Settings("a kernel needs at least one example on each side".into()));
    }
    // The smaller set is held, the larger one passes by.
    let exchange = right.is_some_and(|r| r.len() < left.len());
    let sums = Sums::new(parameters, left, right, options, exchange);
    let mut run = Run { parameters, options, monitor, sums };
    match right {
        None => run.symmetric(left)?,
        Some(right) if exchange => run.between(right, left)?,
        Some(right) => run.between(left, right)?,
    }
    let gram = run.sums.finish();
    gram.check_finite()?;
    Ok(gram)
}

/// Number of units that [`structured_gram`] reports: pairs of examples.
pub fn gram_units(left: usize, right: Option<usize>) -> u64 {
    right.map_or(left * (left + 1) / 2, |m| left * m) as u64
}

/// One computation.
struct Run<'a> {
    parameters: &'a Parameters,
    options: &'a GramOptions,
    monitor: &'a dyn Monitor,
    sums: Sums,
}

impl Run<'_> {
    fn symmetric(&mut self, examples: &dyn Examples) -> Result<()> {
        let parts = parts(examples, self.options.batch);
        let keep = self.options.keep_bytes as f64;
        let mut next = 0;
        while next < parts.len() {
            let (held, after) =
                self.fill(examples, &parts, next, |all| if all <= keep { keep } else { HELD * keep })?;
            next = after;
            self.sums.put_outputs(&held, true);
            work::multiply(&held, None, self.options, &mut self.sums, self.monitor)?;
            self.pass_by(&held, examples, &parts[next..], (1.0 - HELD) * keep, false)?;
        }
        Ok(())
    }

    fn between(&mut self, held: &dyn Examples, passing: &dyn Examples) -> Result<()> {
        let (held_parts, passing_parts) = (parts(held, self.options.batch), parts(passing, self.options.batch));
        let keep = self.options.keep_bytes as f64;
        let mut next = 0;
        while next < held_parts.len() {
            let (panel, after) = self.fill(held, &held_parts, next, |_| HELD * keep)?;
            self.sums.put_outputs(&panel, true);
            let rest = keep - panel.bytes() as f64;
            self.pass_by(&panel, passing, &passing_parts, rest, next == 0)?;
            next = after;
        }
        Ok(())
    }

    /// Multiplies a panel with some parts of other examples, panel by panel of at most `bytes`.
    fn pass_by(
        &mut self,
        held: &Panel,
        examples: &dyn Examples,
        parts: &[Vec<usize>],
        bytes: f64,
        keep_outputs: bool,
    ) -> Result<()> {
        let mut next = 0;
        while next < parts.len() {
            let (panel, after) = self.fill(examples, parts, next, |_| bytes)?;
            next = after;
            if keep_outputs {
                self.sums.put_outputs(&panel, false);
            }
            work::multiply(held, Some(&panel), self.options, &mut self.sums, self.monitor)?;
        }
        Ok(())
    }

    /// Records parts from `first` on, at least one, as long as their factors take no more than a limit, which may depend
    /// on how much all the parts would take. Returns the panel and the first part that is not in it.
    fn fill(
        &self,
        examples: &dyn Examples,
        parts: &[Vec<usize>],
        first: usize,
        limit: impl FnOnce(f64) -> f64,
    ) -> Result<(Panel, usize)> {
        let padded = |part: &[usize]| padded(examples, part) as f64;
        let kind = self.options.factor_kind(self.parameters);
        let record = |part: &[usize]| -> Result<_> {
            check_stop()?;
            Ok(record(self.parameters, examples, part).to_kind(kind))
        };
        let mut panel = Panel::of(record(&parts[first])?, &parts[first]);
        // Factors are as long as the padded parts.
        let per_token = panel.bytes() as f64 / padded(&parts[first]);
        let limit = limit(per_token * parts[first..].iter().map(|p| padded(p)).sum::<f64>());
        let mut next = first + 1;
        while next < parts.len() && panel.bytes() as f64 + per_token * padded(&parts[next]) <= limit {
            panel.push(record(&parts[next])?, &parts[next]);
            next += 1;
        }
        Ok((panel, next))
    }
}
