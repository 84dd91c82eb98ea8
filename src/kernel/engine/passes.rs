//! Forward and backward passes: examples recorded part by part, on the CPU several parts at a time.
//!
//! A pass over a few hundred tokens is a long row of small operations. Threads that share each of them wait for one another
//! hundreds of times; threads with a pass of their own do not. What a part's gradients are does not depend on the thread.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tch::{Kind, Tensor};

use super::Run;
use super::panel::{Panel, padded};
use super::shortage::attempt;
use crate::error::{Error, Result, SHORTAGE_ADVICE};
use crate::jacobian::{Examples, Parameters, Recorded, record};
use crate::progress::check_stop;

/// Parameter entries times tokens below which threads are not worth starting.
const PARALLEL: f64 = 5e7;

impl Run<'_> {
    /// Records parts from the front, at least one, as long as their factors take no more than a limit, which may depend
    /// on how much all the parts would take. Where memory runs out, the panel ends before that; a first part is halved
    /// instead. The parts that are in the panel leave the front.
    pub(super) fn fill(
        &mut self,
        examples: &dyn Examples,
        parts: &mut VecDeque<Vec<usize>>,
        limit: impl FnOnce(f64) -> f64,
    ) -> Result<Panel> {
        let all: f64 = parts.iter().map(|p| padded(examples, p) as f64).sum();
        let (mut panel, tokens, limit) = match self.per_token {
            // A memory limit has room for one part of every pass on either side.
            None => {
                let (panel, tokens) = self.begin(examples, parts, self.options.passes)?;
                let limit = limit(panel.bytes() as f64 / tokens * all);
                (panel, tokens, limit)
            }
            Some(per_token) => {
                let limit = limit(per_token * all);
                let fitting = fitting(examples, parts, per_token, limit);
                let (panel, tokens) = self.begin(examples, parts, fitting.min(self.options.passes))?;
                (panel, tokens, limit)
            }
        };
        let per_token = panel.bytes() as f64 / tokens;
        self.per_token = Some(per_token);
        let more = fitting(examples, parts, per_token, limit - panel.bytes() as f64);
        let chosen: Vec<Vec<usize>> = parts.range(..more).cloned().collect();
        for (recorded, part) in self.record(examples, &chosen)?.into_iter().zip(&chosen) {
            panel.push(recorded, part);
            parts.pop_front();
        }
        Ok(panel)
    }

    /// A panel of at most so many parts from the front, and at least one, or half of it where memory runs out; with its
    /// padded tokens.
    fn begin(
        &mut self,
        examples: &dyn Examples,
        parts: &mut VecDeque<Vec<usize>>,
        most: usize,
    ) -> Result<(Panel, f64)> {
        let mut most = most.clamp(1, parts.len());
        loop {
            let chosen: Vec<Vec<usize>> = parts.range(..most).cloned().collect();
            let mut recorded = self.record(examples, &chosen)?.into_iter().zip(&chosen);
            if let Some((first, part)) = recorded.next() {
                let mut panel = Panel::of(first, part);
                recorded.for_each(|(recorded, part)| panel.push(recorded, part));
                let tokens = parts.drain(..panel.parts()).map(|p| padded(examples, &p) as f64).sum();
                return Ok((panel, tokens));
            }
            let part = &chosen[0];
            if most > 1 {
                self.monitor.note("out of memory for several passes at a time: going on with one");
                (most, self.options.passes) = (1, 1);
                continue;
            }
            if part.len() == 1 {
                let reason = format!("out of memory for the gradients of example {} alone: {SHORTAGE_ADVICE}", part[0]);
                return Err(Error::Torch(reason));
            }
            self.monitor
                .note(&format!("out of memory for {} examples at a time: going on with half as many", part.len()));
            let (first, second) = part.split_at(part.len() / 2);
            parts[0] = second.to_vec();
            parts.push_front(first.to_vec());
        }
    }

    /// The gradients of these parts; where memory runs out, of those before.
    fn record(&self, examples: &dyn Examples, parts: &[Vec<usize>]) -> Result<Vec<Recorded>> {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
        let work = parts.iter().map(|p| padded(examples, p) as f64).sum::<f64>() * self.parameters.numel() as f64;
        let large = !self.parameters.device().is_cuda() && work > PARALLEL;
        let passes = if large { self.options.passes.min(threads).min(parts.len()) } else { 1 };
        let kind = self.options.factor_kind(self.parameters);
        let next = AtomicUsize::new(0);
        let pass = |parameters: &Parameters| one_by_one(parameters, examples, parts, &next, kind);
        let mut found = Vec::new();
        if passes < 2 {
            found = pass(self.parameters)?;
        } else {
            // Every thread has handles of its own on the parameters.
            let shares = (0..passes).map(|_| self.parameters.map(Tensor::shallow_clone)).collect();
            let results = attempt(|| in_threads(shares, i32::try_from(threads / passes).unwrap_or(1), &pass));
            // Threads set the number of libtorch's later threads; this one is as it was.
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
            for part in results.into_iter().flatten() {
                found.extend(part?);
            }
            found.sort_by_key(|(i, _)| *i);
        }
        Ok(found.into_iter().enumerate().map_while(|(at, (i, recorded))| (at == i).then_some(recorded)).collect())
    }
}

