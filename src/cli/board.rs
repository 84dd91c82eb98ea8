//! Progress of several parallel experiments: on a terminal, a bar for each and one for all; otherwise lines.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar};

use super::output::errln;
use super::stage::{stage_style, style};
use crate::verify::{Event, Experiment, Listener};

/// Draws the progress of a run of the suite on stderr.
pub(super) struct Board {
    total: usize,
    finished: Cell<usize>,
    /// None if stderr is not a terminal.
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    overall: ProgressBar,
    /// Running experiments by name.
    running: RefCell<HashMap<String, ProgressBar>>,
}

impl Board {
    /// For this many experiments.
    pub(super) fn new(total: usize) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let overall = all.add(ProgressBar::new(total as u64));
            overall.set_style(style("{msg:42} {bar:24} {pos:>5}/{len:<5} {elapsed:>10}"));
            overall.set_message("experiments");
            Bars { all, overall, running: RefCell::default() }
        });
        Self { total, finished: Cell::new(0), bars }
    }

    /// Removes the bars; lines stay.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.overall.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bars {
            // Fails only where stderr does.
            Some(bars) => drop(bars.all.println(text)),
            None => errln!("{text}"),
        }
    }
}

impl Listener for Board {
    fn hear(&self, experiment: &Experiment, event: &Event) {
        let name = experiment.name();
        match event {
            Event::Note(message) => self.line(&format!("{name}: {message}")),
            Event::Finished { result, seconds, stored, .. } => {
                self.finished.set(self.finished.get() + 1);
                let time = if *stored { "already there".to_owned() } else { format!("{seconds:.1} s") };
                self.line(&format!("[{}/{}] {name}: {result} ({time})", self.finished.get(), self.total));
            }
            _ => {}
        }
        if let Some(bars) = &self.bars {
            bars.draw(&name, event);
        }
    }
}

impl Bars {
    fn draw(&self, name: &str, event: &Event) {
        let mut running = self.running.borrow_mut();
        if *event == Event::Started {
            let bar = self.all.insert_before(&self.overall, ProgressBar::no_length());
            bar.set_style(stage_style());
            bar.set_message(name.to_owned());
            running.insert(name.to_owned(), bar);
        }
        let Some(bar) = running.get(name) else { return };
        match event {
            Event::Stage(stage, total) => {
                bar.reset();
                bar.set_length(*total);
                bar.set_message(format!("{name}: {stage}"));
            }
            Event::Advanced(units) => bar.inc(*units),
            Event::Finished { .. } => {
                bar.finish_and_clear();
                self.overall.inc(1);
                running.remove(name);
            }
            Event::Started | Event::StageEnded | Event::Note(_) => {}
        }
    }
}
