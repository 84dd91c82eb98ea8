//! Worker threads for experiments, which report through one channel to the waiting thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use tch::Device;

use super::store::Store;
use super::{Done, Event, Experiment, Listener, UntilDecided, VerifySettings};
use crate::device::set_threads;
use crate::error::{Error, Result, panic_text};
use crate::evidence::{ClaimVerdict, ExperimentError, Fate, Findings};
use crate::progress::{Monitor, Tokens, check_cancelled};
use crate::theorems::{Context, Memory};

/// A worker's message about an experiment, by index.
enum Message {
    Event(Event),
    Done(Done),
    /// The whole run must end.
    Fatal(Error),
}

/// State shared by all workers.
struct Shared<'a> {
    settings: &'a VerifySettings,
    store: &'a Store<'a>,
    start: Instant,
    experiments: &'a [Experiment],
    /// Index of the next experiment to start.
    next: AtomicUsize,
    /// Measurements common to claims and their mutants.
    memory: Memory,
    /// Set when the run must end: no further experiment starts.
    ended: AtomicBool,
}

/// Runs all experiments; returns results in order.
pub(super) fn work(settings: &VerifySettings, store: &Store, listener: &dyn Listener) -> Result<Vec<Done>> {
    let experiments = settings.experiments();
    let jobs = if settings.device == Device::Cpu { settings.jobs } else { 1 };
    let shared = Shared {
        settings,
        store,
        start: Instant::now(),
        experiments: &experiments,
        next: AtomicUsize::new(0),
        memory: Memory::default(),
        ended: AtomicBool::new(false),
    };
    let mut results: Vec<Option<Done>> = experiments.iter().map(|_| None).collect();
    let mut fatal: Option<Error> = None;
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, experiments.len().max(1)) {
            let (shared, sender, tokens) = (&shared, sender.clone(), Tokens::in_force());
            scope.spawn(move || tokens.scope(|| shared.worker(&sender)));
        }
        // The loop ends when the last worker drops its sender.
        drop(sender);
        for (index, message) in receiver {
            match message {
                Message::Event(event) => listener.hear(&experiments[index], &event),
                Message::Done(done) => results[index] = Some(done),
                Message::Fatal(error) => {
                    if fatal.is_none() || matches!(error, Error::Interrupted) {
                        fatal = Some(error);
                    }
                }
            }
        }
    });
    match fatal {
        Some(error) => Err(error),
        None => Ok(results.into_iter().map(|done| done.expect("every experiment ends")).collect()),
    }
}

