//! Progress on stderr: on a terminal, one bar per stage with rate and remaining time; otherwise, one line per stage.

use std::cell::RefCell;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::output::errln;
use super::stage::stage_style;
use crate::progress::Monitor;

/// Draws the progress of one command on stderr.
pub(super) struct Terminal {
    bar: RefCell<Option<ProgressBar>>,
    interactive: bool,
}

impl Terminal {
    /// Draws bars if stderr is a terminal, lines otherwise.
    pub(super) fn new() -> Self {
        Self { bar: RefCell::new(None), interactive: std::io::stderr().is_terminal() }
    }
}

impl Monitor for Terminal {
    fn begin(&self, stage: &str, total: u64) {
        if !self.interactive {
            errln!("{stage} …");
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        bar.set_style(stage_style());
        bar.set_message(stage.to_owned());
        *self.bar.borrow_mut() = Some(bar);
    }

    fn advance(&self, units: u64) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.inc(units);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish();
        }
    }

    fn note(&self, message: &str) {
        match self.bar.borrow().as_ref() {
            Some(bar) => bar.println(message),
            None => errln!("{message}"),
        }
    }
}
