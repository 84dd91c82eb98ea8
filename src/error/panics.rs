//! What panics say: libtorch reports its failures as such, and where memory runs out Rust does.

use std::any::Any;

/// Whether a panic says that memory ran out: what libtorch's CUDA and CPU allocators, oneDNN and C++'s own say, and the
/// system where it has no room for a thread.
pub fn is_shortage(payload: &(dyn Any + Send)) -> bool {
    let texts = [
        "out of memory",
        "can't allocate memory",
        "std::bad_alloc",
        "failed to spawn thread",
        // oneDNN's, where there is no room for the code that it generates.
        "could not create a primitive",
        // libtorch's, where there is no room for its message either.
        "Error computing Error::what()",
    ];
    // A descriptor is what oneDNN refuses for what it cannot do.
    let says = |said: &str| texts.iter().any(|text| said.contains(text)) && !said.contains("primitive descriptor");
    whole_text(payload).is_some_and(says)
}

/// The way out of a shortage of memory: a constant, because a process without memory cannot make a text.
pub const SHORTAGE_ADVICE: &str = "what is finished is kept; raise the limit (ulimit -v, the job's or the container's), or ask \
                                   for less: fewer threads (setting `threads`), smaller batches (setting `batch`), less memory \
                                   (setting `memory`) where that can be set";

/// What to tell a user about a panic for which [`is_shortage`] holds: how much was asked for, where it says so, and the way
/// out.
pub fn shortage_text(payload: &(dyn Any + Send)) -> String {
    let asked = whole_text(payload)
        .and_then(|said| said.split_once("ried to allocate "))
        .map(|(_, rest)| rest.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .map_or_else(String::new, |amount| format!(" when {} more were asked for", amount.trim_end_matches('.')));
    format!("out of memory{asked}: {SHORTAGE_ADVICE}")
}

fn whole_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
}

/// The first line of what a panic said. libtorch's failures arrive as panics whose text carries a C++ stack behind
/// escaped or real line ends.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let message = whole_text(payload).unwrap_or("unknown panic");
    let first = message.split("\\n").next().unwrap_or(message).lines().next().unwrap_or(message);
    let unwrapped = "called `Result::unwrap()` on an `Err` value: Torch(\"";
    first.strip_prefix(unwrapped).map_or_else(|| first.to_owned(), |reason| format!("libtorch: {reason}"))
}
