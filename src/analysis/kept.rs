//! Keeps the best trained network of each optimizer in a file, from the end of its run until it is measured.
//!
//! Networks are large and runs are many: there is one file per optimizer, which a better run replaces. A file is written in a thread
//! of its own; until the next run begins, its network stays in memory, from where it is measured.

use std::collections::HashMap;
use std::fs;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tch::Tensor;

use super::store::ResultStore;
use crate::error::{Error, Result};
use crate::evidence::Candidate;
use crate::files::write_by;
use crate::jacobian::Parameters;
use crate::progress::Silent;
use crate::train::FineTuning;

/// Rank of a run among its optimizer's: by dev accuracy, then lower dev loss, then smaller rate. `None` for a run without an
/// evaluation.
pub(super) fn rank(candidate: &Candidate) -> Option<(f64, f64, f64)> {
    candidate.selected.map(|s| (s.dev_accuracy, -s.dev_loss, -candidate.learning_rate))
}

/// The files of one analysis. Runs in several threads may offer networks.
pub(super) struct Kept<'a> {
    store: &'a ResultStore,
    /// The trained parameters; the others are those of the start.
    include: &'a [bool],
    best: Mutex<HashMap<&'static str, (f64, f64, f64)>>,
    last: Mutex<Option<Last>>,
}

/// A network whose file is being written, or has just been.
struct Last {
    network: Network,
    writing: JoinHandle<Result<()>>,
}

/// A run's trained parameters.
struct Network {
    settings: FineTuning,
    trained: Vec<(String, Tensor)>,
}

impl<'a> Kept<'a> {
    /// Starts from runs that have already finished: only a better one is kept.
    pub fn new<'c>(
        store: &'a ResultStore,
        include: &'a [bool],
        known: impl Iterator<Item = (&'static str, &'c Candidate)>,
    ) -> Self {
        let mut best = HashMap::new();
        for (optimizer, candidate) in known {
            raise(&mut best, optimizer, candidate);
        }
        Self { store, include, best: Mutex::new(best), last: Mutex::new(None) }
    }

    /// Keeps a run's network if no other run of its optimizer is better. An analysis that is killed before the file is whole
    /// repeats the run.
    ///
    /// # Errors
    /// [`Error::Io`], also of the file before.
    pub fn offer(&self, settings: &FineTuning, candidate: &Candidate, network: &Parameters) -> Result<()> {
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        if raise(&mut best, settings.optimizer.name(), candidate) {
            self.write(settings, network)?;
        }
        Ok(())
    }

    /// Keeps a run's network whatever else is kept.
    ///
    /// # Errors
    /// [`Error::Io`], also of the file before.
    pub fn write(&self, settings: &FineTuning, network: &Parameters) -> Result<()> {
        let mut last = self.last();
        finish(&mut last)?;
        // A file without its mark belongs to no run, even while it is being replaced.
        self.remove_files(settings.optimizer.name());
        let each = network.specs().iter().zip(network.values()).zip(self.include).filter(|(_, trained)| **trained);
        let trained = each.map(|((spec, value), _)| (spec.name.clone(), value.detach())).collect();
        let network = Network { settings: settings.clone(), trained };
        let (own, store) = (network.shallow_clone(), self.store.clone());
        match thread::Builder::new().spawn(move || own.write(&store)) {
            Ok(writing) => {
                *last = Some(Last { network, writing });
                Ok(())
            }
            // Where there is no room for one more thread.
            Err(_) => network.write(self.store),
        }
    }

    /// Waits until the last file is written, and forgets its network.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn settle(&self) -> Result<()> {
        finish(&mut self.last())
    }

    /// The network of a run; `None` if it is not kept or its file is damaged. Another one is no longer held in memory then.
    ///
    /// # Errors
    /// [`Error::Io`], of the other's file.
    pub fn read(&self, settings: &FineTuning, start: &Parameters) -> Result<Option<Parameters>> {
        let mut last = self.last();
        if let Some(Last { network, .. }) = last.as_ref().filter(|last| last.network.settings == *settings) {
            let mut found = network.shallow_clone().trained.into_iter().collect();
            return Ok(self.network(start, &mut found));
        }
        finish(&mut last)?;
        let name = settings.optimizer.name();
        if self.store.get::<()>(&mark(name), settings, &Silent).is_none() {
            return Ok(None);
        }
        let read = Tensor::read_safetensors(self.path(name)).ok();
        Ok(read.and_then(|read| self.network(start, &mut read.into_iter().collect())))
    }

    /// A network of trained parameters and the start's others; `None` if one is missing.
    fn network(&self, start: &Parameters, trained: &mut HashMap<String, Tensor>) -> Option<Parameters> {
        let mut which = start.specs().iter().zip(self.include);
        let mut whole = true;
        let network = start.map(|value| {
            let (spec, included) = which.next().expect("a flag per parameter");
            if !included {
                return value.shallow_clone();
            }
            let found = trained.remove(&spec.name).filter(|t| t.size() == spec.shape);
            whole &= found.is_some();
            found.map_or_else(|| value.shallow_clone(), |t| t.to_kind(value.kind()).to_device(value.device()))
        });
        whole.then_some(network)
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of an optimizer's network.
    pub fn path(&self, optimizer: &str) -> PathBuf {
        path(self.store, optimizer)
    }

    /// Removes what is kept for an optimizer; whether it could be written no longer matters.
    pub fn remove(&self, optimizer: &str) {
        let mut last = self.last();
        if last.as_ref().is_some_and(|last| last.network.settings.optimizer.name() == optimizer) {
            await_end(&mut last);
        }
        self.remove_files(optimizer);
    }

    /// A leftover that cannot be removed only wastes space.
    fn remove_files(&self, optimizer: &str) {
        let _ = fs::remove_file(self.store.path(&format!("{}.json", mark(optimizer))));
        let _ = fs::remove_file(self.path(optimizer));
    }
}

