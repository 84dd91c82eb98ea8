//! The pickle machine, reduced to what saved tensors need: state dictionaries and tuples. All other names are refused, so
//! nothing in a file can run. Knows no files.

use std::collections::HashMap;

use tch::Kind;

/// A value on the pickle machine's stack.
#[derive(Clone, Debug)]
pub(crate) enum Value {
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

/// Maximum nesting of values: state dictionaries have three levels; deep nesting could exhaust the call stack.
const DEEPEST: usize = 16;

/// Maximum number of values copied to and from the memo: enough for a hundred thousand tensors.
const MOST_COPIES: usize = 1 << 22;

impl Value {
    /// The number of values that it is made of; long texts count for more. Fails if they are nested too deeply.
    fn count(&self, depth: usize) -> Result<usize, String> {
        if depth > DEEPEST {
            return Err("values are nested more deeply than in saved tensors".into());
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

/// The pickle machine (protocol 2).
pub(super) struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    copies: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(code: &'a [u8]) -> Self {
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
        let n = rest.iter().position(|b| *b == b'\n').ok_or("a name does not end")?;
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
            return Err("it copies more values than saved tensors need".into());
        }
        Ok(())
    }

    /// Pushes a tuple, list or dictionary, checking its nesting.
    fn push_nested(&mut self, value: Value) -> Result<(), String> {
        value.count(0)?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn run(self) -> Result<Value, String> {
        self.run_prefix().map(|(value, _)| value)
    }

    /// Returns the value and the length of its program, which more data may follow.
    pub(super) fn run_prefix(mut self) -> Result<(Value, usize), String> {
        loop {
            match self.byte()? {
                b'.' => return Ok((self.pop()?, self.at)),
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
                        "pickle instruction {other:#04x} is not used for saved tensors; save them with torch.save's \
                         default settings, or as model.safetensors"
                    ));
                }
            }
        }
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Result<(), String> {
        items.iter().try_for_each(|item| item.count(1).map(drop))?;
        match self.stack.last_mut() {
            Some(Value::List(list)) => list.extend(items),
            _ => return Err("appending to something that is not a list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Value>) -> Result<(), String> {
        items.iter().try_for_each(|item| item.count(1).map(drop))?;
        let Some(Value::Dict(dict)) = self.stack.last_mut() else {
            return Err("setting items of something that is not a dictionary".into());
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
    let Value::Tuple(items) = id else { return Err("a persistent id that is not a tuple".into()) };
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
    // Files from before PyTorch 1.6 may add a part of the storage, which newer versions never write.
    let is_part = items.get(5).is_some_and(|part| !matches!(part, Value::None));
    if tag != "storage" || key.contains(['/', '\\']) || is_part {
        return Err("a persistent id of unknown form".into());
    }
    Ok(Value::Storage { kind, key: key.clone() })
}

/// The three calls that saved tensors make; all others are refused by name.
fn reduce(function: Value, arguments: Value) -> Result<Value, String> {
    let (Value::Global(name), Value::Tuple(arguments)) = (function, arguments) else {
        return Err("a call of unknown form".into());
    };
    let integers =
        |v: &Value| -> Result<Vec<i64>, String> {
            let Value::Tuple(items) = v else { return Err("a shape that is not a tuple".into()) };
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
        (other, _) => Err(format!("it calls `{other}`, which saved tensors do not need: refused")),
    }
}
