//! `pytorch_model.bin`: a zip archive with a pickled dictionary of tensors and one file of raw numbers per storage.
//!
//! A reader for just that: the pickle program is interpreted over a handful of inert values. Names that a state
//! dictionary has no use for are refused, so nothing in the file can run.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use tch::{Kind, Tensor};
use zip::ZipArchive;

use super::checkpoint::TensorSource;
use crate::error::{Error, Result};

/// A value on the pickle machine's stack.
#[derive(Clone, Debug)]
enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(String),
    Storage { kind: Kind, key: String },
    Tensor { kind: Kind, key: String, offset: i64, shape: Vec<i64>, stride: Vec<i64> },
    Mark,
}

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

/// Deepest nesting of values: state dictionaries have three levels. Deeper ones could exhaust the call stack.
const DEEPEST: usize = 16;

/// Most values that a program may copy to and from its memo: a hundred thousand tensors need no more.
const MOST_COPIES: usize = 1 << 22;

impl Value {
    /// How many values it is made of, long texts counting for more. Fails where they are nested too deeply.
    fn count(&self, depth: usize) -> Result<usize, String> {
        if depth > DEEPEST {
            return Err("values are nested more deeply than in a state dictionary".into());
        }
        let mut count = 1;
        match self {
            Self::Tuple(items) | Self::List(items) => {
                for item in items {
                    count += item.count(depth + 1)?;
                }
            }
            Self::Dict(items) => {
                for (key, value) in items {
                    count += key.count(depth + 1)? + value.count(depth + 1)?;
                }
            }
            Self::Text(text) | Self::Global(text) => count += text.len() / 16,
            _ => {}
        }
        Ok(count)
    }
}

/// The pickle machine, reduced to what state dictionaries use (protocol 2).
struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    copies: usize,
}

impl<'a> Machine<'a> {
    fn new(code: &'a [u8]) -> Self {
        Self { code, at: 0, stack: Vec::new(), memo: HashMap::new(), copies: 0 }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).filter(|e| *e <= self.code.len()).ok_or("the program ends too early")?;
        let slice = &self.code[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, String> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.code[self.at..];
        let n = rest.iter().position(|b| *b == b'\n').ok_or("a name without end")?;
        let line = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|v| matches!(v, Value::Mark)).ok_or("a mark is missing")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn text(&mut self, n: usize) -> Result<Value, String> {
        let bytes = self.take(n)?;
        String::from_utf8(bytes.to_vec()).map(Value::Text).map_err(|_| "a string is not UTF-8".into())
    }

