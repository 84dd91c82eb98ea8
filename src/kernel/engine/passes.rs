//! Forward and backward passes: records batches of examples, on the CPU several in parallel.
//!
//! A pass over a few hundred tokens is a long sequence of small operations. Threads that share each operation wait for one
//! another hundreds of times; threads with separate passes do not. Which thread records a batch does not affect the result;
//! the number of threads per pass affects the last bits, as for any product.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Kind, Tensor};

use super::Run;
use super::batches::padded;
use super::memory::{passes, token_bytes};
use super::panel::Panel;
use super::shortage::attempt;
use crate::device::{address_space, threads};
use crate::error::{Error, Result, SHORTAGE_ADVICE};
use crate::jacobian::{Examples, Parameters, Recorded, record};
use crate::progress::check_cancelled;
use crate::threads::in_threads;

/// Parameter entries times tokens below which threads are not worth starting.
const PARALLEL: f64 = 5e7;

impl Run<'_> {
    /// Records batches from the front, at least one, while their factors stay within a limit, which may depend on the size
    /// of all batches. If memory runs out, the panel ends early; if it does in the first batch, that batch is halved.
    /// Recorded batches are removed from the front.
    pub(super) fn fill(
        &mut self,
        examples: &dyn Examples,
        batches: &mut VecDeque<Vec<usize>>,
        limit: impl Fn(f64) -> f64,
    ) -> Result<Panel> {
        let all: f64 = batches.iter().map(|p| padded(examples, p) as f64).sum();
        let at_once = self.at_once(examples, batches.iter().take(self.options.passes));
        if self.per_token.is_none() && at_once > 1 {
            self.per_token = Some(token_bytes(self.parameters, examples, &self.options));
        }
        // Without an estimate only one pass runs at a time.
        let most = self.per_token.map_or(1, |bytes| fitting(examples, batches, bytes, limit(bytes * all)).min(at_once));
        let (mut panel, tokens) = self.begin(examples, batches, most)?;
        let per_token = panel.bytes() as f64 / tokens;
        self.per_token = Some(per_token);
        if panel.batches() < most {
            return Ok(panel);
        }
        let more = fitting(examples, batches, per_token, limit(per_token * all) - panel.bytes() as f64);
        let chosen: Vec<Vec<usize>> = batches.range(..more).cloned().collect();
        for (recorded, batch) in self.record(examples, &chosen)?.into_iter().zip(&chosen) {
            panel.push(recorded, batch);
            batches.pop_front();
        }
        Ok(panel)
    }

    /// A panel of at most `most` batches from the front, at least one, or half of one if memory runs out; with its padded
    /// tokens.
    fn begin(
        &mut self,
        examples: &dyn Examples,
        batches: &mut VecDeque<Vec<usize>>,
        most: usize,
    ) -> Result<(Panel, f64)> {
        let mut most = most.clamp(1, batches.len());
        loop {
            let chosen: Vec<Vec<usize>> = batches.range(..most).cloned().collect();
            let mut recorded = self.record(examples, &chosen)?.into_iter().zip(&chosen);
            if let Some((first, batch)) = recorded.next() {
                let mut panel = Panel::of(first, batch);
                recorded.for_each(|(recorded, batch)| panel.push(recorded, batch));
                let tokens = batches.drain(..panel.batches()).map(|p| padded(examples, &p) as f64).sum();
                return Ok((panel, tokens));
            }
            let batch = &chosen[0];
            if most > 1 {
                most = 1;
                continue;
            }
            if batch.len() == 1 {
                let reason =
                    format!("out of memory for the gradients of example {} alone: {SHORTAGE_ADVICE}", batch[0]);
                return Err(Error::Torch(reason));
            }
            self.monitor
                .note(&format!("out of memory for {} examples at a time: continuing with half as many", batch.len()));
            let (first, second) = batch.split_at(batch.len() / 2);
            batches[0] = second.to_vec();
            batches.push_front(first.to_vec());
        }
    }

    /// Number of parallel passes for these batches: a divisor of the number of threads, so that none is idle.
    fn at_once<'a>(&self, examples: &dyn Examples, batches: impl Iterator<Item = &'a Vec<usize>>) -> usize {
        let (count, tokens) = batches.fold((0, 0), |(n, tokens), batch| (n + 1, tokens + padded(examples, batch)));
        if tokens as f64 * self.parameters.numel() as f64 <= PARALLEL {
            return 1;
        }
        let (threads, most) = (threads(), passes(self.parameters, &self.options).min(count).max(1));
        (1..=most).rev().find(|p| threads.is_multiple_of(*p)).unwrap_or(1)
    }

    /// Records these batches. If memory runs out, returns those before that point, and from then on only one pass runs at a
    /// time.
    fn record(&mut self, examples: &dyn Examples, batches: &[Vec<usize>]) -> Result<Vec<Recorded>> {
        let kind = self.options.factor_kind(self.parameters);
        let next = AtomicUsize::new(0);
        let pass = |parameters: &Parameters| one_by_one(parameters, examples, batches, &next, kind);
        let mut found = Vec::new();
        let at_once = self.at_once(examples, batches.iter());
        if at_once < 2 {
            found = pass(self.parameters)?;
        } else {
            // Every thread has its own handles on the parameters.
            let shares = (0..at_once).map(|_| self.parameters.map(Tensor::shallow_clone)).collect();
            // OpenMP aborts the process if it cannot start a thread.
            let each = if address_space().is_some() { 1 } else { threads() / at_once };
            for batch in attempt(|| in_threads(shares, each, |own| pass(&own), || ())).into_iter().flatten() {
                found.extend(batch?);
            }
            found.sort_by_key(|(i, _)| *i);
        }
        let found: Vec<Recorded> =
            found.into_iter().enumerate().map_while(|(at, (i, recorded))| (at == i).then_some(recorded)).collect();
        if found.len() < batches.len() && batches.len() > 1 {
            self.options.passes = 1;
            if !std::mem::replace(&mut self.short, true) {
                self.monitor.note("out of memory: continuing with fewer examples at a time");
            }
        }
        Ok(found)
    }
}

