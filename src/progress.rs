//! How long computations report progress and learn that they should stop. Knows no terminal: `cli` draws the bars.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static STOP: AtomicBool = AtomicBool::new(false);

/// Asks every running computation to stop at its next safe point.
pub fn request_stop() {
    STOP.store(true, Ordering::SeqCst);
}

/// Fails with [`Error::Interrupted`] once a stop was requested.
pub fn check_stop() -> Result<()> {
    if STOP.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Receives progress. Computations call it between units of work, where stopping loses nothing that was finished.
pub trait Monitor {
    /// A stage of `total` units begins.
    fn begin(&self, stage: &str, total: u64);
    /// `units` more are done.
    fn advance(&self, units: u64);
    /// The stage is over.
    fn end(&self);
    /// Something the user should know.
    fn note(&self, message: &str);
}

/// Reports to nobody.
pub struct Silent;

impl Monitor for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}
