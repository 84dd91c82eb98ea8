//! Safetensors files.

use std::path::Path;

use safetensors::{Dtype as StoredType, SafeTensors};
use tch::Kind;

use super::{TensorSource, Tensors};
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::progress::check_cancelled;

/// Reads every tensor of a file.
pub(super) fn read(path: &Path) -> Result<Tensors> {
    let file = Mapped::open(path)?;
    let bytes = file.bytes();
    let archive = SafeTensors::deserialize(bytes).map_err(|e| Error::format(path, not_whole(bytes, &e)))?;
    let mut tensors = Tensors::new();
    for (name, view) in archive.iter() {
        check_cancelled()?;
        let kind = match view.dtype() {
            StoredType::F64 => Kind::Double,
            StoredType::F32 => Kind::Float,
            StoredType::F16 => Kind::Half,
            StoredType::BF16 => Kind::BFloat16,
            StoredType::I64 => Kind::Int64,
            StoredType::I32 => Kind::Int,
            StoredType::I16 => Kind::Int16,
            StoredType::I8 => Kind::Int8,
            StoredType::U8 => Kind::Uint8,
            StoredType::BOOL => Kind::Bool,
            other => {
                let message = format!(
                    "tensor `{name}` has element type {other:?}, as in quantized checkpoints, which are not \
                     supported; dequantize the model and save it, or use the original model"
                );
                return Err(Error::format(path, message));
            }
        };
        let shape: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        let tensor = file
            .tensor(start..start + view.data().len(), &shape, kind)
            .map_err(|e| Error::format(path, format!("tensor `{name}` of shape {shape:?}: {}", Error::from(e))))?;
        tensors.insert(name.to_owned(), TensorSource { tensor, is_view: true, file: path.to_path_buf() });
    }
    Ok(tensors)
}

/// What is wrong with an unreadable file, including how much of it is missing, if its header says so.
fn not_whole(bytes: &[u8], problem: &dyn std::fmt::Display) -> String {
    let length = bytes.len();
    match promised(bytes).filter(|promised| *promised > length as u64) {
        Some(promised) => {
            format!("has {length} of {promised} bytes ({problem}): an interrupted download; download it again")
        }
        None => format!("not a complete safetensors file of {length} bytes ({problem}); download it again"),
    }
}

/// The size of the complete file, according to its header.
fn promised(bytes: &[u8]) -> Option<u64> {
    let size = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = 8usize.checked_add(usize::try_from(size).ok()?)?;
    let header: serde_json::Value = serde_json::from_slice(bytes.get(8..end)?).ok()?;
    let ends = header.as_object()?.values().filter_map(|entry| entry.get("data_offsets")?.get(1)?.as_u64());
    (end as u64).checked_add(ends.max()?)
}
