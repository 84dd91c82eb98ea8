//! A cancelled computation stops, while another in the same process continues.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use kernelview::analysis::{Measures, Plan, Pretrained, Study, StudyRequest, analyze};
use kernelview::device::Dtype;
use kernelview::error::{Error, Result};
use kernelview::evidence::Analysis;
use kernelview::progress::{Cancellation, Monitor, Silent};
use kernelview::task::{OwnSplit, Splits, TaskDefinition};
use tch::Device;

use crate::common::command::Scratch;
use crate::gate::few_steps;

/// A tiny network on twelve rows of words: two kernels, four steps of SGD.
fn analysis(scratch: &Scratch, out: &Path, monitor: &dyn Monitor) -> Result<Analysis> {
    let definition = TaskDefinition::new("rows", "*cls**sent_0*_It_was*mask*.*sep+*", "terrible,great")?;
    let own = OwnSplit { k: 2, seed: 1, test_limit: Some(4), dev: None, test: None };
    let splits = Splits::from_file(scratch.path("rows.tsv"), &definition, &own)?;
    let network = Pretrained::load(&scratch.path("model"), Dtype::F32, Device::Cpu)?;
    let study = Study::new(StudyRequest { split_seed: Some(1), ..StudyRequest::new(&network, &definition, &splits) })?;
    let plan = Plan { settings: few_steps(Measures::End), batch: 4, seed: 1 };
    analyze(&study, &plan, "an analysis", out, monitor)
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let row = |i: usize| format!("a {} film\t{}\n", ["slow", "warm", "long", "dull"][i % 4], i % 2);
    scratch.write("rows.tsv", format!("text\tlabel\n{}", (0..12).map(row).collect::<String>()));
    scratch
}

/// Waits at the start of its first stage until it may continue.
struct Waiting(Receiver<()>);

impl Monitor for Waiting {
    fn begin(&self, _: &str, _: u64) {
        // After the first stage the sender no longer exists.
        let _ = self.0.recv();
    }
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

/// Cancels a token at the start of its first stage.
struct Cancelling(Cancellation);

impl Monitor for Cancelling {
    fn begin(&self, _: &str, _: u64) {
        self.0.cancel();
    }
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

#[test]
fn of_two_analyses_in_one_process_the_cancelled_one_stops_and_the_other_goes_on() {
    crate::common::one_thread();
    let scratch = scratch();
    let (first, second) = (Cancellation::new(), Cancellation::new());
    let (stopped, went_on) = (scratch.path("stopped"), scratch.path("went-on"));
    let (sender, receiver) = sync_channel::<()>(0);
    thread::scope(|scope| {
        let other = scope.spawn(|| second.scope(|| analysis(&scratch, &went_on, &Waiting(receiver))));
        // This analysis starts and is cancelled while the other waits in the middle.
        sender.send(()).expect("the other analysis has begun");
        let cancelled = first.scope(|| analysis(&scratch, &stopped, &Cancelling(first.clone())));
        assert!(matches!(cancelled, Err(Error::Interrupted)), "{:?}", cancelled.map(|a| a.task.name));
        drop(sender);
        let finished = other.join().expect("no panic").expect("nobody cancelled it");
        assert_eq!(finished.fine_tuning.len(), 1);
    });
    assert!(first.is_cancelled() && !second.is_cancelled());
    // A cancelled analysis continues under another token, in the same directory.
    let again = Cancellation::new().scope(|| analysis(&scratch, &stopped, &Silent));
    assert_eq!(again.expect("not cancelled").fine_tuning.len(), 1);
}
