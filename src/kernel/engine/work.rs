//! The products of two panels as units of work, distributed over threads.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::arithmetic::Arithmetic;
use super::method::{Method, Pairing};
use super::options::GramOptions;
use super::panel::Panel;
use super::sums::Products;
use super::tiles::Tiler;
use crate::device::threads;
use crate::error::Result;
use crate::jacobian::{Param, RowSet, Tile};
use crate::kernel::FormulaSet;
use crate::products::ALIGNMENT;
use crate::progress::{Monitor, check_cancelled};
use crate::threads::in_threads;

/// Cost (in multiplications and additions) below which threads are not worth starting.
const PARALLEL: f64 = 5e7;

/// A unit of work for one thread.
struct Unit {
    parameter: Param,
    formulas: FormulaSet,
    task: Task,
    /// In multiply-adds.
    cost: f64,
}

enum Task {
    Ghost,
    /// A tile of the rows in one of the schedule's sets.
    Tile {
        set: usize,
        tile: Tile,
    },
}

/// The work of two panels.
struct Schedule {
    /// Parameters computed by tiles, with their rows.
    sets: Vec<(Param, RowSet)>,
    units: Vec<Unit>,
}

impl Schedule {
    fn new(held: &Panel, passing: Option<&Panel>, options: &GramOptions, structural: &[bool]) -> Self {
        let other = passing.unwrap_or(held);
        let rows = (held.rows(), other.rows());
        let mut schedule = Self { sets: Vec::new(), units: Vec::new() };
        let reached = |p: &Param| held.reaches(*p) && other.reaches(*p);
        for p in (0..options.include.len()).filter(|p| options.include[*p]).map(Param).filter(reached) {
            let formulas = wanted(options.formulas, structural[p.0]);
            let shape = held.first().shape(p);
            let pairing = held.outer_tokens(p).zip(other.outer_tokens(p)).map(|(a, b)| Pairing {
                tokens: (a.0, b.0),
                longest: a.1.max(b.1),
                outputs: held.first().count(),
                rows,
                shape,
                same: passing.is_none(),
                units: options.on_units(held.first().kind(), held.first().outputs().device()),
            });
            if let Some(pairing) = pairing {
                let method = options.method.unwrap_or_else(|| pairing.choose(formulas));
                if method == Method::Ghost && pairing.allows_ghost(formulas) {
                    let cost = pairing.cost(Method::Ghost, formulas);
                    schedule.units.push(Unit { parameter: p, formulas, task: Task::Ghost, cost });
                    continue;
                }
            }
            let set = match passing {
                None => held.touched(p),
                Some(other) => held.touched(p).intersection(&other.touched(p)),
            };
            let entries = options.tile_entries(held.first().outputs().device()) / rows.0.max(rows.1);
            let cost = match pairing.filter(|pairing| pairing.uses_units(formulas)) {
                Some(pairing) => pairing.cost(Method::Tiles, formulas) / (shape.0 * shape.1) as f64,
                None => (rows.0 * rows.1) as f64 + 64.0 * (rows.0 + rows.1) as f64,
            };
            // Units for bf16 read packed factors from multiples of their own size on.
            let step = if options.parts.is_some() { ALIGNMENT as i64 } else { 1 };
            for tile in Tile::cover_by(step, set.len(), shape.1, entries.clamp(1, 1 << 24)) {
                let cost = cost * tile.entries() as f64;
                let task = Task::Tile { set: schedule.sets.len(), tile };
                schedule.units.push(Unit { parameter: p, formulas, task, cost });
            }
            schedule.sets.push((p, set));
        }
        schedule
    }

    /// Distributes runs of units over workers, most expensive first, each to the worker with the least load.
    fn share(&self, workers: usize) -> Vec<Vec<usize>> {
        let mut runs = self.runs(workers);
        runs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.start.cmp(&b.1.start)));
        let mut shares: Vec<(f64, Vec<usize>)> = vec![(0.0, Vec::new()); workers];
        for (cost, run) in runs {
            let least = (0..workers).min_by(|a, b| shares[*a].0.total_cmp(&shares[*b].0)).unwrap_or(0);
            shares[least].0 += cost;
            shares[least].1.extend(run);
        }
        // Ordered by parameter, so that factors stay in the cache.
        let sorted = |(_, mut units): (f64, Vec<usize>)| {
            units.sort_unstable();
            units
        };
        shares.into_iter().map(sorted).collect()
    }

    /// Units one behind the other of one parameter, with their cost: whoever has a unit packs and reads the parameter's factors,
    /// so that as few workers as possible should share a parameter. Short enough that no worker waits long for the last one.
    fn runs(&self, workers: usize) -> Vec<(f64, Range<usize>)> {
        const EACH: f64 = 8.0;
        let most = self.units.iter().map(|unit| unit.cost).sum::<f64>() / (EACH * workers as f64);
        let mut runs: Vec<(f64, Range<usize>)> = Vec::new();
        for (at, unit) in self.units.iter().enumerate() {
            let joins = |run: &&mut (f64, Range<usize>)| {
                self.units[run.1.start].parameter == unit.parameter && run.0 + unit.cost <= most
            };
            match runs.last_mut().filter(joins) {
                Some((cost, run)) => (*cost, run.end) = (*cost + unit.cost, at + 1),
                None => runs.push((unit.cost, at..at + 1)),
            }
        }
        runs
    }
}