/// An analysis that ends early leaves a whole file for the next one. It may end by a panic, so that this must not.
impl Drop for Kept<'_> {
    fn drop(&mut self) {
        await_end(&mut self.last());
    }
}

/// Waits for the thread that writes, if there is one.
fn finish(last: &mut Option<Last>) -> Result<()> {
    last.take().map_or(Ok(()), |last| last.writing.join().unwrap_or_else(|panic| resume_unwind(panic)))
}

/// The same, however it ends.
fn await_end(last: &mut Option<Last>) {
    if let Some(last) = last.take() {
        let _ = last.writing.join();
    }
}

impl Network {
    fn shallow_clone(&self) -> Self {
        let trained = self.trained.iter().map(|(name, value)| (name.clone(), value.shallow_clone())).collect();
        Self { settings: self.settings.clone(), trained }
    }

    /// Writes the file, then its mark.
    fn write(&self, store: &ResultStore) -> Result<()> {
        let name = self.settings.optimizer.name();
        let path = path(store, name);
        let tensors: Vec<(&str, Tensor)> =
            self.trained.iter().map(|(name, value)| (name.as_str(), value.to_device(tch::Device::Cpu))).collect();
        write_by(&path, |file| {
            let failed = |e: tch::TchError| Error::io("write", &path)(std::io::Error::other(e.to_string()));
            Tensor::write_safetensors(&tensors, file).map_err(failed)
        })?;
        store.put(&mark(name), &self.settings, &())
    }
}

fn path(store: &ResultStore, optimizer: &str) -> PathBuf {
    store.path(&format!("{optimizer}-selected.safetensors"))
}

/// Whether a run is its optimizer's best; if so, it is recorded as such.
fn raise(best: &mut HashMap<&'static str, (f64, f64, f64)>, optimizer: &'static str, candidate: &Candidate) -> bool {
    match rank(candidate) {
        Some(new) if best.get(optimizer).is_none_or(|old| new > *old) => {
            best.insert(optimizer, new);
            true
        }
        _ => false,
    }
}

