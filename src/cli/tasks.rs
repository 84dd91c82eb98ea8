//! `kernelview tasks`.

use super::output::outln;
use crate::error::Result;
use crate::task::{BUILTIN_NAMES, builtin, cloze};

/// Lists the built-in tasks with their templates and label words.
pub(super) fn run() -> Result<()> {
    let paper = BUILTIN_NAMES.iter().map(|name| builtin(name));
    for task in paper.chain(cloze::builtin().iter().map(cloze::BuiltinCloze::definition)) {
        let task = task?;
        let words: Vec<String> = task.label_words.iter().map(|p| format!("{}={}", p.label, p.word)).collect();
        outln!("{:16} {:60} {}", task.name, task.template.to_string(), words.join(" "))?;
    }
    Ok(())
}
