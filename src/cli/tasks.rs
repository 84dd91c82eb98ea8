//! `kernelview tasks`.

use crate::error::Result;
use crate::task::{BUILTIN_NAMES, builtin};

/// Lists the built-in tasks with their templates and label words.
pub(super) fn run() -> Result<()> {
    for name in BUILTIN_NAMES {
        let task = builtin(name)?;
        let words: Vec<String> = task.label_words.iter().map(|p| format!("{}={}", p.label, p.word)).collect();
        println!("{name:8} {:60} {}", task.template.to_string(), words.join(" "));
    }
    Ok(())
}
