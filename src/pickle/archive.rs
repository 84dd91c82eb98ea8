//! Reads the pickled value, and tensors as views of storages, each of which is read once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use zip::{CompressionMethod, ZipArchive};

use super::machine::{Machine, Value};
use crate::error::{Error, Result};
use crate::mapped::Mapped;

/// Maximum number of axes of a tensor.
const MOST_AXES: usize = 32;

/// Bytes on whose multiples libtorch's own tensors begin.
const ALIGNMENT: usize = 64;

/// The beginning of files from before PyTorch 1.6: a pickled number.
const OLD: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";

/// An open `torch.save` file.
pub(crate) struct Archive {
    path: PathBuf,
    entries: Entries,
    storages: HashMap<String, (Kind, Tensor)>,
    /// Bytes that may still be read: entries that share bytes cannot hold more than the file.
    readable: u64,
    /// Bytes that may still be allocated for tensors that are copied out of their storages.
    copyable: u64,
}

/// Location of the storages' bytes.
enum Entries {
    /// In a zip archive, under names that begin with `root`.
    Zip { zip: ZipArchive<File>, root: String },
    /// Consecutively, in a file from before PyTorch 1.6.
    Old { content: Mapped, places: HashMap<String, Range<usize>> },
}

impl Archive {
    /// Opens a file and interprets its pickled value.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] if the archive is incomplete, or its pickle program does something that saved
    /// tensors do not need.
    pub fn open(path: &Path) -> Result<(Self, Value)> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let zip = match ZipArchive::new(file) {
            Ok(archive) => archive,
            Err(e) if starts_as_archive(path) => {
                return Err(Error::format(
                    path,
                    format!("not a complete PyTorch archive of {bytes} bytes ({e}); download it again"),
                ));
            }
            Err(_) => return Self::open_old(path),
        };
        let program_name = zip
            .file_names()
            .find(|n| n.ends_with("/data.pkl"))
            .map(str::to_owned)
            .ok_or_else(|| Error::format(path, "the archive holds no data.pkl: not a PyTorch checkpoint"))?;
        let root = program_name.trim_end_matches("data.pkl").to_owned();
        let mut archive = Self {
            path: path.to_path_buf(),
            entries: Entries::Zip { zip, root },
            storages: HashMap::new(),
            readable: bytes,
            copyable: 4 * bytes,
        };
        let program = archive.entry(&program_name)?;
        let value = Machine::new(&program).run().map_err(|m| archive.wrong(&format!("{program_name}: {m}")))?;
        Ok((archive, value))
    }

    /// Opens a file from before PyTorch 1.6: consecutive pickled values (a number, a version, the machine's sizes, the value
    /// itself, the storages' keys), then for each key the storage's length and numbers.
    fn open_old(path: &Path) -> Result<(Self, Value)> {
        let content = Mapped::open(path)?;
        let bytes = content.bytes();
        if !bytes.starts_with(OLD) {
            let message = "not a PyTorch archive: damaged, or from another program; save the model again, or convert \
                           it to model.safetensors";
            return Err(Error::format(path, message));
        }
        let (value, places) = read_old(bytes).map_err(|problem| {
            Error::format(path, format!("a file from before PyTorch 1.6 that cannot be read: {problem}"))
        })?;
        let length = bytes.len() as u64;
        let archive = Self {
            path: path.to_path_buf(),
            entries: Entries::Old { content, places },
            storages: HashMap::new(),
            readable: length,
            copyable: 4 * length,
        };
        Ok((archive, value))
    }

    /// An error about the file.
    pub fn wrong(&self, problem: &str) -> Error {
        Error::format(&self.path, problem)
    }

    /// The tensor that a value describes; `name` is for messages. `None` if it describes none.
    ///
    /// # Errors
    /// [`Error::Format`] if its storage is missing or too small.
    pub fn tensor(&mut self, name: &str, value: &Value) -> Result<Option<Tensor>> {
        let Value::Tensor { kind, key, offset, shape, stride } = value else { return Ok(None) };
        if !self.storages.contains_key(key) {
            let bytes = self.storage(key)?;
            let count = bytes.len() / kind.elt_size_in_bytes();
            let numbers = &bytes[..count * kind.elt_size_in_bytes()];
            let flat = Tensor::f_from_data_size(numbers, &[count as i64], *kind)
                .map_err(|e| self.wrong(&format!("tensor `{name}`: {}", Error::from(e))))?;
            self.storages.insert(key.clone(), (*kind, flat));
        }
        let (stored, flat) = &self.storages[key];
        if stored != kind {
            return Err(self.wrong(&format!("tensor `{name}`: storage {key} holds {stored:?}, not {kind:?}")));
        }
        let view = view(flat, *offset, shape, stride).map_err(|m| self.wrong(&format!("tensor `{name}`: {m}")))?;
        // Within a storage of several tensors one may begin anywhere, and products round by where numbers begin.
        if view.is_contiguous() && (view.data_ptr() as usize).is_multiple_of(ALIGNMENT) {
            return Ok(Some(view));
        }
        let size = (view.numel() * kind.elt_size_in_bytes()) as u64;
        self.copyable = self.copyable.checked_sub(size).ok_or_else(|| {
            self.wrong(&format!("tensor `{name}`: the tensors are several times as large as the file"))
        })?;
        let copy = if view.is_contiguous() { view.f_to_dtype(*kind, false, true) } else { view.f_contiguous() };
        copy.map(Some).map_err(|e| self.wrong(&format!("tensor `{name}`: {}", Error::from(e))))
    }

    fn storage(&mut self, key: &str) -> Result<Vec<u8>> {
        match &self.entries {
            Entries::Zip { root, .. } => self.entry(&format!("{root}data/{key}")),
            Entries::Old { content, places } => {
                let place = places.get(key).cloned();
                let place = place.ok_or_else(|| self.wrong(&format!("storage {key} is not in the file")))?;
                Ok(content.bytes()[place].to_vec())
            }
        }
    }

    fn entry(&mut self, name: &str) -> Result<Vec<u8>> {
        let fail = |e: String| Error::format(&self.path, format!("entry {name}{e}"));
        let Entries::Zip { zip, .. } = &mut self.entries else { return Err(fail(" is not in a zip archive".into())) };
        let file = zip.by_name(name).map_err(|e| fail(format!(": {e}")))?;
        // torch.save does not compress; a few compressed bytes could expand to fill memory.
        if file.compression() != CompressionMethod::Stored {
            return Err(fail(
                " is compressed, which torch.save never does; save the file again with torch.save".into(),
            ));
        }
        let mut bytes = Vec::new();
        let mut limited = file.take(self.readable.saturating_add(1));
        limited.read_to_end(&mut bytes).map_err(|e| fail(format!(" is damaged: {e}")))?;
        self.readable = self
            .readable
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| fail(" and those before it have more bytes than the file".into()))?;
        Ok(bytes)
    }
}

