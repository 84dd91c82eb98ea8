//! `pytorch_model.bin`: a pickled dictionary of tensors, alone or inside a training program's checkpoint.

use std::path::Path;

use super::{TensorSource, Tensors};
use crate::error::Result;
use crate::pickle::{Archive, Value};
use crate::progress::check_cancelled;

/// Keys under which training programs store the model's state dictionary.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

/// Reads every tensor of a `torch.save`d state dictionary.
pub(super) fn read(path: &Path) -> Result<Tensors> {
    let (mut archive, value) = Archive::open(path)?;
    let items = match state_dict(value) {
        Ok(items) => items,
        Err(found) => {
            let problem = format!(
                "the pickled value is not a dictionary of tensors{found}; save only the model's state dictionary"
            );
            return Err(archive.wrong(&problem));
        }
    };
    let mut tensors = Tensors::new();
    for (name, value) in items {
        check_cancelled()?;
        let Value::Text(name) = name else { continue };
        if let Some(tensor) = archive.tensor(&name, &value)? {
            tensors.insert(name, TensorSource { tensor, is_view: false, file: path.to_path_buf() });
        }
    }
    Ok(tensors)
}

/// The dictionary of tensors, or a description of what was found instead.
fn state_dict(value: Value) -> Result<Vec<(Value, Value)>, String> {
    let Value::Dict(mut items) = value else { return Err(String::new()) };
    let has_tensors = |value: &Value| match value {
        Value::Dict(items) => items.iter().any(|(_, value)| matches!(value, Value::Tensor { .. })),
        _ => false,
    };
    for name in NESTED {
        let named = |(key, value): &(Value, Value)| matches!(key, Value::Text(k) if k == name) && has_tensors(value);
        if let Some(at) = items.iter().position(named)
            && let (_, Value::Dict(items)) = items.swap_remove(at)
        {
            return Ok(items);
        }
    }
    if items.iter().any(|(_, value)| matches!(value, Value::Tensor { .. })) {
        return Ok(items);
    }
    let keys: Vec<&str> = items
        .iter()
        .filter_map(|(key, _)| if let Value::Text(key) = key { Some(key.as_str()) } else { None })
        .take(5)
        .collect();
    Err(if keys.is_empty() { String::new() } else { format!(" but of {}", keys.join(", ")) })
}
