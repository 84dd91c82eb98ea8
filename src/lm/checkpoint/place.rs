//! Finds the weights in a directory, or what it has instead.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::is_there;

/// The weights of a directory.
pub(super) enum Weights {
    /// In one file.
    Whole(PathBuf),
    /// In the shards of this index.
    Shards(PathBuf),
}

/// Names of weights files, in order of preference, and whether each is an index; the star stands for a variant's name.
const NAMES: [(&str, &str, bool); 4] = [
    ("model", ".safetensors", false),
    ("model.safetensors.index", ".json", true),
    ("pytorch_model", ".bin", false),
    ("pytorch_model.bin.index", ".json", true),
];

/// Files of other kinds, and what to do with them.
const OTHERS: [(&str, &str); 7] = [
    (
        "adapter_model.safetensors",
        "an adapter: give the model on which it was trained, and this directory as its adapter",
    ),
    ("adapter_model.bin", "an adapter: give the model on which it was trained, and this directory as its adapter"),
    ("tf_model.h5", TENSORFLOW),
    ("model.ckpt.index", TENSORFLOW),
    ("flax_model.msgpack", "weights of Flax: load them in transformers with from_flax=True, and save_pretrained"),
    ("consolidated.00.pth", ORIGINAL),
    ("consolidated.safetensors", ORIGINAL),
];
const TENSORFLOW: &str = "weights of TensorFlow: load them in transformers with from_tf=True, and save_pretrained";
const ORIGINAL: &str = "weights in the publisher's own format: convert them with transformers' script, or download \
                        the version of the model for transformers";

/// Finds the weights in a directory; files without a variant (such as `fp16` in `model.fp16.safetensors`) come first.
///
/// # Errors
/// [`Error::Format`] if there are none, or several variants, saying what was found.
pub(super) fn weights(directory: &Path) -> Result<Weights> {
    let adapter = directory.join("adapter_config.json");
    let weights = any_weights(directory)?;
    if is_there(&adapter)? {
        return Err(Error::format(
            adapter,
            "an adapter lies beside a model, where transformers applies it if PEFT is installed; move the adapter into a \
             directory of its own, and give both",
        ));
    }
    Ok(weights)
}

fn any_weights(directory: &Path) -> Result<Weights> {
    for (start, end, is_index) in NAMES {
        let file = directory.join(format!("{start}{end}"));
        if is_there(&file)? {
            return Ok(if is_index { Weights::Shards(file) } else { Weights::Whole(file) });
        }
    }
    let names = names(directory)?;
    for (start, end, is_index) in NAMES {
        let is_variant = |name: &&String| {
            let middle = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
            middle.is_some_and(|m| m.len() > 1 && m.starts_with('.') && !m[1..].contains('.') && !m.contains("-of-"))
        };
        let found: Vec<&String> = names.iter().filter(is_variant).collect();
        match found[..] {
            [] => {}
            [name] => {
                let file = directory.join(name);
                return Ok(if is_index { Weights::Shards(file) } else { Weights::Whole(file) });
            }
            [one, other, ..] => {
                let message =
                    format!("several variants of the weights ({one}, {other}); rename the one to use to {start}{end}");
                return Err(Error::format(directory, message));
            }
        }
    }
    Err(Error::format(directory, format!("no weights: {}", instead(&names))))
}

/// What a directory without weights has instead.
fn instead(names: &[String]) -> String {
    if let Some((name, what)) = OTHERS.iter().find(|(name, _)| names.iter().any(|n| n == name)) {
        return format!("{name} holds {what}");
    }
    let is_shard = |name: &&String| {
        ["model-", "pytorch_model-"].iter().any(|start| name.starts_with(start)) && name.contains("-of-")
    };
    if let Some(shard) = names.iter().find(is_shard) {
        let index = if shard.starts_with("model-") { "model.safetensors" } else { "pytorch_model.bin" };
        return format!("there are shards ({shard}), but their index {index}.index.json is missing; download it too");
    }
    if let Some(part) = names.iter().find(|name| [".incomplete", ".part"].iter().any(|end| name.ends_with(end))) {
        return format!("{part} is from an interrupted download; download the model again");
    }
    "expected model.safetensors, model.safetensors.index.json or pytorch_model.bin".into()
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Why a directory has no settings of a model, if it holds something else.
pub(in crate::lm) fn no_model(directory: &Path) -> Option<String> {
    let names = names(directory).ok()?;
    let (name, what) =
        OTHERS.iter().find(|(name, _)| name.starts_with("adapter") && names.iter().any(|n| n == name))?;
    Some(format!("{name} holds {what}"))
}