/// The value in a file from before PyTorch 1.6, and the location of its storages.
fn read_old(bytes: &[u8]) -> Result<(Value, HashMap<String, Range<usize>>), String> {
    let mut at = OLD.len();
    let mut next = || -> Result<Value, String> {
        let (value, length) = Machine::new(&bytes[at..]).run_prefix()?;
        at += length;
        Ok(value)
    };
    let version = next()?;
    if !matches!(version, Value::Int(1001)) {
        return Err("it is of an unknown version".into());
    }
    let (_sizes, value) = (next()?, next()?);
    let Value::List(keys) = next()? else { return Err("the keys of its storages are missing".into()) };
    let mut kinds = HashMap::new();
    widths(&value, &mut kinds);
    let mut places = HashMap::new();
    for key in keys {
        let Value::Text(key) = key else { return Err("a storage's key is not text".into()) };
        let cut = || format!("it ends in storage {key}; download it again");
        let length = bytes.get(at..at + 8).ok_or_else(cut)?;
        let length = i64::from_le_bytes(length.try_into().expect("eight bytes"));
        at += 8;
        let width = *kinds.get(&key).ok_or_else(|| format!("storage {key} belongs to no tensor"))?;
        let size = usize::try_from(length).ok().and_then(|n| n.checked_mul(width)).ok_or_else(cut)?;
        let end = at.checked_add(size).filter(|end| *end <= bytes.len()).ok_or_else(cut)?;
        places.insert(key, at..end);
        at = end;
    }
    Ok((value, places))
}

/// The element size of every storage used by a value's tensors.
fn widths(value: &Value, widths_of: &mut HashMap<String, usize>) {
    match value {
        Value::Tensor { kind, key, .. } => {
            widths_of.insert(key.clone(), kind.elt_size_in_bytes());
        }
        Value::Tuple(items) | Value::List(items) => items.iter().for_each(|item| widths(item, widths_of)),
        Value::Dict(items) => items.iter().for_each(|(_, value)| widths(value, widths_of)),
        _ => {}
    }
}

/// Whether a file begins like a zip archive; false if it cannot be read.
fn starts_as_archive(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"PK\x03\x04"
}

/// A strided view of a storage.
fn view(flat: &Tensor, offset: i64, shape: &[i64], stride: &[i64]) -> Result<Tensor, String> {
    let count = flat.numel() as i64;
    let wrong = || format!("shape {shape:?} with strides {stride:?} from element {offset} is not a valid tensor");
    if shape.len() > MOST_AXES {
        return Err(format!("it has {} axes; at most {MOST_AXES} are supported", shape.len()));
    }
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
    // With strides of zero, a few bytes could represent a tensor that fills memory; no parameter is stored like that.
    if numel > count {
        return Err(wrong());
    }
    flat.f_as_strided(shape, stride, offset).map_err(|e| Error::from(e).to_string())
}