impl Shared<'_> {
    fn worker(&self, sender: &Sender<(usize, Message)>) {
        if self.settings.device == Device::Cpu {
            // Workers run in parallel; more threads inside them would only make them wait for each other.
            if let Err(error) = set_threads(Some(1)) {
                self.ended.store(true, Ordering::SeqCst);
                // The other end outlives every worker.
                let _ = sender.send((0, Message::Fatal(error)));
                return;
            }
        }
        while !self.ended.load(Ordering::SeqCst) {
            let index = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(experiment) = self.experiments.get(index) else { return };
            let say = |message: Message| {
                // The other end outlives every worker.
                let _ = sender.send((index, message));
            };
            match self.one(experiment, &say) {
                Ok(done) => say(Message::Done(done)),
                Err(error) => {
                    self.ended.store(true, Ordering::SeqCst);
                    say(Message::Fatal(error));
                }
            }
        }
    }

    /// One experiment, loaded from the store or run. An error here ends the run.
    fn one(&self, experiment: &Experiment, say: &dyn Fn(Message)) -> Result<Done> {
        check_cancelled()?;
        say(Message::Event(Event::Started));
        let start = Instant::now();
        let (done, was_stored) = match (experiment.mutant, self.settings.until_decided) {
            (None, Some(until)) => self.decide(experiment, until, say)?,
            _ => self.look(experiment, None, say)?,
        };
        let (result, seconds) = ending(&done);
        let seconds = seconds.unwrap_or_else(|| start.elapsed().as_secs_f64());
        say(Message::Event(Event::Finished { result, seconds, stored: was_stored }));
        Ok(done)
    }

    /// Repeats a claim with more and more seeds until it is decided, time runs out, or more seeds have no effect.
    fn decide(&self, experiment: &Experiment, until: UntilDecided, say: &dyn Fn(Message)) -> Result<(Done, bool)> {
        let mut seen = None;
        for look in 0.. {
            let (mut done, was_stored) = self.look(experiment, Some(look), say)?;
            let Done::Claim(claim) = &mut done else { return Ok((done, was_stored)) };
            let samples = samples(&claim.findings);
            let is_decided = claim.verdict != ClaimVerdict::Underpowered;
            let is_over = until.at_most.is_some_and(|most| self.start.elapsed() >= most);
            let is_stuck = seen.as_ref() == Some(&samples);
            if is_decided || is_over || is_stuck {
                let why = match (is_decided, is_over) {
                    (true, _) => "it is decided",
                    (false, true) => "time ran out",
                    (false, false) => "more seeds have no effect",
                };
                let looks =
                    if look == 0 { "once".to_owned() } else { format!("{} times with more and more seeds", look + 1) };
                claim
                    .findings
                    .notes
                    .push(format!("Looked at {looks}; ended because {why}. The looks share the error rate."));
                return Ok((done, was_stored));
            }
            seen = Some(samples);
        }
        unreachable!("looks have no last one")
    }

    /// One look at an experiment, loaded from the store or run.
    fn look(&self, experiment: &Experiment, look: Option<usize>, say: &dyn Fn(Message)) -> Result<(Done, bool)> {
        match self.store.load(experiment, look) {
            Some(done) => Ok((done, true)),
            None => Ok((self.examine(experiment, look, say)?, false)),
        }
    }

    fn examine(&self, experiment: &Experiment, look: Option<usize>, say: &dyn Fn(Message)) -> Result<Done> {
        let monitor = Remote { say };
        let profile = experiment.profile(self.settings);
        let context = Context::new(profile, self.settings.seed, self.settings.device, &monitor).sharing(&self.memory);
        let context = look.into_iter().fold(context, Context::looking);
        let claim = experiment.claim;
        // libtorch reports its failures as panics; unfinished work is dropped and never used again.
        let outcome = catch_unwind(AssertUnwindSafe(|| match experiment.mutant {
            None => claim.examine(&context).map(|evidence| Done::Claim(Box::new(evidence))),
            Some(mutant) => claim.challenge(&mutant, &context).map(Done::Mutant),
        }));
        let message = match outcome {
            Ok(Ok(done)) => {
                self.store.save(experiment, look, &done)?;
                return Ok(done);
            }
            Ok(Err(Error::Interrupted)) => return Err(Error::Interrupted),
            Ok(Err(error)) => error.to_string(),
            Err(payload) => format!("{} (RUST_BACKTRACE=1 shows where)", panic_text(payload.as_ref())),
        };
        Ok(Done::Error(ExperimentError {
            claim: claim.id.to_owned(),
            topic: claim.topic.text().to_owned(),
            prediction: claim.prediction.to_owned(),
            mutant: experiment.mutant.map(|m| m.label()),
            message,
        }))
    }
}

/// Numbers of samples of all measurements.
fn samples(findings: &Findings) -> Vec<usize> {
    let all = findings.hypotheses.iter().chain(&findings.checks).chain(&findings.controls);
    all.map(|check| check.estimate.samples).collect()
}

/// The result in a few words, and the time to measure it.
fn ending(done: &Done) -> (String, Option<f64>) {
    match done {
        Done::Claim(claim) => (claim.verdict.text().to_owned(), Some(claim.seconds)),
        Done::Mutant(mutant) => {
            // Whether it is caught wrongly depends on the claim, which may not be measured yet.
            let result = match mutant.fate(None) {
                Fate::Survived => "SURVIVED",
                Fate::WronglyCaught => "caught within its tolerance",
                Fate::Passes => "passes, as it may",
                Fate::Undecided | Fate::Caught => "caught",
            };
            (result.to_owned(), Some(mutant.seconds))
        }
        Done::Error(error) => (format!("error: {}", error.message), None),
    }
}

/// Progress of an experiment, sent to the waiting thread.
struct Remote<'a> {
    say: &'a dyn Fn(Message),
}

impl Remote<'_> {
    fn event(&self, event: Event) {
        (self.say)(Message::Event(event));
    }
}

impl Monitor for Remote<'_> {
    fn begin(&self, stage: &str, total: u64) {
        self.event(Event::Stage(stage.to_owned(), total));
    }

    fn advance(&self, units: u64) {
        self.event(Event::Advanced(units));
    }

    fn end(&self) {
        self.event(Event::StageEnded);
    }

    fn note(&self, message: &str) {
        self.event(Event::Note(message.to_owned()));
    }
}