/// The formulas to compute for a parameter: its sign kernels are zero if its gradients are zero in exact arithmetic.
pub(super) fn wanted(formulas: FormulaSet, structural_zero: bool) -> FormulaSet {
    if structural_zero { FormulaSet { asymmetric: false, signgd: false, ..formulas } } else { formulas }
}

/// The products of a held panel with a streamed one, or with itself.
pub(super) fn products(
    held: &Panel,
    passing: Option<&Panel>,
    options: &GramOptions,
    structural: &[bool],
    monitor: &dyn Monitor,
) -> Result<Products> {
    let schedule = Schedule::new(held, passing, options, structural);
    let total: f64 = schedule.units.iter().map(|u| u.cost).sum();
    let device = held.first().outputs().device();
    let threads = threads();
    let parallel = options.arithmetic_on(device) == Arithmetic::Cores && total > PARALLEL;
    let n = held.len() as u64;
    let mut bar = Bar { monitor, total, shown: 0, units: passing.map_or(n * (n + 1) / 2, |p| n * p.len() as u64) };
    let worker = || {
        let sets = schedule.sets.iter().map(|(p, set)| (*p, set.shallow_clone())).collect();
        Tiler::new(held.shallow_clone(), passing.map(Panel::shallow_clone), sets, options)
    };
    let products = if threads < 2 || !parallel {
        let mut worker = worker();
        let mut done = 0.0;
        for unit in &schedule.units {
            check_cancelled()?;
            worker.run(unit)?;
            done += unit.cost;
            bar.show(done);
        }
        worker.finish()
    } else {
        shared(&schedule, worker, threads, &mut bar)?
    };
    bar.finish();
    Ok(products)
}

/// Reports a fraction of a panel's pairs.
struct Bar<'a> {
    monitor: &'a dyn Monitor,
    total: f64,
    units: u64,
    shown: u64,
}

impl Bar<'_> {
    fn show(&mut self, done: f64) {
        self.reach((self.units as f64 * (done / self.total).min(1.0)) as u64);
    }

    fn reach(&mut self, units: u64) {
        if units > self.shown {
            self.monitor.advance(units - self.shown);
            self.shown = units;
        }
    }

    fn finish(&mut self) {
        self.reach(self.units);
    }
}

/// Runs the units in threads of one libtorch thread each, and merges their sums in a fixed order. Threads share no tensor
/// handles: every worker has its own handles on the factors.
fn shared(schedule: &Schedule, worker: impl Fn() -> Tiler, threads: usize, bar: &mut Bar<'_>) -> Result<Products> {
    let shares = schedule.share(threads);
    let units = schedule.units.as_slice();
    let done = AtomicU64::new(0);
    let work = |(mut worker, share): (Tiler, &Vec<usize>)| {
        for unit in share {
            check_cancelled()?;
            worker.run(&units[*unit])?;
            done.fetch_add(units[*unit].cost as u64, Ordering::Relaxed);
        }
        Ok(worker.finish())
    };
    let workers = shares.iter().map(|share| (worker(), share)).collect();
    let results: Vec<Result<Products>> = in_threads(workers, 1, work, || bar.show(done.load(Ordering::Relaxed) as f64));
    let mut sum: Option<Products> = None;
    for part in results {
        match &mut sum {
            None => sum = Some(part?),
            Some(sum) => sum.merge(part?),
        }
    }
    Ok(sum.expect("at least one worker"))
}

impl Tiler {
    fn run(&mut self, unit: &Unit) -> Result<()> {
        match &unit.task {
            Task::Ghost => {
                self.ghost(unit.parameter, unit.formulas);
                Ok(())
            }
            Task::Tile { set, tile } => self.tile(*set, tile, unit.formulas),
        }
    }
}
