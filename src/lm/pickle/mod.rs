//! `pytorch_model.bin`: a zip archive with a pickled dictionary of tensors and one file of raw numbers per storage.
//!
//! Reads the archive and cuts tensors out of storages; the pickled dictionary is interpreted by [`machine`], over a
//! handful of inert values.

mod machine;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use tch::{Kind, Tensor};
use zip::ZipArchive;

use crate::error::{Error, Result};
use crate::lm::checkpoint::TensorSource;
use machine::{Machine, Value};

/// Reads every tensor of a `torch.save`d state dictionary.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, TensorSource>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let mut archive = match ZipArchive::new(file) {
        Ok(archive) => archive,
        Err(e) if starts_as_archive(path) => {
            return Err(Error::format(
                path,
                format!("not a complete PyTorch archive of {bytes} bytes ({e}); download it again"),
            ));
        }
        Err(_) => {
            return Err(Error::format(
                path,
                "not a PyTorch archive: damaged, or saved before PyTorch 1.6; save it again with a newer PyTorch \
                 (torch.save(torch.load(FILE), FILE)), or convert it to model.safetensors",
            ));
        }
    };
    let program_name = archive
        .file_names()
        .find(|n| n.ends_with("/data.pkl"))
        .map(str::to_owned)
        .ok_or_else(|| Error::format(path, "the archive holds no data.pkl: not a PyTorch checkpoint"))?;
    let root = program_name.trim_end_matches("data.pkl").to_owned();
    let program = entry(&mut archive, path, &program_name)?;
    let value = Machine::new(&program).run().map_err(|m| Error::format(path, format!("{program_name}: {m}")))?;
    let items = match value {
        Value::Dict(items) if items.iter().any(|(_, value)| matches!(value, Value::Tensor { .. })) => items,
        _ => {
            return Err(Error::format(
                path,
                "the pickled value is not a dictionary of tensors; save the model's state dictionary alone",
            ));
        }
    };
    let mut storages: HashMap<String, Vec<u8>> = HashMap::new();
    let mut tensors = BTreeMap::new();
    for (name, value) in items {
        let (Value::Text(name), Value::Tensor { kind, key, offset, shape, stride }) = (name, value) else { continue };
        if !storages.contains_key(&key) {
            storages.insert(key.clone(), entry(&mut archive, path, &format!("{root}data/{key}"))?);
        }
        let tensor = view(&storages[&key], kind, offset, &shape, &stride)
            .map_err(|m| Error::format(path, format!("tensor `{name}`: {m}")))?;
        tensors.insert(name, TensorSource { tensor, file: path.to_path_buf() });
    }
    Ok(tensors)
}

/// Whether a file begins as zip archives do. One that cannot be read does not.
fn starts_as_archive(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"PK\x03\x04"
}

fn entry(archive: &mut ZipArchive<File>, path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut file = archive.by_name(name).map_err(|e| Error::format(path, format!("entry {name}: {e}")))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| Error::format(path, format!("entry {name} is damaged: {e}")))?;
    Ok(bytes)
}

/// A strided view of a storage as a tensor of its own.
fn view(bytes: &[u8], kind: Kind, offset: i64, shape: &[i64], stride: &[i64]) -> Result<Tensor, String> {
    let size = kind.elt_size_in_bytes() as i64;
    let count = bytes.len() as i64 / size;
    let wrong = || format!("shape {shape:?} with strides {stride:?} from element {offset} describes no tensor");
    if shape.len() != stride.len() || [&[offset], shape, stride].concat().iter().any(|n| *n < 0) {
        return Err(wrong());
    }
    let (mut last, mut numel) = (offset, 1i64);
    for (n, s) in shape.iter().zip(stride) {
        numel = numel.checked_mul(*n).ok_or_else(wrong)?;
        last = (n - 1).checked_mul(*s).and_then(|step| last.checked_add(step)).ok_or_else(wrong)?;
    }
    if numel > 0 && last >= count {
        return Err(format!(
            "shape {shape:?} needs element {last}, but its storage holds {count}: the file is truncated"
        ));
    }
    // Strides of zero would let a few bytes stand for a tensor that fills memory; no parameter is stored like that.
    if numel > count {
        return Err(wrong());
    }
    let reason = |e| Error::from(e).to_string();
    let flat = Tensor::f_from_data_size(&bytes[..(count * size) as usize], &[count], kind).map_err(reason)?;
    flat.f_as_strided(shape, stride, offset).and_then(|t| t.f_contiguous()).map_err(reason)
}