fn mark(optimizer: &str) -> String {
    format!("{optimizer}-selected")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};

    use super::*;
    use crate::evidence::Evaluation;
    use crate::jacobian::{ParameterSpec, Role};
    use crate::train::OptimizerKind;

    fn network(value: f64) -> Parameters {
        let spec = |name: &str| ParameterSpec {
            name: name.into(),
            shape: vec![2],
            role: Role::Body,
            layer: "all".into(),
            structural_zeros: Vec::new(),
        };
        let values = (0..2).map(|_| Tensor::full([2], value, (Kind::Float, Device::Cpu))).collect();
        Parameters::new(Arc::from([spec("trained"), spec("fixed")].to_vec()), values)
    }

    fn run(learning_rate: f64, dev_accuracy: f64) -> (FineTuning, Candidate) {
        let selected = Evaluation { step: 4, train_loss: 0.5, dev_accuracy, dev_loss: 0.5 };
        let settings = FineTuning {
            optimizer: OptimizerKind::Sgd,
            learning_rate,
            batch_size: 8,
            steps: 4,
            eval_every: 4,
            seed: 1,
            parts: None,
        };
        (settings, Candidate { learning_rate, selected: Some(selected), diverged: false })
    }

    /// Fails for: a worse run in place of a better one, the network of other settings, a damaged file read as a network,
    /// untrained parameters read from the file, a file that is not written or not awaited, files left behind.
    #[test]
    fn the_best_run_is_kept_until_it_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = ResultStore::open(directory.path(), "study").expect("a store");
        let (start, include) = (network(0.0), [true, false]);
        let known = run(1.0, 0.4).1;
        let kept = Kept::new(&store, &include, [("sgd", &known)].into_iter());
        let read = |settings: &FineTuning| {
            let found = kept.read(settings, &start).expect("readable")?;
            Some([0, 1].map(|i| found.values()[i].double_value(&[0])))
        };
        for (rate, accuracy, value, there) in [(0.1, 0.3, 1.0, false), (0.2, 0.6, 2.0, true), (0.3, 0.5, 3.0, false)] {
            let (settings, candidate) = run(rate, accuracy);
            kept.offer(&settings, &candidate, &network(value)).expect("kept");
            // From memory, and from the file.
            for _ in 0..2 {
                assert_eq!(read(&settings), there.then_some([value, 0.0]), "{rate}");
                kept.settle().expect("written");
            }
        }
        let (best, _) = run(0.2, 0.6);
        assert_eq!(read(&best), Some([2.0, 0.0]), "the best stays");
        assert_eq!(read(&FineTuning { steps: 5, ..best.clone() }), None, "another run's");
        fs::write(kept.path("sgd"), b"half a fi").expect("a damaged file");
        assert_eq!(read(&best), None);
        kept.write(&best, &network(4.0)).expect("kept");
        kept.remove("sgd");
        let left: Vec<_> = fs::read_dir(directory.path().join("parts")).expect("a directory").collect();
        assert!(left.is_empty(), "{left:?}");
        kept.write(&best, &network(4.0)).expect("kept");
        drop(kept);
        let again = Kept::new(&store, &include, std::iter::empty());
        let found = again.read(&best, &start).expect("readable").expect("a whole file");
        assert_eq!(found.values()[0].double_value(&[0]), 4.0);
    }

    /// A disk that is full, say: the network is still measured from memory, and the next file tells.
    #[test]
    fn a_file_that_cannot_be_written_is_told_when_the_next_one_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = ResultStore::open(directory.path(), "study").expect("a store");
        let (start, include) = (network(0.0), [true, false]);
        let kept = Kept::new(&store, &include, std::iter::empty());
        fs::create_dir(kept.path("sgd")).expect("a directory in the file's place");
        let (settings, _) = run(0.1, 0.5);
        kept.write(&settings, &network(1.0)).expect("a thread");
        assert!(kept.read(&settings, &start).is_ok_and(|found| found.is_some()), "from memory");
        let error = kept.write(&settings, &network(2.0)).expect_err("a directory").to_string();
        assert!(error.contains("sgd-selected.safetensors"), "{error}");
    }
}
