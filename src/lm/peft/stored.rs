//! The tensors in an adapter's file: factors of modules, and parameters saved in full. Knows names; may not know settings.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::{CONFIG, OLDER_WEIGHTS, WEIGHTS, WRAPPER};
use crate::error::{Error, Result};
use crate::lm::checkpoint::{self, TensorSource, difference};

/// PEFT's names of an adapter's tensors.
const FACTORS: [&str; 5] = ["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"];

/// A tensor with its name in the file.
pub(super) struct Stored {
    pub name: String,
    pub source: TensorSource,
}

/// All tensors of a file.
pub(super) struct Tensors {
    /// By module and factor.
    pub factors: BTreeMap<(String, String), Stored>,
    /// Parameters of the network's own, by their names.
    pub whole: BTreeMap<String, Stored>,
    /// The file.
    pub file: PathBuf,
}

/// The meaning of a name.
enum Meaning {
    Factor {
        module: String,
        factor: String,
        adapter: Option<String>,
    },
    Whole {
        name: String,
        adapter: Option<String>,
    },
    /// The original weights on which the adapter was trained.
    Original,
}

impl Tensors {
    /// Reads the file in a directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let Some(file) = [WEIGHTS, OLDER_WEIGHTS].map(|name| directory.join(name)).into_iter().find(|f| f.exists())
        else {
            let message = format!("no weights: expected {WEIGHTS} or {OLDER_WEIGHTS} beside {CONFIG}");
            return Err(Error::format(directory, message));
        };
        let mut tensors = Self { factors: BTreeMap::new(), whole: BTreeMap::new(), file };
        let mut adapters = BTreeSet::new();
        for (name, source) in checkpoint::read(&tensors.file)? {
            let stored = Stored { name: name.clone(), source };
            let (known, adapter) = match meaning(&name) {
                Meaning::Original => continue,
                Meaning::Factor { module, factor, adapter } => {
                    (add(&mut tensors.factors, (module, factor), stored), adapter)
                }
                Meaning::Whole { name, adapter } => (add(&mut tensors.whole, name, stored), adapter),
            };
            adapters.extend(adapter);
            let problem = match known {
                Some((other, how)) => format!("`{other}` and `{name}` are one tensor, but {how}"),
                None if adapters.len() > 1 => {
                    format!("it holds several adapters ({})", adapters.into_iter().collect::<Vec<_>>().join(", "))
                }
                None => continue,
            };
            return Err(Error::format(&tensors.file, format!("{problem}; save only the adapter to use")));
        }
        Ok(tensors)
    }
}

/// Adds a tensor; returns the name of a different tensor in its place, and how it differs.
fn add<K: Ord>(tensors: &mut BTreeMap<K, Stored>, key: K, stored: Stored) -> Option<(String, String)> {
    match tensors.entry(key) {
        Entry::Vacant(place) => {
            place.insert(stored);
            None
        }
        Entry::Occupied(place) => {
            let known = place.get();
            Some((known.name.clone(), difference(&known.source.tensor, &stored.source.tensor)?))
        }
    }
}

/// Names are `base_model.model.MODULE.FACTOR.weight`; saved from the model's own dictionary, the adapter's name precedes the
/// last component.
fn meaning(name: &str) -> Meaning {
    let parts: Vec<&str> = name.strip_prefix(WRAPPER).unwrap_or(name).split('.').collect();
    let named = |rest: &[&str]| rest.iter().copied().find(|part| *part != "weight").map(str::to_owned);
    if let Some(at) = parts.iter().position(|part| FACTORS.contains(part)) {
        let (module, rest) = (parts[..at].join("."), &parts[at + 1..]);
        if rest.len() <= 2 && rest.last().is_none_or(|last| *last != "bias") {
            return Meaning::Factor { module, factor: parts[at].to_owned(), adapter: named(rest) };
        }
    }
    if parts.contains(&"original_module") {
        return Meaning::Original;
    }
    let mut adapter = None;
    let mut kept: Vec<&str> = parts.iter().copied().filter(|part| *part != "base_layer").collect();
    if let Some(at) = kept.iter().position(|part| *part == "modules_to_save") {
        // The adapter's name, and deeper levels of the module.
        if kept.len() > at + 2 {
            adapter = Some(kept.remove(at + 1).to_owned());
        }
        kept.remove(at);
    }
    Meaning::Whole { name: kept.join("."), adapter }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> (String, Option<String>) {
        match meaning(name) {
            Meaning::Factor { module, factor, adapter } => (format!("{module} {factor}"), adapter),
            Meaning::Whole { name, adapter } => (name, adapter),
            Meaning::Original => (String::new(), None),
        }
    }

    #[test]
    fn names_lose_what_peft_puts_around_them() {
        let plain = |text: &str| (text.to_owned(), None);
        let named = |text: &str| (text.to_owned(), Some("default".to_owned()));
        for (name, expected) in [
            ("base_model.model.l.0.query.lora_A.weight", plain("l.0.query lora_A")),
            ("base_model.model.l.0.query.lora_A.default.weight", named("l.0.query lora_A")),
            ("base_model.model.e.lora_embedding_A", plain("e lora_embedding_A")),
            ("base_model.model.e.lora_embedding_A.default", named("e lora_embedding_A")),
            ("base_model.model.q.lora_magnitude_vector", plain("q lora_magnitude_vector")),
            ("base_model.model.q.lora_magnitude_vector.default.weight", named("q lora_magnitude_vector")),
            ("base_model.model.lm_head.weight", plain("lm_head.weight")),
            ("base_model.model.lm_head.modules_to_save.default.dense.weight", named("lm_head.dense.weight")),
            ("base_model.model.lm_head.modules_to_save.weight", plain("lm_head.weight")),
            ("base_model.model.e.base_layer.weight", plain("e.weight")),
            ("base_model.model.lm_head.original_module.weight", plain("")),
            ("base_model.model.q.lora_B.bias", plain("q.lora_B.bias")),
        ] {
            assert_eq!(of(name), expected, "{name}");
        }
    }
}
