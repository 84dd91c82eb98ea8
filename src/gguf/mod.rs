//! GGUF files: metadata and tensors of a language model in one file, as used by llama.cpp and related programs (format
//! versions 2 and 3, little-endian).
//!
//! Knows only the container: neither the meaning of its fields, nor networks or tokenizers. Sizes stated in a file are
//! checked against its length before use.
//!
//! Source: the format's specification, <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod blocks;
mod metadata;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tch::Tensor;

pub use self::metadata::Value;
use self::metadata::{Cursor, number};
use crate::error::{Error, Result};
use crate::mapped::Mapped;

/// A checkpoint's own weights; a GGUF file next to them is ignored.
const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Default alignment of tensor data, in bytes.
const ALIGNMENT: u64 = 32;

/// Maximum number of axes of a tensor.
const AXES: u32 = 4;

/// An open file.
pub struct Gguf {
    path: PathBuf,
    content: Mapped,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Info>,
    /// Offset of the tensor data.
    data: usize,
}

/// Position and storage type of a tensor.
struct Info {
    shape: Vec<i64>,
    kind: u32,
    offset: u64,
}

impl Gguf {
    /// The GGUF file at a model's path: the file itself, whatever its name, or the only one in a directory without a
    /// checkpoint's own weights. `None` if there is none.
    ///
    /// # Errors
    /// A directory with several of them.
    pub fn find(model: &Path) -> Result<Option<PathBuf>> {
        let is_named = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if model.is_file() {
            return Ok((is_named(model) || begins_as_gguf(model)).then(|| model.to_path_buf()));
        }
        if !model.is_dir() || WEIGHTS.iter().any(|name| model.join(name).exists()) {
            return Ok(None);
        }
        // Image projections are stored next to their model.
        let is_model = |path: &PathBuf| {
            is_named(path) && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mmproj"))
        };
        let entries = fs::read_dir(model).map_err(Error::io("read", model))?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_model).collect();
        found.sort();
        if found.len() > 1 {
            let names: Vec<_> = found.iter().filter_map(|p| p.file_name()?.to_str()).collect();
            let message = format!("several GGUF files ({}); give the path of the one to use", names.join(", "));
            return Err(Error::format(model, message));
        }
        Ok(found.pop())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] if it is not a complete GGUF file of a known version.
    pub fn open(path: &Path) -> Result<Self> {
        let content = Mapped::open(path)?;
        let (metadata, tensors, data) = parse(content.bytes())
            .map_err(|problem| Error::format(path, format!("not a complete GGUF file: {problem}")))?;
        let file = Self { path: path.to_path_buf(), content, metadata, tensors, data };
        match file.field("split.count").and_then(number) {
            Some(parts) if parts > 1 => {
                let problem = format!(
                    "is {parts}: this is one part of a split model; join the parts with `llama-gguf-split \
                             --merge`"
                );
                Err(file.wrong("split.count", problem))
            }
            _ => Ok(file),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about one field.
    pub fn wrong(&self, field: &str, problem: impl std::fmt::Display) -> Error {
        Error::format(&self.path, format!("the field `{field}` {problem}"))
    }

    /// A field of the metadata.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.metadata.get(name)
    }

    /// Text; an error if absent.
    pub fn text(&self, name: &str) -> Result<&str> {
        match self.field(name) {
            None => Err(self.wrong(name, "is missing (expected text)")),
            Some(Value::Text(text)) => Ok(text),
            Some(other) => Err(self.wrong(name, format!("must be text, found {other}"))),
        }
    }

    /// A positive integer; an error if absent without a default.
    pub fn size(&self, name: &str, default: Option<i64>) -> Result<i64> {
        match (self.field(name), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.wrong(name, "is missing (expected a positive integer)")),
            (Some(Value::Integer(n)), _) if *n > 0 && *n <= 1 << 31 => Ok(*n as i64),
            (Some(other), _) => Err(self.wrong(name, format!("must be a positive integer, found {other}"))),
        }
    }

    /// An index into a list, from 0; an error if absent.
    pub fn index(&self, name: &str) -> Result<usize> {
        match self.field(name) {
            None => Err(self.wrong(name, "is missing (expected an index)")),
            Some(found) => number(found)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| self.wrong(name, format!("must be an index, found {found}"))),
        }
    }

    /// A positive number; an error if absent without a default.
    pub fn positive(&self, name: &str, default: Option<f64>) -> Result<f64> {
        match (self.field(name), default) {
            (None, Some(default)) => Ok(default),
            (Some(Value::Number(x)), _) if *x > 0.0 => Ok(*x),
            (None, None) => Err(self.wrong(name, "is missing (expected a positive number)")),
            (Some(other), _) => Err(self.wrong(name, format!("must be a positive number, found {other}"))),
        }
    }

    /// True or false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.field(name) {
            None => Ok(default),
            Some(Value::Flag(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(name, format!("must be true or false, found {other}"))),
        }
    }

    /// A list; an error if absent.
    pub fn list(&self, name: &str) -> Result<&[Value]> {
        match self.field(name) {
            None => Err(self.wrong(name, "is missing (expected a list)")),
            Some(Value::List(values)) => Ok(values),
            Some(other) => Err(self.wrong(name, format!("must be a list, found {other}"))),
        }
    }

    /// The tensors' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's shape, with the contiguous axis last.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.tensors.get(name).map(|info| info.shape.as_slice())
    }

    /// A tensor in its stored type, or, if it is quantized, dequantized to single precision.
    ///
    /// # Errors
    /// [`Error::Format`] for an unsupported storage type, or if data are missing.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let fail = |problem: String| Error::format(&self.path, format!("tensor `{name}` {problem}"));
        let info = self.tensors.get(name).ok_or_else(|| fail("is missing".into()))?;
        let layout = blocks::layout(info.kind).map_err(fail)?;
        let width = info.shape.last().copied().unwrap_or(1);
        let numel = info.shape.iter().try_fold(1i64, |n, d| n.checked_mul(*d));
        let numel = numel.filter(|n| *n <= 1 << 40).ok_or_else(|| fail(format!("has shape {:?}", info.shape)))?;
        if width % layout.entries != 0 {
            let (rows, form) = (format!("rows of {width} entries"), layout.name);
            return Err(fail(format!("of shape {:?} has {rows}, not whole blocks of {form}", info.shape)));
        }
        let bytes = (numel / layout.entries * layout.bytes) as usize;
        let start = usize::try_from(info.offset).ok().and_then(|offset| self.data.checked_add(offset));
        let data = start.and_then(|start| self.content.bytes().get(start..start.checked_add(bytes)?));
        let data = data.ok_or_else(|| fail("ends beyond the end of the file; download it again".into()))?;
        let read = blocks::read(layout, data, &info.shape);
        read.map_err(|e| fail(format!("of shape {:?}: {}", info.shape, Error::from(e))))
    }
}

