//! Whether a command's networks are small, which decides where its threads allocate memory, before any of them starts and any file
//! is read.

use std::path::Path;

use super::command::Command;
use super::select::local_model;
use crate::evidence::Profile;

/// Bytes of a small network's files of weights: in single precision, those of the largest whose runs an analysis trains side by side.
const SMALL: u64 = 1 << 27;

/// Numbers in a byte of a quantized file, times the bytes of a number once it is read.
const QUANTIZED: u64 = 8;

/// Whether all networks of a command are known to be small.
pub(super) fn has_small_networks(command: &Command) -> bool {
    let small = |name: &String| weights(name).is_some_and(|bytes| bytes <= SMALL);
    match command {
        Command::Analyze(a) => small(&a.model.model),
        Command::Kernel(k) => small(&k.model.model),
        Command::Lora(l) => small(&l.model.model),
        Command::Sketch(s) => small(&s.model.model),
        Command::Reproduce(r) => r.models.iter().all(small),
        // Claims are on small networks, up to widths whose matrices are as large as those of large ones.
        Command::Verify(v) => v.profile != Profile::Full,
        _ => false,
    }
}

/// Bytes of a model's weights, if it is there and they can be found out from the sizes of files.
fn weights(name: &str) -> Option<u64> {
    let place = local_model(name).ok()??;
    let files = if place.is_dir() {
        std::fs::read_dir(&place).ok()?.flatten().map(|entry| entry.path()).collect()
    } else {
        vec![place]
    };
    let sizes: Vec<u64> = files.iter().filter_map(|file| bytes(file)).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum())
}

/// Bytes of the weights in a file; `None` for files of other things.
fn bytes(file: &Path) -> Option<u64> {
    let factor = match file.extension()?.to_str()? {
        "safetensors" | "bin" => 1,
        "gguf" => QUANTIZED,
        _ => return None,
    };
    Some(factor * std::fs::metadata(file).ok()?.len())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::command::Cli;

    /// Fails for: a large network, one of several large ones, or one whose size is not known taken for small; a quantized file
    /// taken for as small as it is.
    #[test]
    fn only_networks_that_are_known_to_be_small_are_small() {
        let directory = tempfile::tempdir().expect("a directory");
        let model = |file: &str, bytes: u64| {
            let place = directory.path().join(format!("{file}-{bytes}"));
            std::fs::create_dir(&place).expect("a directory");
            let file = std::fs::File::create(place.join(file)).expect("a file");
            file.set_len(bytes).expect("a file with a hole");
            place.to_str().expect("a path").to_owned()
        };
        let small = |line: &[&str]| has_small_networks(&Cli::try_parse_from(line).expect("a command").command);
        let analyze = |model: &str| small(&["kernelview", "analyze", "--model", model]);
        assert!(small(&["kernelview", "analyze"]), "the built-in model");
        assert!(small(&["kernelview", "verify"]) && !small(&["kernelview", "verify", "--profile", "full"]));
        assert!(!small(&["kernelview", "tasks"]));
        let (little, much) = (model("model.safetensors", SMALL), model("model.safetensors", SMALL + 1));
        assert!(analyze(&little) && !analyze(&much));
        assert!(!analyze(&model("model.gguf", SMALL / 4)) && analyze(&model("model.gguf", SMALL / 8)));
        assert!(!analyze(&model("config.json", 100)) && !analyze("no/such-model"), "unknown");
        let both = |a: &str, b: &str| small(&["kernelview", "reproduce", "--data-dir", "d", "--models", a, b]);
        assert!(both(&little, "prose-64") && !both(&little, &much));
    }
}
