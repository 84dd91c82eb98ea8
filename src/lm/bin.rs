//! `pytorch_model.bin`: a pickled dictionary of tensors.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::lm::checkpoint::TensorSource;
use crate::pickle::{Archive, Value};

/// Reads every tensor of a `torch.save`d state dictionary.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, TensorSource>> {
    let (mut archive, value) = Archive::open(path)?;
    let items = match value {
        Value::Dict(items) if items.iter().any(|(_, value)| matches!(value, Value::Tensor { .. })) => items,
        _ => {
            let problem = "the pickled value is not a dictionary of tensors; save the model's state dictionary alone";
            return Err(archive.wrong(problem));
        }
    };
    let mut tensors = BTreeMap::new();
    for (name, value) in items {
        let Value::Text(name) = name else { continue };
        if let Some(tensor) = archive.tensor(&name, &value)? {
            tensors.insert(name, TensorSource { tensor, file: path.to_path_buf() });
        }
    }
    Ok(tensors)
}