    fn put(&mut self, slot: u32) -> Result<(), String> {
        let top = self.stack.last().ok_or("the stack is empty")?.clone();
        self.count_copy(&top)?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn get(&mut self, slot: u32) -> Result<(), String> {
        let value = self.memo.get(&slot).cloned().ok_or("an unknown memo slot")?;
        self.count_copy(&value)?;
        self.stack.push(value);
        Ok(())
    }

    fn count_copy(&mut self, value: &Value) -> Result<(), String> {
        self.copies += value.count(0)?;
        if self.copies > MOST_COPIES {
            return Err("it copies more values than any state dictionary".into());
        }
        Ok(())
    }

    /// Pushes a tuple, list or dictionary, not too deeply nested.
    fn push_nested(&mut self, value: Value) -> Result<(), String> {
        value.count(0)?;
        self.stack.push(value);
        Ok(())
    }

    fn run(mut self) -> Result<Value, String> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                0x80 => drop(self.byte()?),
                b'(' => self.stack.push(Value::Mark),
                b')' => self.stack.push(Value::Tuple(Vec::new())),
                b']' => self.stack.push(Value::List(Vec::new())),
                b'}' => self.stack.push(Value::Dict(Vec::new())),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool),
                b'K' => {
                    let n = i64::from(self.byte()?);
                    self.stack.push(Value::Int(n));
                }
                b'M' => {
                    let b = self.take(2)?;
                    self.stack.push(Value::Int(i64::from(u16::from_le_bytes([b[0], b[1]]))));
                }
                b'J' => {
                    let n = self.u32()?.cast_signed();
                    self.stack.push(Value::Int(i64::from(n)));
                }
                0x8a => {
                    let n = usize::from(self.byte()?);
                    let bytes = self.take(n)?;
                    if n > 8 {
                        return Err("an integer of more than 64 bits".into());
                    }
                    // Little-endian two's complement of n bytes.
                    let mut value = if bytes.last().is_some_and(|b| b & 0x80 != 0) { -1i64 } else { 0 };
                    for b in bytes.iter().rev() {
                        value = (value << 8) | i64::from(*b);
                    }
                    self.stack.push(Value::Int(value));
                }
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Float);
                }
                b'X' => {
                    let n = self.u32()? as usize;
                    let text = self.text(n)?;
                    self.stack.push(text);
                }
                b'U' | 0x8c => {
                    let n = usize::from(self.byte()?);
                    let text = self.text(n)?;
                    self.stack.push(text);
                }
                b'q' => {
                    let slot = u32::from(self.byte()?);
                    self.put(slot)?;
                }
                b'r' => {
                    let slot = self.u32()?;
                    self.put(slot)?;
                }
                b'h' => {
                    let slot = u32::from(self.byte()?);
                    self.get(slot)?;
                }
                b'j' => {
                    let slot = self.u32()?;
                    self.get(slot)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Value::Global(format!("{module}.{name}")));
                }
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push_nested(Value::Tuple(items))?;
                }
                code @ (0x85..=0x87) => {
                    let n = usize::from(code - 0x84);
                    let start = self.stack.len().checked_sub(n).ok_or("the stack is empty")?;
                    let items = self.stack.split_off(start);
                    self.push_nested(Value::Tuple(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.extend_list(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.extend_dict(vec![key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(items)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.stack.push(storage(id)?);
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.stack.push(reduce(function, arguments)?);
                }
                // BUILD sets attributes, e.g. `_metadata` of a state dictionary: dropped.
                b'b' => drop(self.pop()?),
                other => {
                    return Err(format!(
                        "pickle instruction {other:#04x} has no place in a state dictionary; save it with torch.save's \
                         own settings, or as model.safetensors"
                    ));
                }
            }
        }
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Result<(), String> {
        items.iter().try_for_each(|item| item.count(1).map(drop))?;
        match self.stack.last_mut() {
            Some(Value::List(list)) => list.extend(items),
            _ => return Err("appending to something that is no list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Value>) -> Result<(), String> {
        items.iter().try_for_each(|item| item.count(1).map(drop))?;
        let Some(Value::Dict(dict)) = self.stack.last_mut() else {
            return Err("setting items of something that is no dictionary".into());
        };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }
}

/// Persistent ids are `('storage', type, key, location, size)`.
fn storage(id: Value) -> Result<Value, String> {
    let Value::Tuple(items) = id else { return Err("a persistent id that is no tuple".into()) };
    let [Value::Text(tag), Value::Global(class), Value::Text(key), ..] = items.as_slice() else {
        return Err("a persistent id of unknown form".into());
    };
    let kind = match class.as_str() {
        "torch.FloatStorage" => Kind::Float,
        "torch.DoubleStorage" => Kind::Double,
        "torch.HalfStorage" => Kind::Half,
        "torch.BFloat16Storage" => Kind::BFloat16,
        "torch.LongStorage" => Kind::Int64,
        "torch.IntStorage" => Kind::Int,
        "torch.BoolStorage" => Kind::Bool,
        "torch.ByteStorage" => Kind::Uint8,
        other => return Err(format!("storage type {other} is not supported")),
    };
    if tag != "storage" || key.contains(['/', '\\']) {
        return Err("a persistent id of unknown form".into());
    }
    Ok(Value::Storage { kind, key: key.clone() })
}

/// The three calls that state dictionaries make; every other is refused by name.
fn reduce(function: Value, arguments: Value) -> Result<Value, String> {
    let (Value::Global(name), Value::Tuple(arguments)) = (function, arguments) else {
        return Err("a call of unknown form".into());
    };
    let integers =
        |v: &Value| -> Result<Vec<i64>, String> {
            let Value::Tuple(items) = v else { return Err("a shape that is no tuple".into()) };
            items
                .iter()
                .map(|i| {
                    if let Value::Int(n) = i { Ok(*n) } else { Err("a shape that is not made of integers".to_string()) }
                })
                .collect()
        };
    match (name.as_str(), arguments.as_slice()) {
        ("collections.OrderedDict", []) => Ok(Value::Dict(Vec::new())),
        ("torch._utils._rebuild_tensor_v2", [Value::Storage { kind, key }, Value::Int(offset), shape, stride, ..]) => {
            Ok(Value::Tensor {
                kind: *kind,
                key: key.clone(),
                offset: *offset,
                shape: integers(shape)?,
                stride: integers(stride)?,
            })
        }
        ("torch._utils._rebuild_parameter", [tensor @ Value::Tensor { .. }, ..]) => Ok(tensor.clone()),
        (other, _) => Err(format!("it calls `{other}`, which a state dictionary has no use for: refused")),
    }
}
