//! The fields of a GGUF file, and the cursor that reads them, which never reads beyond the end and never creates more values
//! than the file has bytes.

use std::fmt;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer of any width.
    Integer(i128),
    /// A number of either precision. One of single precision is read as the shortest decimal that rounds to it: 1e-5, not
    /// 9.999999747e-6.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(String),
    /// Values of one type.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Number(x) => write!(f, "{x}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Text(text) => write!(f, "`{}`", text.chars().take(40).collect::<String>()),
            Self::List(values) => write!(f, "a list of {}", values.len()),
        }
    }
}

/// A non-negative integer.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}

/// A position in the file's bytes.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, String>;

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// The next bytes.
    pub fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() {
            return Err(format!("it ends after {} bytes; download it again", self.bytes.len()));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were taken"))
    }

    pub fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn text(&mut self) -> Read<String> {
        let length = self.u64()?;
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        String::from_utf8(bytes.to_vec()).map_err(|e| format!("text is not UTF-8: {e}"))
    }

    /// A value, preceded by its type.
    pub fn value(&mut self) -> Read<Value> {
        let kind = self.u32()?;
        if kind != 9 {
            return self.of_kind(kind);
        }
        let (kind, count) = (self.u32()?, self.u64()?);
        if kind == 9 {
            return Err("lists of lists are not supported".into());
        }
        // Grows as values are read, each of at least one byte: a false count fails at the end of the file.
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.of_kind(kind)?);
        }
        Ok(Value::List(values))
    }

    fn of_kind(&mut self, kind: u32) -> Read<Value> {
        Ok(match kind {
            0 => Value::Integer(self.array().map(u8::from_le_bytes)?.into()),
            1 => Value::Integer(self.array().map(i8::from_le_bytes)?.into()),
            2 => Value::Integer(self.array().map(u16::from_le_bytes)?.into()),
            3 => Value::Integer(self.array().map(i16::from_le_bytes)?.into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(self.array().map(i32::from_le_bytes)?.into()),
            6 => Value::Number(decimal(self.array().map(f32::from_le_bytes)?)),
            7 => Value::Flag(self.take(1)?[0] != 0),
            8 => Value::Text(self.text()?),
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(self.array().map(i64::from_le_bytes)?.into()),
            12 => Value::Number(self.array().map(f64::from_le_bytes)?),
            other => return Err(format!("values of type {other} are not supported")),
        })
    }
}

/// The shortest decimal that rounds to a single-precision number.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}
