//! Removes training wrappers' additions from names of tensors, and finds copies of a tensor.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::Tensors;
use crate::error::{Error, Result};

/// Components that `torch.compile`, fully sharded training and activation checkpointing insert anywhere in names.
const ANYWHERE: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Prefixes that wrappers add to all names: data-parallel training, and a class around the model.
const IN_FRONT: [&str; 2] = ["module.", "model."];

/// What follows `model.` in models whose own names begin with it.
const OWN: [&str; 4] = ["model.embed_tokens.", "model.layers.", "model.decoder.embed_tokens.", "model.norm."];

/// Tensors by their names without wrappers.
///
/// # Errors
/// If two tensors with the same resulting name differ.
pub(super) fn without(tensors: Tensors) -> Result<Tensors> {
    let plain = |name: &str| -> String {
        name.split('.').filter(|part| !ANYWHERE.contains(part)).collect::<Vec<_>>().join(".")
    };
    let mut tensors = renamed(tensors, plain)?;
    while let Some(start) = IN_FRONT.into_iter().find(|start| is_wrapper(&tensors, start)) {
        tensors = renamed(tensors, |name| name[start.len()..].to_owned())?;
    }
    Ok(tensors)
}

/// Whether all names begin with this prefix, and it comes from a wrapper.
fn is_wrapper(tensors: &Tensors, start: &str) -> bool {
    let is_own = |name: &String| start == "model." && OWN.iter().any(|own| name.starts_with(own));
    !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(start) && name != start && !is_own(name))
}

fn renamed(tensors: Tensors, rename: impl Fn(&str) -> String) -> Result<Tensors> {
    if tensors.keys().all(|name| rename(name) == *name) {
        return Ok(tensors);
    }
    let mut found = Tensors::new();
    let mut origins = BTreeMap::new();
    for (name, source) in tensors {
        let plain = rename(&name);
        if let (Some(first), Some(other)) = (found.get(&plain), origins.get(&plain))
            && let Some(how) = difference(&first.tensor, &source.tensor)
        {
            let message = format!("`{other}` and `{name}` are the same tensor, but {how}; remove the stale one");
            return Err(Error::format(&source.file, message));
        }
        origins.insert(plain.clone(), name);
        found.insert(plain, source);
    }
    Ok(found)
}

/// How two copies of a tensor differ, if they do.
pub(in crate::lm) fn difference(a: &Tensor, b: &Tensor) -> Option<String> {
    if a.size() != b.size() {
        return Some(format!("have the shapes {:?} and {:?}", a.size(), b.size()));
    }
    if a.kind() == b.kind() && a.equal(b) {
        return None;
    }
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    if a.equal(&b) {
        return None;
    }
    Some(format!("differ by up to {:.1e}", (a - b).abs().max().double_value(&[])))
}