/// Whether a file begins like a GGUF file; false if it cannot be read.
fn begins_as_gguf(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"GGUF"
}

type Parsed = (BTreeMap<String, Value>, BTreeMap<String, Info>, usize);

fn parse(bytes: &[u8]) -> std::result::Result<Parsed, String> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(4)? != b"GGUF" {
        return Err("it does not begin with GGUF".into());
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("its version is {version}; only 2 and 3, little-endian, are supported"));
    }
    let (tensor_count, field_count) = (cursor.u64()?, cursor.u64()?);
    let mut metadata = BTreeMap::new();
    for _ in 0..field_count {
        let name = cursor.text()?;
        let value = cursor.value().map_err(|problem| format!("field `{name}`: {problem}"))?;
        metadata.insert(name, value);
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..tensor_count {
        let name = cursor.text()?;
        let axes = cursor.u32()?;
        if axes > AXES {
            return Err(format!("tensor `{name}` has {axes} axes, more than {AXES}"));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            shape.push(i64::try_from(cursor.u64()?).map_err(|_| format!("tensor `{name}` has an axis beyond 2⁶³"))?);
        }
        // The first axis of the file is the contiguous one.
        shape.reverse();
        let info = Info { shape, kind: cursor.u32()?, offset: cursor.u64()? };
        if tensors.insert(name.clone(), info).is_some() {
            return Err(format!("tensor `{name}` occurs twice"));
        }
    }
    let alignment = metadata.get("general.alignment").map_or(Some(ALIGNMENT), number).filter(|a| *a > 0);
    let alignment = alignment.ok_or("the field `general.alignment` must be a positive integer")?;
    let data = (cursor.position() as u64).checked_next_multiple_of(alignment);
    let data = data.and_then(|at| usize::try_from(at).ok()).ok_or("the field `general.alignment` is too large")?;
    Ok((metadata, tensors, data))
}
