//! Messages of panics: libtorch's failures arrive as panics, and so do some of Rust's when memory runs out.

use std::any::Any;

/// Whether a panic reports a shortage of memory: from libtorch's CUDA and CPU allocators, oneDNN, C++ or the system when it
/// cannot start a thread.
pub fn is_shortage(payload: &(dyn Any + Send)) -> bool {
    let texts = [
        "out of memory",
        "can't allocate memory",
        "std::bad_alloc",
        "failed to spawn thread",
        // oneDNN's, when there is no memory for the code that it generates.
        "could not create a primitive",
        // libtorch's, when there is no memory for its message either.
        "Error computing Error::what()",
    ];
    // oneDNN refuses a descriptor for operations that it does not support.
    let says = |said: &str| texts.iter().any(|text| said.contains(text)) && !said.contains("primitive descriptor");
    whole_text(payload).is_some_and(says)
}

/// What to do about a shortage of memory: a constant, because a process without memory cannot format a text.
pub const SHORTAGE_ADVICE: &str = "finished parts are kept; raise the limit (ulimit -v, the job's or the \
                                   container's), or use less: fewer threads (setting `threads`), smaller batches \
                                   (setting `batch`), less memory (setting `memory`) if the command has them";

/// The message for a panic for which [`is_shortage`] holds: the size of the failed allocation, if known, and what to do.
pub fn shortage_text(payload: &(dyn Any + Send)) -> String {
    let asked = whole_text(payload)
        .and_then(|said| said.split_once("ried to allocate "))
        .map(|(_, rest)| rest.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .map_or_else(String::new, |amount| format!("  (tried to allocate {} more)", amount.trim_end_matches('.')));
    format!("out of memory{asked}: {SHORTAGE_ADVICE}")
}

fn whole_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
}

/// The first line of a panic's message. Messages from libtorch are followed by a C++ stack, after escaped or real line ends.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let message = whole_text(payload).unwrap_or("unknown panic");
    let first = message.split("\\n").next().unwrap_or(message).lines().next().unwrap_or(message);
    let unwrapped = "called `Result::unwrap()` on an `Err` value: Torch(\"";
    first.strip_prefix(unwrapped).map_or_else(|| first.to_owned(), |reason| format!("libtorch: {reason}"))
}