/// Records batches in order until none remain or memory runs out; returns them with their indices.
fn one_by_one(
    parameters: &Parameters,
    examples: &dyn Examples,
    batches: &[Vec<usize>],
    next: &AtomicUsize,
    kind: Kind,
) -> Result<Vec<(usize, Recorded)>> {
    let mut found = Vec::new();
    loop {
        check_cancelled()?;
        let i = next.fetch_add(1, Ordering::Relaxed);
        let Some(batch) = batches.get(i) else { return Ok(found) };
        let Some(recorded) = attempt(|| record(parameters, examples, batch).to_kind(kind)) else {
            // Later batches would be dropped, so other threads need not start them.
            next.store(batches.len(), Ordering::Relaxed);
            return Ok(found);
        };
        found.push((i, recorded));
    }
}

/// Number of batches from the front whose factors fit into `bytes`.
fn fitting(examples: &dyn Examples, batches: &VecDeque<Vec<usize>>, per_token: f64, bytes: f64) -> usize {
    let ends = batches.iter().scan(0.0, |sum, batch| {
        *sum += per_token * padded(examples, batch) as f64;
        Some(*sum)
    });
    ends.take_while(|end| *end <= bytes).count()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Barrier, Mutex};
    use std::thread::{self, ThreadId};

    use tch::{Device, Kind, Tensor};

    use crate::error::Result;
    use crate::jacobian::{Examples, Tap};
    use crate::kernel::{FormulaSet, Gram, GramOptions, structured_gram};
    use crate::network::{Abc, Activation, Mlp, MlpExamples, unit_inputs};
    use crate::progress::Monitor;
    use crate::threads::KeepThreads;

    /// A network that runs out of memory on more than `most` examples at a time, from example `from` on.
    struct Short {
        examples: MlpExamples,
        most: usize,
        from: usize,
        threads: Mutex<HashSet<ThreadId>>,
        /// Lets passes of several threads wait for one another once, so that none takes all batches before the others begin.
        together: Option<Barrier>,
        caller: ThreadId,
    }

    impl Examples for Short {
        fn len(&self) -> usize {
            self.examples.len()
        }
        fn outputs(&self) -> usize {
            self.examples.outputs()
        }
        fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
            let id = thread::current().id();
            let first = self.threads.lock().expect("no panic").insert(id);
            if let Some(together) = self.together.as_ref().filter(|_| first && id != self.caller) {
                together.wait();
            }
            assert!(indices.len() <= self.most || indices[0] < self.from, "out of memory");
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

    /// A kernel, the notes to the user, and the number of threads in which passes ran.
    type Outcome = (Result<Gram>, Vec<String>, usize);

    /// Computes kernels of a network of the given width on the given number of inputs. Arguments of the result: from example
    /// `from` on, at most `most` examples fit in a pass; the number of parallel passes.
    fn kernels(width: i64, inputs: i64) -> impl Fn(usize, usize, usize) -> Outcome {
        let abc = Abc::ntk(3);
        let mlp = Mlp { input: 8, width, depth: 3, outputs: 1, activation: Activation::Tanh, gain: 1.0, abc };
        let parameters = mlp.parameters(1, Kind::Double, Device::Cpu);
        move |most, from, passes| {
            let examples = mlp.examples(unit_inputs(inputs, 8, 2, Kind::Double, Device::Cpu));
            let together = (passes > 1 && from == 0 && most >= 32).then(|| Barrier::new(passes));
            let caller = thread::current().id();
            let examples = Short { examples, most, from, threads: Mutex::default(), together, caller };
            let options = GramOptions { passes, ..GramOptions::new(FormulaSet::ALL, parameters.len()) };
            let notes = Notes::default();
            let gram = structured_gram(&parameters, &examples, None, &options, &notes);
            let threads = examples.threads.into_inner().expect("no panic").len();
            (gram, notes.0.into_inner().expect("no panic"), threads)
        }
    }

    /// Products of other shapes and thread counts: a few roundings of double precision apart.
    fn assert_same(one: &Gram, other: &Gram) {
        let (a, b) = (one.sgd.as_ref().expect("asked for"), other.sgd.as_ref().expect("asked for"));
        let largest = |t: &Tensor| t.abs().max().double_value(&[]);
        assert!(largest(&(a - b)) < 1e-13 * largest(a));
        assert_eq!(one.signgd, other.signgd);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved() {
        let kernel = kernels(9, 7);
        let whole = kernel(7, 0, 1).0.expect("a kernel");
        let (halved, notes, _) = kernel(2, 0, 1);
        assert_same(&whole, &halved.expect("a kernel"));
        assert_eq!(notes[0], "out of memory for 7 examples at a time: continuing with half as many");
        let error = kernel(0, 0, 1).0.expect_err("nothing fits").to_string();
        assert!(error.contains("the gradients of example 0 alone"), "{error}");
    }

    #[test]
    fn passes_in_threads_give_the_same_kernel_with_and_without_enough_memory() {
        let kernel = kernels(700, 80);
        let _as_before = KeepThreads::new();
        tch::set_num_threads(2);
        // Three batches, of 32, 32 and 16 examples.
        let (one, _, alone) = kernel(32, 0, 1);
        let (two, quiet, side_by_side) = kernel(32, 0, 2);
        let (second, told, _) = kernel(20, 32, 2);
        let (none, told_first, _) = kernel(20, 0, 2);
        assert_eq!(tch::get_num_threads(), 2, "the caller's threads are as they were");
        // The caller's thread, which asks for the shapes, and those of the passes.
        assert_eq!((alone, side_by_side), (1, 3));
        let one = one.expect("a kernel");
        for other in [two, second, none] {
            assert_same(&one, &other.expect("a kernel"));
        }
        assert_eq!(quiet, Vec::<String>::new());
        for told in [told, told_first] {
            assert_eq!(told[0], "out of memory: continuing with fewer examples at a time");
            assert_eq!(told[1], "out of memory for 32 examples at a time: continuing with half as many");
        }
    }
}