/// Runs passes in threads of some libtorch threads each.
fn in_threads<T: Send>(shares: Vec<Parameters>, threads: i32, pass: &(impl Fn(&Parameters) -> T + Sync)) -> Vec<T> {
    thread::scope(|scope| {
        let start = |parameters: Parameters| {
            scope.spawn(move || {
                tch::set_num_threads(threads);
                pass(&parameters)
            })
        };
        let handles: Vec<_> = shares.into_iter().map(start).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Records parts by their turn until there are none, or memory runs out; with their numbers.
fn one_by_one(
    parameters: &Parameters,
    examples: &dyn Examples,
    parts: &[Vec<usize>],
    next: &AtomicUsize,
    kind: Kind,
) -> Result<Vec<(usize, Recorded)>> {
    let mut found = Vec::new();
    loop {
        check_stop()?;
        let i = next.fetch_add(1, Ordering::Relaxed);
        let Some(part) = parts.get(i) else { return Ok(found) };
        let Some(recorded) = attempt(|| record(parameters, examples, part).to_kind(kind)) else {
            // The others need not begin what would be dropped.
            next.store(parts.len(), Ordering::Relaxed);
            return Ok(found);
        };
        found.push((i, recorded));
    }
}

/// Number of parts from the front whose factors fit into so many bytes.
fn fitting(examples: &dyn Examples, parts: &VecDeque<Vec<usize>>, per_token: f64, bytes: f64) -> usize {
    let ends = parts.iter().scan(0.0, |sum, part| {
        *sum += per_token * padded(examples, part) as f64;
        Some(*sum)
    });
    ends.take_while(|end| *end <= bytes).count()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tch::{Device, Kind, Tensor};

    use crate::jacobian::{Examples, Tap};
    use crate::kernel::{FormulaSet, GramOptions, structured_gram};
    use crate::network::{Abc, Activation, Mlp, MlpExamples, unit_inputs};
    use crate::progress::Monitor;

    /// A network that runs out of memory on more than some examples at a time.
    struct Short {
        examples: MlpExamples,
        most: usize,
    }

    impl Examples for Short {
        fn len(&self) -> usize {
            self.examples.len()
        }
        fn outputs(&self) -> usize {
            self.examples.outputs()
        }
        fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
            assert!(indices.len() <= self.most, "out of memory");
            self.examples.forward(tap, indices)
        }
    }

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Monitor for Notes {
        fn begin(&self, _: &str, _: u64) {}
        fn advance(&self, _: u64) {}
        fn end(&self) {}
        fn note(&self, message: &str) {
            self.0.lock().expect("no panic").push(message.to_owned());
        }
    }

    #[test]
    fn passes_in_threads_give_the_same_kernel_with_and_without_enough_memory() {
        let abc = Abc::ntk(3);
        let mlp = Mlp { input: 8, width: 600, depth: 3, outputs: 1, activation: Activation::Tanh, gain: 1.0, abc };
        let parameters = mlp.parameters(1, Kind::Double, Device::Cpu);
        let kernel = |most: usize, passes: usize| {
            let examples = Short { examples: mlp.examples(unit_inputs(80, 8, 2, Kind::Double, Device::Cpu)), most };
            let options = GramOptions { passes, ..GramOptions::new(FormulaSet::ALL, parameters.len()) };
            let notes = Notes::default();
            let gram = structured_gram(&parameters, &examples, None, &options, &notes).expect("a kernel");
            (gram, notes.0.into_inner().expect("no panic"))
        };
        let threads = tch::get_num_threads();
        tch::set_num_threads(2);
        let (one, _) = kernel(32, 1);
        let (two, quiet) = kernel(32, 2);
        let (short, notes) = kernel(20, 2);
        assert_eq!(tch::get_num_threads(), 2, "the caller's threads are as they were");
        tch::set_num_threads(threads);
        for other in [&two, &short] {
            // Products of other shapes and thread counts: a few roundings of double precision apart.
            let scale = one.sgd.as_ref().expect("asked for").abs().max().double_value(&[]);
            let difference = one.sgd.as_ref().expect("asked for") - other.sgd.as_ref().expect("asked for");
            assert!(difference.abs().max().double_value(&[]) < 1e-13 * scale);
            assert_eq!(one.signgd, other.signgd);
        }
        assert_eq!(quiet, Vec::<String>::new());
        let wanted = ["out of memory for several passes at a time: going on with one"];
        assert_eq!(notes[..1], wanted);
        assert_eq!(notes[1], "out of memory for 32 examples at a time: going on with half as many");
    }
}
